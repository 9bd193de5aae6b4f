"""Labels needed for a value: the paper's curves, hand-worked cases, censoring, other costs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from albench.analysis.label_efficiency import (
    centre,
    costs_from,
    efficiency,
    isotonic,
    labels_to_reach,
    median_interval,
    rise,
    target_at,
    targets_within,
)
from albench.errors import AlbenchError

PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "ll4al.csv"
COLUMNS = ["task", "strategy", "seed", "stage", "labelled", "metric", "value"]
BUDGETS = [10, 20, 30, 40]


def tidy(curves, task="t", labelled=BUDGETS):
    """curves: strategy → list of values per seed."""
    rows = [
        (task, strategy, seed, stage, labelled[stage], "m", value)
        for strategy, seeds in curves.items()
        for seed, values in enumerate(seeds)
        for stage, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(("task", "thousands"), [("cifar10", 6.7), ("voc0712", 6.7), ("mpii", 7.3)])
def test_on_the_papers_curves_learning_loss_needs_two_thirds_of_the_labels(task, thousands):
    published = pd.read_csv(PUBLISHED).query("task == @task").assign(seed=0)
    published["stage"] = published["labelled"] // 1000 - 1
    rows = efficiency(published, published["metric"].iloc[0]).set_index("strategy")
    assert rows.loc["learning-loss", "labels"] / 1000 == pytest.approx(thousands, abs=0.05)
    assert rows.loc["learning-loss", "labels_reference"] == 10_000
    assert rows.loc["learning-loss", "speed_up"] == pytest.approx(10_000 / rows.loc["learning-loss", "labels"])
    assert np.isnan(rows.loc["learning-loss", "saved_low"])  # one curve has no spread


def slow_isotonic(values):
    """Pool adjacent violators by the min-max formula."""
    n = len(values)
    return [max(min(np.mean(values[i : j + 1]) for j in range(k, n)) for i in range(k + 1)) for k in range(n)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_isotonic_curve_is_the_obvious_one(values):
    assert isotonic(range(len(values)), values) == pytest.approx(slow_isotonic(values), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0, 1), st.randoms())
def test_labels_needed_rise_with_the_target_and_do_not_hang_on_the_order(values, target, random):
    labelled = np.arange(len(values)) * 10 + 10
    needed = labels_to_reach(labelled, values, target)
    assert needed <= labels_to_reach(labelled, values, min(target + 0.1, 1))
    order = random.sample(range(len(values)), len(values))
    assert labels_to_reach(labelled[order], np.array(values)[order], target) == needed
    if np.isfinite(needed) and needed > 10:
        assert np.interp(needed, labelled, isotonic(labelled, values)) == pytest.approx(target, abs=1e-6)


def test_reached_between_at_once_and_not_at_all():
    values = [0.5, 0.7, 0.6, 0.9]  # isotonic: .5 .65 .65 .9
    assert labels_to_reach(BUDGETS, values, 0.575) == pytest.approx(15)
    assert labels_to_reach(BUDGETS, values, 0.65) == pytest.approx(20)
    assert labels_to_reach(BUDGETS, values, 0.775) == pytest.approx(35)
    assert labels_to_reach(BUDGETS, values, 0.4) == 10
    assert labels_to_reach(BUDGETS, values, 0.91) == np.inf


def test_labels_saved_are_paired_by_seed_with_a_t_interval():
    random = [[0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4]]
    better = [[0.1, 0.3, 0.4, 0.5], [0.2, 0.4, 0.5, 0.6], [0.1, 0.2, 0.4, 0.5]]
    row = efficiency(tidy({"random": random, "better": better}), "m", target=0.3).iloc[0]
    saved = np.array([30, 20, 30]) - np.array([20, 15, 25])
    assert row["saved"] == pytest.approx(saved.mean())
    low, high = stats.t.interval(0.95, 2, saved.mean(), stats.sem(saved))
    assert (row["saved_low"], row["saved_high"]) == pytest.approx((low, high))
    assert row["speed_up"] == pytest.approx((1.5 * 20 / 15 * 1.2) ** (1 / 3))
    assert row["summary"] == "mean"
    assert (row["not_reached"], row["not_reached_reference"], row["at_once"]) == (0, 0, 0)


def test_one_censored_seed_turns_every_mean_into_a_median():
    random = [[0.1, 0.2, 0.3, 0.4]] * 3
    better = [[0.1, 0.3, 0.4, 0.5], [0.1, 0.3, 0.4, 0.5], [0.1, 0.15, 0.2, 0.25]]
    row = efficiency(tidy({"random": random, "better": better}), "m", target=0.3).iloc[0]
    assert row["summary"] == "median"
    assert (row["not_reached"], row["not_reached_reference"]) == (1, 0)
    assert (row["labels"], row["saved"], row["speed_up"]) == (20, pytest.approx(10), pytest.approx(1.5))
    assert (row["saved_low"], row["saved_high"]) == (-np.inf, np.inf)  # three seeds: no two of them at 95 %
    assert row["labels_low"] == 0


def test_where_both_sides_are_censored_the_sign_is_unknown_and_nothing_is_invented():
    flat = [0.1, 0.1, 0.1, 0.1]
    row = efficiency(tidy({"random": [flat] * 3, "better": [flat] * 3}), "m", target=0.9).iloc[0]
    assert np.isnan(row["saved"])
    assert np.isnan(row["speed_up"])
    assert row["labels"] == np.inf
    assert (row["not_reached"], row["not_reached_reference"]) == (3, 3)


def test_more_than_half_censored_is_not_reached_and_a_censored_reference_is_a_win():
    ours, theirs = [[0.1, 0.3, 0.4, 0.5]] * 2, [[0.1, 0.1, 0.1, 0.2]] * 2
    row = efficiency(tidy({"random": theirs, "better": ours}), "m", target=0.3).iloc[0]
    assert (row["labels_reference"], row["saved"], row["speed_up"]) == (np.inf, np.inf, np.inf)


def test_reached_at_once_is_counted():
    row = efficiency(tidy({"random": [[0.1, 0.2, 0.3, 0.4]], "better": [[0.5, 0.5, 0.6, 0.7]]}), "m").iloc[0]
    assert (row["at_once"], row["at_once_reference"], row["labels"]) == (1, 0, 10)


def test_seeds_without_a_partner_or_a_whole_curve_are_named():
    whole, short = [0.1, 0.2, 0.3, 0.4], [0.1, 0.2]
    table = tidy({"random": [whole, whole, whole, whole], "better": [whole, short, [0.1, np.nan, 0.3, 0.4]]})
    row = efficiency(table, "m", target=0.3).iloc[0]
    assert row["pairs"] == 1
    assert row["dropped"].startswith("seed 1, 2, 3 not counted")


def test_the_target_is_the_references_mean_at_a_budget():
    table = tidy({"random": [[0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.5, 0.6]]})
    assert target_at(table, "m") == pytest.approx(0.5)
    assert target_at(table, "m", labelled=25) == pytest.approx(0.35)
    with pytest.raises(AlbenchError, match="10 to 40"):
        target_at(table, "m", labelled=50)
    with pytest.raises(AlbenchError, match="no values"):
        target_at(table, "m", "entropy")


def test_costs_count_parts_or_apply_the_price():
    rows = [("t", "s", 0, 0, 10, part, count) for part, count in (("cat", 12), ("dog", 3))]
    labels = pd.DataFrame(rows, columns=COLUMNS)
    counted, priced = costs_from(labels), costs_from(labels, {"unit": "seconds", "sample": 2.0, "part": 7.0})
    assert (counted["value"].item(), counted["metric"].item()) == (15, "annotations")
    assert (priced["value"].item(), priced["metric"].item()) == (10 * 2 + 15 * 7, "seconds")
    with pytest.raises(AlbenchError, match="no column value"):
        costs_from(labels.drop(columns="value"))


def test_a_strategy_that_picks_crowded_images_is_dear_when_boxes_are_counted():
    table = tidy({"random": [[0.1, 0.2, 0.3, 0.4]], "crowded": [[0.1, 0.3, 0.4, 0.5]]})
    boxes = table.assign(metric="boxes", value=table["labelled"] * np.where(table["strategy"] == "crowded", 3.0, 1.0))
    by_images = efficiency(table, "m", target=0.3).iloc[0]
    by_boxes = efficiency(table, "m", target=0.3, cost=boxes).iloc[0]
    assert by_images["speed_up"] == pytest.approx(1.5)
    assert (by_boxes["labels_reference"], by_boxes["labels"]) == pytest.approx((30, 60))
    assert by_boxes["saved"] == pytest.approx(-30)
    with pytest.raises(AlbenchError, match="none for t, crowded, seed 0, stage 3"):
        efficiency(table, "m", cost=boxes.iloc[:-1])
    with pytest.raises(AlbenchError, match="one metric"):
        efficiency(table, "m", cost=pd.concat([boxes, boxes.assign(metric="money")]))


def test_several_tasks_or_no_reference_are_refused():
    table = tidy({"random": [[1, 2, 3, 4]]})
    with pytest.raises(AlbenchError, match="one task"):
        efficiency(pd.concat([table, tidy({"random": [[1, 2, 3, 4]]}, task="u")]), "m")
    with pytest.raises(AlbenchError, match="no results of the reference"):
        efficiency(table, "m", "entropy")


@pytest.mark.parametrize(("n", "place"), [(5, None), (6, 0), (9, 1), (10, 1), (20, 5)])  # any table of the sign test
def test_the_interval_of_a_median_is_between_order_statistics(n, place):
    low, high = median_interval(np.arange(n))
    assert (low, high) == ((-np.inf, np.inf) if place is None else (place, n - 1 - place))


def test_the_interval_of_a_censored_median_covers_it():
    draws = np.random.default_rng(0).exponential(1, (2000, 12))
    draws[draws > 1.5] = np.inf  # the true median, ln 2, is below
    intervals = [centre(row, censored=True)[1:] for row in draws]
    assert np.mean([low <= np.log(2) <= high for low, high in intervals]) >= 0.95 - 0.01


def test_targets_lie_within_the_rise_of_the_references_mean_curve():
    results = tidy({"random": [[0.2, 0.5, 0.4, 0.8], [0.4, 0.5, 0.6, 1.0]], "a": [[0.3, 0.6, 0.7, 0.9]] * 2})
    targets = targets_within(results, "m", shares=(0.5, 0.9))
    assert targets == pytest.approx({0.5: 0.6, 0.9: 0.84})  # mean curve .3, .5, .5, .9
    table = efficiency(results, "m", target=list(targets.values()))
    assert table["target"].tolist() == pytest.approx([0.6, 0.84])
    row = table.iloc[0]
    assert (row["mean_curve_reference"], row["mean_curve"]) == pytest.approx((32.5, 20))
    alone = efficiency(results, "m", target=targets[0.9]).iloc[0]
    pd.testing.assert_series_equal(table.iloc[1], alone, check_names=False)
    falling = tidy({"random": [[0.9, 0.8, 0.7, 0.6]], "a": [[0.1, 0.2, 0.3, 0.4]]})
    assert targets_within(falling, "m") == {}


def test_the_references_rise_is_told_from_chance_over_its_paired_whole_curves():
    random = [[0.2, 0.3, 0.4, 0.5], [0.3, 0.4, 0.5, 0.7], [0.1, 0.2, 0.3, 0.3]]
    results = tidy({"random": [*random, [0.9]], "a": [[0.1, 0.2, 0.3, 0.4]] * 3})  # the fourth seed is not whole
    mean, low, high, seeds = rise(results, "m")
    risen = np.array([0.3, 0.4, 0.2])
    assert (mean, seeds) == (pytest.approx(0.3), 3)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 2, 0.3, stats.sem(risen)))
    mean, low, _, seeds = rise(tidy({"random": random[:1]}), "m")
    assert (mean, np.isnan(low), seeds) == (pytest.approx(0.3), True, 1)
    assert rise(results, "m", "entropy")[3] == 0
