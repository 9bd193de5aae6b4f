"""How far is a run? Read from its folder alone, by any process on any machine that sees it."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from albench.errors import AlbenchError
from albench.progress import PULSE
from albench.store import CEILING, Record, Store, Trial, failures

SILENT = 10 * PULSE  # seconds without a heartbeat after which a process elsewhere counts as gone

State = Literal["done", "running", "failed", "waiting"]


class Running(BaseModel):
    """Where a trial runs. Times are seconds of the epoch."""

    model_config = ConfigDict(extra="ignore")

    host: str = "?"
    pid: int = 0
    device: str = "?"
    stage: int  # from 0
    what: str  # training, evaluating, observing, selecting, diagnosing; away: at a worker without the run folder
    fraction: float  # of what it is doing
    started: float = 0.0  # the trial, in this process
    since: float = 0.0  # what it is doing
    time: float  # of the last sign of life
    gone: str | None = None  # why the process counts as gone, None for one that lives


class TrialStatus(BaseModel):
    """One trial of the suite."""

    task: str
    strategy: str
    seed: int
    state: State
    stages: int  # that it will have
    stages_done: int
    running: Running | None = None
    error: str | None = None  # of a trial that failed, or whose records are damaged


class Status(BaseModel):
    """A whole run: what `albench status --json` prints."""

    folder: str
    suite: str
    time: float  # when this was read, seconds of the epoch
    counts: dict[State, int]  # trials
    stages: int  # of all trials
    stages_done: int
    workers: int  # processes that show signs of life, and trials that are away
    seconds_of_work: float | None  # that is left for one worker, from the stages measured so far; None: unknown
    seconds_left: float | None  # with the workers there are; None without any, or unknown
    trials: list[TrialStatus]


def read(folder: Path) -> Status:
    """The state of a run folder.

    Raises:
        AlbenchError: the folder holds no run.
    """
    store = Store(folder)
    manifest = store.manifest()
    if manifest is None:
        raise AlbenchError(f"{folder}: no manifest.json; is it a folder that `albench run` wrote?")
    failed, costs, trials = {f["trial"]: f["error"] for f in failures(folder)}, _Costs(), []
    try:
        planned = list(_planned(manifest))
    except (KeyError, TypeError) as error:
        raise AlbenchError(f"{folder / 'manifest.json'}: is none of albench's ({error!r})") from error
    for trial, stages in planned:
        found = TrialStatus(**vars(trial), state="waiting", stages=stages, stages_done=0, error=failed.get(str(trial)))
        try:
            records = store.records(trial)
            found.stages_done = stages_done(records, stages)
            costs.add(trial, records)
        except AlbenchError as error:
            found.error = str(error)
        found.running = heartbeat(folder, trial)
        found.state = _state(found)
        trials.append(found)
    return _summed(folder, manifest, trials, costs)


def _planned(manifest: Record) -> Iterator[tuple[Trial, int]]:
    """Every trial of the suite with its number of stages."""
    suite = manifest["suite"]
    for strategy in suite["strategies"]:
        for seed in range(suite["seeds"]):
            yield from ((Trial(task, strategy, seed), suite["stages"]) for task in suite["tasks"])
    for seed in range(suite.get("ceiling", 0)):
        yield from ((Trial(task, CEILING, seed), 1) for task in suite["tasks"])


def stages_done(records: list[Record], stages: int) -> int:
    """How many of the stages asked for have all their records."""
    kinds = {(r["kind"], r["stage"]) for r in records}
    whole = sum(("trained", s) in kinds and ("selected", s) in kinds for s in range(stages - 1))
    last = ("trained", stages - 1) in kinds and {("finished", stages - 1), ("selected", stages - 1)} & kinds
    return whole + bool(last)


def heartbeat(folder: Path, trial: Trial) -> Running | None:
    """What a trial's process said last, and whether that process is still there."""
    try:
        beat = Running.model_validate_json((folder / "progress" / f"{trial}.json").read_bytes())
    except (OSError, ValidationError):
        return None
    if beat.host == socket.gethostname():
        if not _alive(beat.pid):
            beat.gone = f"its process {beat.pid} is gone"
    elif time.time() - beat.time > SILENT:
        beat.gone = f"no sign of life for {(time.time() - beat.time) / 60:.0f} min"
    return beat


def _alive(pid: int) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error):
        return pid > 0 and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _state(trial: TrialStatus) -> State:
    if trial.running is not None and trial.running.gone is None:
        return "running"
    if trial.stages_done == trial.stages:
        return "done"
    return "failed" if trial.error is not None else "waiting"


class _Costs:
    """Seconds per stage, as measured: of the same task and strategy, else of the task, else of any."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], list[float]] = {}

    def add(self, trial: Trial, records: list[Record]) -> None:
        """A trial's measured stages."""
        seconds: dict[int, float] = {}
        for record in records:
            spent = sum(record.get("seconds", {}).values())
            seconds[record["stage"]] = seconds.get(record["stage"], 0.0) + spent
        for key in ((), (trial.task,), (trial.task, trial.strategy)):
            total = self._sums.setdefault(key, [0.0, 0.0])
            total[0] += sum(seconds.values())
            total[1] += len(seconds)

    def stage(self, task: str, strategy: str) -> float | None:
        """What a stage is expected to take; None before anything was measured."""
        for key in ((task, strategy), (task,), ()):
            total, count = self._sums.get(key, (0.0, 0.0))
            if count:
                return total / count
        return None


def _summed(folder: Path, manifest: Record, trials: list[TrialStatus], costs: _Costs) -> Status:
    counts: dict[State, int] = {"done": 0, "running": 0, "failed": 0, "waiting": 0}
    work: float | None = 0.0
    for trial in trials:
        counts[trial.state] += 1
        left = trial.stages - trial.stages_done
        cost = costs.stage(trial.task, trial.strategy) if left else 0.0
        if work is not None:
            work = None if cost is None else work + left * cost
    running = [t.running for t in trials if t.state == "running" and t.running]
    away = sum(r.what == "away" for r in running)  # one process speaks for all of them
    workers = away + len({(r.host, r.pid) for r in running if r.what != "away"})
    return Status(
        folder=str(folder),
        suite=manifest["suite"].get("name", ""),
        time=time.time(),
        counts=counts,
        stages=sum(t.stages for t in trials),
        stages_done=sum(t.stages_done for t in trials),
        workers=workers,
        seconds_of_work=work,
        seconds_left=work / workers if work is not None and workers else None,
        trials=trials,
    )
