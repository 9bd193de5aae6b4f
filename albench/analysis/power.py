"""How many seeds a comparison needs: the power of the two-sided paired t-test, exact by the non-central t.

Planned for the smallest effect *of interest*, which is fixed before the run, and with an upper confidence bound of the
spread that a pilot showed. The effect that was observed is used nowhere: power at the observed effect is the p-value
again, in other units.
"""

import math
from collections.abc import Collection

import numpy as np
import pandas as pd
from scipy.special import chdtri, nctdtr, stdtrit  # the quantiles alone; scipy.stats takes a second to import

from albench.analysis.curves import seed_scores
from albench.errors import AlbenchError

PLAN = ["strategy", "pairs", "sd", "sd_upper", "alpha", "seeds_needed", "detectable"]


def upper_sd(sd: float, n: int, level: float = 0.8) -> float:
    """The upper confidence bound, one-sided at `level`, of a standard deviation (ddof 1) seen in n normal values.

    sd · √((n − 1) / χ²), χ² the (1 − level) quantile at n − 1 degrees of freedom: a pilot of three seeds may well
    have shown too small a spread (Browne 1995 recommends 80 %). NaN for fewer than two values.

    >>> round(upper_sd(1.0, 3), 3)
    2.117
    """
    return float(sd * np.sqrt((n - 1) / chdtri(n - 1, level))) if n > 1 else float("nan")


def power_of(n: int, effect: float, sd: float, alpha: float = 0.05) -> float:
    """The probability that n pairs reject at two-sided alpha when their true mean difference is `effect`.

    sd is that of the differences. Without spread any effect is seen; fewer than two pairs see none.

    >>> power_of(10, effect=1, sd=1) > 0.8 > power_of(9, effect=1, sd=1)
    True
    """
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0
    shift = abs(effect) / sd * np.sqrt(n)
    critical = stdtrit(n - 1, 1 - alpha / 2)
    return float(1 - _below(n - 1, shift, critical) + _below(n - 1, shift, -critical))


def _below(degrees: int, shift: float, t: float) -> float:
    """The non-central t's distribution function; scipy gives NaN where it has underflowed, far below its shift."""
    value = nctdtr(degrees, shift, t)
    return float(value) if np.isfinite(value) else 0.0


def seeds_needed(effect: float, sd: float, alpha: float = 0.05, power: float = 0.8, most: int = 1000) -> float:
    """The fewest pairs (at least 2) with which the paired t-test has that power; inf if more than `most`.

    >>> seeds_needed(effect=1, sd=1), seeds_needed(effect=1, sd=1, alpha=0.05 / 6)
    (10, 16)
    """
    if not np.isfinite(sd):
        return float("nan")
    if power_of(most, effect, sd, alpha) < power:
        return float("inf")
    low, high = 1, most  # more pairs, more power, so halving finds the first that has enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle, effect, sd, alpha) >= power else (middle, high)
    return high


def detectable(n: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that n pairs find with that power; NaN for fewer than two pairs."""
    if n < 2 or not np.isfinite(sd):
        return float("nan")
    low, high = 0.0, 1.0  # in units of sd
    while power_of(n, high, 1.0, alpha) < power:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(n, middle, 1.0, alpha) >= power else (middle, high)
    return high * sd


def greatest(results: pd.DataFrame, metric: str, reference: str = "random") -> float:
    """The largest difference in AUBC that anything can have from the reference on one task: a share, all of whose
    values lie in 0 to 1, goes no further than to either end. inf for a metric with other values, whose ends are not
    known, and without a reference.
    """
    values = results.loc[results["metric"] == metric, "value"].dropna()
    scores = seed_scores(results, metric)
    mean = float(scores[reference].mean()) if reference in scores else float("nan")
    return max(mean, 1 - mean) if values.between(0, 1).all() and np.isfinite(mean) else float("inf")


def plan(
    results: pd.DataFrame,
    metric: str,
    reference: str = "random",
    effect: float = 0.005,
    alpha: float = 0.05,
    power: float = 0.8,
    leave_out: Collection[str] = (),
    planned: Collection[str] = (),
) -> pd.DataFrame:
    """One row per comparison with the reference, on the AUBC of one task: what a decision would need.

    Columns: strategy, pairs (seeds both have complete), sd (of the paired differences), sd_upper (its upper bound at
    80 %), alpha (that of Holm's first step, alpha over the number of comparisons), seeds_needed for `effect` (inf:
    more than 1,000), detectable (the smallest effect that `pairs` seeds find). NaN for fewer than two pairs.
    Strategies in `leave_out` (those that cheat) are not part of the family; those `planned` are, and have a row, even
    where the results hold nothing of them.

    Raises:
        AlbenchError: effect, alpha or power out of range, several tasks, or no such metric or reference.
    """
    if not 0 < effect < math.inf:
        raise AlbenchError(f"effect = {effect}: the smallest effect of interest is a difference above 0, such as 0.005")
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise AlbenchError(f"{name} = {value}: give a probability between 0 and 1")
    scores = seed_scores(results, metric)
    if reference not in scores:
        there = ", ".join(map(str, scores.columns)) or "none"
        raise AlbenchError(f"reference {reference!r}: no such strategy has results of {metric!r}; there are: {there}")
    scores = scores.reindex(columns=list(dict.fromkeys([*planned, *scores])))
    others = [name for name in scores if name != reference and name not in leave_out]
    share = alpha / max(len(others), 1)
    rows = []
    for strategy in others:
        difference = (scores[strategy] - scores[reference]).dropna().to_numpy()
        pairs = len(difference)
        sd = float(difference.std(ddof=1)) if pairs > 1 else float("nan")
        upper = upper_sd(sd, pairs)
        needed, found = seeds_needed(effect, upper, share, power), detectable(pairs, upper, share, power)
        rows.append((strategy, pairs, sd, upper, share, needed, found))
    return pd.DataFrame(rows, columns=PLAN)
