"""Tidy results, one row per task, strategy, seed, stage and metric: reading them, and refusing what is none."""

from pathlib import Path

import numpy as np
import pandas as pd

from albench.errors import AlbenchError

COLUMNS = ("task", "strategy", "seed", "stage", "labelled", "metric", "value")
CURVE = ["task", "strategy", "metric"]
MIXABLE = ("suite", "device", "gpu")  # columns that tell experiments apart


def read(path: str | Path, mixed: bool = False) -> pd.DataFrame:
    """A CSV of tidy results; `mixed` as in `validated`.

    Raises:
        AlbenchError: it is not there, is no CSV, lacks a column, or mixes suites or devices.
    """
    return validated(loaded(path), str(path), mixed)


def loaded(path: str | Path) -> pd.DataFrame:
    """A CSV as it stands.

    Raises:
        AlbenchError: it is not there, or is no CSV.
    """
    try:
        return pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise AlbenchError(f"{path}: cannot be read as CSV: {error}") from error


def validated(
    results: pd.DataFrame, where: str = "results", mixed: bool = False, categories: bool = False
) -> pd.DataFrame:
    """The tidy columns, numbers as numbers, names as text; other columns are left out. NaN values are allowed.

    A column suite, device or gpu, where there is one, must hold one value within each task and metric: seeds of
    different suites or GPU models are not repetitions of one another, and strategies are compared seed by seed.
    `mixed` allows it. categories: names as categories, which take a fraction of the memory.

    Raises:
        AlbenchError: a column is missing, holds something else than numbers (whole ones for seed, stage and
            labelled), a name is empty, a measurement is there twice, or suites or devices are mixed.
    """
    missing = [name for name in COLUMNS if name not in results.columns]
    if missing:
        raise AlbenchError(f"{where}: no column {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
    tidy = results[list(COLUMNS)].copy()
    for name in ("seed", "stage", "labelled", "value"):
        tidy[name] = _numbers(tidy[name], where, whole=name != "value")
    for name in ("task", "strategy", "metric"):
        _refuse_nameless(tidy[name], where)
        tidy[name] = tidy[name].astype("category") if categories else tidy[name].astype(str)
    twice = tidy.duplicated([*CURVE, "seed", "labelled"])
    if twice.any():
        first = tidy[twice].iloc[0]
        curve = f"{first['metric']} of {first['task']}, {first['strategy']}, seed {first['seed']}"
        raise AlbenchError(f"{where}: {curve} at {first['labelled']} labels is there twice; average or drop repeats")
    if not mixed:
        for name in MIXABLE:
            if said := mixture(results, name):
                raise AlbenchError(
                    f"{where}: column {name}: {said}, which are not repetitions of one experiment; keep one of them, "
                    "or allow it with mixed=True"
                )
    return tidy


def _numbers(column: pd.Series, where: str, whole: bool) -> pd.Series:
    """A column as numbers: floats, or the whole numbers that it must hold then."""
    numbers = pd.to_numeric(column, errors="coerce")
    values = numbers.to_numpy(float)
    beyond = np.abs(values) >= 2.0**63 if numbers.dtype.kind != "i" else np.zeros(len(values), bool)
    broken = ~np.isfinite(values) | (values != np.round(values)) | beyond  # a cast would wrap those beyond 64 bits
    wrong = broken if whole else np.isnan(values) & column.notna()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        found = column.iloc[row]
        said = "an empty cell" if pd.isna(found) else repr(found.item() if isinstance(found, np.generic) else found)
        what = "a whole number" if whole else "a number"
        what += " of 64 bits" if whole and beyond[row] and np.isfinite(values[row]) else ""
        if column.name == "labelled" and 0 < values[row] < 1:
            what += "; it is the number of labels, not a share of the pool"
        raise AlbenchError(f"{where}: column {column.name}, row {row + 1}: {said} is not {what}")
    return numbers.astype(int if whole else float)


def _refuse_nameless(column: pd.Series, where: str) -> None:
    empty = [name for name in column.unique() if pd.isna(name) or not str(name).strip()]  # of millions of rows a few
    if empty:
        nameless = column.isna().to_numpy() | column.isin(empty).to_numpy()
        row = int(np.flatnonzero(nameless)[0])
        raise AlbenchError(
            f"{where}: column {column.name}, row {row + 1}: the name is empty (words that stand for nothing in a CSV, "
            "such as NA or None, count as that)"
        )


def mixture(results: pd.DataFrame, name: str) -> str:
    """Which two kinds in a column stand together in one task and metric, in words; "" where none do."""
    if name not in results.columns:
        return ""
    kinds = results.groupby(["task", "metric"], sort=False)[name].nunique()
    if not (kinds > 1).any():
        return ""
    task, metric = kinds.index[kinds > 1][0]
    rows = results[(results["task"] == task) & (results["metric"] == metric) & results[name].notna()]
    first, second = (own.iloc[0] for _, own in list(rows.groupby(name, sort=False))[:2])
    sides = " and ".join(f"{r[name]!r} ({r['strategy']}, seed {r['seed']})" for r in (first, second))
    return f"{metric} of {task} mixes {sides}"
