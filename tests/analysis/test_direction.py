"""An error is better where it is lower: whatever is said of x is said of −x with higher_is_better=False."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albench import analysis
from albench.analysis.tidy import COLUMNS

LABELS = (10, 20, 40)
STRATEGIES = ("random", "a", "b")
METRIC = {"t": "nll"}
curve = st.lists(st.integers(1, 99).map(lambda whole: whole / 100), min_size=3, max_size=3)
curves = st.lists(curve, min_size=9, max_size=9)


def tidy(values, task="t"):
    """Curves of three seeds of each strategy, one after another."""
    trials = [(name, seed) for name in STRATEGIES for seed in range(3)]
    rows = [
        (task, name, seed, stage, LABELS[stage], "nll", value)
        for (name, seed), own in zip(trials, values, strict=True)
        for stage, value in enumerate(own)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def turned(results):
    return results.assign(value=-results["value"])


@given(curves)
def test_verdicts_do_not_hang_on_the_sign(values):
    results = tidy(values)
    for test in (analysis.against_reference, analysis.all_pairs):
        up, down = test(results, "nll"), test(turned(results), "nll", higher_is_better=False)
        assert list(up["verdict"]) == list(down["verdict"])
        np.testing.assert_array_equal(up["mean"], -down["mean"])  # differences are those of the values as they are
        np.testing.assert_array_equal(up["p_holm"], down["p_holm"])


@given(curves)
def test_labels_needed_do_not_hang_on_the_sign(values):
    results, lower = tidy(values), {"higher_is_better": False}
    shares = analysis.targets_within(results, "nll")
    assert analysis.targets_within(turned(results), "nll", **lower) == {s: -v for s, v in shares.items()}
    assert analysis.rise(results, "nll") == pytest.approx(analysis.rise(turned(results), "nll", **lower), nan_ok=True)
    for targets in (None, list(shares.values()) or None):
        up = analysis.efficiency(results, "nll", target=targets)
        negative = None if targets is None else [-target for target in targets]
        down = analysis.efficiency(turned(results), "nll", target=negative, **lower)
        pd.testing.assert_frame_equal(up, down.assign(target=-down["target"]))


@given(curves)
def test_ranks_and_chances_do_not_hang_on_the_sign(values):
    results, lower = tidy(values), {"higher_is_better": False}
    down = turned(results)
    pd.testing.assert_frame_equal(
        analysis.penalty_matrix(results, METRIC), analysis.penalty_matrix(down, METRIC, **lower)
    )
    pd.testing.assert_frame_equal(
        analysis.worse_than_reference(results, "nll"), analysis.worse_than_reference(down, "nll", **lower)
    )
    for blocks, metric in ((analysis.blocks_of_tasks, METRIC), (analysis.blocks_of_seeds, "nll")):
        pd.testing.assert_frame_equal(blocks(results, metric), blocks(down, metric, **lower))
    up, scores = (analysis.seed_scores(rows, "nll") for rows in (results, down))
    chance = analysis.probability_of_improvement(up["a"], up["b"])
    assert chance == pytest.approx(analysis.probability_of_improvement(scores["a"], scores["b"], **lower))


def test_tasks_may_differ_in_direction():
    falling = [[0.9 - 0.1 * s - 0.01 * place for s in range(3)] for place in range(9)]
    errors, shares = tidy(falling, "errors"), tidy([[1 - v for v in own] for own in falling], "shares")
    both, metrics, direction = pd.concat([errors, shares]), {"errors": "nll", "shares": "nll"}, {"errors": False}
    matrix = analysis.penalty_matrix(both, metrics, higher_is_better=direction)
    np.testing.assert_array_equal(matrix, 2 * analysis.penalty_matrix(shares, {"shares": "nll"}))
    ranks = analysis.friedman(analysis.blocks_of_tasks(both, metrics, higher_is_better=direction)).ranks
    assert ranks.to_dict() == {"random": 3, "a": 2, "b": 1}
    scores = {task: analysis.seed_scores(own, "nll") for task, own in both.groupby("task")}
    of = {name: {task: own[name] for task, own in scores.items()} for name in STRATEGIES}
    assert analysis.probability_of_improvement(of["b"], of["random"], direction) == 1
    wide = {name: {t: pd.concat([s] * 4, ignore_index=True) for t, s in own.items()} for name, own in of.items()}
    assert analysis.improvement_interval(wide["b"], wide["random"], higher_is_better=direction) == pytest.approx((1, 1))


def test_an_error_that_falls_saves_labels():
    falling = [[0.9, 0.7, 0.5 + seed / 100] for seed in range(3)]
    lower = [[value - 0.1 for value in own] for own in falling]
    results = tidy([*falling, *lower, *falling])
    saved = analysis.efficiency(results, "nll", target=0.7, higher_is_better=False).set_index("strategy")
    assert saved.loc["a", "labels"] == pytest.approx(15)  # halfway from .8 at 10 labels to .6 at 20
    assert saved.loc["a", "saved"] == pytest.approx(5)
    assert analysis.labels_to_reach(LABELS, [0.9, 0.7, 0.5], 0.8, higher_is_better=False) == pytest.approx(15)
    assert analysis.rise(results, "nll", higher_is_better=False)[0] == pytest.approx(0.39)


def test_without_a_pair_nothing_was_tested():
    results = tidy([[0.5, 0.6, 0.7]] * 9)
    apart = results["strategy"].eq("a")
    results = results.assign(seed=results["seed"].mask(apart, results["seed"] + 100))
    short = ~(results["strategy"].eq("b") & results["labelled"].gt(20))
    table = analysis.against_reference(results[short], "nll").set_index("strategy")
    assert table["pairs"].to_dict() == {"a": 0, "b": 0}
    assert table["verdict"].to_dict() == {"a": "not tested", "b": "not tested"}
    assert analysis.win_tie_loss(table.reset_index()).empty


def test_per_cents_are_noted_unless_the_effect_was_chosen():
    results = tidy([[50.0, 60.0, 70.0 + place] for place in range(9)])
    with pytest.warns(UserWarning, match="All values of nll are above 1.*half a point is an effect of 0.5") as caught:
        analysis.against_reference(results, "nll")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analysis.against_reference(results, "nll", effect=0.005)
        analysis.against_reference(results.assign(value=results["value"] / 100), "nll")


def test_what_the_package_offers_is_there_and_costs_nothing_until_used():
    import subprocess
    import sys

    for name in analysis.__all__:
        assert callable(getattr(analysis, name)), name
    code = "import sys, albench.analysis as a; assert not {'pandas', 'scipy', 'torch'} & set(sys.modules); a.read"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True)
