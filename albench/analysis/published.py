"""Measured curves beside published ones: how far apart, and whether the published order of strategies was reproduced.

A published curve is a mean over a few trials whose spread is mostly not printed, so the paper's own seed noise is *not*
in the intervals here; the reading's uncertainty (a bound on what was read off a figure) is.
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from albench import registry
from albench.analysis.comparison import all_pairs
from albench.analysis.curves import aubc, curves, of_one_task
from albench.analysis.label_efficiency import rise
from albench.analysis.publication import Published
from albench.errors import AlbenchError, did_you_mean

COLUMNS = ("task", "metric", "strategy", "labelled", "value", "reading", "uncertainty")
DIFFERENCE = [
    *("strategy", "labelled", "measured", "n", "published", "uncertainty", "reading"),
    *("difference", "low", "high", "verdict"),
]
ORDER = [
    *("above", "below", "lead", "uncertainty", "claim"),
    *("pairs", "mean", "low", "high", "p_holm", "measured", "verdict"),
]
SAME, ANOTHER = ("reproduced", "contradicted"), ("agrees", "disagrees")  # what is said of the same, another experiment
UNJUDGED = "not judged"
# what shapes a result but belongs to the machine, or to how the result is told
NOT_PROTOCOL = ("task", "source", "price", "published", "uncertain", "companions")


def bundled() -> dict[str, Path]:
    """The files of published numbers that come with albench, by name."""
    folder = Path(str(files("albench"))) / "published"
    return {path.stem: path for path in sorted(folder.glob("*.csv"))}


def read(name: str | Path) -> pd.DataFrame:
    """Published curves: task, metric, strategy, labelled, value, reading (text), uncertainty (a bound, ≥ 0).

    `name` is a bundled one or a CSV file.

    Raises:
        AlbenchError: it is not there, lacks a column, or a number is missing or there twice.
    """
    known = bundled()
    path = known.get(str(name), Path(name))
    if not path.is_file():
        raise AlbenchError(
            f"published numbers {str(name)!r}: neither a file nor bundled ({', '.join(known) or 'none is'})"
            + did_you_mean(str(name), list(known))
        )
    return _read(path, path.stat().st_mtime_ns).copy()


@cache
def _read(path: Path, _changed: int) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"task": str, "metric": str, "strategy": str})
    except (OSError, ValueError) as error:
        raise AlbenchError(f"{path}: cannot be read as CSV: {error}") from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise AlbenchError(f"{path}: no column {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
    for column in ("labelled", "value", "uncertainty"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = np.flatnonzero(~np.isfinite(numbers) | ((numbers < 0) & (column != "value")))
        if len(wrong):
            raise AlbenchError(f"{path}: column {column}, line {wrong[0] + 2}: {table[column].iloc[wrong[0]]!r}")
        table[column] = numbers
    twice = table.duplicated(["task", "metric", "strategy", "labelled"])
    if twice.any():
        raise AlbenchError(f"{path}: line {int(np.flatnonzero(twice)[0]) + 2} gives a point that is there already")
    return table[list(COLUMNS)]


def of(published: pd.DataFrame, task: str, metric: str | None = None) -> pd.DataFrame:
    """The rows of one task and metric (default: the only one).

    Raises:
        AlbenchError: there is no such task or metric, or several metrics and none is named.
    """
    tasks = list(published["task"].unique())
    if task not in tasks:
        raise AlbenchError(
            f"published: no task {task!r} in the file.{did_you_mean(task, tasks)} There are: {', '.join(tasks)}"
        )
    rows = published[published["task"] == task]
    metrics = list(rows["metric"].unique())
    if metric is None and len(metrics) > 1:
        raise AlbenchError(f"published: {task!r} has several metrics; set `metric` to one of: {', '.join(metrics)}")
    if metric is not None and metric not in metrics:
        raise AlbenchError(f"published: {task!r} has no metric {metric!r}; it has: {', '.join(metrics)}")
    return rows[rows["metric"] == (metric or metrics[0])].reset_index(drop=True)


def curves_for(published: pd.DataFrame, source: Published, labels: list[str]) -> pd.DataFrame:
    """A task's published curves under the suite's labels: strategy, labelled, value, uncertainty, reading.

    One curve for each of `labels` (a suite's strategies) that has one; several may share a published curve. `source`
    is resolved.
    """
    rows = of(published, str(source.task), source.metric).drop(columns=["task", "metric"])
    parts = [rows[rows["strategy"] == source.strategies.get(label, label)].assign(strategy=label) for label in labels]
    return pd.concat(parts, ignore_index=True) if parts else rows.iloc[:0]


def against_published(
    results: pd.DataFrame, published: pd.DataFrame, source: Published, effect: float = 0.005, alpha: float = 0.05
) -> pd.DataFrame:
    """Measured − published, strategy by strategy, at the numbers of labels that both have.

    Args:
        results: tidy rows of one task. published: from `read`. source: resolved.
        effect: the smallest effect of interest, in the metric's unit.

    Returns: strategy, labelled, measured (mean over n seeds), n, published, uncertainty, reading, difference, low and
        high (the t interval of the measured mean at 1 − alpha, widened by the reading's uncertainty at either end: a
        bound adds up, it does not average out; NaN for one seed), and verdict: "equivalent" where the interval lies
        within ± effect, else "higher" or "lower" where it leaves 0 out, else "undecided". Each point is judged by
        itself, without a correction for their number.

    Raises:
        AlbenchError: several tasks.
    """
    rows = of_one_task(results, str(source.measured))
    theirs = curves_for(published, source, list(rows["strategy"].unique()))
    ours = curves(rows, 1 - alpha)[["strategy", "labelled", "mean", "n", "low", "high"]]
    table = theirs.merge(ours, on=["strategy", "labelled"]).rename(columns={"mean": "measured", "value": "published"})
    table["difference"] = table["measured"] - table["published"]
    table["low"] = table["low"] - table["published"] - table["uncertainty"]
    table["high"] = table["high"] - table["published"] + table["uncertainty"]
    table["verdict"] = [_word(low, high, effect) for low, high in zip(table["low"], table["high"], strict=True)]
    return table[DIFFERENCE]


def _word(low: float, high: float, effect: float) -> str:
    if -effect < low and high < effect:
        return "equivalent"
    return "higher" if low > 0 else "lower" if high < 0 else "undecided"


def published_order(
    results: pd.DataFrame,
    published: pd.DataFrame,
    source: Published,
    effect: float = 0.005,
    alpha: float = 0.05,
    score: str = "aubc",
    reference: str | None = None,
    higher_is_better: bool = True,
    same: bool = True,
) -> pd.DataFrame:
    """Whether each pair of the published order was reproduced, contradicted, or is undecided.

    Both sides are scored by the AUBC (or the "final" value) over the numbers of labels that all curves share. The
    published claim about a pair is "above" where the lead is at least the smallest effect of interest whatever the
    reading's error, "equal" where it is below it whatever that error, and "unclear" otherwise. What was measured is
    `comparison.all_pairs` (paired by seed, Holm over these pairs).

    | claim   | reproduced          | contradicted                                   |
    |---------|---------------------|------------------------------------------------|
    | above   | measured better     | measured worse, or equivalent                  |
    | equal   | measured equivalent | better or worse, its interval beyond ± effect  |
    | unclear | measured better *   | measured worse *                               |

    * where the order itself is beyond the reading's error. All else is undecided.

    Of another experiment (not `same`: see `another_experiment`) nothing is reproduced or contradicted: the words are
    "agrees" and "disagrees". Where a `reference` is named whose own rise from first to last labels is not shown to be
    above 0 (its 95 % interval; of an error, not `higher_is_better`, its fall), every pair is "not judged": orders of
    what was not learned say nothing.

    Returns: above, below (the published order), lead and uncertainty (published), claim; pairs, mean, low, high,
        p_holm and measured (the difference above − below and its verdict, from all_pairs); verdict. Empty where fewer
        than two strategies or no number of labels (two, for the AUBC) are shared.

    Raises:
        AlbenchError: several tasks, or `score` is neither "aubc" nor "final".
    """
    rows = of_one_task(results, str(source.measured))
    learned = reference is None or rise(rows, str(source.measured), reference, 0.95, higher_is_better)[1] > 0
    theirs = curves_for(published, source, list(rows["strategy"].unique()))
    rows = rows[rows["strategy"].isin(theirs["strategy"])]
    shared = _shared(rows, theirs)
    if theirs["strategy"].nunique() < 2 or len(shared) < (2 if score == "aubc" else 1):
        return pd.DataFrame(columns=ORDER)
    rows, theirs = rows[rows["labelled"].isin(shared)], theirs[theirs["labelled"].isin(shared)]
    scores = _scores(theirs, score)
    compared = all_pairs(rows, str(source.measured), effect, alpha, score)
    measured: dict[Any, dict[Any, Any]] = {(row["a"], row["b"]): row for row in compared.to_dict("records")}
    table = []
    for a, b in combinations(sorted(scores, key=lambda name: -scores[name][0]), 2):
        found = measured[a, b] if (a, b) in measured else _turned(measured[b, a])
        lead, uncertainty = scores[a][0] - scores[b][0], scores[a][1] + scores[b][1]
        claim = "above" if lead - uncertainty >= effect else "equal" if lead + uncertainty < effect else "unclear"
        word = _judged(claim, lead > uncertainty, found, effect, SAME if same else ANOTHER) if learned else UNJUDGED
        row = {"above": a, "below": b, "lead": lead, "uncertainty": uncertainty, "claim": claim, "verdict": word}
        row |= {name: found[name] for name in ("pairs", "mean", "low", "high", "p_holm")}
        table.append(row | {"measured": found["verdict"]})
    return pd.DataFrame(table, columns=ORDER)


def _shared(rows: pd.DataFrame, theirs: pd.DataFrame) -> list[int]:
    """The numbers of labels at which every strategy was measured (by some seed) and published."""
    sets = [set(part["labelled"]) for table in (rows, theirs) for _, part in table.groupby("strategy")]
    return sorted(set.intersection(*sets)) if sets else []


def _scores(theirs: pd.DataFrame, score: str) -> dict[str, tuple[float, float]]:
    """Published score and its uncertainty of each strategy; an area's bound is the area of the bounds."""
    if score not in ("aubc", "final"):
        raise AlbenchError(f"score={score!r}: published curves are scored by their 'aubc' or their 'final' value")
    found = {}
    for strategy, curve in theirs.groupby("strategy", sort=False):
        curve = curve.sort_values("labelled")
        columns = [curve[name].to_numpy(float) for name in ("value", "uncertainty")]
        ends = [aubc(curve["labelled"].to_numpy(), c) if score == "aubc" else float(c[-1]) for c in columns]
        found[str(strategy)] = (ends[0], ends[1])
    return found


def _turned(row: dict[Any, Any]) -> dict[Any, Any]:
    """A row of all_pairs seen from the other side."""
    other = {"better": "worse", "worse": "better"}
    turned = {"mean": -row["mean"], "low": -row["high"], "high": -row["low"]}
    return row | turned | {"verdict": other.get(row["verdict"], row["verdict"])}


def _judged(claim: str, ordered: bool, found: dict[Any, Any], effect: float, words: tuple[str, str]) -> str:
    word = found["verdict"]
    beyond = word in ("better", "worse") and (found["low"] > effect or found["high"] < -effect)
    reproduced = {"above": word == "better", "equal": word == "equivalent", "unclear": ordered and word == "better"}
    contradicted = {"above": word in ("worse", "equivalent"), "equal": beyond, "unclear": ordered and word == "worse"}
    return words[0] if reproduced[claim] else words[1] if contradicted[claim] else "undecided"


def protocol_differences(ours: dict, task: str, theirs: dict, their_task: str) -> list[str]:
    """Where a task of a resolved suite departs from a protocol, as 'key: protocol → ours' lines.

    Both suites are resolved and dumped (a manifest's "suite"; `suite.resolve(read(NAME)).model_dump(mode="json")`).
    Compared are the task's parameters, recipe, labels per stage and candidates; seeds, stages, restarts and precision;
    of strategies that both have, their parameters and companions. A key that only one side knows is left out.

    Raises:
        AlbenchError: a suite has no such task.
    """
    lines = []
    for suite, label in ((ours, task), (theirs, their_task)):
        if label not in suite["tasks"]:
            raise AlbenchError(f"suite {suite['name']!r} has no task {label!r}; it has {', '.join(suite['tasks'])}")
    mine, other = ours["tasks"][task], theirs["tasks"][their_task]
    if mine["task"] != other["task"]:
        lines.append(f"task: {other['task']!r} → {mine['task']!r}")
    places = _places(mine["task"])
    theirs_here = {k: v for k, v in other.items() if k not in NOT_PROTOCOL}
    theirs_here["params"] = {k: v for k, v in other["params"].items() if k not in places}
    lines += _changes(theirs_here, mine, "")
    general = ("seeds", "stages", "warm_start")
    lines += _changes({key: theirs[key] for key in general}, ours, "")
    # A protocol's "auto" is our choice of what is fast; what was published is taken to be fp32.
    precision = [suite.get("numerics", {}).get("precision") for suite in (theirs, ours)]
    precision = ["fp32" if value == "auto" else value for value in precision]
    lines += [f"numerics.precision: {precision[0]!r} → {precision[1]!r}"] if precision[0] != precision[1] else []
    for label in ours["strategies"].keys() & theirs["strategies"].keys():
        lines += _changes(_strategy(theirs, their_task, label), _strategy(ours, task, label), f"strategies.{label}.")
    return sorted(set(lines), key=lambda line: (line.startswith("strategies."), line))


FREE = ("seeds", "numerics.precision")  # the first moves intervals alone; bf16 stays within a seed's spread
NOTHING = ("''", "None")  # to leave an open setting out is no value of it


def open_settings(protocol: dict, task: str) -> list[str]:
    """The settings that a protocol (resolved, dumped) leaves open, by key path, as `protocol_differences` calls them:
    a companion's are those of the strategies that it is trained beside."""
    found = []
    for path in protocol["tasks"][task]["uncertain"]:
        kind, _, rest = path.partition(".")
        name, _, option = rest.partition(".")
        if kind != "companions":
            found.append(path)
        else:
            beside = [label for label, entry in protocol["strategies"].items() if entry["companion"] == name]
            found += [f"strategies.{label}.companion_params.{option}" for label in beside]
    return found


def another_experiment(lines: list[str], uncertain: Iterable[str] = ()) -> list[str]:
    """Those lines of `protocol_differences` that make a run another experiment than the protocol's.

    All but the number of seeds, the precision, and other values of the settings that the protocol leaves open
    (`uncertain`, from `open_settings`). Of a strategy that is open as a whole its parameters are, not which one it is.

    >>> another_experiment(["recipe.epochs: 200 → 20", "seeds: 5 → 3", "params.pad: 2 → 4"], ["params.pad"])
    ['recipe.epochs: 200 → 20']
    """
    free = (*FREE, *uncertain)

    def is_free(line: str) -> bool:
        key, _, values = line.partition(": ")
        return values.rpartition(" → ")[2] not in NOTHING and any(
            key == one or key.startswith(f"{one}.params.") for one in free
        )

    return [line for line in lines if not is_free(line)]


def _places(task: str) -> frozenset[str]:
    """The parameters of a registered task that say where files lie; none where it is a plug-in's, not loaded here."""
    try:
        return registry.tasks.get(task).places
    except AlbenchError:
        return frozenset()


def _strategy(suite: dict, task: str, label: str) -> dict:
    """A strategy as a task trains it: the task's own options of a companion go before the strategy's."""
    entry = suite["strategies"][label]
    options = suite["tasks"][task].get("companions", {}).get(entry.get("companion"), {})
    return entry | {"companion_params": options | entry.get("companion_params", {})}


def _changes(before: dict, after: dict, path: str) -> list[str]:
    found = []
    for key in before.keys() & after.keys():
        old, new = before[key], after[key]
        if isinstance(old, dict) and isinstance(new, dict):
            found += _changes(old, new, f"{path}{key}.")
        elif old != new:
            found.append(f"{path}{key}: {old!r} → {new!r}")
    return found
