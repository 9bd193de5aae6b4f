"""Label efficiency: how many labels (or boxes, seconds, money) a strategy needs for what the reference reaches.

Per seed, on monotone curves. A curve that ends below the target is *censored*: all that is known is that it needs more
than was tried. So "not reached" is +inf, and as soon as one seed is censored a median (with an interval from order
statistics, which infinities do not harm) stands in for the mean; the mean of the lucky seeds is never given.

higher_is_better is False for an error or a loss, which is reached from above; values go in and come out as they are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr

from albench.analysis.curves import of_metric, of_one_task, per_seed, t_interval, upright
from albench.analysis.spans import shared
from albench.analysis.tidy import COLUMNS
from albench.errors import AlbenchError

EFFICIENCY = [
    *("strategy", "target", "pairs", "summary", "labels_reference", "labels", "labels_low", "labels_high"),
    *("saved", "saved_low", "saved_high", "speed_up", "speed_up_low", "speed_up_high"),
    *("not_reached_reference", "not_reached", "at_once_reference", "at_once"),
    *("mean_curve_reference", "mean_curve", "dropped"),
]
SHARES = (0.5, 0.75, 0.9)  # of the reference's rise: targets that most seeds reach


def isotonic(labelled: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The non-decreasing curves [..., N] nearest to the values in squares, in the order given; curves lie in rows.

    Robertson, Wright and Dykstra (1988), theorem 1.4.4: at i it is the greatest over j ≤ i of the least over k ≥ i of
    the mean of the values j to k, so that many curves are fitted at once.

    >>> isotonic([10, 20, 30, 40], [0.5, 0.7, 0.6, 0.9])
    array([0.5 , 0.65, 0.65, 0.9 ])
    """
    values = np.asarray(values, float)
    order = np.argsort(np.broadcast_to(np.asarray(labelled, float), values.shape), axis=-1, kind="stable")
    fit = np.empty_like(values)
    np.put_along_axis(fit, order, _monotone(np.take_along_axis(values, order, -1)), -1)
    return fit


def _monotone(values: np.ndarray) -> np.ndarray:
    n = values.shape[-1]
    best = np.full(values.shape, -np.inf)
    for first in range(n):
        means = np.cumsum(values[..., first:], -1) / np.arange(1, n - first + 1)
        least = np.minimum.accumulate(means[..., ::-1], -1)[..., ::-1]  # over all ends k from i on
        best[..., first:] = np.maximum(best[..., first:], least)
    return np.maximum.accumulate(best, -1)  # equal means may differ in their last bit


def labels_to_reach(
    labelled: np.ndarray, values: np.ndarray, target: float | np.ndarray, higher_is_better: bool = True
) -> float | np.ndarray:
    """Labels at which isotonic curves [..., N] reach the target (or each of several [T]), linear between budgets.

    Values are finite. inf: not reached. The first budget: it was reached at once, so this is an upper bound only.
    Returns [...] for one target, [..., T] for several.

    >>> labels_to_reach([10, 20, 30], [0.5, 0.7, 0.8], np.array([0.6, 0.9])).round(6)
    array([15., inf])
    """
    values = np.asarray(values, float)
    if not higher_is_better:
        values, target = -values, -np.asarray(target, float)
    x = np.broadcast_to(np.asarray(labelled, float), values.shape)
    order = np.argsort(x, axis=-1, kind="stable")
    x, fit = np.take_along_axis(x, order, -1), _monotone(np.take_along_axis(values, order, -1))
    wanted = np.atleast_1d(np.asarray(target, float))
    # a mean of equal values may differ from them in its last bit
    after = (fit[..., None, :] < wanted[:, None] - 1e-12).sum(-1)
    low, high = np.maximum(after - 1, 0), np.minimum(after, fit.shape[-1] - 1)
    (x0, x1), (y0, y1) = ([np.take_along_axis(a, at, -1) for at in (low, high)] for a in (x, fit))
    share = np.divide(wanted - y0, y1 - y0, out=np.zeros(after.shape), where=y1 > y0).clip(0, 1)
    found = np.where(after == fit.shape[-1], np.inf, x0 + share * (x1 - x0))
    found = found[..., 0] if np.ndim(target) == 0 else found
    return float(found) if np.ndim(found) == 0 else found


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
    rows = of_metric(results, metric)
    rows = shared(rows) if labelled is None else rows
    mine = rows[rows["strategy"] == reference]
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


def targets_within(
    results: pd.DataFrame,
    metric: str,
    reference: str = "random",
    shares: Sequence[float] = SHARES,
    higher_is_better: bool = True,
) -> dict[float, float]:
    """Share → the value at which the reference's mean curve (isotonic) has made that share of its whole rise.

    Clearly inside the range most seeds reach them, while about half of the reference's own end below its mean final
    value. Empty where the mean curve does not rise or there is none.
    """
    sign = 1 if higher_is_better else -1
    curve = mean_curves(upright(results, higher_is_better), metric).get(reference)
    if curve is None or len(curve) < 2:
        return {}
    fit = isotonic(curve.index.to_numpy(), curve.to_numpy())
    low, high = float(fit[0]), float(fit[-1])
    return {share: sign * (low + share * (high - low)) for share in shares} if high > low else {}


def rise(
    results: pd.DataFrame,
    metric: str,
    reference: str = "random",
    level: float = 0.95,
    higher_is_better: bool = True,
) -> tuple[float, float, float, int]:
    """How much better the reference's last value is than its first: mean, low, high (t interval), seeds with whole
    curves. Of an error it is how far it fell, above 0 where it did.

    Paired by seed. Where `low` is not above 0, values within that rise are reached by chance, and labels saved in
    reaching them mean nothing. NaN: no seeds; low and high for one seed.
    """
    rows = _whole(upright(results, higher_is_better), metric)
    values = rows[rows["strategy"] == reference].pivot(index="seed", columns="labelled", values="value")
    if values.empty:
        return np.nan, np.nan, np.nan, 0
    risen = (values.iloc[:, -1] - values.iloc[:, 0]).to_numpy()
    return float(risen.mean()), *t_interval(risen, level), len(risen)


def mean_curves(results: pd.DataFrame, metric: str, x: str = "labelled") -> dict[str, pd.Series]:
    """Strategy → mean value over its complete seeds, by number of labels (or by the mean of another column x)."""
    rows = _whole(results, metric)
    rows = rows.assign(x=rows[x])
    means = rows.groupby(["strategy", "labelled"], sort=False)[["x", "value"]].mean().reset_index()
    return {str(name): own.set_index("x")["value"].sort_index() for name, own in means.groupby("strategy", sort=False)}


def _whole(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of complete seeds at the numbers of labels that strategies share."""
    rows = of_one_task(results, metric, "label efficiency")
    seeds = per_seed(rows)
    return shared(rows).merge(seeds.loc[seeds["complete"], ["strategy", "seed"]], on=["strategy", "seed"])


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
    target: float | Sequence[float] | None = None,
    level: float = 0.95,
    cost: pd.DataFrame | None = None,
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """One row per other strategy of one task: what it needs for the target, against what the reference needs.

    target: a value of the metric, or several, one after another in the rows (`targets_within`); default: the
    reference's mean final value (`target_at` gives that of any budget).
    cost: a tidy table of one cumulative cost (see `costs_from`), which then stands in for the numbers of labels; the
    columns keep their names.

    Columns: strategy, target, pairs (seeds both have complete); summary: "mean", or "median" as soon as one of the
    seeds did not reach the target (see `centre`); labels_reference, labels with its interval labels_low, labels_high;
    saved = reference − strategy, paired by seed, with its interval; speed_up = reference / strategy (geometric mean,
    or median); not_reached and at_once (and …_reference): how many seeds ended short of the target, and how many were
    there with the first labels, so that what they needed is an upper bound; mean_curve_reference, mean_curve: what
    the mean curves over seeds need, which is how papers read it off a figure; dropped: seeds not counted, and why.
    An infinity says "more than was tried". Default target: about half of the reference's own seeds end short of it.

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
    targets = np.atleast_1d(np.asarray(target, float))
    shown = targets
    if not higher_is_better:
        results, targets = upright(results, False), -targets
    needed, means = _needed(results, targets), mean_curves(results, metric, "x" if cost is not None else "labelled")
    crossed = {k: np.asarray(labels_to_reach(c.index.to_numpy(), c.to_numpy(), targets)) for k, c in means.items()}
    nowhere = np.full(len(targets), np.nan)
    rows = [
        {"strategy": strategy, "target": value}
        | _row(needed[reference][place], needed[strategy][place], level)
        | {"mean_curve_reference": crossed.get(reference, nowhere)[place]}
        | {"mean_curve": crossed.get(strategy, nowhere)[place]}
        for place, value in enumerate(shown)
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


def _needed(results: pd.DataFrame, targets: np.ndarray) -> dict[str, list[pd.DataFrame]]:
    """Per strategy a table for each target, by seed: needed (labels or cost) and at_once.

    inf: not reached; NaN where the curve is not whole.
    """
    seeds = per_seed(results).set_index(["strategy", "seed"])
    whole = seeds.index[seeds["complete"]]
    table = shared(results).pivot(index=["strategy", "seed"], columns="labelled").reindex(whole)
    spent = table["x"].to_numpy(float) if "x" in results else table["value"].columns.to_numpy(float)
    needed = np.zeros((len(whole), len(targets)))
    if len(whole):
        needed[:] = labels_to_reach(spent, table["value"].to_numpy(), targets)
    least = np.min(spent, -1, initial=np.inf)
    tables = [
        pd.DataFrame({"needed": own, "at_once": own == least}, index=whole).reindex(seeds.index) for own in needed.T
    ]
    return {str(s): [own.loc[s] for own in tables] for s in results["strategy"].unique()}


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
