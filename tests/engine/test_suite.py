"""A suite file is checked whole, and what is wrong is said with its key, its file and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from albench import registry
from albench.errors import AlbenchError
from albench.suite import bundled, chosen, differences, read, resolve
from albench.suite_file import parse_setting

from .conftest import TINY


def written(tmp_path, text):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", bundled())
def test_bundled_suites_resolve(name):
    suite = resolve(read(name))
    assert suite.name == name
    assert all(entry.budget for entry in suite.tasks.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("budget = 8", "budgt = 8"), r"suite.toml: budgt: unknown key. Did you mean 'budget'\? Allowed: name, "),
        (("params =", "parms ="), r"tasks.digits.parms: unknown key. Did you mean 'params'\?"),
        (("seeds = 2", "seeds = 0"), "seeds: Input should be greater than 0"),
        (("seeds = 2", 'seeds = "two"'), "seeds: Input should be a valid integer.*'two'"),
        (("seeds = 2", "seeds = = 2"), "not valid TOML"),
        (('"entropy"', '"entopy"'), "no strategy is called 'entopy'. Did you mean 'entropy'"),
        (("[tasks.digits]", "[tasks.digts]"), "no task is called 'digts'. Did you mean 'digits'"),
        (("width = 4", "widht = 4"), r"tasks.digits.params: widht: unknown key. Did you mean 'width'\?"),
        (("width = 4", "width = -4"), "tasks.digits.params: width: Input should be greater than 0"),
        (("updates = 4", "updats = 4"), r"tasks.digits.recipe: updats: unknown key. Did you mean 'updates'\?"),
        (("batch = 8", "batch = 7"), "tasks.digits.recipe: batch: .*multiple of 2"),
        (("updates = 4", "updates = 4, epochs = 3"), "give either epochs or updates"),
        (('"entropy"', '"bald"'), "'bald' is not defined on task 'digits': it needs dropout: set .*dropout"),
        (("budget = 8", ""), "tasks.digits: no budget"),
        (('strategies = ["random", "entropy", "learning-loss"]', "strategies = []"), "at least one task and one strat"),
        (("[tasks.digits]", '[tasks."a/b"]'), "should match pattern"),
        (("seeds = 2", 'seeds = 2\nprimary = { reference = "entopy" }'), "'entopy' is none of the strategies. Did you"),
        (
            ("[tasks.digits]", "[tasks.digits]\ncompanions = { loss-prediction = { wieght = 2 } }"),
            r"tasks.digits.companions.loss-prediction: wieght: unknown key. Did you mean 'weight'\?",
        ),
        (
            ("[tasks.digits]", "[tasks.digits]\ncompanions = { loss-prediction = { cut = 120 } }"),
            "tasks.digits.companions.loss-prediction: cut: .*less than or equal to 1 .given: 120.; "
            "it is a share of the training, from 0 to 1; 0.6 is epoch 120 of 200$",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, change, message):
    assert change[0] in TINY
    with pytest.raises(AlbenchError, match=message) as caught:
        resolve(read(written(tmp_path, TINY.replace(*change))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("recipe.learning_rate=inf", "recipe: learning_rate"),
        ("recipe.weight_decay=inf", "recipe: weight_decay"),
        ("recipe.clip=inf", "recipe: clip"),
        ("primary.effect=inf", "primary.effect"),
        ("selection_minutes=inf", "selection_minutes"),
        ("tasks.digits.price.sample=inf", "tasks.digits.price.sample"),
        ("tasks={digit-scenes={budget=8,params={photometric=inf}}}", "tasks.digit-scenes.params: photometric"),
    ],
)
def test_no_number_of_a_suite_is_infinite(tiny, setting, key):
    with pytest.raises(AlbenchError, match=f"{key}: Input should be .*given: inf"):
        resolve(read(str(tiny), (setting,)))


def test_an_unknown_suite_names_the_bundled_ones():
    with pytest.raises(AlbenchError, match="no suite 'quik'.*Did you mean 'quick'"):
        read("quik")


def test_settings_change_the_suite(tiny):
    suite = read(str(tiny), ("stages=7", "tasks.digits.budget=3", "strategies.entropy.params.raw=false"))
    assert (suite.stages, suite.tasks["digits"].budget) == (7, 3)
    assert suite.strategies["entropy"].params == {"raw": False}
    with pytest.raises(AlbenchError, match="with --set: tasks.digits.budgett: unknown key"):
        read(str(tiny), ("tasks.digits.budgett=3",))
    with pytest.raises(AlbenchError, match=r"the suite has no task 'digit'. Did you mean 'digits'\?"):
        read(str(tiny), ("tasks.digit.budget=3",))
    with pytest.raises(AlbenchError, match="write key=value"):
        read(str(tiny), ("stages",))


def test_a_setting_that_every_task_overrides_is_refused():
    with pytest.raises(AlbenchError, match=r"no effect: .* recipe.epochs .* --set tasks.cifar10.recipe.updates=50"):
        read("ll4al-cifar10", ("recipe.updates=50",))
    assert read("ll4al-cifar10", ("recipe.clip=5.0",)).recipe == {"clip": 5.0}


@given(st.text(max_size=30))
def test_any_setting_parses_or_says_why(text):
    try:
        keys, _ = parse_setting(text)
    except AlbenchError:
        return
    assert keys


def test_chosen_picks_and_adds(tiny):
    suite = chosen(read(str(tiny)), "strategies", ["entropy", "coreset"])
    assert list(suite.strategies) == ["entropy", "core-set"]
    with pytest.raises(AlbenchError, match="--strategies: no name is given"):
        chosen(suite, "strategies", [])
    with pytest.raises(AlbenchError, match="no strategy"):
        chosen(suite, "strategies", ["nobody"])


def test_growth_is_no_difference_but_a_changed_key_is(tiny):
    before = resolve(read(str(tiny))).model_dump(mode="json")
    grown = resolve(chosen(read(str(tiny), ("seeds=9", "stages=9")), "strategies", ["entropy", "badge"]))
    assert differences(before, grown.model_dump(mode="json")) == []
    other = resolve(read(str(tiny), ("tasks.digits.recipe.updates=5",))).model_dump(mode="json")
    assert differences(before, other) == ["tasks.digits.recipe.updates: 4 → 5"]


def test_a_companion_may_stand_beside_any_strategy(tmp_path):
    text = TINY + '[strategies.x]\nstrategy = "entropy"\ncompanion = "loss-prediction"\n'
    text = text.replace('strategies = ["random", "entropy", "learning-loss"]', "")
    assert resolve(read(written(tmp_path, text))).strategies["x"].companion == "loss-prediction"


@pytest.mark.parametrize("companion", ["loss-prediction", "loss-prediction-mse"])
@pytest.mark.parametrize(
    "wrong",
    [
        *("cut = 2", "cut = -1", "cut = nan", "weight = -1", "weight = nan", "weight = inf", 'weight = "2"'),
        *("margin = -5", "margin = inf", "width = 0", "width = -3", "width = 64.0"),
    ],
)
def test_a_companion_is_refused_what_it_cannot_be_trained_with(tmp_path, companion, wrong):
    key = wrong.split()[0]
    of_task = TINY.replace("[tasks.digits]", f"[tasks.digits]\ncompanions = {{ {companion} = {{ {wrong} }} }}")
    with pytest.raises(AlbenchError, match=f"tasks.digits.companions.{companion}: {key}: Input should be"):
        resolve(read(written(tmp_path, of_task)))
    of_strategy = TINY.replace('strategies = ["random", "entropy", "learning-loss"]', "") + (
        f'[strategies.x]\nstrategy = "entropy"\ncompanion = "{companion}"\ncompanion_params = {{ {wrong} }}\n'
    )
    with pytest.raises(AlbenchError, match=f"strategies.x.companion_params: {key}: Input should be"):
        resolve(read(written(tmp_path, of_strategy)))


@pytest.mark.parametrize("fine", ["cut = 0", "cut = 1", "weight = 0", "weight = 1e-4", "margin = 0", "width = 1"])
def test_the_ends_of_a_companions_ranges_stay_as_they_were_written(tmp_path, fine):
    text = TINY.replace("[tasks.digits]", f"[tasks.digits]\ncompanions = {{ loss-prediction = {{ {fine} }} }}")
    suite = read(written(tmp_path, text))
    assert repr(resolve(suite).tasks["digits"].companions) == repr(suite.tasks["digits"].companions)


STRANGERS = """
from __future__ import annotations

import albench
from pydantic import NonNegativeFloat


@albench.register_companion("test-stranger")
class Stranger(albench.Companion):
    def __init__(self, example: albench.Outputs, ranged: NonNegativeFloat = 1.0, bare=None) -> None:
        super().__init__()
"""


def test_the_ranges_of_a_strangers_companion_are_kept_and_what_has_none_takes_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.companions, "_plugins", {})
    (tmp_path / "stranger.py").write_text(STRANGERS)
    registry.load_plugin(tmp_path / "stranger.py")

    def resolved(params):
        table = f"[tasks.digits]\ncompanions = {{ test-stranger = {{ {params} }} }}"
        return resolve(read(written(tmp_path, TINY.replace("[tasks.digits]", table)))).tasks["digits"].companions

    assert resolved('ranged = 0, bare = "any"') == {"test-stranger": {"ranged": 0, "bare": "any"}}
    with pytest.raises(AlbenchError, match="companions.test-stranger: ranged: Input should be greater than or equal"):
        resolved("ranged = -1")


def test_where_the_data_come_from_is_kept_and_changes_no_result(tmp_path):
    resolved = resolve(read(written(tmp_path, TINY), ("tasks.digits.source=a friend",)))
    assert resolved.tasks["digits"].source == "a friend"
    plain = resolve(read(written(tmp_path, TINY)))
    assert differences(plain.model_dump(mode="json"), resolved.model_dump(mode="json")) == []


def test_published_curves_are_resolved_and_change_no_result(tmp_path):
    text = TINY + '\n[tasks.digits.published]\nfile = "ll4al"\ntask = "cifar10"\nprotocol = "quick"\n'
    resolved = resolve(read(written(tmp_path, text)))
    published = resolved.tasks["digits"].published
    assert (published.metric, published.measured, published.protocol_task) == ("accuracy", "accuracy", "digits")
    plain = resolve(read(written(tmp_path, TINY)))
    assert differences(plain.model_dump(mode="json"), resolved.model_dump(mode="json")) == []
    for wrong, message in [
        (text.replace('"ll4al"', '"ll4la"'), r"tasks.digits.published numbers 'll4la': .*Did you mean 'll4al'"),
        (
            text.replace('"quick"', '"quik"'),
            "tasks.digits.published: protocol 'quik' is no bundled suite. Did you",
        ),
        (
            text.replace("protocol =", "protocl ="),
            r"digits.published.protocl: unknown key. Did you mean",
        ),
    ]:
        with pytest.raises(AlbenchError, match=message):
            resolve(read(written(tmp_path, wrong)))


NOTES = """
[tasks.digits.uncertain]
"params.pad" = "1 or 2"
stages = "few or many"
"strategies.core-set.params.whole_pool" = "the subset or all"
"""


def test_notes_on_uncertain_settings_are_kept_and_change_no_result(tmp_path):
    plain, noted = resolve(read(written(tmp_path, TINY))), resolve(read(written(tmp_path, TINY + NOTES)))
    assert noted.tasks["digits"].uncertain == {"params.pad": "1 or 2", "stages": "few or many"}  # core-set is not run
    assert differences(plain.model_dump(mode="json"), noted.model_dump(mode="json")) == []
    assert resolve(noted) == noted


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("params.pda", "tasks.digits.uncertain: no setting 'params.pda'. Did you mean 'params.pad'?"),
        ("strategies.core-st.params.whole_pool", "no setting 'strategies.core-st.params.whole_pool'"),
        ("tasks.digits.params.pad", "no setting 'tasks.digits.params.pad'. Did you mean 'params.pad'?"),
    ],
)
def test_a_note_on_no_setting_is_refused(tmp_path, wrong, message):
    with pytest.raises(AlbenchError) as caught:
        resolve(read(written(tmp_path, TINY + NOTES.replace("params.pad", wrong))))
    assert message in str(caught.value)


def test_a_suite_may_be_another_one_with_changes(tmp_path):
    (tmp_path / "suite.toml").write_text(TINY)
    child = f'base = "{tmp_path / "suite.toml"}"\nseeds = 7\nstrategies = ["learning-loss", "margin"]\n'
    (tmp_path / "short.toml").write_text(child + "[tasks.digits]\nbudget = 9\n[tasks.digits.params]\nwidth = 8\n")
    suite = read(str(tmp_path / "short.toml"))
    assert (suite.name, suite.seeds, list(suite.strategies)) == ("short", 7, ["learning-loss", "margin"])
    assert suite.tasks["digits"].budget == 9
    assert suite.tasks["digits"].params == {"samples": 120, "width": 8, "blocks": [1, 1]}
    (tmp_path / "more.toml").write_text(
        f'base = "{tmp_path / "short.toml"}"\n[strategies.extra]\nstrategy = "random"\n'
    )
    assert list(read(str(tmp_path / "more.toml")).strategies) == ["learning-loss", "margin", "extra"]
    for base, message in [("quik", "base: no suite 'quik': .*Did you mean 'quick'"), (child, "not valid")]:
        (tmp_path / "short.toml").write_text(f'base = "{base}"')
        with pytest.raises(AlbenchError, match=message):
            read(str(tmp_path / "short.toml"))
    (tmp_path / "short.toml").write_text(f'base = "{tmp_path / "short.toml"}"')
    with pytest.raises(AlbenchError, match="comes back to this file"):
        read(str(tmp_path / "short.toml"))


def test_what_a_base_says_of_its_tuning_is_not_said_of_other_settings(tmp_path):
    told = read("ll4al-cifar10").tuning
    for name, text in [
        ("picked", 'strategies = ["random"]\nseeds = 2'),
        ("changed", "[tasks.cifar10.recipe]\nbatch = 64"),
    ]:
        (tmp_path / f"{name}.toml").write_text(f'base = "ll4al-cifar10"\n{text}\n')
    assert read(str(tmp_path / "picked.toml")).tuning == told
    changed = read(str(tmp_path / "changed.toml"))
    assert changed.tuning == f"Of the suite ll4al-cifar10, whose settings are changed here: {told}"
    assert changed.description.startswith("Of the suite ll4al-cifar10, whose settings are changed here: The CIFAR-10")
    (tmp_path / "again.toml").write_text(f'base = "{tmp_path / "changed.toml"}"\n[numerics]\ndeterministic = false\n')
    assert read(str(tmp_path / "again.toml")).tuning == changed.tuning
    (tmp_path / "off.toml").write_text('base = "ll4al-cifar10"\n[recipe]\nweight_decay = 0.0\n')
    assert read(str(tmp_path / "off.toml")).tuning != told


def test_what_is_set_for_a_run_is_said_of_its_tuning():
    told, batch, rate = read("ll4al-cifar10").tuning, "tasks.cifar10.recipe.batch=64", "tasks.cifar10.recipe.gamma=0.2"
    assert (
        read("ll4al-cifar10", (batch, "seeds=2", rate, batch)).tuning
        == f"{told} Changed for this run: {batch}; {rate}."
    )
    for nothing in (
        "seeds=2",
        "numerics.threads=1",
        "tasks.cifar10.recipe.epochs=200",
        "tasks.cifar10.published.metric=x",
    ):
        assert read("ll4al-cifar10", (nothing,)).tuning == told


def test_updates_take_the_place_of_epochs(tmp_path):
    """The paper's suites count epochs; a constant number of steps is one line on top of them."""
    by_setting = read("ll4al-cifar10", ("tasks.cifar10.recipe.updates=5000",))
    (tmp_path / "steps.toml").write_text('base = "ll4al-cifar10"\n[tasks.cifar10.recipe]\nupdates = 5000\n')
    for suite in (by_setting, read(str(tmp_path / "steps.toml"))):
        recipe = resolve(suite).tasks["cifar10"].recipe
        assert (recipe["updates"], recipe["epochs"], recipe["batch"]) == (5000, None, 128)
    (tmp_path / "both.toml").write_text('base = "ll4al-cifar10"\n[tasks.cifar10.recipe]\nupdates = 5\nepochs = 5\n')
    with pytest.raises(AlbenchError, match="give either epochs or updates"):
        resolve(read(str(tmp_path / "both.toml")))
