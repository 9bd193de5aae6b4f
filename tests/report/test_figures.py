"""What figures promise: one look per strategy, names that do not overlap, panels for any count."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from albench.analysis.curves import curves
from albench.report import figures, lettering, looks, panels, words
from albench.report.runs import gather
from albench.report.tables import metric_name, number, summaries


def test_looks_follow_the_suite_and_tell_strategies_apart(make_run):
    styles = looks.looks(gather([make_run()]))
    assert list(styles) == ["random", "entropy", "core-set", "learning-loss", "true-loss"]
    assert styles["random"].colour in looks.GREYS
    assert styles["entropy"].colour == looks.COLOURS[0]
    assert styles["true-loss"].name == "true-loss ⚠"
    assert len({look.colour for look in styles.values()}) == len({look.marker for look in styles.values()}) == 5


def test_the_reference_and_its_variants_are_grey(make_run):
    run = gather([make_run()])[0]
    variant = {"strategy": "random-b", "companion": None, "cheats": False}
    many = {f"other-{i}": {"strategy": f"other-{i}"} for i in range(20)}
    run.strategies |= {"twin": variant, "random+module": {"strategy": "random"}} | many
    styles = looks.looks([run])
    assert {styles[s].colour for s in ("random", "twin", "random+module")} == set(looks.GREYS)
    assert len({(look.colour, look.marker, look.dashes) for look in styles.values()}) == len(styles)


@pytest.mark.parametrize("count", [1, 2, 5, 18])
def test_names_keep_their_order_and_distance(count):
    wanted = np.sort(np.random.default_rng(count).uniform(0.4, 0.6, count))
    places = lettering.spread(wanted, 0.05)
    assert (places >= 0).all()
    assert (places <= 1 + 1e-9).all()
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(places))
    assert lettering.spread(np.array([0.1, 0.9]), 0.05).tolist() == [0.1, 0.9]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_panels_lie_within_the_figure_apart(count):
    legend = lettering.Legend([("a", {}), ("b", {})], 6.9)
    figure, axes, _ = panels._panels(count, "y", "x", 6.9, True, legend)
    boxes = [a.get_position() for a in axes]
    assert all(0 < b.x0 < b.x1 < 1 and 0 < b.y0 < b.y1 < 1 for b in boxes)
    assert len(figure.axes) == count


def test_a_curve_with_many_strategies_and_stages_is_drawn():
    rows = [
        ("t", f"s{i}", seed, stage, 10 * (stage + 1), "accuracy", stage / 20 + i / 100)
        for i in range(25)
        for seed in range(2)
        for stage in range(20)
    ]
    table = curves(pd.DataFrame(rows, columns=["task", "strategy", "seed", "stage", "labelled", "metric", "value"]))
    styles = {f"s{i}": looks.Look(f"s{i}", "#0072B2", "o") for i in range(25)}
    figure = figures.learning_curve(table, styles, "accuracy")
    assert [text.get_text() for text in figure.legends[0].get_texts()] != list(styles)  # along rows, filled by columns
    assert {text.get_text() for text in figure.legends[0].get_texts()} == set(styles)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "labelled samples"


def test_numbers_and_metrics_as_they_are_written():
    assert number(-0.01234, 3, sign=True) == "−0.012"
    assert number(float("nan")) == "–"
    assert [metric_name(m) for m in ("accuracy", "map", "map@11pt", "pckh-neck@0.5")] == [
        *("accuracy", "mAP", "mAP@11pt", "PCKh-neck@0.5")
    ]


def test_findings_describe_every_situation(make_run):
    run = gather([make_run()])[0]
    rows = summaries([run], "digits")
    assert "95\u202f% interval" in words.finding(rows, "accuracy")
    alone = rows[rows["strategy"] == "random"].reset_index(drop=True)
    assert "nothing else has a complete curve" in words.finding(alone, "accuracy")
    other = rows[rows["strategy"] == "entropy"].reset_index(drop=True).assign(difference=np.nan)
    assert "there is no reference" in words.finding(other, "accuracy")
    single = rows.assign(difference_low=np.nan, pairs=1)
    assert "so there is no interval" in words.finding(single, "accuracy")
