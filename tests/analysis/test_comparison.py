"""Tests between strategies against scipy, statsmodels, plain enumeration and hand-worked numbers."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from albench import AlbenchError
from albench.analysis.comparison import (
    against_reference,
    all_pairs,
    attainable_p,
    budgets,
    equivalence_p,
    holm,
    holm_in_groups,
    holm_levels,
    paired_t,
    sign_flip,
    sign_flip_max_t,
    verdict,
    wilcoxon,
)
from albench.analysis.curves import COLUMNS
from albench.analysis.significance import sign_flips

LABELS = (10, 20, 40)
WHOLE = st.lists(st.integers(-6, 6), min_size=2, max_size=9).map(lambda d: np.array(d) / 8)
P_VALUES = st.lists(st.floats(0, 1) | st.just(np.nan), max_size=12).map(np.array)


def tidy(values, task="digits"):
    """Curves by (strategy, seed) at 10, 20 and 40 labels."""
    rows = [
        (task, strategy, seed, stage, LABELS[stage], "accuracy", value)
        for (strategy, seed), curve in values.items()
        for stage, value in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def drawn(gains, seeds=6, spread=0.01, seed=0):
    """Curves of several strategies: a rise, an effect of the seed, noise, and each strategy's gain."""
    rng = np.random.default_rng(seed)
    of_seed = rng.normal(0, 0.02, seeds)
    return tidy(
        {
            (name, s): tuple(0.5 + 0.1 * np.arange(3) + of_seed[s] + gain + rng.normal(0, spread, 3))
            for name, gain in gains.items()
            for s in range(seeds)
        }
    )


def plain_sign_flip(d, statistic=lambda d: abs(np.mean(d))):
    observed = statistic(d) - 1e-12
    return np.mean([statistic(d * signs) >= observed for signs in product((1, -1), repeat=len(d))])


def plain_wilcoxon(d):
    d = d[d != 0]
    if not len(d):
        return 1.0
    ranks = stats.rankdata(abs(d))
    centre = ranks.sum() / 2
    observed = abs(ranks[d > 0].sum() - centre)
    sums = [ranks[np.array(signs)].sum() for signs in product((True, False), repeat=len(d))]
    return np.mean(np.abs(np.array(sums) - centre) >= observed - 1e-9)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_paired_t_is_scipys(count):
    d = np.random.default_rng(count).normal(0.3, 1, count)
    found, expected = paired_t(d, 0.9), stats.ttest_1samp(d, 0)
    interval = expected.confidence_interval(0.9)
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.effect) == (count, pytest.approx(d.mean() / d.std(ddof=1)))


def test_paired_t_without_spread():
    assert (paired_t([0.0, 0.0, 0.0]).p, paired_t([0.0, 0.0]).t) == (1, 0)
    up, down = paired_t([0.1, 0.1, 0.1]), paired_t([-0.25, -0.25])
    assert (up.p, up.t, up.effect) == (0, np.inf, np.inf)
    assert (down.p, down.t, down.low, down.high) == (0, -np.inf, -0.25, -0.25)
    rounded = paired_t([0.9 - 0.8, 0.4 - 0.3, 0.3 - 0.2])  # all .1, but for the last bits
    assert rounded.sd == rounded.p == 0


def test_paired_t_of_too_few():
    one, none = paired_t([0.3, np.nan]), paired_t([])
    assert (one.n, one.mean) == (1, 0.3)
    assert np.isnan([one.sd, one.low, one.t, one.p, one.effect, none.mean]).all()
    assert np.isnan(equivalence_p([0.3], 1))


@pytest.mark.parametrize("effect", [0.0, 0.2, 2.0])
def test_equivalence_is_statsmodels(effect):
    d = np.random.default_rng(1).normal(0.1, 0.5, 8)
    expected = DescrStatsW(d).ttost_mean(-effect, effect)[0]
    assert equivalence_p(d, effect) == pytest.approx(expected)
    assert equivalence_p(-d, effect) == pytest.approx(expected)


def test_equivalence_without_spread_and_of_a_negative_effect():
    assert equivalence_p([0.1, 0.1], 0.2) == 0
    assert equivalence_p([0.3, 0.3], 0.2) == 1
    with pytest.raises(AlbenchError, match="cannot be negative"):
        equivalence_p([0.1, 0.2], -0.1)


@given(WHOLE)
def test_sign_flip_is_the_enumeration(d):
    assert sign_flip(d) == pytest.approx(plain_sign_flip(d))


@pytest.mark.parametrize("count", [6, 20])
def test_many_sign_flips_are_those_of_each(count):
    D = np.random.default_rng(count).normal(0.2, 1, (count, 60))
    D[2, 3], D[:, 4], D[:, 5] = np.nan, 0, np.nan
    np.testing.assert_allclose(sign_flips(D), [sign_flip(d) for d in D.T])
    assert np.isnan(sign_flips(np.zeros((0, 2)))).all()


def test_sign_flip_is_scipys():
    d = np.random.default_rng(2).normal(0.5, 1, 10)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(d) == pytest.approx(expected.pvalue)


def test_many_pairs_are_flipped_at_random_near_the_exact_p():
    d = np.random.default_rng(3).normal(0.4, 1, 18)
    signs = 1.0 - 2 * (np.arange(2**17) >> np.arange(18)[:, None] & 1)  # the other half mirrors it
    exact = np.mean(np.abs(d @ signs) >= abs(d.sum()) - 1e-12)
    assert sign_flip(d) == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    assert sign_flip(d) == sign_flip(d)
    assert sign_flip(np.ones(30)) == pytest.approx(1 / 20_001)


@settings(deadline=None)
@given(WHOLE, st.randoms(use_true_random=False))
def test_exact_tests_ignore_order_and_sign_and_stay_attainable(d, random):
    mixed = d.copy()
    random.shuffle(mixed)
    for test in (sign_flip, wilcoxon):
        assert test(d) == pytest.approx(test(mixed)) == pytest.approx(test(-d))
        assert attainable_p(len(d)) - 1e-12 <= test(d) <= 1


def plain_max_t(D):
    def t(D):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(np.abs(D.mean(0)) / D.std(0, ddof=1), nan=0, posinf=1e9)

    largest = np.array([t(D * np.array(signs)[:, None]).max() for signs in product((1, -1), repeat=len(D))])
    return np.array([np.mean(largest >= own * (1 - 1e-9)) for own in t(D)])


def test_max_t_is_the_enumeration_of_studentised_flips():
    D = np.random.default_rng(4).normal([0, 0.5, 1.5, 0.3], [1, 1, 1, 10], (7, 4))
    np.testing.assert_allclose(sign_flip_max_t(D), plain_max_t(D))
    assert (sign_flip_max_t(D) >= [sign_flip(d) for d in D.T]).all()


def test_max_t_of_columns_without_spread():
    D = np.column_stack([np.zeros(5), np.full(5, 0.25), [0.1, -0.2, 0.3, 0.4, -0.1]])
    found = sign_flip_max_t(D)
    assert found[:2].tolist() == [1, 2 / 2**5]
    assert found[2] > found[1]
    # a column of zeros changes nothing, and a seed with a gap is left out of all columns
    np.testing.assert_array_equal(sign_flip_max_t(D[:, 1:]), found[1:])
    np.testing.assert_array_equal(sign_flip_max_t(np.vstack([D, [np.nan, 1, 1]])), found)
    assert np.isnan(sign_flip_max_t(np.empty((0, 2)))).all()


@given(WHOLE)
def test_wilcoxon_is_the_enumeration_with_ties_and_zeros(d):
    assert wilcoxon(d) == pytest.approx(plain_wilcoxon(d))


@pytest.mark.parametrize("count", [5, 12, 40])
def test_wilcoxon_is_scipys(count):
    d = np.random.default_rng(count).normal(0.3, 1, count)
    assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)


def test_attainable_by_hand():
    assert [attainable_p(n) for n in (1, 3, 5, 10)] == [1, 0.25, 0.0625, 2 / 1024]
    assert wilcoxon([1, 2, 3, 4, 5]) == sign_flip([1, 2, 3, 4, 5]) == 0.0625


def plain_holm(p):
    order = sorted(range(len(p)), key=lambda i: p[i])
    return [min(1, max((len(p) - m) * p[order[m]] for m in range(order.index(i) + 1))) for i in range(len(p))]


@given(P_VALUES)
def test_holm_is_its_definition_and_never_below_p(p):
    found, tests = holm(p), ~np.isnan(p)
    assert np.isnan(found[~tests]).all()
    np.testing.assert_allclose(found[tests], plain_holm(p[tests]))
    assert (np.diff(found[tests][np.argsort(p[tests])]) >= 0).all()
    assert (found[tests] >= p[tests]).all()
    np.testing.assert_allclose(holm_in_groups(p, np.arange(len(p))), found)


def test_holm_is_statsmodels():
    p = np.random.default_rng(0).random(9) ** 4
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_holm_in_groups_by_hand():
    # the first pair has two budgets and counts until .04 is passed; then the second stands alone
    found = holm_in_groups(np.array([0.01, 0.04, 0.03, 0.5]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(found, [0.02, 0.08, 0.06, 0.5])


@pytest.mark.parametrize(
    ("p", "mean", "same", "expected"),
    [
        (0.01, 0.1, 0.5, "better"),
        (0.01, -0.1, 0.5, "worse"),
        (0.05, 0.1, 0.05, "undecided"),
        (0.01, 0.001, 0.01, "equivalent"),
        (0.9, 0.001, 0.01, "equivalent"),
        (np.nan, 0.1, np.nan, "undecided"),
    ],
)
def test_verdicts(p, mean, same, expected):
    assert verdict(p, mean, same, 0.05) == expected


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=12).map(np.array), st.floats(0.01, 0.5))
def test_the_verdict_of_one_comparison_is_that_of_the_intervals(d, effect):
    found = verdict(paired_t(d).p, d.mean(), equivalence_p(d, effect), 0.05)
    narrow, wide = paired_t(d, 0.9), paired_t(d, 0.95)
    near = lambda a, b: abs(a - b) < 1e-9  # noqa: E731 - at the very bound rounding decides
    if near(narrow.low, -effect) or near(narrow.high, effect) or near(wide.low, 0) or near(wide.high, 0):
        return
    if -effect < narrow.low and narrow.high < effect:
        assert found == "equivalent"
    else:
        assert found == ("better" if wide.low > 0 else "worse" if wide.high < 0 else "undecided")


def test_against_reference_by_hand():
    # areas over 30 labels, of 0: .4 .6 .8 → 19/30, of 1: .5 .7 .7 → 20/30; mine: 20/30 and 23.5/30
    results = tidy(
        {
            ("random", 0): (0.4, 0.6, 0.8),
            ("random", 1): (0.5, 0.7, 0.7),
            ("mine", 1): (0.5, 0.8, 0.9),
            ("mine", 0): (0.4, 0.6, 0.9),
        }
    )
    row = against_reference(results, "accuracy").iloc[0]
    d = np.array([1, 3.5]) / 30
    assert (row["strategy"], row["reference"], row["pairs"], row["dropped"]) == ("mine", "random", 2, "")
    assert (row["mean"], row["sd"]) == pytest.approx((d.mean(), d.std(ddof=1)))
    assert row["p"] == row["p_holm"] == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert row["attainable"] == 0.5
    areas = np.array([[19, 20], [20, 23.5]]) / 30
    assert row["variance_ratio"] == pytest.approx(d.var(ddof=1) / areas.var(axis=1, ddof=1).sum())
    final = against_reference(results, "accuracy", of="final").iloc[0]
    assert final["mean"] == pytest.approx(0.15)


def test_against_reference_is_holm_over_the_plain_tests():
    results = drawn({"random": 0, "a": 0.05, "b": 0.001, "c": -0.05})
    table = against_reference(results, "accuracy", effect=0.03).set_index("strategy")
    scores = results.groupby(["strategy", "seed"])["value"].apply(
        lambda v: (10 * (v[:2].sum()) / 2 + 10 * v[1:].sum()) / 30
    )
    plain = {name: stats.ttest_rel(scores[name], scores["random"]) for name in table.index}
    np.testing.assert_allclose(table["p"], [plain[name].pvalue for name in table.index])
    np.testing.assert_allclose(table["p_holm"], multipletests(table["p"], method="holm")[1])
    np.testing.assert_allclose(table["p_equivalence_holm"], multipletests(table["p_equivalence"], method="holm")[1])
    interval = plain["a"].confidence_interval(0.95)
    assert (table.loc["a", "low"], table.loc["a", "high"]) == pytest.approx((interval.low, interval.high))
    assert table["verdict"].to_dict() == {"a": "better", "b": "equivalent", "c": "worse"}
    d = (scores["a"] - scores["random"]).to_numpy()
    assert table.loc["a", "wilcoxon"] == wilcoxon(d)
    assert table.loc["a", "sign_flip"] == sign_flip(d)
    assert (table["variance_ratio"] < 1).all()  # the seed's effect is shared


def test_seeds_are_matched_whatever_the_order_of_rows_and_drops_are_said():
    results = drawn({"random": 0, "a": 0.05})
    expected = against_reference(results, "accuracy")
    mixed = results.groupby("strategy", sort=False).sample(frac=1, random_state=5)
    pd.testing.assert_frame_equal(against_reference(mixed, "accuracy"), expected)
    absent = ~((results["strategy"] == "random") & results["seed"].isin([0, 4]))
    short = ~((results["strategy"] == "a") & (results["seed"] == 2) & (results["stage"] == 2))
    row = against_reference(results[absent & short], "accuracy").iloc[0]
    assert row["pairs"] == 3
    assert row["dropped"] == (
        "seed 2: the curve of a is not whole, ends at 20 of 40 labels; seeds 0, 4: random has no such seed"
    )
    whole = results[results["seed"].isin([1, 3, 5])]
    assert row["p"] == pytest.approx(against_reference(whole, "accuracy").iloc[0]["p"])


def test_strategies_that_cheat_are_outside_the_family():
    results = drawn({"random": 0, "a": 0.01, "oracle": 0.2})
    table = against_reference(results, "accuracy", leave_out={"oracle"}).set_index("strategy")
    assert table.loc["a", "p_holm"] == table.loc["a", "p"]
    assert table.loc["oracle", "p"] < 0.001
    assert np.isnan(table.loc["oracle", ["p_holm", "p_equivalence_holm"]].astype(float)).all()
    assert table.loc["oracle", "verdict"] == ""
    pairs = all_pairs(results, "accuracy", leave_out={"oracle"})
    assert (pairs["verdict"] == "").tolist() == [False, True, True]


def test_one_seed_decides_nothing():
    results = drawn({"random": 0, "a": 0.3}, seeds=1)
    row = against_reference(results, "accuracy").iloc[0]
    assert (row["pairs"], row["verdict"]) == (1, "undecided")
    assert np.isnan([row["p"], row["p_holm"], row["low"], row["variance_ratio"]]).all()


def test_equal_strategies_are_equivalent_without_a_warning():
    results = drawn({"random": 0})
    both = pd.concat([results, results.assign(strategy="random-b")])
    row = against_reference(both, "accuracy").iloc[0]
    assert (row["mean"], row["sd"], row["t"], row["p"], row["verdict"]) == (0, 0, 0, 1, "equivalent")


def test_all_pairs_are_holm_over_pairs_and_agree_with_the_reference():
    results = drawn({"random": 0, "a": 0.01, "b": 0.05})
    pairs = all_pairs(results, "accuracy")
    assert list(zip(pairs["a"], pairs["b"], strict=True)) == [("random", "a"), ("random", "b"), ("a", "b")]
    against = against_reference(results, "accuracy")
    np.testing.assert_allclose(pairs["mean"][:2], -against["mean"])
    np.testing.assert_allclose(pairs["p"][:2], against["p"])
    np.testing.assert_allclose(pairs["p_holm"], multipletests(pairs["p"], method="holm")[1])


def test_single_budgets():
    results = drawn({"random": 0, "a": 0.03, "b": 0}, seeds=8)
    start = results[(results["strategy"] == "random") & (results["stage"] == 0)].set_index("seed")["value"]
    results.loc[results["stage"] == 0, "value"] = results.loc[results["stage"] == 0, "seed"].map(start)
    table = budgets(results, "accuracy")
    wide = results.pivot(index="seed", columns=["strategy", "labelled"], values="value")
    for (a, b), rows in table.groupby(["a", "b"]):
        assert rows["labelled"].tolist() == list(LABELS)
        D = (wide[a] - wide[b])[list(LABELS)].to_numpy()
        np.testing.assert_allclose(rows["p"], sign_flip_max_t(D))
        np.testing.assert_allclose(rows["mean"], D.mean(0))
        np.testing.assert_allclose(rows["t"][1:], stats.ttest_1samp(D[:, 1:], 0).statistic)
    assert (table.loc[table["labelled"] == 10, ["p", "p_holm", "pairs"]] == [1, 1, 8]).all(axis=None)
    assert (table["p_holm"] >= table["p"]).all()
    found = set(table.loc[table["p_holm"] < 0.05, ["a", "b"]].itertuples(index=False, name=None))
    assert found == {("random", "a"), ("a", "b")}


def test_budgets_are_of_the_seeds_with_whole_curves():
    results = drawn({"random": 0, "a": 0.03})
    gap = ~((results["strategy"] == "a") & (results["seed"] == 1) & (results["stage"] == 1))
    short = ~((results["strategy"] == "a") & (results["seed"] == 3) & (results["stage"] > 0))
    table = budgets(results[gap & short], "accuracy")
    assert table["labelled"].tolist() == [10, 20, 40]
    assert table["pairs"].tolist() == [4, 4, 4]
    assert budgets(results[results["strategy"] == "a"], "accuracy").empty


def test_user_errors_are_one_line():
    results = drawn({"random": 0, "a": 0.01})
    with pytest.raises(AlbenchError, match="'entropy'.*there are: random, a"):
        against_reference(results, "accuracy", reference="entropy")
    with pytest.raises(AlbenchError, match="there are: none"):
        against_reference(results, "mAP")
    with pytest.raises(AlbenchError, match="of one task, not of digits, figures"):
        all_pairs(pd.concat([results, results.assign(task="figures")]), "accuracy")
    with pytest.raises(AlbenchError, match="of='area'"):
        against_reference(results, "accuracy", of="area")


@given(P_VALUES, st.sampled_from([0.05, 0.2]))
def test_a_p_value_is_below_its_level_exactly_where_holm_rejects(p, alpha):
    levels, adjusted = holm_levels(p, alpha), holm(p)
    tests = ~np.isnan(p)
    near = np.isclose(p, levels) | np.isclose(adjusted, alpha)  # rounding decides there
    assert np.array_equal((p < levels)[tests & ~near], (adjusted < alpha)[tests & ~near])
    assert np.isnan(levels[~tests]).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_interval_of_the_verdict_never_contradicts_it(seed):
    gains = {"random": 0.0, "up": 0.03, "little": 0.012, "same": 0.0, "down": -0.02, "oracle": 0.1}
    results = drawn(gains, seeds=8, spread=0.012, seed=seed)
    table = against_reference(results, "accuracy", effect=0.015, leave_out={"oracle"}).set_index("strategy")
    assert np.isnan(table.loc["oracle", ["verdict_low", "verdict_high"]].astype(float)).all()
    words = set()
    for row in table.drop("oracle").to_dict("records"):
        low, high = row["verdict_low"], row["verdict_high"]
        within, beside = low > -0.015 and high < 0.015, low > 0 or high < 0
        assert low <= row["mean"] <= high
        if row["verdict"] == "equivalent":
            assert within
        else:
            assert beside == (row["verdict"] in ("better", "worse"))
            assert row["verdict"] != "undecided" or not within
        words.add(row["verdict"])
    assert len(words) > 1
