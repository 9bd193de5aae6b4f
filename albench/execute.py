"""A run: checked before anything starts, then its trials sent to workers, and the tables written."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch
from rich.console import Console
from rich.text import Text

from albench import backends, manifest, pools, tables
from albench.alone import alone_on
from albench.backends import Options, Pool
from albench.blame import blamed
from albench.devices import default_jobs, pick_device
from albench.dispatch import Dispatch
from albench.errors import AlbenchError
from albench.numerics import Numerics
from albench.progress import Display
from albench.store import Record, Store, Trial, failures
from albench.suite import followed, resolve
from albench.timelimit import last_words
from albench.worker import Outcome, Run, data_on, stages_done, task_of

BUSY = "another albench run works on this folder; wait for it or use --out"


def execute(run: Run, options: Options, command: list[str], console: Console) -> list[Outcome]:
    """Run every trial of the suite that is not finished; returns the failed ones. The tables are written at the end.

    Raises:
        AlbenchError: something is wrong that would stop every trial, or another process works on the folder.
    """
    options.check()
    if run.folder.is_file():
        raise AlbenchError(f"--out {run.folder} is a file; name a folder")
    device = pick_device(run.device, options.elsewhere())
    try:
        before = Store(run.folder).manifest()
        begun = Numerics.model_validate(before["suite"].get("numerics", {})) if before else None
        run = replace(run, suite=resolve(run.suite, device, begun), folder=run.folder.resolve(), device=device)
        run.suite.numerics.prepare()
        with alone_on(run.folder, console.print, BUSY):
            return _execute(run, options, command, console)
    except OSError as error:
        where = error.filename or run.folder
        raise AlbenchError(
            f"{where}: {error.strerror}; what was written stays; mend it or choose another --out"
        ) from error


def _execute(run: Run, options: Options, command: list[str], console: Console) -> list[Outcome]:
    store = Store(run.folder)
    before, mended = store.manifest(), []
    if before is not None:
        mended = manifest.refuse_changes(before, run.suite, run.folder, run.plugins, run.device)
        for path in mended:
            console.print(f"{path} has changed; nothing of this run came from it yet, so the run goes on with it.")
        if changed := manifest.other_versions(before):
            console.print(
                f"Other versions than this run began with: {', '.join(changed)}. The numbers may not compare."
            )
    data_on.cache_clear()  # what is on disk may have changed since an earlier run of this process
    facts = {label: _facts(run, label) for label in run.suite.tasks}
    session = manifest.session(run.device, command, run.suite.numerics.deterministic, mended)
    store.save_manifest(manifest.manifest(run.suite, facts, before, run.data_root, run.plugins, session))
    trials = run.trials()
    done = {trial: stages_done(store, trial, run.stages(trial)) for trial in trials}
    waiting = _others_first(store, [t for t in trials if done[t] < run.stages(t)], console)
    if len(waiting) < len(trials):
        console.print(f"{len(trials) - len(waiting)} of {len(trials)} trials are finished already; the rest goes on.")
    shutil.rmtree(run.folder / "progress", ignore_errors=True)  # heartbeats of a session that was killed
    store.sweep()
    failed, log = [], store.log_size()
    left = sum(run.stages(trial) - done[trial] for trial in waiting)
    display = Display(run.folder, waiting, run.suite.stages, console, left)
    try:
        with _workers(run, options, len(waiting), console) as pool, display.live():
            dispatch = Dispatch(pool, run, {label: fact["fingerprint"] for label, fact in facts.items()}, options)
            for outcome in (outcome for wave in _waves(run, waiting) for outcome in dispatch.outcomes(wave)):
                new = stages_done(store, outcome.trial, run.stages(outcome.trial)) - done[outcome.trial]
                display.ended(outcome.trial, outcome.error, new)
                _log(store, outcome)
                if outcome.error is not None:
                    failed.append(outcome)
    finally:
        tables.write(store)
        for line in store.logged(since=log):
            console.print(Text(line), soft_wrap=True)
    return failed


@contextlib.contextmanager
def _workers(run: Run, options: Options, trials: int, console: Console) -> Iterator[Pool]:
    """The backend's workers. `--jobs 1` on a CPU, or one trial there, is this process: quick to start, good to debug.

    Elsewhere even one worker is a process of its own: what kills it, or hangs in C, takes one trial and not the run.
    """
    gpu = run.device != "cpu"
    default = default_jobs(run.device, run.suite.numerics.threads, options.per_gpu)
    if trials == 0 or (options.backend == "loky" and not gpu and (options.jobs == 1 or trials == 1)):
        yield pools.Here()
        return
    if gpu and options.backend != "slurm" and not options.elsewhere() and (options.jobs or 0) > default:
        room = f"this machine's GPUs have room for {default} trials ({options.per_gpu} each; --trials-per-gpu)"
        console.print(f"--jobs {options.jobs}: {room}; {default} run at once.", soft_wrap=True)
        options = replace(options, jobs=default)
    pool = backends.start(options, run.suite.numerics.threads, gpu, run.folder, default)
    try:
        yield pool
    finally:
        # a closed terminal leaves a cluster's queue as it is; who says Ctrl-C means that, too
        pool.close(cancel=isinstance(sys.exception(), KeyboardInterrupt))


def _others_first(store: Store, trials: list[Trial], console: Console) -> list[Trial]:
    """Trials that failed last time come last: one that takes its process with it stops no other for ever."""
    for trial in trials:
        if words := last_words(store.last_words(trial)):
            console.print(Text(f"The last session ended in {trial}: {words[0]}"), soft_wrap=True)
            store.save_failure(trial, *words)
        store.last_words(trial).unlink(missing_ok=True)
    failed = {failure["trial"] for failure in failures(store.folder)}
    return sorted(trials, key=lambda trial: str(trial) in failed)


def _waves(run: Run, trials: list[Trial]) -> list[list[Trial]]:
    """Trials of strategies that follow another's selections come when all others have ended."""
    after = {label for label, entry in run.suite.strategies.items() if followed(label, entry)}
    return [[t for t in trials if t.strategy not in after], [t for t in trials if t.strategy in after]]


def _facts(run: Run, label: str) -> Record:
    """Load a task's data and check that the plan fits it.

    Raises:
        AlbenchError: the data cannot be read, or the plan does not fit them.
    """
    entry, task = run.suite.tasks[label], task_of(run, label)
    with blamed(f"task {label!r}", "load()"):
        try:
            data = data_on(task, run.data_root, torch.device("cpu"), 1)  # as a worker on a CPU asks: loaded once
        except AlbenchError as error:
            raise AlbenchError(f"task {label!r}: {error}") from error
    return manifest.task_facts(label, entry, task, data, run.plan(label))


def _log(store: Store, outcome: Outcome) -> None:
    """A failure is kept with its traceback until the trial succeeds; the terminal shows the line alone."""
    with contextlib.suppress(OSError):
        store.save_failure(outcome.trial, outcome.error, outcome.trace)
