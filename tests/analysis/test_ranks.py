"""Penalty matrix, ranks and shares against scipy, scikit-posthocs, a slow loop and hand-worked numbers."""

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from albench import AlbenchError
from albench.analysis.comparison import against_reference, all_pairs
from albench.analysis.ranks import (
    blocks_of_seeds,
    blocks_of_tasks,
    clopper_pearson,
    friedman,
    improvement_interval,
    interquartile_mean,
    mean_ranks,
    penalty_matrix,
    probability_of_improvement,
    win_tie_loss,
    worse_than_reference,
)
from albench.analysis.tidy import COLUMNS

LABELS = (10, 20, 40)


def tidy(values, task="digits"):
    """Curves of strategies: name → values [seeds, stages], at 10, 20 and 40 labels."""
    rows = [
        (task, name, seed, stage, LABELS[stage], "accuracy", float(value))
        for name, curves in values.items()
        for seed, curve in enumerate(curves)
        for stage, value in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def drawn(names, task="digits", seeds=5, seed=0, shared=False):
    rng = np.random.default_rng(seed)
    values = {
        name: np.round(rng.normal([0.5, 0.6, 0.65], 0.02, (seeds, 3)) + 0.02 * i, 2) for i, name in enumerate(names)
    }
    if shared:
        values = {name: np.column_stack([np.full(seeds, 0.4), curves[:, 1:]]) for name, curves in values.items()}
    return tidy(values, task)


def plain_penalties(results, metrics, reference="random"):
    """The definition, one budget and one pair at a time; for complete curves only."""
    names = list(results["strategy"].unique())
    found = pd.DataFrame(0.0, index=names, columns=names)
    for task, metric in metrics.items():
        rows = results[(results["task"] == task) & (results["metric"] == metric)]
        values = {key: group.sort_values("seed") for key, group in rows.groupby(["strategy", "labelled"])}
        labels = sorted(rows["labelled"].unique())
        mean = [values[reference, n]["value"].mean() for n in labels]
        last = next(i for i, m in enumerate(mean) if m >= 0.99 * mean[-1])
        first = np.array([values[name, labels[0]]["value"] for name in rows["strategy"].unique()])
        used = labels[1 if np.ptp(first, 0).max() < 1e-12 else 0 : last + 1]
        for n in used:
            for i in rows["strategy"].unique():
                for j in rows["strategy"].unique():
                    d = np.round(values[i, n]["value"].to_numpy() - values[j, n]["value"].to_numpy(), 9)
                    if np.ptp(d) == 0:
                        wins = d[0] > 0
                    else:
                        test = stats.ttest_1samp(d, 0)
                        wins = test.pvalue < 0.05 and test.statistic > 0
                    found.loc[i, j] += wins / len(used)
    return found


def test_penalty_matrix_by_hand():
    # task one: a shared start, random saturates at 20 labels, so that one budget counts
    one = tidy(
        {
            "random": [(0.5, 0.8, 0.8), (0.5, 0.8, 0.8), (0.5, 0.8, 0.8)],
            "a": [(0.5, 0.9, 0.1), (0.5, 0.9, 0.2), (0.5, 0.9, 0.1)],  # .1 above at 20, without spread
            "b": [(0.5, 0.9, 0.1), (0.5, 0.9, 0.2), (0.5, 0.93, 0.1)],  # t = .11 / .01 = 11 > 4.303; a − b: t = −1
        }
    )
    # task two: three budgets; a is above random at the first (t = 6.9) and not at the others (t = 1.4, 0)
    two = tidy(
        {
            "random": [(0.1, 0.5, 0.9), (0.1, 0.5, 0.9), (0.1, 0.5, 0.9)],
            "a": [(0.14, 0.51, 0.9), (0.15, 0.50, 0.9), (0.13, 0.54, 0.9)],
        },
        task="figures",
    )
    found = penalty_matrix(pd.concat([one, two]), {"digits": "accuracy", "figures": "accuracy"})
    expected = pd.DataFrame(0.0, index=["random", "a", "b"], columns=["random", "a", "b"])
    expected.loc["a", "random"] = 1 + 1 / 3
    expected.loc["b", "random"] = 1
    pd.testing.assert_frame_equal(found, expected)
    assert found.attrs["column_means"] == pytest.approx({"random": (2 + 1 / 3) / 3, "a": 0, "b": 0})


@pytest.mark.parametrize("seed", range(4))
def test_penalty_matrix_is_the_plain_loop(seed):
    names = ["random", "a", "b", "c"]
    tasks = {"digits": names, "figures": names[:3], "scenes": names[::-1]}
    parts = [drawn(own, task, seed=seed, shared=task == "figures") for task, own in tasks.items()]
    results, metrics = pd.concat(parts, ignore_index=True), dict.fromkeys(tasks, "accuracy")
    found = penalty_matrix(results.sample(frac=1, random_state=seed), metrics)
    expected = plain_penalties(results, metrics)
    assert expected.to_numpy().any()
    pd.testing.assert_frame_equal(found.loc[names, names], expected)


def test_penalty_matrix_uses_complete_curves_and_needs_the_reference():
    results = drawn(["random", "a"], seeds=6)
    broken = results["seed"].eq(2) & results["stage"].eq(1) & results["strategy"].eq("a")
    gap = results.assign(value=results["value"].mask(broken))
    metrics = {"digits": "accuracy", "not begun": "accuracy"}
    whole = penalty_matrix(results[results["seed"] != 2], metrics)
    # random keeps its seed 2, for its own mean; the pairs do not
    pd.testing.assert_frame_equal(penalty_matrix(gap, metrics), whole)
    with pytest.raises(AlbenchError, match="'random': no results on digits; there are a"):
        penalty_matrix(results[results["strategy"] == "a"], metrics)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_task_without_a_finite_value_of_the_reference_has_no_penalties(value):
    whole, broken = drawn(["random", "a", "b"]), drawn(["random", "a", "b"], "figures")
    broken["value"] = broken["value"].mask(broken["strategy"] == "random", value)
    metrics = {"digits": "accuracy", "figures": "accuracy"}
    found = penalty_matrix(pd.concat([whole, broken]), metrics)
    pd.testing.assert_frame_equal(found, penalty_matrix(whole, metrics))


def test_win_tie_loss_counts_verdicts_over_tasks():
    rng = np.random.default_rng(0)
    tables = []
    for task, gain in {"digits": 0.1, "figures": 0.0, "scenes": -0.1}.items():
        base = rng.normal([0.5, 0.6, 0.7], 0.001, (5, 3))
        values = {"random": base, "a": base + gain + rng.normal(0, 0.0005, (5, 3)), "oracle": base + 0.2}
        tables.append(tidy(values, task))
    against = pd.concat([against_reference(t, "accuracy", leave_out={"oracle"}) for t in tables])
    assert win_tie_loss(against).to_numpy().tolist() == [["a", "random", 1, 1, 0, 1]]
    pairs = win_tie_loss(pd.concat([all_pairs(t, "accuracy") for t in tables])).set_index(["a", "b"])
    assert pairs.columns.tolist() == ["better", "equivalent", "undecided", "worse"]
    assert pairs.loc[("random", "a")].tolist() == [1, 1, 0, 1]
    assert pairs.loc[("a", "oracle")].tolist() == [0, 0, 0, 3]


@given(*[st.lists(st.integers(0, 5), min_size=1, max_size=8)] * 2)
def test_probability_of_improvement_is_mann_whitneys(a, b):
    expected = stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
    assert probability_of_improvement(a, b) == pytest.approx(expected)
    assert probability_of_improvement(b, a) == pytest.approx(1 - expected)


def test_probability_of_improvement_weighs_tasks_alike():
    a = {"digits": [2, 2, 2, 2], "figures": [0, 1], "own": [9]}
    b = {"digits": [1, np.nan], "figures": [1, 1], "other": [0]}
    assert probability_of_improvement(a, b) == pytest.approx((1 + 0.25) / 2)
    assert np.isnan(probability_of_improvement({"digits": [1]}, {"figures": [1]}))


def test_worse_than_reference_by_hand():
    results = tidy({"random": [(0.5, 0.6)] * 5, "a": [(0.4, 0.7), (0.5, 0.5), (0.6, 0.5), (0.5, 0.6), (0.3, np.nan)]})
    row = worse_than_reference(results, "accuracy").iloc[0]
    assert (row["labelled"], row["pairs"], row["worse"], row["share"]) == (20, 4, 2, 0.5)
    expected = stats.binomtest(2, 4).proportion_ci(0.95, "exact")
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    early = worse_than_reference(results, "accuracy", labelled=10).iloc[0]
    assert (early["pairs"], early["worse"]) == (5, 2)
    with pytest.raises(AlbenchError, match="at 15 labels"):
        worse_than_reference(results, "accuracy", labelled=15)


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (1, 7), (30, 100)])
def test_clopper_pearson_is_scipys(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(0.9, "exact")
    assert clopper_pearson(successes, trials, 0.9) == pytest.approx((expected.low, expected.high))
    assert np.isnan(clopper_pearson(0, 0)).all()


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_interquartile_mean_is_scipys(values):
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-9)
    assert interquartile_mean([*values, np.nan]) == interquartile_mean(values)


def test_interquartile_mean_by_hand():
    assert interquartile_mean([100, 1, 2, 3, 4, 5, 6, -50]) == 3.5
    assert np.isnan(interquartile_mean([]))


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=6).map(np.array))
def test_mean_ranks_are_scipys(scores):
    np.testing.assert_allclose(mean_ranks(scores), stats.rankdata(-scores, axis=1).mean(0))


def test_friedman_is_scipys_and_scikit_posthocs():
    scores = pd.DataFrame(np.random.default_rng(0).normal([0, 0.5, 1, 3], 1, (10, 4)), columns=list("abcd"))
    found = friedman(scores)
    expected = stats.friedmanchisquare(*scores.to_numpy().T)
    assert (found.chi2, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(scores)
    np.testing.assert_allclose(found.nemenyi, nemenyi)
    assert found.ranks.idxmin() == "d"
    assert (found.decides, found.words, found.blocks) == (True, "", 10)
    # the critical difference says what Nemenyi's p-values say
    apart = np.abs(np.subtract.outer(found.ranks.to_numpy(), found.ranks.to_numpy()))
    np.testing.assert_array_equal(apart > found.critical_difference, nemenyi < 0.05)


def test_blocks_that_cannot_decide_say_so():
    rng = np.random.default_rng(1)
    three = friedman(pd.DataFrame(rng.random((3, 4)), index=pd.Index(["x", "y", "z"], name="task")))
    assert not three.decides
    assert three.words == (
        "3 tasks and 4 strategies: the critical difference is 2.71 of a possible 3, so only a unanimous order decides, "
        "which this is not"
    )
    unanimous = friedman(pd.DataFrame([[4, 3, 2, 1], [8, 5, 4, 2], [3, 2, 1, 0]], columns=list("abcd")))
    assert (unanimous.decides, unanimous.words) == (True, "")
    assert np.argwhere(unanimous.nemenyi.to_numpy() < 0.05).tolist() == [[0, 3], [3, 0]]
    two = friedman(pd.DataFrame(rng.random((2, 4)), index=pd.Index([0, 1], name="seed")))
    assert two.words == (
        "2 seeds and 4 strategies: the critical difference is 3.32 of a possible 3, so no order decides"
    )
    for scores in (rng.random((1, 4)), rng.random((9, 2)), np.ones((5, 3)), np.full((5, 3), np.nan)):
        found = friedman(pd.DataFrame(scores))
        assert not found.decides
        assert "a ranking needs" in found.words
        assert np.isnan([found.chi2, found.p, found.critical_difference]).all()


def test_blocks_are_tasks_or_the_seeds_of_one_task():
    names = ["random", "a", "b"]
    results = pd.concat([drawn(names, "digits"), drawn(names, "figures", seed=1)])
    results = results[~(results["task"].eq("figures") & results["strategy"].eq("a") & results["seed"].eq(3))]
    metrics = dict.fromkeys(("digits", "figures", "not begun"), "accuracy")
    table = blocks_of_tasks(results, metrics, of="final")
    assert table.index.tolist() == ["digits", "figures"]
    last = results[results["stage"] == 2]
    common = last[(last["task"] == "figures") & (last["seed"] != 3)]
    assert table.loc["figures"].to_dict() == pytest.approx(common.groupby("strategy")["value"].mean().to_dict())
    seeds = blocks_of_seeds(results[results["task"] == "figures"], "accuracy")
    assert (seeds.index.name, seeds.shape) == ("seed", (5, 3))
    assert friedman(seeds).blocks == 4
    with pytest.raises(AlbenchError, match="of one task, not of digits, figures"):
        blocks_of_seeds(results, "accuracy")


def test_the_interval_of_improvement_is_the_bootstrap_over_common_seeds():
    rng = np.random.default_rng(0)
    a, b = (pd.Series(rng.normal(mean, 1, 12)) for mean in (0.5, 0.0))
    low, high = improvement_interval({"t": a}, {"t": b}, draws=400)
    assert low < probability_of_improvement(a.to_numpy(), b.to_numpy()) < high
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 400)
    plain = [
        probability_of_improvement(np.repeat(a.to_numpy(), counts), np.repeat(b.to_numpy(), counts)) for counts in draws
    ]
    np.testing.assert_allclose((low, high), np.quantile(plain, [0.025, 0.975]))
    assert np.isnan(improvement_interval({"t": a[:9]}, {"t": b})).all()
