"""Another test set, too: intervals that count the finite test set beside the seeds.

A t interval over seeds says what more seeds *on this test set* would give. With 72 test images that is not the
question. So the stored outcomes are resampled: every strategy and seed is measured again on the same draws of test
samples (paired), and the variance over the draws joins that over the seeds.

Fewer than ten seeds are never resampled: a percentile bootstrap over 3, 5 or 10 seeds covers 75, 84 or 90 % at a
nominal 95. Their part stays a variance with a t quantile.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

FEWEST = 10  # seeds, from which a percentile bootstrap is given beside the t interval
SAMPLING = [
    *("strategy", "of", "pairs", "replicates", "mean", "low", "high", "sd_seeds", "sd_samples"),
    *("percentile_low", "percentile_high"),
]
Values = dict[tuple[str, int], np.ndarray]  # (strategy, seed) → [1 + replicates, stages]


def sample_counts(samples: int, replicates: int = 200, seed: int = 0) -> np.ndarray:
    """How often each test sample is counted, int64 [1 + replicates, samples]: ones, then draws with replacement."""
    draws = np.random.default_rng(seed).multinomial(samples, np.full(samples, 1 / samples), replicates)
    return np.vstack([np.ones((1, samples), np.int64), draws])


@dataclass(frozen=True)
class Both:
    """A mean difference with the interval over seeds and test samples.

    sd_seeds: the mean's standard error over seeds, on this very test set; sd_samples: over test samples, with these
    very seeds. Both hold how seeds differ in what a sample does to them, so their squares do not add up to the whole.
    percentile: (low, high) of the bootstrap over seeds × samples, NaN below ten seeds.
    """

    mean: float
    low: float
    high: float
    sd_seeds: float
    sd_samples: float
    percentile: tuple[float, float]


def over_seeds_and_samples(d: np.ndarray, D: np.ndarray, level: float = 0.95, seed: int = 0) -> Both:
    """The interval of the mean of d [S], one paired difference a seed, had seeds and test samples been others.

    D [S, R]: the same differences on R draws of the test samples, the same draws for all seeds; a draw with a NaN
    (its metric is not defined) is left out. The variance of the mean is that over seeds, var(d)/S, and that over
    draws, var(mean of D), less what both contain: how seeds differ in what a draw does to them (the two-way residuals
    of D). The half-width is √(t² · var(d)/S + z² · the rest), t with S − 1 degrees of freedom: only the seeds' part
    rests on few values. (One t with Welch–Satterthwaite's degrees covers 92 % at three seeds, this 94 to 96 at 3 to
    10.) Few seeds may agree by luck, and the variance over them fall below what both contain; yet whatever the seeds,
    the mean varies as much as over draws, so the half-width is at least z · √var(mean of D). NaN for S < 2.
    """
    d, D = np.asarray(d, float), np.asarray(D, float)
    D = D[:, np.isfinite(D).all(0)]
    seeds, draws = D.shape
    nothing = (float("nan"), float("nan"))
    if seeds < 2 or draws < 2:
        return Both(float(d.mean()) if seeds else float("nan"), *nothing, *nothing, nothing)
    residual = D - D.mean(0) - D.mean(1, keepdims=True) + D.mean()
    shared = (residual**2).sum() / ((seeds - 1) * (draws - 1)) / seeds
    of_seeds = d.var(ddof=1) / seeds
    of_samples = D.mean(0).var(ddof=1)
    tail = (1 + level) / 2
    t, z = stdtrit(seeds - 1, tail), ndtri(tail)
    half = np.sqrt(max(t**2 * of_seeds + z**2 * max(of_samples - shared, 0.0), z**2 * of_samples))
    mean, parts = float(d.mean()), (float(np.sqrt(of_seeds)), float(np.sqrt(of_samples)))
    percentile = _percentile(D, level, seed) if seeds >= FEWEST else nothing
    return Both(mean, float(mean - half), float(mean + half), *parts, percentile)


def _percentile(D: np.ndarray, level: float, seed: int) -> tuple[float, float]:
    """Percentiles of the mean over seeds drawn with replacement, ten draws of them on each draw of samples."""
    seeds, draws = D.shape
    weight = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), (10, draws)) / seeds
    means = np.einsum("krs,sr->kr", weight, D)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def another_test_set(
    values: Values, labelled: np.ndarray, reference: str = "random", level: float = 0.95
) -> pd.DataFrame:
    """Every other strategy against the reference, paired by seed, with intervals over seeds × test samples.

    values: for each (strategy, seed) its metric [1 + R, T] at the T label counts `labelled`, measured first on the
    test set itself, then on R draws of it that are the same for all (`sample_counts`, `Task.remeasure`).

    Columns: strategy, of ("aubc" or "final"), pairs, replicates (draws on which the metric is defined), mean, low,
    high (see `over_seeds_and_samples`), sd_seeds, sd_samples (standard errors, see `Both`), percentile_low and
    percentile_high (from ten pairs on, else NaN).
    """
    labelled = np.asarray(labelled, float)
    scores = {key: {"aubc": _areas(v, labelled), "final": np.asarray(v, float)[:, -1]} for key, v in values.items()}
    strategies = dict.fromkeys(strategy for strategy, _ in values if strategy != reference)
    rows = []
    for strategy in strategies:
        seeds = sorted(seed for name, seed in values if name == strategy and (reference, seed) in values)
        for of in ("aubc", "final") if len(labelled) > 1 else ("final",):
            if not seeds:
                continue
            difference = np.stack([scores[strategy, s][of] - scores[reference, s][of] for s in seeds])  # [S, 1 + R]
            draws = difference[:, 1:]
            both = over_seeds_and_samples(difference[:, 0], draws, level)
            numbers = (both.mean, both.low, both.high, both.sd_seeds, both.sd_samples)
            defined = int(np.isfinite(draws).all(0).sum())
            rows.append((strategy, of, len(seeds), defined, *numbers, *both.percentile))
    return pd.DataFrame(rows, columns=SAMPLING)


def _areas(values: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """AUBC [1 + R] of curves [1 + R, T] at increasing label counts; NaN for a single one."""
    if len(labelled) < 2:
        return np.full(len(values), np.nan)
    return (values[:, 1:] + values[:, :-1]) @ np.diff(labelled) / 2 / (labelled[-1] - labelled[0])
