"""Labels saved: what the page and its summary claim of them, and where they say that nothing can be told."""

import json
from itertools import count

import numpy as np
import pandas as pd
import pytest

from albench.report import diagrams, looks, write
from albench.report.runs import gather
from albench.report.savings import measured, saving, sentence

CURVES = {"random": [0.1, 0.2, 0.3, 0.4, 0.5], "core-set": [0.1, 0.3, 0.4, 0.5, 0.6]}


@pytest.fixture
def run_of(make_run):
    """`run_of({strategy: [values of a seed, …]})` makes a run with these curves, at 25, 50, 75, 100 and 125 labels."""

    number = count()

    def make(curves):
        folder = make_run(f"quick{next(number)}", seeds=len(curves["random"]), strategies=tuple(curves))
        table = pd.read_csv(folder / "results.csv")
        mine = table["metric"] == "accuracy"
        keys = zip(*(table.loc[mine, name] for name in ("strategy", "seed", "stage")), strict=True)
        table.loc[mine, "value"] = [curves[strategy][seed][stage] for strategy, seed, stage in keys]
        table.to_csv(folder / "results.csv", index=False)
        return gather([folder])[0]

    return make


def lifted(values, *by):
    """The curve of each seed: the values, lifted a little."""
    return [[value + one for value in values] for one in by]


def said(run):
    (found,) = measured([run], "digits")
    return sentence(found)


def test_the_summary_names_who_saves_labels_and_how_many(run_of):
    cheat = [[0.1, 0.6, 0.7, 0.8, 0.9]] * 3
    ours = lifted(CURVES["core-set"], 0, 0.02, 0.01)
    run = run_of({"random": lifted(CURVES["random"], 0, 0.01, 0.02), "core-set": ours, "true-loss": cheat})
    text = said(run)
    # random's mean curve runs from .11 to .51, so that 75 % of its rise is .41, which it has at 100 labels
    start = "To reach random's value at 75\u202f% of its rise (0.4100, on its mean curve after 100 of 125 labels), "
    assert text.startswith(f"{start}core-set needs 25 labels fewer [")
    assert text.endswith("] (95\u202f% intervals, unadjusted).")
    assert "true-loss" not in text  # it cheats


def test_of_many_strategies_none_that_saves_labels_is_counted_among_those_that_do_not(run_of):
    better = {f"better-{i}": lifted(CURVES["core-set"], 0, 0.02, 0.01) for i in range(7)}
    same = {f"same-{i}": lifted(CURVES["random"], 0, 0.01, 0.02) for i in range(3)}
    text = said(run_of({"random": lifted(CURVES["random"], 0, 0.01, 0.02)} | better | same))
    assert text.count("labels fewer [") == 5
    assert " and 2 more also need fewer (see the table) (95" in text
    assert text.endswith("Not shown to save any: 3 more (see the table).")


def test_where_the_reference_mostly_does_not_arrive_only_the_least_is_claimed(run_of):
    random = [[0.1, 0.1, 0.1, 0.1, end] for end in [0.4] * 8 + [0.15] * 12]
    text = said(run_of({"random": random, "core-set": [[0.1, 0.5, 0.5, 0.5, 0.5]] * 20}))
    # .2125 is reached at 109.4 labels in eight seeds of random and in no other, at 32.0 in all of core-set
    assert ", core-set needs at least 77 labels fewer (95" in text
    assert "Not shown" not in text


def test_where_nobody_is_shown_to_save_labels_the_summary_says_how_far_they_may(run_of):
    few = lifted(CURVES["core-set"], -0.2, 0.0, 0.1)
    text = said(run_of({"random": lifted(CURVES["random"], 0, 0.01, 0.02), "core-set": few}))
    assert text.startswith("No strategy is shown to save labels in reaching random's value at 75\u202f% of its rise")
    assert "labels). Labels saved (95\u202f% intervals, unadjusted): core-set +" in text
    never = [[0.1, 0.1, 0.1, 0.1, 0.1]] * 3
    text = said(run_of({"random": lifted(CURVES["random"], 0, 0.01, 0.02), "core-set": never}))
    assert text.endswith("core-set does not reach it in 3 of 3 seeds.")


@pytest.mark.parametrize(
    ("curves", "reason"),
    [
        ([[0.1, 0.2, 0.1, 0.2, 0.3], [0.2, 0.3, 0.2, 0.3, 0.2]], "random's own rise of +0.1000 from its first"),
        ([[0.1, 0.2, 0.3, 0.4, 0.5]], "with one seed, random's own rise of +0.4000"),
        ([[0.5, 0.4, 0.3, 0.2, 0.1]] * 3, "the mean curve of random does not rise"),
    ],
)
@pytest.mark.usefixtures("unsaved")
def test_values_within_a_rise_that_may_be_chance_are_no_targets(run_of, curves, reason):
    run = run_of({"random": curves, "core-set": [[0.1, 0.2, 0.3, 0.4, 0.5]] * len(curves)})
    text = write([run.folder]).with_name("report.md").read_text()
    assert text.count("Labels saved cannot be told: ") == 2  # in the summary, and instead of the figure
    assert text.count(reason) == 2
    assert not (run.folder / "report" / "figures" / "efficiency-digits.png").exists()
    if "does not rise" not in reason:
        assert "| core-set | 0." in text
        assert "| seeds not reaching |" in text
        assert "speed-up" not in text.replace("speed-ups", "")  # no column of nothing but dashes
        table = pd.read_csv(run.folder / "report" / "tables" / "efficiency-labels-digits.csv")
        assert table["saved"].notna().any()
        assert not table["told"].any()


@pytest.mark.usefixtures("unsaved")
def test_where_no_labels_saved_can_be_estimated_a_sentence_stands_for_the_figure(run_of):
    random = [[0.1, 0.1, 0.1, 0.1, end] for end in [0.4] * 8 + [0.15] * 12]  # it rises, but few seeds get half way
    run = run_of({"random": random, "core-set": [[0.1] * 5] * 20})
    text = write([run.folder]).with_name("report.md").read_text()
    assert "There is no figure of labels saved, since none can be estimated" in text
    assert not (run.folder / "report" / "figures" / "efficiency-digits.png").exists()
    row = next(line for line in text.splitlines() if line.startswith("| core-set | 0.1750 (50 %) | not reached"))
    assert row.endswith("| no estimate | no estimate | 20 of 20 (random: 12) |")


def test_a_median_of_few_seeds_is_shown_and_its_interval_is_not_made_up():
    assert saving(9.0, -np.inf, np.inf) == "+9 (no interval)"
    assert saving(np.nan, -np.inf, np.inf) == "no estimate"
    assert saving(0.02, -0.3, 0.4) == "0 [−0.3,\xa0+0.4]"
    table = pd.DataFrame({"strategy": ["a"], "mean": [40.0], "low": [-np.inf], "high": [np.inf]})
    with looks.style():
        (axes,) = diagrams.efficiency(table, {"a": looks.Look("a", "#0072B2", "o")}, "labels saved", 100).axes
    drawn = [line.get_xdata() for line in axes.lines if len(line.get_ydata()) == 1 or set(line.get_ydata()) == {0}]
    assert [list(x) for x in drawn if 40.0 in list(x)] == [[40.0]]  # the point, without line or arrow
    assert [text.get_text() for text in axes.texts] == ["no interval"]


def annotated(make_run, name, holds):
    """A run of figures whose labelled sets hold two joints: `holds(labelled, seed)` of each."""
    folder = make_run(name, tasks=("figures",), strategies=("random", "core-set"))
    table = pd.read_csv(folder / "results.csv")
    rows = table[table["metric"] == "pck@0.2"].drop(columns=["metric", "value"])
    counted = [holds(labelled, seed) for labelled, seed in zip(rows["labelled"], rows["seed"], strict=True)]
    parts = [rows.assign(metric=part, value=[c[i] for c in counted]) for i, part in enumerate(("a", "b"))]
    pd.concat(parts).to_csv(folder / "labels.csv", index=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tasks"]["figures"]["contents"] = [600, 600]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_annotations_are_a_cost_and_balanced_or_not_where_samples_hold_unequal_numbers(make_run):
    alike = annotated(make_run, "alike", lambda labelled, seed: (labelled, labelled))
    apart = annotated(make_run, "apart", lambda labelled, seed: (labelled, labelled // (2 + seed)))
    units = [set(measured([gather([folder])[0]], "figures")[0].tables) for folder in (alike, apart)]
    assert units == [{"labels"}, {"labels", "annotations"}]
    said = [write([folder]).with_name("report.md").read_text() for folder in (alike, apart)]
    same = "Whatever is selected is balanced as the pool is: all samples hold the same annotations."
    assert [same in text for text in said] == [True, False]
    assert ["Balance of what was selected" in text for text in said] == [False, True]
