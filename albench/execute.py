"""Many trials on this machine: checked before anything runs, then run by worker processes, none stopped by another."""

import contextlib
import functools
import os
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.text import Text

from albench import manifest, registry, tables
from albench.cycle import Limits, Plan, Progress, TrialRun, silent
from albench.errors import AlbenchError
from albench.memory import out_of_memory
from albench.progress import Display, Heartbeat
from albench.recipe import Recipe
from albench.samples import Data
from albench.store import CEILING, Record, Store, Trial, failures
from albench.strategy import Strategy
from albench.suite import StrategyEntry, Suite, followed, resolve
from albench.timelimit import last_words
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


def pick_device(name: str) -> str:
    """'auto' is CUDA where there is any.

    Raises:
        AlbenchError: no such device on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise AlbenchError(f"device {name!r}: use auto, cpu, cuda or cuda:0")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise AlbenchError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return name


def execute(run: Run, jobs: int | None, command: list[str], console: Console) -> list[Outcome]:
    """Run every trial of the suite that is not finished; returns the failed ones. The tables are written at the end.

    Raises:
        AlbenchError: something is wrong that would stop every trial, or another process works on the folder.
    """
    if run.folder.is_file():
        raise AlbenchError(f"--out {run.folder} is a file; name a folder")
    run = replace(run, suite=resolve(run.suite), folder=run.folder.resolve(), device=pick_device(run.device))
    try:
        (run.folder / ".locks").mkdir(parents=True, exist_ok=True)
        with FileLock(run.folder / ".locks" / "run", timeout=0):
            return _execute(run, jobs, command, console)
    except Timeout:
        raise AlbenchError(
            f"{run.folder}: another albench run works on this folder; wait for it or use --out"
        ) from None
    except OSError as error:
        where = error.filename or run.folder
        raise AlbenchError(
            f"{where}: {error.strerror}; what was written stays; mend it or choose another --out"
        ) from error


def _execute(run: Run, jobs: int | None, command: list[str], console: Console) -> list[Outcome]:
    store = Store(run.folder)
    before = store.manifest()
    if before is not None:
        manifest.refuse_changes(before, run.suite, run.folder, run.plugins, run.device)
        if changed := manifest.other_versions(before):
            console.print(
                f"Other versions than this run began with: {', '.join(changed)}. The numbers may not compare."
            )
    _data_on.cache_clear()  # what is on disk may have changed since an earlier run of this process
    facts = {label: _facts(run, label) for label in run.suite.tasks}
    session = manifest.session(run.device, command)
    store.save_manifest(manifest.manifest(run.suite, facts, before, run.data_root, run.plugins, session))
    trials = run.trials()
    done = {trial: _stages_done(store, trial, run.stages(trial)) for trial in trials}
    waiting = _others_first(store, [trial for trial in trials if done[trial] < run.stages(trial)])
    if len(waiting) < len(trials):
        console.print(f"{len(trials) - len(waiting)} of {len(trials)} trials are finished already; the rest goes on.")
    shutil.rmtree(run.folder / "progress", ignore_errors=True)  # heartbeats of a session that was killed
    store.sweep()
    failed, log = [], store.log_size()
    left = sum(run.stages(trial) - done[trial] for trial in waiting)
    display = Display(run.folder, waiting, run.suite.stages, console, left)
    try:
        with display.live():
            waves = (_outcomes(run, wave, facts, jobs or default_jobs(run)) for wave in _waves(run, waiting))
            for outcome in chain.from_iterable(waves):
                new = _stages_done(store, outcome.trial, run.stages(outcome.trial)) - done[outcome.trial]
                display.ended(outcome.trial, outcome.error, new)
                _log(store, outcome)
                if outcome.error is not None:
                    failed.append(outcome)
    finally:
        for line in store.logged(since=log):
            console.print(Text(line), soft_wrap=True)
        tables.write(store)
    return failed


def _others_first(store: Store, trials: list[Trial]) -> list[Trial]:
    """Trials that failed last time come last: one that takes its process with it stops no other for ever."""
    for trial in trials:
        if words := last_words(store.last_words(trial)):  # of a session that ended with them
            store.save_failure(trial, *words)
    failed = {failure["trial"] for failure in failures(store.folder)}
    return sorted(trials, key=lambda trial: str(trial) in failed)


def _waves(run: Run, trials: list[Trial]) -> list[list[Trial]]:
    """Trials of strategies that follow another's selections come when all others have ended."""
    after = {label for label, entry in run.suite.strategies.items() if followed(label, entry)}
    return [[t for t in trials if t.strategy not in after], [t for t in trials if t.strategy in after]]


def _outcomes(run: Run, trials: list[Trial], facts: dict[str, Record], jobs: int) -> Iterator[Outcome]:
    """Outcomes as they come: in this process for one job, else from worker processes."""
    if jobs == 1 or len(trials) <= 1:
        yield from (run_trial(run, trial, facts[trial.task]["fingerprint"]) for trial in trials)
        return
    import warnings

    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    calls = (joblib.delayed(run_trial)(run, trial, facts[trial.task]["fingerprint"]) for trial in trials)
    # loky renews a worker whose memory has grown (each holds its tasks' data), and warns: nothing is lost by it.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    ended = set()
    try:
        for outcome in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(calls):
            ended.add(outcome.trial)
            yield outcome
    except TerminatedWorkerError:
        # The pool is lost with the worker, and nobody knows whose fault it was: each gets a process of its own.
        for trial in trials:
            if trial not in ended:
                yield _alone(run, trial, facts[trial.task]["fingerprint"])


def _alone(run: Run, trial: Trial, fingerprint: str) -> Outcome:
    """One trial in a fresh process, so that one that is killed takes no other with it."""
    if words := last_words(Store(run.folder).last_words(trial)):  # it was this one: no need to try it again
        return Outcome(trial, *words)
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with ProcessPoolExecutor(max_workers=1) as pool:
        try:
            return pool.submit(run_trial, run, trial, fingerprint).result()
        except TerminatedWorkerError:
            if words := last_words(Store(run.folder).last_words(trial)):
                return Outcome(trial, *words)
            return Outcome(trial, "its worker process was killed (out of memory?); finished stages are kept")


def run_trial(run: Run, trial: Trial, fingerprint: str) -> Outcome:
    """One trial from start (or wherever its records end) to finish; whatever goes wrong comes back as its outcome."""
    heartbeat, threads = Heartbeat(run.folder, trial, run.device), torch.get_num_threads()
    try:
        for plugin in run.plugins:
            registry.load_plugin(plugin)
        torch.set_num_threads(run.suite.numerics.threads)
        trial_run(run, trial, fingerprint, heartbeat).run()
        return Outcome(trial)
    except Exception as error:
        return Outcome(trial, _line(error, run), traceback.format_exc())
    finally:
        torch.set_num_threads(threads)
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
    return f"{type(error).__name__}: {message}"


def trial_run(run: Run, trial: Trial, fingerprint: str, progress: Progress = silent) -> TrialRun:
    """A trial of a resolved suite, its data loaded."""
    entry = run.suite.tasks[trial.task]
    whole = trial.strategy == CEILING
    chosen = StrategyEntry(strategy=CEILING) if whole else run.suite.strategies[trial.strategy]
    assert entry.task is not None
    assert chosen.strategy is not None
    device = torch.device(run.device)
    task = registry.tasks.get(entry.task)(**entry.params)
    data = _data_on(task, run.data_root, device)
    strategy_class = Strategy if whole else registry.strategies.get(chosen.strategy)
    companion, companion_params = None, {}
    if chosen.companion is not None:
        companion = registry.companions.get(chosen.companion)
        companion_params = {**entry.companions.get(chosen.companion, {}), **chosen.companion_params}
    setup = Setup(
        task,
        data,
        Recipe.model_validate(entry.recipe),
        run.suite.numerics,
        device,
        (run.suite.seed, trial.seed, trial.task),
        companion,
        companion_params,
    )
    return TrialRun(
        trial,
        setup,
        Plan(1, len(data.pool), 0, 0) if whole else run.plan(trial.task),
        functools.partial(strategy_class, **chosen.params),
        chosen.strategy,
        {"task": entry.task, "params": entry.params, "data": fingerprint},
        Store(run.folder),
        progress,
        Limits(run.checkpoint_minutes, run.suite.selection_minutes),
    )


@functools.lru_cache(maxsize=4)
def _data_on(task: Any, root: Path | None, device: torch.device) -> Data:
    """A task's data, loaded once per worker."""
    data = task.load(root)
    return Data(data.pool.to(device), data.test.to(device), data.classes, data.notes)


def default_jobs(run: Run) -> int:
    """A worker per core on a CPU, one on a GPU."""
    if run.device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // run.suite.numerics.threads)


def _stages_done(store: Store, trial: Trial, stages: int) -> int:
    """How many of the stages asked for have all their records; damaged ones are the trial's own error later."""
    try:
        kinds = {(r["kind"], r["stage"]) for r in store.records(trial)}
    except AlbenchError:
        return 0
    whole = sum(("trained", s) in kinds and ("selected", s) in kinds for s in range(stages - 1))
    last = ("trained", stages - 1) in kinds and {("finished", stages - 1), ("selected", stages - 1)} & kinds
    return whole + bool(last)


def _facts(run: Run, label: str) -> Record:
    """Load a task's data and check that the plan fits it.

    Raises:
        AlbenchError: the data cannot be read, or the plan does not fit them.
    """
    entry = run.suite.tasks[label]
    assert entry.task is not None
    task = registry.tasks.get(entry.task)(**entry.params)
    try:
        data = _data_on(task, run.data_root, torch.device("cpu"))
    except AlbenchError as error:
        raise AlbenchError(f"task {label!r}: {error}") from error
    return manifest.task_facts(label, entry, task, data, run.plan(label))


def _log(store: Store, outcome: Outcome) -> None:
    """A failure is kept with its traceback until the trial succeeds; the terminal shows the line alone."""
    with contextlib.suppress(OSError):
        store.save_failure(outcome.trial, outcome.error, outcome.trace)
