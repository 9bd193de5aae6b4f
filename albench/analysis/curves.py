"""Learning curves and what is read off them, from tidy results: one row per task, strategy, seed, stage and metric.

Everything here is a pure function of a DataFrame (albench's results.csv or any with the same columns) and says nothing
about significance. The area under the budget curve (AUBC) is the trapezoid over the *true* numbers of labels, divided
by their range, so it is a mean value of the metric.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # the t quantile; scipy.stats takes a second to import

from albench.analysis.spans import among_shared, coded, is_shared
from albench.analysis.tidy import CURVE
from albench.errors import AlbenchError, did_you_mean

NAMED = 12  # metrics that an error lists


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The two-sided t interval (low, high) of the mean of finite values; NaN where there are fewer than two."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return np.nan, np.nan
    half = stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def curves(results: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Mean, spread and t interval over seeds at every number of labels.

    Columns: task, strategy, metric, labelled, mean, std (ddof 1; NaN for one seed), n (finite values), low, high.
    Values that are not finite are left out, so `n` says how many seeds a point rests on.
    """
    finite = results[np.isfinite(results["value"])]
    grouped = finite.groupby([*CURVE, "labelled"], sort=False)["value"]
    table = grouped.agg(["mean", "std", "count"]).reset_index().rename(columns={"count": "n"})
    half = stdtrit(np.maximum(table["n"] - 1, 1), (1 + level) / 2) * table["std"] / np.sqrt(table["n"])
    table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    return table


def aubc(labelled: np.ndarray, values: np.ndarray) -> float:
    """Area under one budget curve over the range of its labels; NaN for fewer than two points.

    >>> round(aubc([10, 20, 40], [0.5, 0.7, 0.9]), 4)  # (10 · 0.6 + 20 · 0.8) / 30
    0.7333
    """
    labelled, values = np.asarray(labelled, float), np.asarray(values, float)
    if len(labelled) < 2:
        return float("nan")
    order = np.argsort(labelled)
    labelled, values = labelled[order], values[order]
    return float(np.diff(labelled) @ (values[1:] + values[:-1]) / 2 / (labelled[-1] - labelled[0]))


def not_finite(results: pd.DataFrame) -> pd.DataFrame:
    """The rows (task, strategy, seed, stage, labelled, metric) of measurements that are NaN or infinite."""
    broken = results[~np.isfinite(results["value"])]
    return broken[["task", "strategy", "seed", "stage", "labelled", "metric"]].reset_index(drop=True)


def per_seed(results: pd.DataFrame) -> pd.DataFrame:
    """One row per task, strategy, metric and seed: labelled (at the end), final, aubc, complete, lacks.

    Over the numbers of labels that strategies share (`shared`). A curve is complete when it has finite values at all
    of them; another one's area is another quantity, so the others here leave it out and say what it lacks (text).
    """
    keys, rows = [*CURVE, "seed"], coded(results)
    rows["within"] = within = among_shared(rows)
    rows = rows.sort_values([*keys, "within", "labelled"], kind="stable")
    ordered = results.assign(within=within).iloc[rows.index]
    curve = rows.groupby(keys, sort=False).ngroup().to_numpy()
    # a curve that has none of the shared numbers of labels is kept with its last row, to be named
    last = np.append(curve[1:] != curve[:-1], True)[: len(curve)]
    kept = ordered["within"].to_numpy() | last
    ordered, curve = ordered[kept], curve[kept]
    labelled, values = ordered["labelled"].to_numpy(), ordered["value"].to_numpy(float)
    # rows of a curve follow one another now, so that sums over curves are sums over slices, not slow group operations
    start = np.flatnonzero(np.diff(curve, prepend=-1))
    end = np.append(start[1:], len(ordered))[: len(start)] - 1
    area = np.diff(labelled, prepend=0) * (values + np.roll(values, 1)) / 2
    area[start] = 0
    finite = np.logical_and.reduceat(np.isfinite(values), start) if len(start) else np.zeros(0, bool)
    table = ordered[keys].iloc[start].reset_index(drop=True)
    table["first"], table["labelled"], table["final"] = labelled[start], labelled[end], values[end]
    span = table["labelled"] - table["first"]
    table["aubc"] = pd.Series(np.add.reduceat(area, start) if len(start) else area).div(span).where(finite & (span > 0))
    wanted = {name: np.unique(own["labelled"]) for name, own in ordered[ordered["within"]].groupby(["task", "metric"])}
    table["points"] = np.add.reduceat(ordered["within"].to_numpy().astype(int), start) if len(start) else 0
    whole = [len(wanted.get(name, ())) for name in zip(table["task"], table["metric"], strict=True)]
    table["complete"] = finite & (table["points"] == whole) & (table["points"] > 0)
    table["lacks"] = ""
    for row in np.flatnonzero(~table["complete"]):
        mine = slice(start[row], end[row] + 1)
        grid = wanted.get((table["task"].iat[row], table["metric"].iat[row]), np.zeros(0, int))
        table.loc[row, "lacks"] = _lacks(labelled[mine], values[mine], grid)
    return table[[*keys, "labelled", "final", "aubc", "complete", "lacks"]]


def _lacks(labelled: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> str:
    """Why a curve is not complete."""
    if not len(wanted):
        return "it shares no number of labels with most strategies"
    absent = np.setdiff1d(wanted, labelled)
    if not len(absent):
        return f"not finite at {', '.join(map(str, labelled[~np.isfinite(values)]))} labels"
    if len(absent) == (wanted > labelled.max()).sum():
        return f"ends at {labelled.max()} of {wanted[-1]} labels"
    return f"nothing measured at {', '.join(map(str, absent))} labels"


def left_out(results: pd.DataFrame, seeds: pd.DataFrame | None = None) -> dict[str, str]:
    """Strategy → which of its seeds and labels no mean and no test of one task and metric counts, in words, or "".

    seeds: `per_seed` of the results, where it is there already.
    """
    seeds = per_seed(results) if seeds is None else seeds
    within = is_shared(results)
    outside, incomplete = results[~within], seeds[~seeds["complete"]]
    reason = _why_outside(results, within) if len(outside) else ""
    found = {}
    for strategy in results["strategy"].unique():
        short = incomplete[incomplete["strategy"] == strategy].sort_values("seed")
        parts = [_not_counted(own["seed"], lacks) for lacks, own in short.groupby("lacks", sort=False)]
        beyond = np.unique(outside.loc[outside["strategy"] == strategy, "labelled"])
        if len(beyond):
            listed = ", ".join(map(str, beyond))
            parts.append(f"its values at {listed} labels are not counted: {reason}")
        found[str(strategy)] = "; ".join(parts)
    return found


def _why_outside(results: pd.DataFrame, within: np.ndarray) -> str:
    """By which rule of `shared` numbers of labels of one task and metric are not among those that are compared."""
    cells = results.assign(within=within)[["strategy", "labelled", "within"]].drop_duplicates()
    begun = cells.groupby("strategy", observed=True)["labelled"].transform("size") > 1
    voters = cells[begun] if begun.any() else cells
    having = voters[voters["within"]].groupby("labelled").size()
    if (2 * having > voters["strategy"].nunique()).all():
        return f"no more than half of the strategies {'' if len(voters) == len(cells) else 'with curves '}have any"
    listed = ", ".join(map(str, having.index))
    few = "no two numbers of labels are had by most strategies"
    return f"{few}, and the largest group (of equals the first) shares {listed}"


def _not_counted(seeds: pd.Series, lacks: str) -> str:
    return f"seed {', '.join(map(str, seeds))} not counted: the curve is not whole, {lacks}"


def paired_difference(ours: pd.Series, theirs: pd.Series, level: float = 0.95) -> dict[str, float]:
    """Mean difference of two series indexed by seed, over the seeds that both have, with its t interval.

    Returns mean, low, high (NaN for fewer than two pairs), pairs (seeds used) and unpaired (seeds only one has).
    """
    matched = pd.concat([ours.rename("a"), theirs.rename("b")], axis=1)
    difference = (matched["a"] - matched["b"]).to_numpy(float)
    difference = difference[np.isfinite(difference)]
    low, high = t_interval(difference, level)
    mean = float(difference.mean()) if len(difference) else float("nan")
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "pairs": len(difference),
        "unpaired": len(matched) - len(difference),
    }


def of_metric(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of a metric; none of no results.

    Raises:
        AlbenchError: there are results, but none of this metric.
    """
    rows = results[results["metric"] == metric]
    if rows.empty and len(results):
        there = [str(name) for name in results["metric"].unique()]
        more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
        hint = did_you_mean(metric, there)
        raise AlbenchError(f"no results of the metric {metric!r}.{hint} There are: {', '.join(there[:NAMED])}{more}")
    return rows


def of_one_task(results: pd.DataFrame, metric: str, what: str = "a comparison") -> pd.DataFrame:
    """The rows of a metric, which must be of one task.

    Raises:
        AlbenchError: they are of several tasks, or there are results, but none of this metric.
    """
    rows = of_metric(results, metric)
    if rows["task"].nunique() > 1:
        raise AlbenchError(f"{what} is of one task, not of {', '.join(map(str, rows['task'].unique()))}")
    return rows


def upright(results: pd.DataFrame, higher_is_better: bool | Mapping[str, bool] = True) -> pd.DataFrame:
    """Results in which the highest value is the best: those of an error or a loss times −1.

    higher_is_better: of all rows, or task → whether it is so there (tasks that are not named: it is).
    """
    if isinstance(higher_is_better, bool):
        return results if higher_is_better else results.assign(value=-results["value"])
    lower = results["task"].isin([task for task, higher in higher_is_better.items() if not higher])
    return results.assign(value=results["value"].mask(lower, -results["value"]))


def seed_scores(
    results: pd.DataFrame, metric: str, of: str = "aubc", seeds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One task's table of seeds (rows) and strategies (columns, in order of appearance): its "aubc" or "final" value.

    NaN where a seed has no complete curve. seeds: `per_seed` of the metric's rows, where it is there already.

    Raises:
        AlbenchError: several tasks, or `of` is neither of the two.
    """
    if of not in ("aubc", "final"):
        raise AlbenchError(f"of={of!r}: a seed is scored by its 'aubc' or its 'final' value")
    rows = of_one_task(results, metric)
    table = per_seed(rows) if seeds is None else seeds
    table = table.assign(**{of: table[of].where(table["complete"])})
    return table.pivot(index="seed", columns="strategy", values=of).reindex(columns=rows["strategy"].unique())


def difference_curve(
    results: pd.DataFrame, metric: str, reference: str = "random", level: float = 0.95
) -> pd.DataFrame:
    """How far each other strategy of one task is above the reference at every number of labels, paired by seed.

    Columns: strategy, labelled, mean, low, high (t interval of each point by itself; NaN for one pair), n (pairs with
    finite values). Numbers of labels that no pair shares are left out.

    Raises:
        AlbenchError: several tasks.
    """
    rows = of_one_task(results, metric)
    values = rows.pivot(index=["seed", "labelled"], columns="strategy", values="value")
    others = [name for name in rows["strategy"].unique() if name != reference]
    if reference not in values or not others:
        return pd.DataFrame(columns=["strategy", "labelled", "mean", "low", "high", "n"])
    # no melt of all at once: a strategy may be called seed, labelled or value
    differences = [(values[name] - values[reference]).rename("value").reset_index() for name in others]
    long = pd.concat([own.assign(strategy=name) for name, own in zip(others, differences, strict=True)])
    table = curves(long.assign(task="", metric=metric), level)
    table["order"] = table["strategy"].map({name: position for position, name in enumerate(others)})
    table = table.sort_values(["order", "labelled"], ignore_index=True)
    return table[["strategy", "labelled", "mean", "low", "high", "n"]]


def at_budget(
    results: pd.DataFrame, metric: str, labelled: float, reference: str = "random", level: float = 0.95
) -> pd.DataFrame:
    """What each strategy of one task has at any number of labels, each seed's curve being linear between its own.

    Columns: strategy, labelled, mean, std, n (seeds measured on both sides of it), low, high (t interval over seeds);
    difference to the reference, paired by seed, difference_low, difference_high, pairs (NaN and 0 without one).

    Raises:
        AlbenchError: several tasks, no curve holds so many labels, or there are results, but none is finite.
    """
    rows = of_one_task(results, metric)
    finite = rows[np.isfinite(rows["value"].to_numpy(float))]
    if finite.empty and len(rows):
        raise AlbenchError(f"nothing finite was measured of {metric!r}: all {len(rows):,} values are NaN or infinite")
    values: dict[str, pd.Series] = {}
    for strategy in rows["strategy"].unique():
        found = {}
        own = finite[finite["strategy"] == strategy]
        for seed, curve in own.sort_values("labelled").groupby("seed"):
            x = curve["labelled"].to_numpy(float)
            if x[0] <= labelled <= x[-1]:
                found[seed] = float(np.interp(labelled, x, curve["value"]))
        values[str(strategy)] = pd.Series(found, dtype=float)
    if values and not any(map(len, values.values())):
        lowest, highest = finite["labelled"].min(), finite["labelled"].max()
        raise AlbenchError(f"no curve holds {labelled:g} labels; they lie between {lowest:,} and {highest:,}")
    table = []
    for strategy, own in values.items():
        low, high = t_interval(own.to_numpy(), level)
        row = {"strategy": strategy, "labelled": labelled, "mean": own.mean(), "std": own.std(), "n": len(own)}
        base = values.get(reference) if strategy != reference else None
        apart = paired_difference(own, base, level) if base is not None else {"pairs": 0}
        row |= {"low": low, "high": high, "difference": apart.get("mean", np.nan)}
        row |= {f"difference_{end}": apart.get(end, np.nan) for end in ("low", "high")}
        table.append(row | {"pairs": apart["pairs"]})
    return pd.DataFrame(table, columns=AT_BUDGET)


AT_BUDGET = [
    *("strategy", "labelled", "mean", "std", "n", "low", "high"),
    *("difference", "difference_low", "difference_high", "pairs"),
]


def summary(
    results: pd.DataFrame, metric: str, reference: str = "random", seeds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row per strategy of one task, in order of appearance, over the seeds with complete curves.

    Columns: strategy, seeds, labelled, final_mean, final_std, aubc_mean, aubc_std; difference, difference_low,
    difference_high (AUBC against the reference's, paired by seed, 95 % t interval; NaN where there is no reference),
    pairs; dropped (text: which seeds are not counted and why, "" where all are). seeds: `per_seed` of the metric's
    rows, where it is there already.

    Raises:
        AlbenchError: the results hold several tasks.
    """
    results = of_one_task(results, metric, "a summary")
    seeds = per_seed(results) if seeds is None else seeds
    dropped = left_out(results, seeds)
    complete = seeds[seeds["complete"]]
    by_strategy = {name: rows.set_index("seed") for name, rows in complete.groupby("strategy")}
    base = by_strategy.get(reference)
    table = []
    for strategy in results["strategy"].unique():
        rows = by_strategy.get(strategy, complete.iloc[:0].set_index("seed"))
        row = {
            "strategy": strategy,
            "seeds": len(rows),
            "labelled": int(seeds.loc[seeds["complete"] if seeds["complete"].any() else slice(None), "labelled"].max()),
            "final_mean": rows["final"].mean(),
            "final_std": rows["final"].std(),
            "aubc_mean": rows["aubc"].mean(),
            "aubc_std": rows["aubc"].std(),
        }
        row |= _against(rows, base if strategy != reference else None)
        unpaired = f"seeds left out of the difference, as only one side has them: {row['unpaired']}"
        row["dropped"] = "; ".join(filter(None, [dropped[strategy], unpaired if row["unpaired"] else ""]))
        table.append(row)
    return pd.DataFrame(table, columns=SUMMARY)


SUMMARY = [
    *("strategy", "seeds", "labelled", "final_mean", "final_std", "aubc_mean", "aubc_std"),
    *("difference", "difference_low", "difference_high", "pairs", "dropped"),
]


def _against(rows: pd.DataFrame, base: pd.DataFrame | None) -> dict[str, float]:
    """The paired difference's columns, and how many seeds found no partner, for `summary` to say."""
    if base is None:
        return dict.fromkeys(("difference", "difference_low", "difference_high"), np.nan) | {"pairs": 0, "unpaired": 0}
    paired = paired_difference(rows["aubc"], base["aubc"])
    return {
        "difference": paired["mean"],
        "difference_low": paired["low"],
        "difference_high": paired["high"],
        "pairs": paired["pairs"],
        "unpaired": paired["unpaired"],
    }
