"""Which numbers of labels strategies are compared over, where they were not measured at the same ones."""

from itertools import combinations

import pandas as pd
from hypothesis import assume, given
from hypothesis import strategies as st

from albench import analysis
from albench.analysis.curves import left_out, per_seed, summary
from albench.analysis.spans import shared
from albench.analysis.tidy import COLUMNS

NUMBERS = st.sets(st.integers(1, 9), min_size=1, max_size=5)
GRIDS = st.lists(NUMBERS, min_size=1, max_size=6).map(lambda grids: dict(zip("abcdef", grids, strict=False)))


def tidy(grids, seeds=3, task="t"):
    rows = [
        (task, name, seed, stage, labelled, "acc", labelled / 100 + seed / 1000 + place / 50)
        for place, (name, grid) in enumerate(grids.items())
        for seed in range(seeds)
        for stage, labelled in enumerate(sorted(grid))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def compared(grids):
    return set(shared(tidy(grids, seeds=1))["labelled"])


def whole(grids):
    seeds = per_seed(tidy(grids, seeds=1))
    return set(seeds.loc[seeds["complete"], "strategy"])


EARLY, LATE = {10, 20, 40, 80}, {15, 25, 45, 85}


def test_of_two_halves_the_one_that_comes_first_is_compared():
    results = tidy({"random": EARLY, "a": EARLY, "b": LATE, "c": LATE})
    table = summary(results, "acc").set_index("strategy")
    assert table["seeds"].to_dict() == {"random": 3, "a": 3, "b": 0, "c": 0}
    said = left_out(results)
    assert said["random"] == said["a"] == ""
    for name in ("b", "c"):
        assert "seed 0, 1, 2 not counted: the curve is not whole, nothing measured at 10, 20, 40, 80" in said[name]
        assert said[name].endswith(
            "its values at 15, 25, 45, 85 labels are not counted: no two numbers of labels are had by most strategies, "
            "and the largest group (of equals the first) shares 10, 20, 40, 80"
        )
    verdicts = analysis.against_reference(results, "acc").set_index("strategy")
    assert verdicts["pairs"].to_dict() == {"a": 3, "b": 0, "c": 0}
    assert compared({"b": LATE, "c": LATE, "random": EARLY, "a": EARLY}) == LATE


def test_the_largest_group_is_compared_wherever_it_stands():
    assert compared({"random": EARLY, "a": LATE, "b": LATE, "c": {1, 2}, "d": {3, 4}}) == LATE


def test_a_shorter_curve_of_the_group_belongs_to_it():
    assert compared({"random": EARLY, "a": {10, 20, 40}, "b": {15, 25}, "c": {16, 26}}) == {10, 20, 40}


def test_one_number_in_common_does_not_hide_the_curves():
    grids = {"random": EARLY, "a": EARLY, "b": LATE | {10}, "c": LATE | {10}}
    assert compared(grids) == EARLY
    assert whole(grids) == {"random", "a"}


def test_where_only_one_number_is_shared_at_all_it_is_kept():
    assert compared({"random": {50, 100}, "a": {25, 100}, "b": {30, 100}}) == {100}


def test_the_rule_by_which_labels_are_left_out_is_the_one_that_is_told():
    few = "are not counted: no more than half of the strategies "
    one = left_out(tidy({"random": {50, 100}, "a": {25, 100}, "b": {30, 100}}))
    assert one["a"] == f"its values at 25 labels {few}have any"
    begun = left_out(tidy({"random": EARLY, "a": EARLY, "b": {5}, "c": {5}, "d": {5}}))  # three of five have 5
    assert begun["b"].endswith(f"its values at 5 labels {few}with curves have any")
    apart = left_out(tidy({"a": {10}, "b": {20}}))
    assert apart["a"].endswith(f"its values at 10 labels {few}have any")


def test_each_task_has_its_own():
    results = pd.concat([tidy({"a": EARLY, "b": EARLY}), tidy({"a": EARLY, "b": LATE}, task="u")])
    results = pd.concat([results, results.assign(metric="f1")])
    grids = shared(results).groupby(["task", "metric", "strategy"])["labelled"].agg(set)
    assert grids.to_dict() == {("t", m, s): EARLY for m in ("acc", "f1") for s in "ab"} | {
        ("u", m, "a"): EARLY for m in ("acc", "f1")
    }


def of_most(grids):
    """What more than half of those that have begun have."""
    voters = [grid for grid in grids.values() if len(grid) > 1] or list(grids.values())
    return {number for grid in voters for number in grid if 2 * sum(number in g for g in voters) > len(voters)}


@given(GRIDS)
def test_a_majority_decides_and_else_the_largest_group(grids):
    kept, begun, agreed = compared(grids), {name: grid for name, grid in grids.items() if len(grid) > 1}, of_most(grids)
    assert agreed <= kept
    if len(agreed) > 1 or not begun:
        assert kept == agreed
        return
    able = [grid for grid in begun.values() if agreed <= grid]
    size = max(sum({*pair} <= grid for grid in able) for own in able for pair in combinations(own, 2))
    if agreed and size < 2:
        assert kept == agreed
        return
    group = [grid for grid in able if kept <= grid]
    assert len(kept) > 1
    assert len(group) == size
    assert set.intersection(*group) == kept
    leaders = [g for g in able if any(sum({*pair} <= o for o in able) == size for pair in combinations(g, 2))]
    assert kept <= leaders[0]
    assert whole(grids) == {name for name, grid in grids.items() if kept <= grid}


@given(GRIDS)
def test_what_a_group_is_compared_over_stays_so_when_nothing_else_is_left(grids):
    assume(len(of_most(grids)) < 2)
    once = shared(tidy(grids, seeds=1))
    pd.testing.assert_frame_equal(shared(once), once)
