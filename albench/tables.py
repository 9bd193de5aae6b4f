"""Tables derived from a run's records; they can always be made again.

results.csv     task,strategy,seed,stage,labelled,metric,value     what was measured: equal for equal runs, to the bit
costs.csv       the same columns: seconds and peak memory, which never repeat
selections.csv  task,strategy,seed,stage,order,index               stage at which a pool row was first trained on
answers.csv     task,strategy,seed,stage,order,answer              what the model said of a selection's first: JSON
diagnostics.csv task,strategy,seed,stage,where,predicted,true      a sample of predicted and true losses
labels.csv      the tidy columns: what the labelled set's annotations hold, class by class (or joint by joint)
trainings.csv   task,strategy,seed,stage,labelled,identity,device  which training (trained/IDENTITY.*), on which device
descent.csv     task,strategy,seed,stage,labelled,update,objective  how a trial's first and last training went down
ceiling.csv     the tidy columns: what training on the whole pool reached; its `stage` is 0
"""

import contextlib
import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from albench import __version__
from albench.errors import AlbenchError
from albench.store import CEILING, Record, Store, write_whole

NOTE = ".tables.json"  # from which records the tables were made
TIDY = ("task", "strategy", "seed", "stage", "labelled", "metric", "value")
TABLES: dict[str, tuple[str, ...]] = {
    "results": TIDY,
    "costs": TIDY,
    "selections": ("task", "strategy", "seed", "stage", "order", "index"),
    "answers": ("task", "strategy", "seed", "stage", "order", "answer"),
    "diagnostics": ("task", "strategy", "seed", "stage", "where", "predicted", "true"),
    "labels": TIDY,
    "trainings": ("task", "strategy", "seed", "stage", "labelled", "identity", "device"),
    "descent": ("task", "strategy", "seed", "stage", "labelled", "update", "objective"),
    "ceiling": TIDY,
}


def write(store: Store) -> None:
    """Make all tables from the records, and note from which."""
    sources = _sources(store)
    for name, content in contents(store).items():
        write_whole(store.folder / f"{name}.csv", content)
    with contextlib.suppress(OSError):  # without the note the tables are made once more than needed
        write_whole(store.folder / NOTE, json.dumps({"sources": sources, "tables": _tables(store)}).encode())


def refresh(store: Store) -> None:
    """Make all tables unless they are those of the records that are there: of 10,000 trials that takes long."""
    try:
        current = _note(store) == {"sources": _sources(store), "tables": _tables(store)}
    except (OSError, ValueError):
        current = False
    if not current:
        write(store)


def outdated(store: Store) -> bool:
    """Whether the tables are as they were written, and records came since (or none was written yet): after a kill."""
    if not (store.folder / NOTE).is_file():
        return not any((store.folder / f"{name}.csv").is_file() for name in TABLES)
    try:
        note = _note(store)
        return note["tables"] == _tables(store) and note["sources"] != _sources(store)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _note(store: Store) -> Any:
    return json.loads((store.folder / NOTE).read_bytes())


def _sources(store: Store) -> str:
    """A checksum of the manifest, and of the names and sizes of the trials: records are appended, never changed."""
    digest = hashlib.blake2b(__version__.encode(), digest_size=16)
    manifest = store.folder / "manifest.json"
    digest.update(manifest.read_bytes() if manifest.is_file() else b"")
    for path in sorted((store.folder / "trials").glob("*.jsonl")):
        digest.update(f"\0{path.name}\0{path.stat().st_size}".encode())
    return digest.hexdigest()


def _tables(store: Store) -> dict[str, str]:
    """A checksum of every table, so that one that was changed by hand is made again."""

    def checksum(name: str) -> str:
        with (store.folder / f"{name}.csv").open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

    with ThreadPoolExecutor(2) as threads:  # those of 10,000 trials hold 400 MB
        return dict(zip(TABLES, threads.map(checksum, TABLES), strict=True))


def contents(store: Store, names: Iterable[str] = tuple(TABLES)) -> dict[str, bytes]:
    """What each of the named tables holds."""
    found = {name: io.BytesIO() for name in names}
    texts = {name: io.TextIOWrapper(buffer, encoding="utf-8", newline="") for name, buffer in found.items()}
    writers = {name: csv.writer(text, lineterminator="\n") for name, text in texts.items()}
    for name, writer in writers.items():
        writer.writerow(TABLES[name])
    manifest = store.manifest() or {"tasks": {}}
    classes = {label: facts.get("classes", []) for label, facts in manifest["tasks"].items()}
    for trial in store.trials():
        try:
            records = store.records(trial)
        except AlbenchError:  # damaged: the run says so for this trial; the others' numbers stand
            continue
        head = (trial.task, trial.strategy, trial.seed)
        for name, writer in writers.items():
            if (name == "ceiling") == (trial.strategy == CEILING):
                writer.writerows((*head, *row) for row in _rows(name, records, classes.get(trial.task, [])))
    for text in texts.values():
        text.flush()
    return {name: buffer.getvalue() for name, buffer in found.items()}


def _rows(name: str, records: list[Record], classes: list[str]) -> Iterator[tuple]:
    """A trial's rows of one table, without its name."""
    if name == "labels":
        return _labels(records, classes)
    return _ROWS[name](records)


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


def _descent(records: list[Record]) -> Iterator[tuple[int, int, int, float]]:
    """Of the first and the last stage; a point is the mean objective of the updates since the point before."""
    trained = _of_kind(records, "trained")
    for r in trained if len(trained) < 2 else (trained[0], trained[-1]):
        parts = r.get("descent", [])  # an older record has none
        size, longer = divmod(r["updates"], len(parts) or 1)
        for part, mean in enumerate(parts, 1):
            yield r["stage"], r["labelled"], part * size + min(part, longer), mean


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


def _answers(records: list[Record]) -> Iterator[tuple[int, int, str]]:
    for record in _of_kind(records, "selected"):
        for order, answer in enumerate(record.get("answers", [])):
            yield record["stage"] + 1, order, json.dumps(answer, ensure_ascii=False)


def _diagnostics(records: list[Record]) -> Iterator[tuple[int, str, float, float]]:
    for record in _of_kind(records, "selected", "finished"):
        for where, worth in record.get("diagnosis", {}).items():
            yield from ((record["stage"], where, predicted, true) for predicted, true in worth["scatter"])


_ROWS: dict[str, Callable[[list[Record]], Iterator[tuple]]] = {
    "results": _results,
    "costs": _costs,
    "selections": _selections,
    "answers": _answers,
    "diagnostics": _diagnostics,
    "trainings": _trainings,
    "descent": _descent,
    "ceiling": _results,
}


def table(folder: Path, name: str) -> Any:
    """One of the tables as a DataFrame: from the records where they are there, which have checksums, else the file.

    Raises:
        AlbenchError: the folder holds no run, or the file is no such table.
    """
    import pandas as pd

    store, path = Store(folder), folder / f"{name}.csv"
    if store.trials():
        return pd.read_csv(io.BytesIO(contents(store, [name])[name]))
    try:
        found = pd.read_csv(path)
    except FileNotFoundError as error:
        raise AlbenchError(f"{folder}: no {name}.csv; is it a folder that `albench run` wrote?") from error
    except (OSError, ValueError) as error:
        raise AlbenchError(f"{path}: cannot be read as CSV: {error}") from error
    if tuple(found.columns) != TABLES[name]:
        raise AlbenchError(f"{path}: its columns are not {', '.join(TABLES[name])}")
    return found
