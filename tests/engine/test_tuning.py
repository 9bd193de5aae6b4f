"""Tuning looks at the start budget alone, and its choice can be made again."""

import pandas as pd
import pytest
from click.testing import CliRunner

from albench import AlbenchError, api, registry
from albench.cli import main
from albench.suite import read
from albench.tuning import combinations, ranked, tune

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
        "best of 2 combinations on random's first 20 labels, 20% of them held out to measure on, seeds 100-101." in line
    )
    assert len(pd.read_csv(out)) == 4
    (tmp_path / "mine.toml").write_text(line + "\n" + tiny.read_text())
    assert read(str(tmp_path / "mine.toml")).tuning.startswith("recipe.updates=")
