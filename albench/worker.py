"""One trial, as a worker does it: on a machine that sees the run folder, or on one that does not.

Where the folder is seen, a worker takes a trial through all its stages and shares nothing with others but the folder.
Where it is not, the trial comes as a parcel, does one stage in a temporary folder, and goes home again, so that a
machine that is lost takes one stage with it. Its checkpoints stay on the machine, for a worker that follows one killed.
"""

import contextlib
import functools
import hashlib
import os
import socket
import tempfile
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from albench import parcel, registry
from albench.cache import cache_folder
from albench.cycle import Limits, Plan, Progress, TrialRun, silent
from albench.devices import NoSlotError, device_of_worker, fits
from albench.errors import AlbenchError
from albench.facts import facts
from albench.first_look import loaded
from albench.memory import out_of_memory
from albench.parcel import Parcel
from albench.progress import Heartbeat
from albench.recipe import Recipe
from albench.samples import Data
from albench.store import CEILING, Store, Trial
from albench.strategy import Strategy
from albench.suite import StrategyEntry, Suite, companion_params, twins
from albench.task import Task
from albench.training import Setup


@dataclass(frozen=True)
class Run:
    """A resolved suite with where it runs. Picklable: every worker gets it whole."""

    suite: Suite
    folder: Path
    data_root: Path | None
    device: str
    plugins: tuple[Path, ...] = ()
    checkpoint_minutes: float = Limits.checkpoint_minutes
    checkpoints: Path | None = None  # where they are kept, if not in the folder
    per_gpu: int = 1  # trials at once on one GPU

    def trials(self) -> list[Trial]:
        """Strategy by strategy, so that trials which share a stage 0 seldom start at the same moment."""
        suite = self.suite
        trials = [Trial(t, s, k) for s in suite.strategies for k in range(suite.seeds) for t in suite.tasks]
        return trials + [Trial(t, CEILING, k) for k in range(suite.ceiling) for t in suite.tasks]

    def stages(self, trial: Trial) -> int:
        """How many stages a trial has: one, where it trains on the whole pool."""
        return 1 if trial.strategy == CEILING else self.suite.stages

    def plan(self, task: str) -> Plan:
        """Stages and label counts of a task."""
        entry = self.suite.tasks[task]
        assert entry.initial is not None
        assert entry.budget is not None
        return Plan(self.suite.stages, entry.initial, entry.budget, entry.subset or 0, self.suite.warm_start)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: the error in one line and its traceback, or None."""

    trial: Trial
    error: str | None = None
    trace: str | None = None


@dataclass(frozen=True)
class Job:
    """What a worker is sent. `token` stands in the run folder, `plugins` are the files' contents."""

    run: Run
    trial: Trial
    fingerprint: str  # of the task's data
    token: str
    host: str
    per_gpu: int
    plugins: dict[Path, bytes]
    parcel: Parcel | None = None


@dataclass(frozen=True)
class Reply:
    """What a worker says: how the trial ended (None: it has not), and what goes home where there is no shared folder.

    With neither, the worker does not see the run folder and wants a parcel. `refused`: why the worker could not take
    the trial, which is for another one then. `where`: host and device.
    """

    outcome: Outcome | None = None
    parcel: Parcel | None = None
    refused: str | None = None
    where: str = ""


TOKEN = Path(".locks") / "token"


def work(job: Job) -> Reply:
    """Do what a job asks for; errors come back as the trial's outcome."""
    try:
        return _work(job)
    except Exception as error:
        return Reply(Outcome(job.trial, _line(error, job.run), traceback.format_exc()))


def _work(job: Job) -> Reply:
    here = _sees(job.run.folder, job.token)
    if not here and job.parcel is None:
        return Reply()
    for path, content in job.plugins.items():
        _load(path, content)
    job.run.suite.numerics.prepare()
    try:
        with device_of_worker(job.run.device, job.per_gpu, job.run.folder) as device:
            reply = _work_on(device, job, here)
            if reply.outcome is not None and reply.outcome.error is not None:
                _end_with_a_lost_gpu(device, job, reply.outcome)
            return replace(reply, where=f"{socket.gethostname()}, {device}")
    except NoSlotError as error:
        return Reply(refused=str(error))


def _end_with_a_lost_gpu(device: str, job: Job, outcome: Outcome) -> None:
    """After an illegal access, say, CUDA answers a process nothing but that error: all its further trials would fail.

    So the process ends; what the trial failed of is left where `Dispatch` looks for a lost trial's last words.
    """
    if device == "cpu" or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        if _sees(job.run.folder, job.token):
            note = Store(job.run.folder).last_words(outcome.trial)
            with contextlib.suppress(OSError):
                note.parent.mkdir(exist_ok=True)
                note.write_text(f"{outcome.error}\n{outcome.trace}", encoding="utf-8")
        os._exit(1)


def _work_on(device: str, job: Job, here: bool) -> Reply:
    run = replace(job.run, device=device, plugins=(), per_gpu=job.per_gpu)
    if not here or job.host != socket.gethostname():
        _same_data(run, job.trial, job.fingerprint)
    if here:
        return Reply(run_trial(run, job.trial, job.fingerprint))
    assert job.parcel is not None
    with tempfile.TemporaryDirectory(prefix="albench-") as temporary:
        kept = cache_folder() / "checkpoints" / hashlib.blake2b(str(run.folder).encode(), digest_size=8).hexdigest()
        return _away(replace(run, folder=Path(temporary), checkpoints=kept), job, job.parcel)


def _sees(folder: Path, token: str) -> bool:
    try:
        return (folder / TOKEN).read_text() == token
    except OSError:
        return False


def _load(path: Path, content: bytes) -> None:
    """A plug-in that the user named, under the same name everywhere, whether the machine has the file or not."""
    try:
        same = path.read_bytes() == content
    except OSError:
        same = False
    if same:
        registry.load_plugin(path)
        return
    with tempfile.TemporaryDirectory(prefix="albench-") as folder:
        file = Path(folder) / path.name
        file.write_bytes(content)
        registry.load_plugin(file, known_as=path)


def _same_data(run: Run, trial: Trial, fingerprint: str) -> None:
    found = _fingerprint(task_of(run, trial.task), run.data_root)
    if found != fingerprint:
        raise AlbenchError(
            f"task {trial.task!r}: the data on {socket.gethostname()} (--data-root {run.data_root}) are not those of "
            "the machine that began the run"
        )


@functools.lru_cache(maxsize=32)
def _fingerprint(task: Any, root: Path | None) -> str:
    return data_on(task, root, torch.device("cpu"), 1).fingerprint()


def _away(run: Run, job: Job, sent: Parcel) -> Reply:
    store = Store(run.folder)
    parcel.unpack(sent, store, job.trial)
    before = stages_done(store, job.trial, run.stages(job.trial))
    outcome = run_trial(run, job.trial, job.fingerprint, one_stage=True)
    done = stages_done(store, job.trial, run.stages(job.trial))
    if outcome.error is None and before < done < run.stages(job.trial):
        return Reply(None, parcel.homeward(store, job.trial, sent))
    return Reply(outcome, parcel.homeward(store, job.trial, sent))


def run_trial(run: Run, trial: Trial, fingerprint: str, one_stage: bool = False) -> Outcome:
    """One trial from start (or wherever its records end) to finish; whatever goes wrong comes back as its outcome.

    Another process at the same trial (one of a cluster that outlived its session) is waited for, if it lives.
    `one_stage`: no further than the end of the next stage.
    """
    heartbeat = Heartbeat(run.folder, trial, run.device)
    try:
        for plugin in run.plugins:
            registry.load_plugin(plugin)
        with run.suite.numerics.in_force(), Store(run.folder).lock(str(trial)):
            work = trial_run(run, trial, fingerprint, heartbeat)
            work.twins = twins_of(run, trial)
            work.run(one_stage)
        return Outcome(trial)
    except Exception as error:
        return Outcome(trial, _line(error, run), traceback.format_exc())
    finally:
        heartbeat.end()


def _line(error: Exception, run: Run) -> str:
    """What went wrong, in one line."""
    message = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, AlbenchError):
        return str(error)
    if out_of_memory(error):
        place = "GPU" if run.device.startswith("cuda") else "machine"
        tip = "run fewer trials at once (--jobs), or a smaller numerics.scoring_batch in a run of its own (--out)"
        return f"the memory of this {place} is not enough: {tip} ({message or type(error).__name__})"
    if isinstance(error, OSError):
        return f"{error.filename or run.folder}: {error.strerror or error}; what was written stays"
    place = registry.place_in_plugin(error)
    return (f"{place}: " if place else "") + f"{type(error).__name__}: {message}"


def trial_run(run: Run, trial: Trial, fingerprint: str, progress: Progress = silent) -> TrialRun:
    """A trial of a resolved suite, its data loaded."""
    entry = run.suite.tasks[trial.task]
    whole = trial.strategy == CEILING
    chosen = StrategyEntry(strategy=CEILING) if whole else run.suite.strategies[trial.strategy]
    assert entry.task is not None
    assert chosen.strategy is not None
    device = torch.device(run.device)
    task = task_of(run, trial.task)
    data = data_on(task, run.data_root, device, run.per_gpu)
    strategy_class = Strategy if whole else registry.strategies.get(chosen.strategy)
    companion = None if chosen.companion is None else registry.companions.get(chosen.companion)
    setup = Setup(
        task,
        data,
        Recipe.model_validate(entry.recipe),
        run.suite.numerics,
        device,
        (run.suite.seed, trial.seed, trial.task),
        companion,
        companion_params(entry, chosen),
    )
    return TrialRun(
        trial,
        setup,
        Plan(1, len(data.pool), 0, 0) if whole else run.plan(trial.task),
        functools.partial(strategy_class, **chosen.params),
        chosen.strategy,
        {"task": entry.task, "params": facts(task), "data": fingerprint},
        Store(run.folder, run.checkpoints),
        progress,
        Limits(run.checkpoint_minutes, run.suite.selection_minutes),
    )


@functools.lru_cache(maxsize=4)
def data_on(task: Any, root: Path | None, device: torch.device, per_gpu: int) -> Data:
    """A task's data, loaded once per worker process; images that do not fit on the device stay in the cache's files."""
    data = loaded(task, root)
    return data.to(device, fits(data.pool.images.nbytes + data.test.images.nbytes, device, per_gpu))


def twins_of(run: Run, trial: Trial) -> tuple[Trial, ...]:
    """The trials that share every training of this one."""
    if trial.strategy == CEILING:
        return ()
    return tuple(replace(trial, strategy=label) for label in twins(run.suite, trial.strategy))


def task_of(run: Run, label: str) -> Task:
    """A task of a resolved suite."""
    entry = run.suite.tasks[label]
    assert entry.task is not None
    return registry.tasks.get(entry.task)(**entry.params)


def stages_done(store: Store, trial: Trial, stages: int) -> int:
    """How many of the stages asked for have all their records; damaged ones are the trial's own error later."""
    try:
        kinds = {(r["kind"], r["stage"]) for r in store.records(trial)}
    except AlbenchError:
        return 0
    whole = sum(("trained", s) in kinds and ("selected", s) in kinds for s in range(stages - 1))
    last = ("trained", stages - 1) in kinds and {("finished", stages - 1), ("selected", stages - 1)} & kinds
    return whole + bool(last)
