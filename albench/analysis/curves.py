"""Learning curves and what is read off them, from tidy results: one row per task, strategy, seed, stage and metric.

Everything here is a pure function of a DataFrame (albench's results.csv or any with the same columns) and says nothing
about significance. The area under the budget curve (AUBC) is the trapezoid over the *true* numbers of labels, divided
by their range, so it is a mean value of the metric.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # the t quantile; scipy.stats takes a second to import

from albench.errors import AlbenchError

COLUMNS = ("task", "strategy", "seed", "stage", "labelled", "metric", "value")
CURVE = ["task", "strategy", "metric"]


def read(path: Path, mixed: bool = False) -> pd.DataFrame:
    """A CSV of tidy results; `mixed` as in `validated`.

    Raises:
        AlbenchError: it is not there, is no CSV, lacks a column, or mixes suites or devices.
    """
    try:
        return validated(pd.read_csv(path), str(path), mixed)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise AlbenchError(f"{path}: cannot be read as CSV: {error}") from error


def validated(results: pd.DataFrame, where: str = "results", mixed: bool = False) -> pd.DataFrame:
    """The tidy columns, numbers as numbers, names as text; other columns are left out. NaN values are allowed.

    A column suite, device or gpu, where there is one, must hold one value within each task, strategy and metric:
    seeds of different suites or GPU models are not repetitions of one another. `mixed` allows it.

    Raises:
        AlbenchError: a column is missing, holds something else than numbers, a measurement is there twice, or
            suites or devices are mixed.
    """
    missing = [name for name in COLUMNS if name not in results.columns]
    if missing:
        raise AlbenchError(f"{where}: no column {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
    tidy = results[list(COLUMNS)].copy()
    for name in ("seed", "stage", "labelled", "value"):
        numbers = pd.to_numeric(tidy[name], errors="coerce")
        wrong = numbers.isna() & tidy[name].notna() if name == "value" else numbers.isna()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise AlbenchError(f"{where}: column {name}, row {row + 1}: {tidy[name].iloc[row]!r} is not a number")
        tidy[name] = numbers.astype(float if name == "value" else int)
    for name in ("task", "strategy", "metric"):
        tidy[name] = tidy[name].astype(str)
    twice = tidy.duplicated([*CURVE, "seed", "labelled"])
    if twice.any():
        first = tidy[twice].iloc[0]
        curve = f"{first['metric']} of {first['task']}, {first['strategy']}, seed {first['seed']}"
        raise AlbenchError(f"{where}: {curve} at {first['labelled']} labels is there twice; average or drop repeats")
    if not mixed:
        _refuse_mixed(results, where)
    return tidy


def _refuse_mixed(results: pd.DataFrame, where: str) -> None:
    for name in ("suite", "device", "gpu"):
        if name not in results.columns:
            continue
        kinds = results.groupby(CURVE, sort=False)[name].nunique()
        if (kinds > 1).any():
            task, strategy, metric = kinds.index[kinds > 1][0]
            rows = (results["task"] == task) & (results["strategy"] == strategy) & (results["metric"] == metric)
            first, second = results.loc[rows, name].dropna().unique()[:2]
            raise AlbenchError(
                f"{where}: column {name}: {metric} of {task}, {strategy} mixes {first!r} and {second!r}, which are "
                "not repetitions of one experiment; keep one of them, or allow it with mixed=True"
            )


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

    >>> aubc([10, 20, 40], [0.5, 0.7, 0.9])  # (10 · 0.6 + 20 · 0.8) / 30
    0.7333333333333334
    """
    labelled, values = np.asarray(labelled, float), np.asarray(values, float)
    if len(labelled) < 2:
        return float("nan")
    order = np.argsort(labelled)
    labelled, values = labelled[order], values[order]
    return float(np.diff(labelled) @ (values[1:] + values[:-1]) / 2 / (labelled[-1] - labelled[0]))


def value_at(labelled: np.ndarray, values: np.ndarray, budget: float | np.ndarray) -> float | np.ndarray:
    """The metric at a number of labels, linear between the measured ones and NaN outside them (no extrapolation).

    >>> value_at([10, 20, 40], [0.5, 0.7, 0.9], 30)
    0.8
    """
    labelled, values = np.asarray(labelled, float), np.asarray(values, float)
    order = np.argsort(labelled)
    found = np.interp(budget, labelled[order], values[order], left=np.nan, right=np.nan)
    return float(found) if np.ndim(budget) == 0 else found


def not_finite(results: pd.DataFrame) -> pd.DataFrame:
    """The rows (task, strategy, seed, stage, labelled, metric) of measurements that are NaN or infinite."""
    broken = results[~np.isfinite(results["value"])]
    return broken[["task", "strategy", "seed", "stage", "labelled", "metric"]].reset_index(drop=True)


def per_seed(results: pd.DataFrame) -> pd.DataFrame:
    """One row per task, strategy, metric and seed: labelled (at the end), final, aubc, complete.

    A curve is complete when it spans its task's whole range of labels for that metric with finite values; a shorter
    one's area is another quantity, so the others here leave it out (and say so).
    """
    keys = [*CURVE, "seed"]
    ordered = results.sort_values([*keys, "labelled"], kind="stable")
    labelled, values = ordered["labelled"].to_numpy(), ordered["value"].to_numpy(float)
    # rows of a curve follow one another now, so that sums over curves are sums over slices, not slow group operations
    start = np.flatnonzero(np.diff(ordered.groupby(keys, sort=False).ngroup(), prepend=-1))
    end = np.append(start[1:], len(ordered))[: len(start)] - 1
    area = np.diff(labelled, prepend=0) * (values + np.roll(values, 1)) / 2
    area[start] = 0
    finite = np.logical_and.reduceat(np.isfinite(values), start)
    table = ordered[keys].iloc[start].reset_index(drop=True)
    table["first"], table["labelled"], table["final"] = labelled[start], labelled[end], values[end]
    span = table["labelled"] - table["first"]
    table["aubc"] = pd.Series(np.add.reduceat(area, start)).div(span).where(finite & (span > 0))
    tasks = table.groupby(["task", "metric"])
    table["complete"] = finite & (table["first"] == tasks["first"].transform("min"))
    table["complete"] &= table["labelled"] == tasks["labelled"].transform("max")
    return table[[*keys, "labelled", "final", "aubc", "complete"]]


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


def of_one_task(results: pd.DataFrame, metric: str, what: str = "a comparison") -> pd.DataFrame:
    """The rows of a metric, which must be of one task.

    Raises:
        AlbenchError: they are of several tasks.
    """
    rows = results[results["metric"] == metric]
    if rows["task"].nunique() > 1:
        raise AlbenchError(f"{what} is of one task, not of {', '.join(map(str, rows['task'].unique()))}")
    return rows


def seed_scores(results: pd.DataFrame, metric: str, of: str = "aubc") -> pd.DataFrame:
    """One task's table of seeds (rows) and strategies (columns, in order of appearance): its "aubc" or "final" value.

    NaN where a seed has no complete curve (see `per_seed`).

    Raises:
        AlbenchError: several tasks, or `of` is neither of the two.
    """
    if of not in ("aubc", "final"):
        raise AlbenchError(f"of={of!r}: a seed is scored by its 'aubc' or its 'final' value")
    rows = of_one_task(results, metric)
    table = per_seed(rows)
    table[of] = table[of].where(table["complete"])
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
    values = values.reindex(columns=rows["strategy"].unique())
    if reference not in values:
        return pd.DataFrame(columns=["strategy", "labelled", "mean", "low", "high", "n"])
    others = values.drop(columns=reference).sub(values[reference], axis=0)
    long = others.reset_index().melt(["seed", "labelled"], var_name="strategy")
    table = curves(long.assign(task="", metric=metric), level)
    table["order"] = table["strategy"].map({name: position for position, name in enumerate(others.columns)})
    table = table.sort_values(["order", "labelled"], ignore_index=True)
    return table[["strategy", "labelled", "mean", "low", "high", "n"]]


def summary(results: pd.DataFrame, metric: str, reference: str = "random") -> pd.DataFrame:
    """One row per strategy of one task, in order of appearance, over the seeds with complete curves.

    Columns: strategy, seeds, labelled, final_mean, final_std, aubc_mean, aubc_std; difference, difference_low,
    difference_high (AUBC against the reference's, paired by seed, 95 % t interval; NaN where there is no reference),
    pairs; dropped (text: which seeds are not counted and why, "" where all are).

    Raises:
        AlbenchError: the results hold several tasks.
    """
    results = of_one_task(results, metric, "a summary")
    seeds = per_seed(results)
    complete = seeds[seeds["complete"]]
    by_strategy = {name: rows.set_index("seed") for name, rows in complete.groupby("strategy")}
    base = by_strategy.get(reference)
    table = []
    for strategy in results["strategy"].unique():
        rows = by_strategy.get(strategy, complete.iloc[:0].set_index("seed"))
        row = {
            "strategy": strategy,
            "seeds": len(rows),
            "labelled": int(seeds["labelled"].max()),
            "final_mean": rows["final"].mean(),
            "final_std": rows["final"].std(),
            "aubc_mean": rows["aubc"].mean(),
            "aubc_std": rows["aubc"].std(),
        }
        row |= _against(rows, base if strategy != reference else None)
        row["dropped"] = _dropped(seeds[seeds["strategy"] == strategy], row)
        table.append(row)
    return pd.DataFrame(table, columns=SUMMARY)


SUMMARY = [
    *("strategy", "seeds", "labelled", "final_mean", "final_std", "aubc_mean", "aubc_std"),
    *("difference", "difference_low", "difference_high", "pairs", "dropped"),
]


def _against(rows: pd.DataFrame, base: pd.DataFrame | None) -> dict[str, float]:
    """The paired difference's columns, and for `_dropped` how many seeds found no partner."""
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


def _dropped(seeds: pd.DataFrame, row: dict) -> str:
    short = sorted(int(seed) for seed in seeds.loc[~seeds["complete"], "seed"])
    parts = []
    if short:
        parts.append(f"seed {', '.join(map(str, short))} not counted: the curve is shorter or not finite")
    if row["unpaired"]:
        parts.append(f"seeds left out of the difference, as only one side has them: {row['unpaired']}")
    return "; ".join(parts)
