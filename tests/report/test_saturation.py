"""The line of training on the whole pool, and the flag on curves that have reached it."""

import pandas as pd
import pytest

from albench.analysis.curves import curves
from albench.report import figures, looks, runs, write
from albench.report.checklist import checklist
from albench.report.methods import saturation

FINAL = {"random": 0.894, "entropy": 0.896, "core-set": 0.93, "learning-loss": 0.85, "true-loss": 0.6}
BOUNDS = "the recipe (140 updates) bounds what labels can bring; more labels cannot be told from fewer there."
REACHED = (
    "On digits, the mean curve of core-set (0.9300 at 125 labels) has come to what the whole pool reaches (0.9300, 2 "
    f"trainings): {BOUNDS}"
)
ABOVE = (
    "On digits, the mean curve of core-set (0.9300 at 125 labels) is above what the whole pool reaches (0.9000, 2 "
    "trainings), which is no ceiling then: the recipe (140 updates) is too short for so many labels, or chance has its "
    "part."
)
ALSO = (
    "On digits, the mean curves of random (0.8940 at 125 labels) and entropy (0.8960 at 125 labels) have come to what "
    f"the whole pool reaches (0.9000, 2 trainings): {BOUNDS}"
)


@pytest.fixture
def ceiled(make_run):
    """`ceiled(*values)`: a run whose curves end at FINAL (effect .005), with these values of the whole pool's seeds."""

    def build(*values):
        folder = make_run()
        results = pd.read_csv(folder / "results.csv")
        ends = (results["metric"] == "accuracy") & (results["stage"] == results["stage"].max())
        results.loc[ends, "value"] = results.loc[ends, "strategy"].map(FINAL)
        results.to_csv(folder / "results.csv", index=False)
        if values:
            head = {"task": "digits", "strategy": "full-data", "stage": 0, "labelled": 1200, "metric": "accuracy"}
            rows = [head | {"seed": seed, "value": value} for seed, value in enumerate(values)]
            pd.DataFrame(rows)[results.columns].to_csv(folder / "ceiling.csv", index=False)
        return folder

    return build


def test_a_curve_that_never_leaves_the_ceiling_is_told_apart(ceiled):
    folder = ceiled(0.93)
    results = pd.read_csv(folder / "results.csv")
    starts = (results["metric"] == "accuracy") & (results["stage"] == 0) & (results["strategy"] == "core-set")
    results.loc[starts, "value"] = 0.929
    results.to_csv(folder / "results.csv", index=False)
    (run,) = runs.gather([folder])
    assert saturation(run, "digits") == [
        "On digits, core-set is at the full-data ceiling with the first labels and with the last: this recipe makes no "
        "use of more."
    ]


def test_a_ceiling_below_the_effect_of_interest_says_that_nothing_was_learned(ceiled):
    (run,) = runs.gather([ceiled(0.004)])
    (said,) = saturation(run, "digits")
    assert "below the smallest effect of interest" in said


def test_curves_that_have_not_ended_are_not_judged(ceiled):
    folder = ceiled(0.9)
    results = pd.read_csv(folder / "results.csv")
    results[results["stage"] < results["stage"].max()].to_csv(folder / "results.csv", index=False)
    (run,) = runs.gather([folder])
    assert saturation(run, "digits") == []


def test_a_curve_that_was_at_the_ceiling_before_its_last_stage_is_flagged(ceiled):
    """A recipe that is too short lets a curve fall again; its end alone would hide that."""
    folder = ceiled(0.95)
    results = pd.read_csv(folder / "results.csv")
    rows = (results["metric"] == "accuracy") & (results["stage"] == 2) & (results["strategy"] == "random")
    results.loc[rows, "value"] = 0.948
    results.to_csv(folder / "results.csv", index=False)
    (run,) = runs.gather([folder])
    (said,) = saturation(run, "digits")
    assert "the mean curve of random (0.9480 at 75 labels) has come to what the whole pool reaches (0.9500" in said
    assert flag(run).state == "attention"


def flag(run):
    return next(item for item in checklist(run, [], saturation(run, "digits")).items if item.name == "Ceiling")


@pytest.mark.parametrize(
    ("values", "sentences", "state"),
    [
        ((0.89, 0.91), [ABOVE, ALSO], "attention"),
        ((0.925, 0.935), [REACHED], "attention"),
        ((0.95,), [], "ok"),
        ((), [], "missing"),
    ],
)
def test_a_curve_that_ends_at_the_ceiling_is_flagged(ceiled, values, sentences, state):
    (run,) = runs.gather([ceiled(*values)])
    assert saturation(run, "digits") == sentences
    assert flag(run).state == state


@pytest.mark.usefixtures("unsaved")
def test_the_ceiling_is_a_line_across_and_the_flag_is_read_in_the_report(ceiled):
    folder = ceiled(0.89, 0.91)
    (run,) = runs.gather([folder])
    figure = figures.learning_curve(curves(run.primary("digits")), looks.looks([run]), "accuracy", (0.9, "whole pool"))
    flat = [line for line in figure.axes[0].lines if set(line.get_ydata()) == {0.9}]
    assert len(flat) == 1
    write([folder])
    text = (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert "The line across is the whole pool's (0.9" in text
    assert text.count(ABOVE) == 2  # among the findings, and in the checklist
