"""A CSV of tidy results as a run: what its rows say, and no word on how they came about, which nobody told albench."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from albench.analysis.comparison import EFFECT
from albench.analysis.curves import not_finite, per_seed
from albench.analysis.tidy import loaded, mixture, validated
from albench.errors import AlbenchError, did_you_mean
from albench.report.blocks import Checklist, Item, Section, Text
from albench.report.checklist import few_seeds
from albench.report.numbers import metric_name
from albench.report.runs import COSTS, Run, empty_tables
from albench.report.tables import facts_table
from albench.report.words import HOW_TO_READ, count, listed

UNKNOWN = "nothing about how it was made is known to albench"
CLOSING = (
    "AUBC is the mean height of a learning curve over its range of labels (see How to read this). Verdicts are those "
    "of one test, chosen by albench: better or worse than the reference; equivalent, where the difference is certainly "
    "smaller than what is of interest; undecided, where these seeds cannot tell, which does not mean equal. Whether "
    "reference, metric and effect were fixed before the results were seen is not known."
)
PAIRED = (
    "Paired difference",
    "Differences are taken seed by seed: values of two strategies under one seed number are taken for a pair. Whether "
    "such trials share anything (first labels, weights) is not known; where they do not, pairing does no harm but "
    "gains nothing. The interval is the t interval of the mean, of one comparison alone, while verdicts are corrected "
    "for their number.",
)


@dataclass(frozen=True)
class Reading:
    """What a CSV does not say itself.

    metric: those to compare by, each as "NAME" or for one task as "TASK=NAME"; none for a task that has only one.
    lower_is_better: of all metrics. lower: the metrics of which it is so, where it is not of all.
    """

    reference: str = "random"
    effect: float | None = None
    metric: tuple[str, ...] = ()
    lower_is_better: bool = False
    lower: tuple[str, ...] = ()


def from_csv(path: Path, name: str, reading: Reading, mixed: bool = False) -> Run:
    """The results of a CSV as a run with the suite that its rows show; costs are left out.

    mixed: allow that a task's trials come from different devices.

    Raises:
        AlbenchError: it is no such table, it mixes suites, or devices unasked, its metric has to be named, or it lacks
            the reference.
    """
    table = loaded(path)
    results = validated(table, str(path), mixed=True)  # what is mixed is judged here, where devices alone are allowed
    devices = _devices(table, path, mixed)
    results = results[~results["metric"].str.startswith(COSTS)]
    if results.empty:
        raise AlbenchError(f"{path}: holds no measurements")
    metrics = _metrics(results, reading.metric, path)
    primary = results[results["metric"] == results["task"].map(metrics)]
    strategies = list(dict.fromkeys(results["strategy"]))
    if reading.reference not in strategies:
        hint = did_you_mean(reading.reference, strategies)
        raise AlbenchError(
            f"{path}: no strategy {reading.reference!r} to compare with; name one of its own with --reference.{hint} "
            f"It has: {', '.join(strategies)}"
        )
    effect = EFFECT if reading.effect is None else reading.effect
    if not 0 <= effect < math.inf:
        raise AlbenchError(f"--effect {effect}: the smallest effect of interest cannot be negative, and is finite")
    seeds = int(primary.groupby("task")["seed"].nunique().max())
    stages = int(primary.groupby("task")["labelled"].nunique().max())
    suite: dict[str, Any] = {"name": name, "seeds": seeds, "stages": stages, "tasks": {}, "strategies": {}}
    facts = {"fingerprint": str(path), "entry": {}, "classes": []}
    lower = set(metrics.values()) if reading.lower_is_better else set(reading.lower)
    named = results.astype(dict.fromkeys(("task", "strategy", "metric"), "category"))
    return Run(
        folder=path.with_suffix("") if path.suffix else path.parent / f"{path.name}-csv",
        name=name,
        suite=suite | {"primary": {"reference": reading.reference, "effect": effect}},
        planned={"seeds": seeds, "stages": stages, "strategies": strategies},
        sessions=[{"device": device} for device in devices],
        tasks={
            task: {"task": task, "metric": metric, "higher_is_better": metric not in lower, "notes": []} | facts
            for task, metric in metrics.items()
        },
        strategies={s: {"strategy": s, "companion": None, "cheats": False} for s in strategies},
        reference=reading.reference,
        data_root=None,
        plugins=[],
        failures=[],
        foreign=True,
        **(empty_tables() | {"results": named}),
    )


def _devices(table: pd.DataFrame, path: Path, mixed: bool) -> list[str]:
    """The kinds of device that were mixed within a task; none where that is not so, or not known."""
    if said := mixture(table, "suite"):
        raise AlbenchError(
            f"{path}: column suite: {said}, which are not repetitions of one experiment; put the rows of each suite "
            "into a file of its own"
        )
    for name in ("device", "gpu"):
        if not mixed and (said := mixture(table, name)):
            raise AlbenchError(
                f"{path}: column {name}: {said}; the device alone can change a ranking, so their seeds are not "
                "averaged unless you say so with --mixed-devices"
            )
    columns = [name for name in ("device", "gpu") if name in table]
    if not columns:
        return []
    groups = table.assign(kind=_kinds(table, columns)).groupby(["task", "metric"], sort=False)
    mixes = [rows for _, rows in groups if (rows[columns].nunique() > 1).any()]
    return list(dict.fromkeys(str(kind) for rows in mixes for kind in rows["kind"].dropna()))


def _kinds(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """What each row ran on: its GPU, or its device where it names none; both where one GPU has several devices."""
    if len(columns) == 1:
        return table[columns[0]]
    gpu, device = table["gpu"].astype(object), table["device"].astype(object)
    several = table.groupby("gpu")["device"].transform("nunique") > 1
    both = gpu.astype(str) + " (" + device.astype(str) + ")"
    return gpu.mask(several & device.notna(), both).fillna(device)


def _metrics(results: pd.DataFrame, said: tuple[str, ...], path: Path) -> dict[str, str]:
    """Task → the metric to compare by."""
    tasks, names = list(results["task"].unique()), set(results["metric"])
    of_task: dict[str, str] = {}
    for one, chosen in (pair for text in said if (pair := _parted(text, tasks))):
        if of_task.setdefault(one, chosen) != chosen:
            raise AlbenchError(
                f"--metric {one}={of_task[one]} and --metric {one}={chosen}: a task is compared by one metric; name one"
            )
    unparted = [text for text in said if not _parted(text, tasks)]
    astray = [text for text in unparted if "=" in text and text not in names]  # maybe of another table's task
    of_all = [text for text in unparted if text not in astray]
    if len(of_all) > 1:
        raise AlbenchError(f"--metric {of_all[0]} and --metric {of_all[1]}: of one task's alone say --metric TASK=NAME")
    found = {}
    for task, rows in results.groupby("task", sort=False):
        metric = of_task.get(str(task), of_all[0] if of_all else None)
        there = [str(name) for name in rows["metric"].unique()]
        # of albench's own results: what was diagnosed, and what was trained on
        own = [name for name in there if "/" not in name and name != "objective"] or there
        if metric is None and len(own) > 1:
            hint = f" ({astray[0]} names no task here)" if astray else ""
            raise AlbenchError(f"{path}: {task} has several metrics; name one with --metric: {', '.join(own)}{hint}")
        if metric is not None and metric not in there:
            hint = did_you_mean(metric, there)
            raise AlbenchError(f"{path}: {task} has no metric {metric!r}.{hint} It has: {', '.join(there)}")
        found[str(task)] = own[0] if metric is None else metric
    return found


def _parted(text: str, tasks: list[str]) -> tuple[str, str] | None:
    """Task and metric of "TASK=NAME"; both may hold a = themselves. None where it names none of these tasks."""
    named = [task for task in tasks if text.startswith(f"{task}=")]
    task = max(named, key=len, default=None)
    return None if task is None else (task, text[len(task) + 1 :])


def refuse_unknown(reading: Reading, runs: list[Run]) -> None:
    """Refuse a reading that names a task or a metric which is in none of the tables.

    Raises:
        AlbenchError: it does.
    """
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    metrics = list(dict.fromkeys(facts["metric"] for run in runs for facts in run.tasks.values()))
    for text in reading.metric:
        if "=" in text and not _parted(text, tasks) and text not in metrics:
            task = text.partition("=")[0]
            raise AlbenchError(
                f"--metric {text}: there is no task {task!r}.{did_you_mean(task, tasks)} There are: {', '.join(tasks)}"
            )
    for name in reading.lower:
        if name not in metrics:
            raise AlbenchError(
                f"--lower {name}: no task is compared by a metric of that name.{did_you_mean(name, metrics)} "
                f"They are compared by: {', '.join(metrics)}"
            )


def banner(runs: list[Run]) -> str:
    """What stands above a report of such tables; '' without any."""
    tables = [run.name for run in runs if run.foreign]
    said = [f"From a CSV ({listed(tables)}): {UNKNOWN}."] if tables else []
    return " ".join(said + [f"{run.name}: {_mixed(run)}" for run in runs if run.foreign and run.devices()])


def _mixed(run: Run) -> str:
    return f"trials ran on {listed(run.devices())}, and the device alone can change a ranking."


def what_it_holds(run: Run) -> str:
    """One sentence on what a table has."""
    trials = len(run.primary().drop_duplicates(["task", "strategy", "seed"]))
    return (
        f"The table {run.name} holds {count(len(run.strategies), 'strategy')} ({listed(list(run.strategies))}) on "
        f"{count(len(run.tasks), 'task')} ({listed(list(run.tasks))}): {count(trials, 'curve')} of up to "
        f"{count(run.suite['stages'], 'stage')}, from up to {count(run.suite['seeds'], 'seed')} each."
    )


def review(run: Run, heading: str, anchor: str) -> Section:
    """How it was compared, and what a reviewer would ask that the table does not answer."""
    method = (
        f"Each strategy is compared with {run.reference} on the area under the budget curve (AUBC, trapezoids with the "
        "true label spacing), by two-sided paired t-tests over seeds, corrected by Holm's method at "
        f"α = {run.alpha:g} within a task; differences are called equivalent where two one-sided tests place them "
        f"within ±{run.effect:g}. All other tests are exploratory. Of the table, {UNKNOWN}."
    )
    unknown = [
        ("Protocol", "Data, model, training, and what strategies were allowed to see."),
        ("Pairing", "Whether trials of one seed began with the same labels and weights."),
        ("Plan", "Whether seeds, strategies and this comparison were planned before results were looked at."),
        ("Circumstances", "Versions, machine, device and costs; there are no outcomes of single test samples either."),
    ]
    items = [Item("missing", name, f"Not known. {text}") for name, text in unknown]
    if few := few_seeds(run.suite["seeds"]):
        items.insert(0, Item("attention", "Seeds", f"{count(run.suite['seeds'], 'seed')} at most: {few}"))
    if run.devices():
        items.insert(0, Item("attention", "Device", f"{_mixed(run)[0].upper()}{_mixed(run)[1:]}"))
    return Section(heading, anchor, [Text(method), Checklist("What a reviewer would ask", [_complete(run), *items])])


def _complete(run: Run) -> Item:
    """Curves that do not count, and values that are no numbers."""
    rows = [per_seed(run.primary(task)) for task in run.tasks]
    short = pd.concat(rows).query("not complete")
    broken = sum(len(not_finite(run.primary(task))) for task in run.tasks)
    if short.empty:
        return Item("ok", "Curves", "All are whole: every seed has a finite value at each number of labels.")
    text = f"{count(len(short), 'curve')} not whole, and counted nowhere (the tables of the tasks say which)"
    return Item("attention", "Curves", f"{text}; {count(broken, 'value')} not finite.")


def facts(run: Run, heading: str, anchor: str) -> Section:
    """What was read and how it was taken."""
    rows = [("file", str(next(iter(run.tasks.values()))["fingerprint"])), ("reference", run.reference)]
    rows.append(("smallest effect of interest", f"{run.effect:g}, in the metric's unit"))
    for task, known in run.tasks.items():
        direction = "higher" if known["higher_is_better"] else "lower"
        rows.append(
            (f"metric of {task}", f"{metric_name(known['metric'])}; {direction} is better, as albench was told")
        )
    return Section(heading, anchor, [facts_table("Read from", rows)])


def how_to_read() -> list[tuple[str, str]]:
    """What applies to a table alone."""
    return [row for row in HOW_TO_READ if row[0] in ("Learning curve", "AUBC")] + [PAIRED]
