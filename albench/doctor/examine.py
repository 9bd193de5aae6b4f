"""A run folder from end to end: manifest, every trial, what was trained, leftovers, derived tables."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from albench import tables
from albench.alone import at_work
from albench.doctor.expected import Expectations
from albench.doctor.findings import Health
from albench.doctor.records import TrialExamination
from albench.doctor.trainings import Trainings
from albench.errors import AlbenchError
from albench.store import Store, failures

Progress = Callable[[int, int], None]  # trials examined, of how many


def examine(folder: Path, deep: bool = True, progress: Progress = lambda done, total: None) -> Health:
    """Check a run folder against its manifest, its seeds and itself; nothing in it is changed.

    deep: read outcomes and weights whole; otherwise only see whether they are there.

    Raises:
        AlbenchError: the folder holds no run.
    """
    store, health = Store(folder), Health()
    if not (folder / "manifest.json").is_file() and not (folder / "trials").is_dir():
        raise AlbenchError(f"{folder}: neither manifest.json nor trials/; is it a folder that `albench run` wrote?")
    working = at_work(folder)
    if working:
        health.note(".", "a run is at work here: unfinished writes and derived tables are not looked at")
    expectations = _manifest(store, health)
    trainings = Trainings(store, deep, health)
    trials = sorted(store.trials(), key=lambda trial: (trial.task, trial.seed, trial.strategy))  # seeds' orders repeat
    for number, trial in enumerate(trials, 1):
        examination = TrialExamination(store, trial, trainings, health)
        if expectations is None or not expectations.has(trial):
            if expectations is not None:
                health.note(examination.name, "is no trial of the manifest's suite; only its checksums were looked at")
            examination.examine(None, (), None, working)
        else:
            test = expectations.tasks[trial.task]["test"]
            examination.examine(expectations.of(trial), expectations.axes(trial), test, working)
        progress(number, len(trials))
    trainings.strangers()
    for failure in failures(folder):
        health.note(f"failures/{failure['trial']}.txt", f"the last attempt failed: {failure['error']}")
    _names(store, health)
    if not working:
        _leftovers(folder, health)
        _tables(store, health)
    return health


def _manifest(store: Store, health: Health) -> Expectations | None:
    """What the manifest wants of the trials; None where it cannot tell."""
    try:
        manifest = store.manifest()
        if manifest is None:
            health.problem("manifest.json", "is missing, so plans and seeds are unknown; `albench run` writes it again")
            return None
        return Expectations(manifest)
    except (AlbenchError, ValidationError, KeyError, TypeError, AttributeError) as error:
        what = str(error).removeprefix(f"{store.folder / 'manifest.json'}: ").partition("\n")[0].partition(";")[0]
        health.problem("manifest.json", f"is damaged ({what}); `albench run` with the same suite writes it again")
        health.aside.add(Path("manifest.json"))
        return None


def _names(store: Store, health: Health) -> None:
    """Files among the trials that no trial could have."""
    known = {f"{trial}.jsonl" for trial in store.trials()}
    for path in sorted((store.folder / "trials").glob("*")):
        if path.name not in known and not path.name.endswith(".tmp"):
            health.note(f"trials/{path.name}", "is no trial's file; it is not read")


def _leftovers(folder: Path, health: Health) -> None:
    """Temporary files of processes that were killed; nothing reads them."""
    for place in (".", "trials", "trained", "failures", "progress"):
        for path in sorted((folder / place).glob("*.tmp")) + sorted((folder / place).glob(".*.tmp")):
            health.note(str(path.relative_to(folder)), "a killed process left this unfinished; nothing reads it")
            health.aside.add(path.relative_to(folder))


def _tables(store: Store, health: Health) -> None:
    """The derived tables against the records."""
    if not store.trials():
        return
    if health.keep or Path("manifest.json") in health.aside:
        health.note(
            "results.csv", "and the other tables are not compared with damaged records; a repair makes them again"
        )
        health.tables = True
        return
    right = tables.contents(store)
    if tables.outdated(store) and _lines(store.folder / "results.csv") <= set(right["results"].split(b"\n")):
        health.note("results.csv", "and the other tables lack the newest records; the next run or report adds them")
        health.tables = True
        return
    for name, content in right.items():
        path = store.folder / f"{name}.csv"
        if not path.is_file():
            health.problem(path.name, "is missing; it can be made from the records")
            health.tables = True
        elif (there := path.read_bytes()) != content:
            health.problem(
                f"{path.name}, line {_first_difference(there, content)}", "differs from the records; they count"
            )
            health.tables = True


def _lines(path: Path) -> set[bytes]:
    return set(path.read_bytes().split(b"\n")) if path.is_file() else set()


def _first_difference(one: bytes, other: bytes) -> int:
    lines = one.split(b"\n"), other.split(b"\n")
    equal = (a == b for a, b in zip(*lines, strict=False))
    return next((n for n, same in enumerate(equal, 1) if not same), min(map(len, lines)))
