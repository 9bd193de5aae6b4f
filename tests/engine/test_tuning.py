"""Tuning looks at the start budget alone, and its choice can be made again."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from albench import AlbenchError, api, registry
from albench.cli import main
from albench.suite import read
from albench.tuning import combinations, ranked, sentence, tune, verdict

TRIES = ["recipe.learning_rate=[0.0001, 0.05]", "recipe.updates=[4, 20]"]


@pytest.fixture
def tuned(tiny):
    def call(tries=TRIES, **options):
        def planned(settings):
            return api.planned(tiny, settings=["budget=40", *settings], device="cpu")

        return tune(planned, "digits", tries, **options)

    return call


def test_every_combination_on_the_same_first_labels(tuned, monkeypatch):
    cls, looked = registry.tasks.get("digits"), []
    measure = cls.measure
    monkeypatch.setattr(cls, "measure", lambda s, batches, c: measure(s, _noted(batches, looked), c))
    table = tuned(seeds=2)
    assert table["settings"].nunique() == 4
    assert table["seed"].unique().tolist() == [100, 101]
    assert set(table["labels"]) == {40}
    assert looked == [8] * 8  # a fifth of forty, never the test set
    pd.testing.assert_frame_equal(table, tuned(seeds=2))
    best = ranked(table).iloc[0]
    assert best["settings"] == "recipe.learning_rate=0.05, recipe.updates=20"
    assert best["mean"] == pytest.approx(table.loc[table["settings"] == best["settings"], "value"].mean())


def _noted(batches, looked):
    for raw, batch in batches:
        looked.append(len(batch["image"]))
        yield raw, batch


@pytest.mark.parametrize(
    ("tries", "options", "message"),
    [
        (["recipe.learning_rate=0.1"], {}, "give a list of values"),
        (["recipe.learning_rat=[0.1]"], {}, "Did you mean 'learning_rate'"),
        (["recipe.learning_rate=[0.1]"], {"holdout": 0.001}, "leaves nothing to measure"),
        (["recipe.learning_rate=[0.1]"], {"holdout": float("nan")}, "--holdout nan: give a share between 0 and 1"),
    ],
)
def test_what_cannot_be_tuned_is_said(tuned, tries, options, message):
    with pytest.raises(AlbenchError, match=message):
        tuned(tries, **options)


def test_values_stay_what_they_are():
    assert list(combinations(["a.b=[true, 1.5]", 'c=["x"]'])) == [("a.b=true", 'c="x"'), ("a.b=1.5", 'c="x"')]


def test_what_was_trained_before_an_error_is_on_disk_and_shown(tiny, tmp_path):
    out = tmp_path / "tuning.csv"
    arguments = ["tune", str(tiny), "--task", "digits", "--set", "budget=20", "--seeds", "1", "--device", "cpu"]
    tries = ["--try", "recipe.updates=[2]", "--try", "recipe.learning_rate=[0.01, 1e30]"]
    result = CliRunner().invoke(main, [*arguments, *tries, "--out", str(out)])
    assert result.exit_code == 2
    assert "not finite" in result.stderr
    assert "recipe.updates=2, recipe.learning_rate=0.01, seed 100: 0." in result.stderr
    assert pd.read_csv(out)["seed"].tolist() == [100]


def test_a_recipe_to_try_is_the_tasks_own_where_that_has_the_last_word(tiny, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(tiny.read_text() + "recipe = { updates = 4, batch = 8 }\n")
    arguments = ["tune", str(own), "--task", "digits", "--set", "budget=20", "--set", "recipe.updates=2"]
    result = CliRunner().invoke(main, [*arguments, "--try", "recipe.batch=[4,8]", "--seeds", "1", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert 'tuning = "recipe.batch=' in result.output


def test_the_command_prints_the_line_for_the_suite(tiny, tmp_path):
    out = tmp_path / "tuning.csv"
    arguments = ["tune", str(tiny), "--task", "digits", "--set", "budget=20", "--try", "recipe.updates=[2,3]"]
    result = CliRunner().invoke(main, [*arguments, "--seeds", "2", "--device", "cpu", "--out", str(out)])
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if line.startswith('tuning = "recipe.updates='))
    assert (
        "best of 2 combinations on random's first 20 labels, 20% of them (4) held out to measure on, seeds 100-101"
        in line
    )
    assert "told from" in line
    assert "With 2 seeds of 4 held-out samples the best" in result.output
    assert "best" in result.output
    assert len(pd.read_csv(out)) == 4
    (tmp_path / "mine.toml").write_text(line + "\n" + tiny.read_text())
    assert read(str(tmp_path / "mine.toml")).tuning.startswith("recipe.updates=")


def measured(values, higher=True):
    """A table of `tune`: settings → value of each seed."""
    rows = [(s, 100 + seed, 40, 8, value, higher) for s, seeds in values.items() for seed, value in enumerate(seeds)]
    return pd.DataFrame(rows, columns=["settings", "seed", "labels", "held", "value", "higher_is_better"])


def test_a_best_that_cannot_be_told_from_others_is_no_winner():
    table = measured({"a": [0.5, 0.6, 0.7], "b": [0.52, 0.6, 0.75], "c": [0.1, 0.2, 0.31]})
    rows = ranked(table).set_index("settings")
    difference = np.array([-0.02, 0, -0.05])
    low, high = stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference))
    assert rows.loc["a", ["difference", "low", "high"]].tolist() == pytest.approx([difference.mean(), low, high])
    assert rows["tied"].to_dict() == {"b": False, "a": True, "c": False}
    assert verdict(table).endswith("the best cannot be told from a: the first that was tried, a, will do.")
    assert sentence(table, 0.2).endswith("20% of them (8) held out to measure on, seeds 100-102, not told from a.")
    clear = table[table["settings"] != "a"]
    assert "the best is told from all others" in verdict(clear)
    assert sentence(clear, 0.2).endswith(", told from all others.")
    assert "told" not in sentence(clear[clear["settings"] == "b"], 0.2)  # with nothing to be told from
    assert verdict(clear[clear["settings"] == "b"]) == ""


def test_the_best_of_an_error_is_the_lowest():
    values = {"a": [0.5, 0.6, 0.7], "b": [0.52, 0.6, 0.75], "c": [0.1, 0.2, 0.31]}
    up = measured({settings: [-value for value in own] for settings, own in values.items()})
    down = measured(values, higher=False)
    assert list(ranked(down)["settings"]) == list(ranked(up)["settings"]) == ["c", "a", "b"]
    assert ranked(down)["tied"].tolist() == ranked(up)["tied"].tolist() == [False, False, False]
    assert sentence(down, 0.2).startswith("c: best of 3 combinations")


@pytest.mark.parametrize("values", [{"a": [0.9], "b": [0.1]}, {"a": [0.5, 0.75], "b": [0.25, 0.5]}])
def test_one_seed_or_differences_without_spread_tell_nothing(values):
    assert "the best cannot be told from b" in verdict(measured(values))
