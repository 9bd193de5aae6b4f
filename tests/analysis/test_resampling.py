"""Intervals over seeds × test samples: what they cover, and what they are made of."""

import numpy as np
import pytest
from scipy import stats

from albench.analysis.curves import aubc, t_interval
from albench.analysis.resampling import another_test_set, over_seeds_and_samples, sample_counts

TRUE = 0.02


def simulated(rng, seeds, samples, sd_seed, sd_sample, sd_own):
    """Per-sample differences of two strategies [S, N]: a seed's own level, a sample's own, and both together."""
    level = TRUE + rng.normal(0, sd_seed, (seeds, 1)) + rng.normal(0, sd_sample, (1, samples))
    return level + rng.normal(0, sd_own, (seeds, samples))


def coverage(seeds, suites, sd_seed, sd_sample, sd_own, samples=60, draws=60):
    """How often the three intervals hold the true difference: (t over seeds alone, both, percentile)."""
    rng = np.random.default_rng(seeds)
    weight = sample_counts(samples, draws)[1:] / samples
    hits = np.zeros(3)
    for _ in range(suites):
        x = simulated(rng, seeds, samples, sd_seed, sd_sample, sd_own)
        both = over_seeds_and_samples(x.mean(1), x @ weight.T)
        for number, (low, high) in enumerate((t_interval(x.mean(1)), (both.low, both.high), both.percentile)):
            hits[number] += low <= TRUE <= high
    return hits / suites


# what dominates: the test samples, the seeds, or what a seed makes of each sample
SPREADS = {"samples": (0.01, 0.4, 0.1), "seeds": (0.05, 0.1, 0.1), "both together": (0.005, 0.02, 0.6)}


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("spread", SPREADS)
def test_the_interval_covers_another_test_set(seeds, spread):
    _, both, percentile = coverage(seeds, 300, *SPREADS[spread])
    assert both >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 300)
    assert (percentile > 0.9) if seeds >= 10 else (percentile == 0)  # not given below ten seeds


@pytest.mark.parametrize("seeds", [2, 3])
def test_seeds_that_agree_by_luck_do_not_narrow_it(seeds):
    """Where only the test samples move the mean, suites whose seeds happen to lie together are covered, too."""
    rng = np.random.default_rng(seeds)
    weight = sample_counts(60, 60)[1:] / 60
    hits = []
    for _ in range(2000):
        x = simulated(rng, seeds, 60, 0.0, 0.0, 0.6)
        both = over_seeds_and_samples(x.mean(1), x @ weight.T)
        if both.sd_samples > 5 * both.sd_seeds:
            hits.append(both.low <= TRUE <= both.high)
    assert len(hits) > 50
    assert np.mean(hits) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(hits))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
@pytest.mark.parametrize("spread", SPREADS)
def test_the_interval_covers_another_test_set_in_many_suites(seeds, spread):
    _, both, percentile = coverage(seeds, 4000, *SPREADS[spread], draws=200)
    assert 0.925 <= both <= 0.99  # more where the test samples alone set the least half-width
    assert (percentile > 0.92) if seeds >= 10 else (percentile == 0)


def test_seeds_alone_do_not_cover_another_test_set():
    alone, both, _ = coverage(5, 300, *SPREADS["samples"])
    assert alone < 0.6 < 0.9 < both


def test_without_noise_of_samples_it_is_the_t_interval():
    d = np.array([0.01, 0.03, 0.02, 0.05])
    both = over_seeds_and_samples(d, np.repeat(d[:, None], 50, axis=1))
    assert (both.low, both.high) == pytest.approx(t_interval(d))
    assert both.sd_samples == pytest.approx(0)
    assert np.isnan(both.percentile).all()


def test_without_noise_of_seeds_it_is_the_normal_interval_over_samples():
    draws = np.random.default_rng(0).normal(0.1, 0.02, 400)
    both = over_seeds_and_samples(np.full(3, 0.1), np.repeat(draws[None], 3, axis=0))
    assert both.sd_seeds == pytest.approx(0)
    assert both.high - both.low == pytest.approx(2 * stats.norm.ppf(0.975) * draws.std(ddof=1))


def test_the_percentiles_are_those_of_the_obvious_loop():
    rng = np.random.default_rng(3)
    x = simulated(rng, 12, 40, 0.02, 0.1, 0.1)
    counts = sample_counts(40, 300)
    both = over_seeds_and_samples(x.mean(1), x @ counts[1:].T / 40)
    means = []
    for _ in range(3000):
        picked, drawn = rng.integers(0, 12, 12), rng.integers(0, 40, 40)
        means.append(x[np.ix_(picked, drawn)].mean())
    assert both.percentile == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.006)


def test_one_seed_has_no_interval_and_undefined_draws_are_left_out():
    one = over_seeds_and_samples(np.array([0.1]), np.full((1, 20), 0.1))
    assert one.mean == pytest.approx(0.1)
    assert np.isnan([one.low, one.high, one.sd_seeds]).all()
    D = np.random.default_rng(0).normal(0, 1, (3, 30))
    holes = np.insert(D, 7, [np.nan, 0.0, 0.0], axis=1)
    d = np.array([0.1, 0.2, 0.4])
    assert over_seeds_and_samples(d, holes).low == over_seeds_and_samples(d, D).low


def test_counts_begin_with_the_test_set_itself_and_are_the_same_every_time():
    counts = sample_counts(9, 5)
    assert counts[0].tolist() == [1] * 9
    assert counts.sum(1).tolist() == [9] * 6
    assert np.array_equal(counts, sample_counts(9, 5))
    assert not np.array_equal(counts, sample_counts(9, 5, seed=1))


def test_the_table_is_paired_by_seed_and_scores_curves_as_elsewhere():
    rng = np.random.default_rng(0)
    labelled = np.array([10, 20, 50])
    values = {("random", s): rng.uniform(0, 1, (41, 3)) for s in (0, 1, 2)}
    values |= {("better", s): rng.uniform(0, 1, (41, 3)) for s in (1, 2, 3)}
    table = another_test_set(values, labelled).set_index("of")
    expected = [aubc(labelled, values["better", s][0]) - aubc(labelled, values["random", s][0]) for s in (1, 2)]
    assert table.loc["aubc", "mean"] == pytest.approx(np.mean(expected))
    final = [values["better", s][0, -1] - values["random", s][0, -1] for s in (1, 2)]
    assert table.loc["final", "mean"] == pytest.approx(np.mean(final))
    assert table["pairs"].tolist() == [2, 2]
    assert table["replicates"].tolist() == [40, 40]
    alone = another_test_set({key: value[:, :1] for key, value in values.items()}, labelled[:1])
    assert alone["of"].tolist() == ["final"]
