"""Tests on paired differences: one number a seed in, a p-value or a verdict out. Tables of them: `comparison`.

Values that are not finite are left out of every test. The t distribution comes from scipy.special, because scipy.stats
takes long to import. Definitions: shared/paper.md, "Statistics".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtr, stdtrit

from albench.errors import AlbenchError

EXACT = 16  # up to 2^16 sign patterns are enumerated
FLIPS = 20_000  # beyond that, so many are drawn
ROUNDING = 1e-12  # relative to the largest difference; below it two numbers differ by rounding alone
ROUNDING_SINGLE = 1e-5  # the same in single precision
TOGETHER = 50  # columns of differences in one product: twice as fast as ten by ten, in some MB
WORDS = ("better", "equivalent", "undecided", "worse")


@dataclass(frozen=True)
class PairedT:
    """A paired t-test: sd has ddof 1, low and high bound the mean, effect is Cohen's d_z = mean / sd."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    t: float
    p: float
    effect: float


def differences(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """ours − theirs, 0 where they are equal up to rounding, since a constant 1e-17 would have an infinite t."""
    found = np.asarray(ours - theirs, float)
    return np.where(np.abs(found) <= ROUNDING * np.maximum(np.abs(ours), np.abs(theirs)), 0.0, found)


def paired_t(d: np.ndarray, level: float = 0.95) -> PairedT:
    """Two-sided paired t-test of the differences d [R] against 0: t = √R · mean / sd, with R − 1 degrees of freedom.

    Fewer than two differences: NaN. All equal (sd = 0 up to rounding): p = 1 if the mean is 0; otherwise p = 0 and t
    and effect are infinite with the sign of the mean, and the interval is the mean itself.
    """
    d = _finite(d)
    n = len(d)
    mean = float(d.mean()) if n else np.nan
    if n < 2:
        return PairedT(n, mean, *[np.nan] * 6)
    sd = _spread(d)
    if sd == 0:
        t = float(np.copysign(np.inf, mean)) if mean else 0.0
        return PairedT(n, mean, 0.0, mean, mean, t, 0.0 if mean else 1.0, t)
    error = sd / np.sqrt(n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    t = mean / error
    return PairedT(n, mean, sd, mean - half, mean + half, t, float(2 * stdtr(n - 1, -abs(t))), mean / sd)


def equivalence_p(d: np.ndarray, effect: float) -> float:
    """Two one-sided t-tests (Schuirmann 1987): the p-value of "the mean difference lies outside (−effect, effect)".

    The larger of the two one-sided p-values. NaN for fewer than two differences; with sd = 0 it is 0 or 1.

    Raises:
        AlbenchError: the smallest effect of interest is negative.
    """
    if effect < 0:
        raise AlbenchError(f"effect={effect}: the smallest effect of interest cannot be negative")
    d = _finite(d)
    if len(d) < 2:
        return np.nan
    room, sd = effect - abs(float(d.mean())), _spread(d)  # the nearer of the two bounds has the larger p
    if sd == 0:
        return 0.0 if room > 0 else 1.0
    return float(stdtr(len(d) - 1, -room / (sd / np.sqrt(len(d)))))


def sign_flip(d: np.ndarray) -> float:
    """Sign-flip test of symmetry about 0: the share of sign patterns whose |mean| is at least the observed one.

    Exact over all 2^R patterns up to R = 16; beyond, 20,000 seeded random patterns and the observed one. NaN for none.
    """
    d = _finite(d)
    return float(sign_flip_max_t(d[:, None])[0]) if len(d) else np.nan


def sign_flip_max_t(D: np.ndarray) -> np.ndarray:
    """Sign-flip p-values [B] of differences D [R, B] at B budgets, adjusted for looking at all of them (max-T).

    Westfall and Young 1993: every column is flipped alike, and a column's |t| is held against the largest |t| among
    the columns. For given |d|, t² = (R − 1) u / (1 − u) with u = (Σ d)² / (R Σ d²), so u, which stays finite where
    sd = 0, orders just as |t| does. A column of zeros has p = 1 and never is the largest.
    Rows (seeds) with a value that is not finite are left out; NaN for no rows.
    """
    return sign_flip_max_ts([D])[0]


def sign_flip_max_ts(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`sign_flip_max_t` [B] of each part [R, B]; those of as many rows, a few at a time, in one product, for speed."""
    whole = [D[np.isfinite(D).all(1)] for D in (np.asarray(part, float) for part in parts)]
    found = [np.full(D.shape[1], np.nan) for D in whole]
    for rows in {len(D) for D in whole} - {0}:
        alike = [i for i, D in enumerate(whole) if len(D) == rows]
        columns = sum(whole[i].shape[1] for i in alike)
        for some in np.array_split(alike, min(len(alike), -(-columns // TOGETHER) or 1)):
            observed, flipped = _flipped(np.concatenate([whole[i] for i in some], 1))
            ends = np.cumsum([whole[i].shape[1] for i in some])[:-1]
            for i, seen, under in zip(some, np.split(observed, ends), np.split(flipped, ends), strict=True):
                beyond = (under.max(0, initial=0) >= seen[:, None]).mean(1)
                found[i] = np.where(whole[i].any(0), beyond, 1.0)
    return found


def sign_flips(D: np.ndarray) -> np.ndarray:
    """`sign_flip` [M] of every column of differences D [R, M] by itself, over its own finite values."""
    return np.array([p[0] for p in sign_flip_max_ts([d[:, None] for d in np.asarray(D, float).T])])


def _flipped(D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scaled |sums| of columns [R, B]: as observed [B], and under every sign pattern [B, P]."""
    size = np.sqrt(len(D) * (D**2).sum(0))
    scaled = np.divide(D, size, out=np.zeros_like(D), where=size > 0)
    signs = _signs(len(D))
    rounding = ROUNDING if signs.dtype == float else ROUNDING_SINGLE
    observed = np.abs(scaled.sum(0)) * (1 - rounding) - rounding  # so that rounding breaks no tie
    flipped = scaled.T.astype(signs.dtype) @ signs
    return observed, np.abs(flipped, out=flipped)


def wilcoxon(d: np.ndarray) -> float:
    """Wilcoxon's signed-rank test, two-sided and exact, also with ties.

    Zeros are dropped (Wilcoxon's own rule), tied |d| share their mean rank, and the rank sum's distribution over all
    sign patterns is counted for the ranks as they are. All zero: p = 1. NaN for no differences.
    """
    d = _finite(d)
    if not len(d):
        return np.nan
    size = np.abs(d)
    keep = size > ROUNDING * size.max()
    if not keep.any():
        return 1.0
    d, size = d[keep], size[keep]
    tie = ROUNDING * size.max()
    # twice the mean rank is a whole number: how many are smaller, how many are not larger
    ranks = (size[:, None] > size + tie).sum(1) + (size[:, None] >= size - tie).sum(1) + 1
    plus = ranks[d > 0].sum()
    smaller = min(plus, ranks.sum() - plus)
    return float(min(1.0, 2 * _rank_sums(tuple(sorted(ranks.tolist())))[: smaller + 1].sum()))


@lru_cache(maxsize=64)
def _rank_sums(ranks: tuple[int, ...]) -> np.ndarray:
    """The chance of each sum, from 0 to that of all ranks, over all sign patterns; without ties it is always the same.

    >>> _rank_sums((1, 2))
    array([0.25, 0.25, 0.25, 0.25])
    """
    chance = np.zeros(sum(ranks) + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = (chance[rank:] + chance[:-rank]) / 2
        chance[:rank] /= 2
    return chance


def attainable_p(n: int) -> float:
    """The least two-sided p that Wilcoxon and sign-flip can reach with n pairs, 2 / 2^n; .0625 at five.

    At most 1; beyond 16 pairs the sign-flip test's random flips have a floor of their own, 1 / 20,001.
    """
    return min(1.0, 2.0 ** (1 - n))


def holm(p: np.ndarray, family: int = 0) -> np.ndarray:
    """Holm's step-down adjustment (1979) of p-values [m]; NaN passes through and does not count as a test.

    family: how many tests were planned, where more than have a p-value: those not made yet count as not rejected.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p, float)
    adjusted = np.full(p.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    tests = tests[np.argsort(p[tests], kind="stable")]
    size = max(family, len(tests))
    steps = np.maximum.accumulate(p[tests] * (size - np.arange(len(tests))))
    adjusted[tests] = np.minimum(steps, 1)
    return adjusted


def holm_levels(p: np.ndarray, alpha: float, family: int = 0) -> np.ndarray:
    """The level [m] at which Holm's procedure tests each p-value: p < level exactly where `holm(p, family)` < alpha.

    In rising order of p the levels are α/m, α/(m − 1) …; from the first p that is not rejected on they stay, since
    the procedure stops there. A 1 − level interval excludes 0 where the corrected test rejects, and nowhere else.

    >>> holm_levels([0.01, 0.04, 0.03], 0.05).round(4)
    array([0.0167, 0.025 , 0.025 ])
    """
    p = np.asarray(p, float)
    levels = np.full(p.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    tests = tests[np.argsort(p[tests], kind="stable")]
    steps = alpha / (max(family, len(tests)) - np.arange(len(tests)))
    kept = np.flatnonzero(holm(p, family)[tests] >= alpha)
    if len(kept):
        steps[kept[0] :] = steps[kept[0]]
    levels[tests] = steps
    return levels


def verdict(p_holm: float, mean: float, p_equivalence_holm: float, alpha: float) -> str:
    """ "equivalent", "better", "worse" or "undecided", from p-values adjusted over the same family.

    Equivalent goes first: a difference that is significant yet certainly below the smallest effect of interest is
    equivalent. NaN (fewer than two pairs) is undecided; "not significant" alone never means equal.
    """
    if p_equivalence_holm < alpha:
        return "equivalent"
    if p_holm < alpha:
        return "better" if mean > 0 else "worse"
    return "undecided"


def _finite(d: np.ndarray) -> np.ndarray:
    d = np.asarray(d, float)
    return d[np.isfinite(d)]


def _spread(d: np.ndarray) -> float:
    """The standard deviation (ddof 1); 0 where the values differ by rounding alone."""
    sd = float(d.std(ddof=1))
    return sd if sd > ROUNDING * np.abs(d).max() else 0.0


@lru_cache(maxsize=8)
def _signs(count: int) -> np.ndarray:
    """Sign patterns [count, P]: half of all (the other half mirrors it), or random ones after the identity.

    Random ones are float32: their p-values have an error of their own, and the product takes half as long.
    """
    if count <= EXACT:
        bits = np.arange(2 ** (count - 1)) >> np.arange(count)[:, None] & 1
        return 1.0 - 2 * bits
    drawn = np.random.default_rng(0).integers(0, 2, (count, FLIPS + 1)).astype(np.float32) * 2 - 1
    drawn[:, 0] = 1
    return drawn
