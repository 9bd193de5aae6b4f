"""Simulated suites with known truth: do the tests err as often as they say, and find what theory says they find?

Curves of a strategy are a common rise, its gain, an effect of the seed that all strategies share, one of the strategy
and seed that is the same at all stages, and noise. So the AUBC's paired difference is normal with a known spread.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from albench.analysis.comparison import against_reference, budgets
from albench.analysis.curves import curves
from albench.analysis.tidy import COLUMNS

LABELS = np.array([100, 200, 300, 400, 500])
WEIGHTS = np.array([0.125, 0.25, 0.25, 0.25, 0.125])  # of the stages in the AUBC
SEEDS = 8
SHARED, OWN, NOISE = 0.02, 0.005, 0.01
SPREAD = np.sqrt(2 * (OWN**2 + NOISE**2 * (WEIGHTS**2).sum()))  # of the AUBC's paired difference
EFFECT = 0.01
GAIN = 1.2 * SPREAD
CROSSING = np.linspace(0.05, -0.05, 5)  # above random at first and below it at last; the areas are equal


def suites(count, gains, seed):
    """Tidy results of `count` suites whose strategies have these gains [stages] (or one for all stages)."""
    rng = np.random.default_rng(seed)
    axes = pd.MultiIndex.from_product([gains, range(SEEDS), range(len(LABELS))], names=["strategy", "seed", "stage"])
    frame = axes.to_frame(index=False)
    frame = frame.assign(task="simulated", labelled=LABELS[frame["stage"]], metric="accuracy")
    shape = (len(gains), SEEDS, len(LABELS))
    gain = np.stack([np.broadcast_to(own, len(LABELS)) for own in gains.values()])[:, None]
    for _ in range(count):
        common = rng.normal(0, SHARED, (1, SEEDS, 1)) + 0.5 + 0.05 * np.arange(5)
        values = common + gain + rng.normal(0, OWN, (*shape[:2], 1)) + rng.normal(0, NOISE, shape)
        yield frame.assign(value=values.ravel())[list(COLUMNS)]


def tables(count, gains, seed):
    """`against_reference` of every suite: column → array [suites, comparisons]."""
    found = [against_reference(suite, "accuracy", effect=EFFECT) for suite in suites(count, gains, seed)]
    columns = ["p", "p_holm", "low", "high", "wilcoxon", "sign_flip", "p_equivalence_holm", "variance_ratio"]
    return {name: np.array([table[name] for table in found]) for name in [*columns, "verdict"]}


def within(hits, chance, least=None):
    """Whether the number of hits is one that a binomial of this chance (or one from `least` to it) shows 99.9 %."""
    low = stats.binom.interval(0.999, len(hits), chance if least is None else least)[0]
    return low <= np.sum(hits) <= stats.binom.interval(0.999, len(hits), chance)[1]


@pytest.fixture(scope="module", params=[200, pytest.param(2000, marks=pytest.mark.slow)])
def count(request):
    """How many suites are simulated."""
    return request.param


@pytest.fixture(scope="module")
def equal(count):
    """Nobody is better than random: two equal strategies, and one whose curve crosses."""
    return tables(count, {"random": 0, "equal": 0, "too": 0, "crossing": CROSSING}, seed=1)


@pytest.fixture(scope="module")
def unequal(count):
    """One better by a known amount, one exactly at the smallest effect of interest, one equal."""
    return tables(count, {"random": 0, "better": GAIN, "edge": EFFECT, "equal": 0}, seed=2)


def test_a_single_comparison_errs_at_its_nominal_level(equal):
    for p in equal["p"].T:
        assert within(p < 0.05, 0.05)


def test_the_primary_test_errs_at_its_nominal_level_over_the_family(equal):
    # Holm over three comparisons that share their reference is a little below 5 %
    assert within((equal["p_holm"] < 0.05).any(1), 0.05, least=0.03)
    assert within(np.isin(equal["verdict"], ["better", "worse"]).any(1), 0.05, least=0.0)


def test_exact_tests_err_at_most_at_their_nominal_level(equal):
    for name in ("wilcoxon", "sign_flip"):
        for p in equal[name].T:
            assert within(p < 0.05, 0.05, least=0.02)  # with 8 pairs Wilcoxon's own level is .039


def test_intervals_cover_the_true_difference(equal, unequal):
    for table, truths in ((equal, (0, 0, 0)), (unequal, (GAIN, EFFECT, 0))):
        covered = (table["low"] <= truths) & (table["high"] >= truths)
        for column in covered.T:
            assert within(column, 0.95)


def test_intervals_of_curve_points_cover_the_true_curve(count):
    gains = {"random": 0, "better": GAIN, "crossing": CROSSING}
    truth = {
        (name, b): 0.5 + 0.05 * s + np.broadcast_to(g, 5)[s] for name, g in gains.items() for s, b in enumerate(LABELS)
    }
    covered = []
    for suite in suites(count, gains, seed=4):
        table = curves(suite).set_index(["strategy", "labelled"]).loc[list(truth)]
        covered.append((table["low"] <= list(truth.values())) & (table["high"] >= list(truth.values())))
    for point in np.array(covered).T:
        assert within(point, 0.95)


def test_power_is_that_of_the_noncentral_t(unequal):
    critical = stats.t.ppf(0.975, SEEDS - 1)
    for p, gain in zip(unequal["p"].T, (GAIN, EFFECT, 0), strict=True):
        power = stats.nct.sf(critical, SEEDS - 1, np.sqrt(SEEDS) * gain / SPREAD)
        power += stats.nct.cdf(-critical, SEEDS - 1, np.sqrt(SEEDS) * gain / SPREAD)
        assert within(p < 0.05, power)


def test_true_differences_beside_it_do_not_raise_the_error_on_an_equal_strategy(unequal):
    assert within(unequal["p_holm"][:, 2] < 0.05, 0.05, least=0.01)


def test_equivalence_errs_at_most_at_its_level(equal, unequal):
    assert within(unequal["p_equivalence_holm"][:, 1] < 0.05, 0.05, least=0.0)
    assert within(unequal["verdict"][:, 1] == "equivalent", 0.05, least=0.0)
    assert (equal["verdict"] == "equivalent").mean() > 0.2  # and it does find equal strategies


def test_pairing_by_seed_pays_as_much_as_the_seeds_share(equal):
    alone = SHARED**2 + SPREAD**2 / 2
    assert np.median(equal["variance_ratio"]) == pytest.approx(SPREAD**2 / 2 / alone, rel=0.3)


def test_single_budgets_see_curves_cross_and_err_at_most_at_their_level(count):
    wrong, seen = [], []
    for suite in suites(count, {"random": 0, "equal": 0, "crossing": CROSSING}, seed=3):
        table = budgets(suite, "accuracy").set_index(["a", "b", "labelled"]).sort_index()["p_holm"] < 0.05
        crossing = table["random", "crossing"]
        wrong.append(table["random", "equal"].any() or crossing[300] or table["equal", "crossing"][300])
        seen.append(crossing[100] and crossing[500])
    assert within(np.array(wrong), 0.05, least=0.0)
    assert np.mean(seen) > 0.5
