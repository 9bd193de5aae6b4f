"""What a report is made from: one or several run folders, read and given labels that do not collide."""

import contextlib
import itertools
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from albench.analysis.tidy import validated
from albench.errors import AlbenchError
from albench.store import Store, failures, planned
from albench.tables import TABLES, refresh

if TYPE_CHECKING:
    from albench.report.foreign import Reading

COSTS = ("seconds/", "peak-memory/")
NAMES = ("task", "strategy", "metric", "where")


class Unfinished(NamedTuple):
    """A trial, and how many of its stages are there."""

    task: str
    strategy: str
    seed: int
    stages: int


@dataclass
class Run:
    """One run folder. Tables and facts use the same task and strategy labels.

    tasks: label → the manifest's facts with the suite's entry under "entry". strategies: label → facts.
    results, costs, labels, ceiling: tidy (see albench.analysis.tidy); the others: see albench.tables; those that an
    older run has not got are empty. Their names (NAMES) are categories, which millions of rows need in order to be
    small and quickly searched; `rows` and `primary` give plain text. trainings also names the folder that holds the
    outcomes. planned: seeds, stages and strategies of the first session; an older run kept its seeds alone.
    failures: [{"trial", "error"}]. foreign: it is a CSV of which no more is known (see `foreign`).
    """

    folder: Path
    name: str
    suite: dict[str, Any]
    planned: dict[str, Any]
    sessions: list[dict[str, Any]]
    tasks: dict[str, dict[str, Any]]
    strategies: dict[str, dict[str, Any]]
    reference: str
    data_root: Path | None
    plugins: list[str]
    results: pd.DataFrame
    costs: pd.DataFrame
    selections: pd.DataFrame
    answers: pd.DataFrame
    diagnostics: pd.DataFrame
    labels: pd.DataFrame
    trainings: pd.DataFrame
    descent: pd.DataFrame
    ceiling: pd.DataFrame
    failures: list[dict[str, str]]
    foreign: bool = False

    @property
    def effect(self) -> float:
        """The smallest effect of interest, in a metric's unit."""
        return self.suite.get("primary", {}).get("effect", 0.005)

    @property
    def alpha(self) -> float:
        """The family-wise error rate of a task's comparisons."""
        return self.suite.get("primary", {}).get("alpha", 0.05)  # runs of before the key was there

    @property
    def cheats(self) -> list[str]:
        """Strategies that see hidden labels: outside every corrected test."""
        return [label for label, facts in self.strategies.items() if facts.get("cheats")]

    @property
    def compared(self) -> list[str]:
        """The strategies that the primary test compares with the reference."""
        return [label for label in self.strategies if label != self.reference and label not in self.cheats]

    def higher(self, task: str) -> bool:
        """Whether a higher value of a task's own metric is a better one; runs of before the key was there: it is."""
        return bool(self.tasks[task].get("higher_is_better", True))

    def devices(self) -> list[str]:
        """The kinds of device that its trainings ran on; what the sessions say where the trainings do not."""
        found = [str(device) for device in self.trainings["device"].dropna().unique() if device]
        return found or list(dict.fromkeys(str(s.get("gpu") or s.get("device")) for s in self.sessions))

    def ceiling_of(self, task: str) -> float:
        """What training on a task's whole pool reaches, mean over its seeds; NaN where that was not run."""
        return self.rows("ceiling", task, self.tasks[task]["metric"])["value"].mean()

    def ceiling_seeds(self, task: str) -> int:
        """How many trainings on the whole pool that is the mean of."""
        return int(self.rows("ceiling", task, self.tasks[task]["metric"])["seed"].nunique())

    def rows(self, table: str, task: str, metric: str | None = None) -> pd.DataFrame:
        """The rows of a task, and of one metric, in one of TABLES."""
        found = getattr(self, table)
        wanted = found["task"] == task
        if metric is not None:
            wanted &= found["metric"] == metric
        found = found[wanted]
        return found.astype({name: str for name in NAMES if name in found})

    def primary(self, *tasks: str) -> pd.DataFrame:
        """The rows of each task's own metric; of all tasks where none is named."""
        return pd.concat([self.rows("results", task, self.tasks[task]["metric"]) for task in tasks or self.tasks])

    def whole_costs(self, task: str) -> pd.DataFrame:
        """The costs of a task's trials that reached their last stage: a shorter one looks cheap."""
        costs = self.rows("costs", task)
        reached = costs.groupby(["strategy", "seed"])["stage"].transform("max")
        return costs[reached >= self.suite["stages"] - 1]

    def labels_planned(self, task: str) -> int:
        """Labels at the last stage that the suite plans; the most that were measured where it says no numbers."""
        entry, measured = self.tasks[task]["entry"], self.primary(task)["labelled"]
        budget = entry.get("budget")
        if not budget:
            return int(measured.max()) if len(measured) else 0
        return (entry.get("initial") or budget) + budget * (self.suite["stages"] - 1)

    def shortfall(self) -> list[Unfinished]:
        """Trials of the suite that did not reach their last stage; of a CSV nobody knows what was planned."""
        if self.foreign:
            return []
        reached = self.primary().groupby(["task", "strategy", "seed"])["stage"].max().to_dict()
        trials = itertools.product(self.tasks, self.strategies, range(self.suite["seeds"]))
        stages = {trial: reached.get(trial, -1) + 1 for trial in trials}
        return [
            Unfinished(task, strategy, seed, done)
            for (task, strategy, seed), done in stages.items()
            if done < self.suite["stages"]
        ]

    @property
    def trials(self) -> int:
        """How many the suite plans."""
        return len(self.tasks) * len(self.strategies) * self.suite["seeds"]

    def relabel(self, tasks: dict[str, str], strategies: dict[str, str]) -> None:
        """Give tasks and strategies other labels, everywhere."""
        self.tasks = {tasks.get(label, label): facts for label, facts in self.tasks.items()}
        self.strategies = {strategies.get(label, label): facts for label, facts in self.strategies.items()}
        self.reference = strategies.get(self.reference, self.reference)
        for name in TABLES:
            table = getattr(self, name)
            table["task"] = table["task"].cat.rename_categories(tasks)
            table["strategy"] = table["strategy"].cat.rename_categories(strategies)


def gather(folders: list[Path], mixed: bool = False, pool: bool = False, reading: "Reading | None" = None) -> list[Run]:
    """Read run folders, and CSVs as `reading` says.

    Of several runs, a task or strategy that would be taken for another gets its run's name.

    mixed: allow that a run's trials come from different devices. pool: take the seeds of all as those of one run (see
    `pooled`). A task in two runs is one section of the report where data, metric, error rate and smallest effect of
    interest are the same; its strategies then need labels of their own.

    Raises:
        AlbenchError: a folder holds no run, is given twice, would average over different GPU models, or cannot be
            pooled.
    """
    resolved = [Path(folder).resolve() for folder in folders]
    if not resolved:
        raise AlbenchError("no run folder was given")
    if len(set(resolved)) < len(resolved):
        raise AlbenchError("a run folder is given twice")
    names = Counter(folder.name for folder in resolved)
    unique = [f.name if names[f.name] == 1 else f"{f.parent.name}/{f.name}" for f in resolved]
    if reading is not None and not any(path.is_file() for path in resolved):
        raise AlbenchError(
            "--reference, --effect, --metric, --lower-is-better and --lower are for a CSV; a run folder says its own"
        )
    runs = [opened(path, name, mixed, reading) for path, name in zip(resolved, unique, strict=True)]
    if reading is not None:
        from albench.report import foreign

        foreign.refuse_unknown(reading, [run for run in runs if run.foreign])
    if pool and len(runs) > 1:
        if any(run.foreign for run in runs):
            raise AlbenchError("--pool is for run folders: of a CSV no suite is known; put the rows into one file")
        from albench.report import pooled

        runs = [pooled.pool(runs)]
    for run in runs:
        refuse_mixed(run, mixed)
    _separate(runs)
    return runs


def opened(path: Path, name: str, mixed: bool = False, reading: "Reading | None" = None) -> Run:
    """A run folder, or a CSV of tidy results.

    Raises:
        AlbenchError: it is neither, or not as `reading` says.
    """
    if not path.is_file():
        return read(path, name)
    from albench.report import foreign

    return foreign.from_csv(path, name, reading or foreign.Reading(), mixed)


def refuse_mixed(run: Run, mixed: bool) -> None:
    """Refuse a run whose trials ran on several kinds of device, unless `mixed`.

    Raises:
        AlbenchError: they did.
    """
    if len(devices := run.devices()) > 1 and not mixed:
        raise AlbenchError(
            f"{run.name}: trials ran on {' and '.join(devices)}; the device alone can change a ranking, so their "
            "seeds are not averaged unless you say so with --mixed-devices"
        )


def _separate(runs: list[Run]) -> None:
    def meaning(run: Run, task: str) -> tuple:
        facts = run.tasks[task]
        return facts.get("fingerprint"), facts["metric"], run.higher(task), run.alpha, run.effect

    renamed: dict[str, dict[str, str]] = {run.name: {} for run in runs}
    for run in runs:
        for task in run.tasks:
            others = [meaning(other, task) for other in runs if task in other.tasks]
            if len(set(others)) > 1:
                renamed[run.name][task] = f"{run.name}/{task}"
    for run in runs:
        run.relabel(renamed[run.name], {})
    collisions: dict[str, dict[str, str]] = {run.name: {} for run in runs}
    for run in runs:
        for strategy in run.strategies:
            if any(
                other is not run and strategy in other.strategies and run.tasks.keys() & other.tasks.keys()
                for other in runs
            ):
                collisions[run.name][strategy] = f"{run.name}/{strategy}"
    for run in runs:
        run.relabel({}, collisions[run.name])


def read(folder: Path, name: str) -> Run:
    """One run folder; its tables are made again first where the records behind them are there.

    Raises:
        AlbenchError: it holds no run, or a table is damaged.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AlbenchError(f"{folder}: no manifest.json; is it a folder that `albench run` wrote?") from error
    except ValueError as error:
        raise AlbenchError(f"{path} is damaged: {error}") from error
    _refresh(folder)
    with ThreadPoolExecutor(2) as threads:  # most of the time goes to pandas' parser, which lets others work
        found = threads.map(lambda table: _table(folder, table, optional=table != "results"), TABLES)
        tables = dict(zip(TABLES, found, strict=True))  # each is taken out when it is used, since some are large
    results = validated(tables.pop("results"), f"{folder / 'results.csv'}", categories=True)
    is_cost = results["metric"].str.startswith(COSTS)
    costs = [results[is_cost]]
    if len(tables["costs"]):
        costs.append(validated(tables.pop("costs"), f"{folder / 'costs.csv'}", categories=True))
    suite = manifest["suite"]
    tasks = {
        label: facts | {"entry": suite.get("tasks", {}).get(label, {})} for label, facts in manifest["tasks"].items()
    }
    root = manifest.get("data_root")
    return Run(
        folder=folder,
        name=name,
        suite=suite,
        planned=planned(manifest),
        sessions=manifest.get("sessions", []),
        tasks=tasks,
        strategies=dict(manifest["strategies"]),
        reference=suite.get("primary", {}).get("reference", "random"),
        data_root=Path(root) if root else None,
        plugins=list(manifest.get("plugins", [])),
        results=results[~is_cost].copy(),
        costs=joined(costs),
        selections=tables.pop("selections"),
        answers=tables.pop("answers"),
        # an empty table has no number type of its own
        diagnostics=tables.pop("diagnostics").astype({"predicted": float, "true": float}),
        labels=_tidy(tables.pop("labels"), folder / "labels.csv"),
        trainings=tables.pop("trainings").assign(folder=str(folder)),
        descent=tables.pop("descent").astype({"objective": float}),
        ceiling=_tidy(tables.pop("ceiling"), folder / "ceiling.csv"),
        failures=failures(folder),
    )


def _tidy(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """A table with the columns of results.csv that older runs have not got."""
    return validated(table, str(file), categories=True) if len(table) else table.astype({"value": float})


def empty_tables() -> dict[str, pd.DataFrame]:
    """All tables without a row."""
    numbers = ("value", "predicted", "true", "objective")
    tables = {name: _named(pd.DataFrame(columns=list(columns))) for name, columns in TABLES.items()}
    return {n: table.astype({c: float for c in numbers if c in table}) for n, table in tables.items()}


def _refresh(folder: Path) -> None:
    """A run that was killed has records that its tables do not show yet."""
    if not any((folder / "trials").glob("*.jsonl")):
        return
    with contextlib.suppress(PermissionError):  # somebody else's folder: its tables are what there is
        refresh(Store(folder))


def _table(folder: Path, name: str, optional: bool = False) -> pd.DataFrame:
    path, columns = folder / f"{name}.csv", TABLES[name]
    if not path.is_file():
        if optional:
            return _named(pd.DataFrame(columns=list(columns)))
        raise AlbenchError(f"{folder}: no {name}.csv; nothing was measured yet, or the file was moved away")
    try:
        # as a whole: in parts, each would have categories of its own, and two fifths of the time goes to joining them
        table = pd.read_csv(path, dtype=dict.fromkeys(NAMES, "category"), low_memory=False)
    except (OSError, ValueError) as error:
        raise AlbenchError(f"{path}: cannot be read as CSV: {error}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise AlbenchError(f"{path}: no column {', '.join(missing)}")
    return table


def joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tables of the same columns; together they may hold more names than each."""
    return _named(pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True))


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({name: "category" for name in NAMES if name in table})
