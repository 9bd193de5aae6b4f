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


def read(path: Path) -> pd.DataFrame:
    """A CSV of tidy results.

    Raises:
        AlbenchError: it is not there, is no CSV, or lacks a column.
    """
    try:
        return validated(pd.read_csv(path), str(path))
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise AlbenchError(f"{path}: cannot be read as CSV: {error}") from error


def validated(results: pd.DataFrame, where: str = "results") -> pd.DataFrame:
    """The tidy columns, numbers as numbers, names as text; other columns are left out. NaN values are allowed.

    Raises:
        AlbenchError: a column is missing, holds something else than numbers, or a measurement is there twice.
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
    return tidy


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


def per_seed(results: pd.DataFrame) -> pd.DataFrame:
    """One row per task, strategy, metric and seed: labelled (at the end), final, aubc, complete.

    A curve is complete when it spans its task's whole range of labels for that metric with finite values; a shorter
    one's area is another quantity, so the others here leave it out (and say so).
    """
    keys = [*CURVE, "seed"]
    ordered = results.sort_values([*keys, "labelled"], kind="stable")
    grouped = ordered.groupby(keys, sort=False)
    step = ordered["labelled"] - grouped["labelled"].shift()
    area = step * (ordered["value"] + grouped["value"].shift()) / 2
    table = grouped.agg(first=("labelled", "min"), labelled=("labelled", "max"), final=("value", "last"))
    # min_count: a NaN in a curve makes its area NaN, which a plain sum would skip
    finite = np.isfinite(ordered["value"]).groupby([ordered[k] for k in keys], sort=False).all()
    total = area.groupby([ordered[k] for k in keys], sort=False).sum(min_count=1)
    span = table["labelled"] - table["first"]
    table["aubc"] = (total / span.where(span > 0)).where(finite)
    table = table.reset_index()
    whole = results.groupby(["task", "metric"])["labelled"].agg(["min", "max"]).reset_index()
    table = table.merge(whole, on=["task", "metric"], how="left")
    spans = (table["first"] == table["min"]) & (table["labelled"] == table["max"])
    table["complete"] = spans & finite.reindex(pd.MultiIndex.from_frame(table[keys])).to_numpy()
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


def summary(results: pd.DataFrame, metric: str, reference: str = "random") -> pd.DataFrame:
    """One row per strategy of one task, in order of appearance, over the seeds with complete curves.

    Columns: strategy, seeds, labelled, final_mean, final_std, aubc_mean, aubc_std; difference, difference_low,
    difference_high (AUBC against the reference's, paired by seed, 95 % t interval; NaN where there is no reference),
    pairs; dropped (text: which seeds are not counted and why, "" where all are).

    Raises:
        AlbenchError: the results hold several tasks.
    """
    results = results[results["metric"] == metric]
    if results["task"].nunique() > 1:
        raise AlbenchError(f"a summary is of one task, not of {', '.join(map(str, results['task'].unique()))}")
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
