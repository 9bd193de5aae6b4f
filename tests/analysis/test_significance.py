"""Tests on paired differences against scipy, statsmodels, plain enumeration and hand-worked numbers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from albench import AlbenchError
from albench.analysis.significance import (
    attainable_p,
    equivalence_p,
    holm,
    holm_levels,
    paired_t,
    sign_flip,
    sign_flip_max_t,
    sign_flip_max_ts,
    sign_flips,
    verdict,
    wilcoxon,
)

WHOLE = st.lists(st.integers(-6, 6), min_size=2, max_size=9).map(lambda d: np.array(d) / 8)
P_VALUES = st.lists(st.floats(0, 1) | st.just(np.nan), max_size=12).map(np.array)


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


def test_many_max_t_are_those_of_each():
    rng = np.random.default_rng(0)
    parts = [rng.normal(0.3, 1, (rows, columns)) for rows in (5, 20, 5, 0) for columns in (1, 3, 2)]
    parts[1][2, 1] = np.nan
    for found, part in zip(sign_flip_max_ts(parts), parts, strict=True):
        np.testing.assert_array_equal(found, sign_flip_max_t(part))


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


def test_holm_is_statsmodels():
    p = np.random.default_rng(0).random(9) ** 4
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


@given(P_VALUES, st.integers(0, 9))
def test_a_test_not_made_yet_counts_as_one_that_rejects_nothing(p, more):
    made = int((~np.isnan(p)).sum())
    np.testing.assert_allclose(holm(p, made + more), holm(np.append(p, np.ones(more)))[: len(p)])
    np.testing.assert_allclose(holm(p, made - more), holm(p))  # a smaller family than there is makes nothing milder


@given(P_VALUES, st.sampled_from([0.05, 0.2]), st.integers(0, 15))
def test_a_p_value_is_below_its_level_exactly_where_holm_rejects(p, alpha, family):
    levels, adjusted = holm_levels(p, alpha, family), holm(p, family)
    tests = ~np.isnan(p)
    near = np.isclose(p, levels) | np.isclose(adjusted, alpha)  # rounding decides there
    assert np.array_equal((p < levels)[tests & ~near], (adjusted < alpha)[tests & ~near])
    assert np.isnan(levels[~tests]).all()


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
