"""Label efficiency: how many labels (or boxes, seconds, money) a strategy needs for what the reference reaches.

Per seed, on monotone curves. A curve that ends below the target is *censored*: all that is known is that it needs more
than was tried. So "not reached" is +inf, and as soon as one seed is censored a median (with an interval from order
statistics, which infinities do not harm) stands in for the mean; the mean of the lucky seeds is never given.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr

from albench.analysis.curves import COLUMNS, of_one_task, per_seed, t_interval
from albench.errors import AlbenchError

EFFICIENCY = [
    *("strategy", "target", "pairs", "summary", "labels_reference", "labels", "labels_low", "labels_high"),
    *("saved", "saved_low", "saved_high", "speed_up", "speed_up_low", "speed_up_high"),
    *("not_reached_reference", "not_reached", "at_once_reference", "at_once", "dropped"),
]


def isotonic(labelled: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The non-decreasing curve nearest to the values in squares (pool adjacent violators), in the order given.

    >>> isotonic([10, 20, 30, 40], [0.5, 0.7, 0.6, 0.9])
    array([0.5 , 0.65, 0.65, 0.9 ])
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(np.asarray(labelled, float), kind="stable")
    fit = np.empty(len(order))
    fit[order] = isotonic_regression(np.asarray(values, float)[order]).x
    return fit


def labels_to_reach(labelled: np.ndarray, values: np.ndarray, target: float) -> float:
    """Labels at which the isotonic curve reaches the target, linear between budgets; values are finite.

    inf: not reached. The first budget: it was reached at once, so this is an upper bound only.

    >>> round(labels_to_reach([10, 20, 30], [0.5, 0.7, 0.8], 0.6), 6)
    15.0
    """
    labelled = np.asarray(labelled, float)
    order = np.argsort(labelled, kind="stable")
    labelled, fit = labelled[order], isotonic(labelled, values)[order]
    # a mean of equal values may differ from them in its last bit
    after = int(np.searchsorted(np.maximum.accumulate(fit), target - 1e-12))
    if after == len(fit):
        return float("inf")
    if after == 0:
        return float(labelled[0])
    share = min((target - fit[after - 1]) / (fit[after] - fit[after - 1]), 1.0)
    return float(labelled[after - 1] + share * (labelled[after] - labelled[after - 1]))


def median_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The interval (low, high) of a median between two order statistics, whatever the distribution.

    The k-th smallest and k-th largest, with the largest k for which a fair coin leaves at least `level`. Below six
    values no two of them do at 95 %: then (-inf, inf).
    """
    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    able = [k for k in range(1, n // 2 + 1) if 2 * bdtr(k - 1, n, 0.5) <= 1 - level]
    if not able:
        return float("-inf"), float("inf")
    return float(ordered[able[-1] - 1]), float(ordered[n - able[-1]])


def centre(values: np.ndarray, level: float = 0.95, censored: bool = False) -> tuple[float, float, float]:
    """(estimate, low, high) of one value per seed.

    Not censored: the mean and its t interval (NaN for one seed). Censored: the median and `median_interval`. NaN is
    a difference of which both sides were censored, so that even its sign is unknown: it counts as -inf for the lower
    limit and as +inf for the upper, and the median is NaN where it hangs on which.
    """
    values = np.asarray(values, float)
    if not censored:
        mean = float(values.mean()) if len(values) else float("nan")
        return mean, *t_interval(values, level)
    least, most = np.where(np.isnan(values), -np.inf, values), np.where(np.isnan(values), np.inf, values)
    with np.errstate(invalid="ignore"):  # halfway between -inf and inf is nowhere
        low, high = np.median(least), np.median(most)
    median = float(low) if low == high else float("nan")
    return median, median_interval(least, level)[0], median_interval(most, level)[1]


def target_at(results: pd.DataFrame, metric: str, reference: str = "random", labelled: float | None = None) -> float:
    """The reference's mean value at a number of labels (default: its last), linear between budgets.

    Raises:
        AlbenchError: the reference has no finite value there.
    """
    mine = results[(results["metric"] == metric) & (results["strategy"] == reference)]
    mean = mine[np.isfinite(mine["value"])].groupby("labelled")["value"].mean()
    if mean.empty:
        raise AlbenchError(f"the reference {reference!r} has no values of {metric!r} to take a target from")
    if labelled is None:
        return float(mean.iloc[-1])
    if not mean.index[0] <= labelled <= mean.index[-1]:
        raise AlbenchError(
            f"{reference!r} was measured from {mean.index[0]} to {mean.index[-1]} labels, not {labelled}"
        )
    return float(np.interp(labelled, mean.index, mean))


def costs_from(labels: pd.DataFrame, price: dict[str, Any] | None = None) -> pd.DataFrame:
    """What the labelled set of each stage cost, from a run's labels.csv, as the tidy table that `efficiency` takes.

    Without a price the annotations (boxes, joints) are counted. price: {"unit": "seconds", "sample": s, "part": p}
    costs a sample s and each annotation on it p. Metric of the result: "annotations", or the unit.

    Raises:
        AlbenchError: a column is missing.
    """
    missing = [name for name in COLUMNS if name not in labels.columns]
    if missing:
        raise AlbenchError(f"labels: no column {', '.join(missing)}; it is the labels.csv of a run folder")
    keys = ["task", "strategy", "seed", "stage", "labelled"]
    table = labels.groupby(keys, sort=False)["value"].sum().reset_index()
    price = price or {}
    if price:
        table["value"] = price.get("sample", 0) * table["labelled"] + price.get("part", 0) * table["value"]
    table["metric"] = price.get("unit", "annotations")
    return table[list(COLUMNS)]


def efficiency(
    results: pd.DataFrame,
    metric: str,
    reference: str = "random",
    target: float | None = None,
    level: float = 0.95,
    cost: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """One row per other strategy of one task: what it needs for the target, against what the reference needs.

    target: a value of the metric; default: the reference's mean final value (`target_at` gives that of any budget).
    cost: a tidy table of one cumulative cost (see `costs_from`), which then stands in for the numbers of labels; the
    columns keep their names.

    Columns: strategy, target, pairs (seeds both have complete); summary: "mean", or "median" as soon as one of the
    seeds did not reach the target (see `centre`); labels_reference, labels with its interval labels_low, labels_high;
    saved = reference − strategy, paired by seed, with its interval; speed_up = reference / strategy (geometric mean,
    or median); not_reached and at_once (and …_reference): how many seeds ended below the target, and how many were
    there with the first labels, so that what they needed is an upper bound; dropped: seeds not counted, and why.
    An infinity says "more than was tried". Default target: about half of the reference's own seeds end below it.

    Raises:
        AlbenchError: several tasks, no reference, or a cost that is missing for a measurement.
    """
    results = of_one_task(results, metric, "label efficiency")
    if reference not in set(results["strategy"]):
        raise AlbenchError(f"no results of the reference {reference!r} for {metric!r}")
    if target is None:
        target = target_at(results, metric, reference)
    if cost is not None:
        results = _at_cost(results, cost)
    needed = _needed(results, target)
    rows = [
        {"strategy": strategy, "target": target} | _row(needed[reference], needed[strategy], level)
        for strategy in results["strategy"].unique()
        if strategy != reference
    ]
    return pd.DataFrame(rows, columns=EFFICIENCY)


def _at_cost(results: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """The results with a column x, what was spent by each measurement."""
    keys = ["task", "strategy", "seed", "stage"]
    if cost["metric"].nunique() > 1:
        raise AlbenchError(f"cost: one metric at a time, not {', '.join(map(str, cost['metric'].unique()))}")
    priced = results.merge(cost[[*keys, "value"]].rename(columns={"value": "x"}), on=keys, how="left")
    lacking = priced[~np.isfinite(priced["x"])]
    if len(lacking):
        first = lacking.iloc[0]
        where = f"{first['task']}, {first['strategy']}, seed {first['seed']}, stage {first['stage']}"
        raise AlbenchError(f"cost: none for {where} (and {len(lacking) - 1} more)")
    return priced


def _needed(results: pd.DataFrame, target: float) -> dict[str, pd.DataFrame]:
    """Per strategy, by seed: needed (labels or cost; inf not reached; NaN where the curve is not whole) and at_once."""
    x = "x" if "x" in results else "labelled"
    seeds = per_seed(results)
    found: dict[str, dict[int, tuple[float, bool]]] = {name: {} for name in results["strategy"].unique()}
    curves = dict(list(results.groupby(["strategy", "seed"], sort=False)))
    for strategy, seed, complete in zip(seeds["strategy"], seeds["seed"], seeds["complete"], strict=True):
        rows = curves[strategy, seed]
        labels = labels_to_reach(rows[x].to_numpy(), rows["value"].to_numpy(), target) if complete else float("nan")
        found[strategy][seed] = (labels, labels == rows[x].min())
    return {k: pd.DataFrame.from_dict(v, orient="index", columns=["needed", "at_once"]) for k, v in found.items()}


def _row(theirs: pd.DataFrame, ours: pd.DataFrame, level: float) -> dict[str, Any]:
    both = theirs.add_suffix("_reference").join(ours, how="outer").sort_index()
    whole = both["needed"].notna() & both["needed_reference"].notna()
    lost = [str(seed) for seed in both.index[~whole]]
    both = both[whole].astype({"at_once": int, "at_once_reference": int})
    a, b = both["needed_reference"].to_numpy(float), both["needed"].to_numpy(float)
    with np.errstate(invalid="ignore", divide="ignore"):  # inf − inf: neither reached it, and who was ahead is unknown
        saved, ratio = a - b, np.log(a) - np.log(b)
    censored = not np.isfinite([a, b]).all()
    saved_mean, saved_low, saved_high = centre(saved, level, censored)
    speed, (labels, low, high) = np.exp(centre(ratio, level, censored)), centre(b, level, censored)
    return {
        "pairs": len(both),
        "summary": "median" if censored else "mean",
        "labels_reference": centre(a, level, censored)[0],
        **{"labels": labels, "labels_low": max(low, 0.0), "labels_high": high},
        **{"saved": saved_mean, "saved_low": saved_low, "saved_high": saved_high},
        **{"speed_up": speed[0], "speed_up_low": speed[1], "speed_up_high": speed[2]},
        "not_reached_reference": int(np.isinf(a).sum()),
        "not_reached": int(np.isinf(b).sum()),
        "at_once_reference": int(both["at_once_reference"].sum()),
        "at_once": int(both["at_once"].sum()),
        "dropped": f"seed {', '.join(lost)} not counted: no whole curve on both sides" if lost else "",
    }
