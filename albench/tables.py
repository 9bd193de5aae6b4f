"""Tables derived from a run's records; they can always be made again.

results.csv     task,strategy,seed,stage,labelled,metric,value     what was measured: equal for equal runs, to the bit
costs.csv       the same columns: seconds and peak memory, which never repeat
selections.csv  task,strategy,seed,stage,order,index               stage at which a pool row was first trained on
diagnostics.csv task,strategy,seed,stage,where,predicted,true      a sample of predicted and true losses
labels.csv      the tidy columns: what the labelled set's annotations hold, class by class (or joint by joint)
trainings.csv   task,strategy,seed,stage,labelled,identity,device  which training (trained/IDENTITY.*), on which device
ceiling.csv     the tidy columns: what training on the whole pool reached; its `stage` is 0
"""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from albench.errors import AlbenchError
from albench.store import CEILING, Record, Store, write_whole

TIDY = ("task", "strategy", "seed", "stage", "labelled", "metric", "value")
TABLES: dict[str, tuple[str, ...]] = {
    "results": TIDY,
    "costs": TIDY,
    "selections": ("task", "strategy", "seed", "stage", "order", "index"),
    "diagnostics": ("task", "strategy", "seed", "stage", "where", "predicted", "true"),
    "labels": TIDY,
    "trainings": ("task", "strategy", "seed", "stage", "labelled", "identity", "device"),
    "ceiling": TIDY,
}


def write(store: Store) -> None:
    """Make all tables from the records."""
    for name, content in contents(store).items():
        write_whole(store.folder / f"{name}.csv", content)


def contents(store: Store) -> dict[str, bytes]:
    """What each table holds, by its name."""
    rows: dict[str, list[tuple]] = {name: [] for name in TABLES}
    manifest = store.manifest() or {"tasks": {}}
    classes = {label: facts.get("classes", []) for label, facts in manifest["tasks"].items()}
    for trial in store.trials():
        try:
            records = store.records(trial)
        except AlbenchError:  # damaged: the run says so for this trial; the others' numbers stand
            continue
        head = (trial.task, trial.strategy, trial.seed)
        if trial.strategy == CEILING:
            rows["ceiling"] += [(*head, *row) for row in _results(records)]
            continue
        rows["trainings"] += [(*head, *row) for row in _trainings(records)]
        rows["labels"] += [(*head, *row) for row in _labels(records, classes.get(trial.task, []))]
        for name, add in (("results", _results), ("costs", _costs), ("diagnostics", _diagnostics)):
            rows[name] += [(*head, *row) for row in add(records)]
        rows["selections"] += [(*head, *row) for row in _selections(records)]
    return {name: _csv(columns, rows[name]) for name, columns in TABLES.items()}


def _csv(columns: Iterable[str], rows: Iterable[tuple]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _of_kind(records: list[Record], *kinds: str) -> list[Record]:
    """The records of some kinds by stage; where a stage was extended, the later one. None of an untrained stage."""
    trained = _labelled(records)  # a stage without it was damaged, and is trained again by the next run
    by_stage = {r["stage"]: r for r in records if r["kind"] in kinds and r["stage"] in trained}
    return [by_stage[stage] for stage in sorted(by_stage)]


def _labelled(records: list[Record]) -> dict[int, int]:
    return {r["stage"]: r["labelled"] for r in records if r["kind"] == "trained"}


def _results(records: list[Record]) -> Iterator[tuple[int, int, str, float]]:
    labelled = _labelled(records)
    for record in _of_kind(records, "trained"):
        yield from ((record["stage"], record["labelled"], name, value) for name, value in record["metrics"].items())
        yield record["stage"], record["labelled"], "objective", record["objective"]
    for record in _of_kind(records, "selected", "finished"):
        for where, worth in record.get("diagnosis", {}).items():
            for predictor, values in worth["predictors"].items():
                for name, value in values.items():
                    yield record["stage"], labelled[record["stage"]], f"{name}/{where}/{predictor}", value
        for name, value in record.get("character", {}).items():
            yield record["stage"], labelled[record["stage"]], f"selected/{name}", value


def _trainings(records: list[Record]) -> Iterator[tuple[int, int, str, str]]:
    for r in _of_kind(records, "trained"):
        yield r["stage"], r["labelled"], r["identity"], r.get("device", "")


def _labels(records: list[Record], classes: list[str]) -> Iterator[tuple[int, int, str, int]]:
    for r in _of_kind(records, "trained"):
        counted = zip(classes, r.get("contents", []), strict=False)  # an older record has none
        yield from ((r["stage"], r["labelled"], name, count) for name, count in counted)


def _costs(records: list[Record]) -> Iterator[tuple[int, int, str, Any]]:
    labelled = _labelled(records)
    for record in [*_of_kind(records, "trained"), *_of_kind(records, "selected", "finished")]:
        stage = record["stage"]
        for name, value in record.get("seconds", {}).items():
            yield stage, labelled[stage], f"seconds/{name}", round(value, 4)
        if "peak_memory" in record:
            yield stage, labelled[stage], "peak-memory/train", record["peak_memory"]


def _selections(records: list[Record]) -> Iterator[tuple[int, int, int]]:
    for record in _of_kind(records, "trained"):
        if record["stage"] == 0:
            yield from ((0, order, index) for order, index in enumerate(record["initial"]))
    for record in _of_kind(records, "selected"):
        yield from ((record["stage"] + 1, order, index) for order, index in enumerate(record["indices"]))


def _diagnostics(records: list[Record]) -> Iterator[tuple[int, str, float, float]]:
    for record in _of_kind(records, "selected", "finished"):
        for where, worth in record.get("diagnosis", {}).items():
            yield from ((record["stage"], where, predicted, true) for predicted, true in worth["scatter"])


def table(folder: Path, name: str) -> Any:
    """One of the tables as a DataFrame.

    Raises:
        AlbenchError: the folder holds no run.
    """
    import pandas as pd

    path = folder / f"{name}.csv"
    if not path.is_file():
        raise AlbenchError(f"{folder}: no {name}.csv; is it a folder that `albench run` wrote?")
    return pd.read_csv(path)
