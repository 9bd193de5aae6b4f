"""The workers behind each backend. An extra's package is imported where it is used, so that none is needed."""

import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import pickle
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from albench.backends import Lost
from albench.errors import AlbenchError
from albench.store import Trial

Call = Callable[[], Any]
Replies = list[tuple[Trial, Any]]
WAIT = 2.0  # seconds that `wait` waits at most
ANSWER = 10.0  # seconds for a scheduler to answer at first
PATIENCE = 120.0  # seconds for a scheduler that was there to come back
KILLED = Lost("its worker process was killed (out of memory?)")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Here:
    """This process itself: one call after the other."""

    def __init__(self) -> None:
        self._calls: list[tuple[Trial, Call]] = []

    def room(self) -> int:
        return 1

    def submit(self, trial: Trial, call: Call) -> None:
        self._calls.append((trial, call))

    def wait(self) -> Replies:
        trial, call = self._calls.pop()
        return [(trial, call())]

    def close(self, cancel: bool) -> None:
        self._calls.clear()


class Processes:
    """Processes of this machine, each with an executor of its own: one that is killed takes no other with it."""

    def __init__(self, jobs: int, threads: int) -> None:
        self._jobs, self._threads = jobs, threads
        self._idle: list[Any] = []
        self._out: dict[concurrent.futures.Future, tuple[Trial, Any]] = {}
        self._tasks: dict[Any, set[str]] = {}  # that a worker has done: their data and graphs are there

    def room(self) -> int:
        return self._jobs

    def submit(self, trial: Trial, call: Call) -> None:
        while True:
            executor = self._worker(trial.task)
            try:
                self._out[executor.submit(call)] = trial, executor
                return
            except concurrent.futures.BrokenExecutor:  # killed while it was idle
                executor.shutdown(wait=False)

    def _worker(self, task: str) -> Any:
        """An idle worker, one that knows the task before another; a new one where there is none."""
        known = [executor for executor in self._idle if task in self._tasks[executor]]
        executor = (known or self._idle or [_process(self._threads)])[-1]
        self._idle = [other for other in self._idle if other is not executor]
        self._tasks.setdefault(executor, set()).add(task)
        return executor

    def wait(self) -> Replies:
        replies: Replies = []
        for future in concurrent.futures.wait(self._out, WAIT, concurrent.futures.FIRST_COMPLETED).done:
            trial, executor = self._out.pop(future)
            try:
                replies.append((trial, future.result()))
                self._idle.append(executor)
            except concurrent.futures.BrokenExecutor:
                replies.append((trial, KILLED))
                executor.shutdown(wait=False)
        return replies

    def close(self, cancel: bool) -> None:
        for executor in [*self._idle, *(executor for _, executor in self._out.values())]:
            executor.shutdown(wait=False, kill_workers=True)


def _process(threads: int) -> Any:
    """An executor of one process, which ends with this one."""
    from joblib.externals.loky import ProcessPoolExecutor

    # loky renews a worker whose memory has grown (each holds its tasks' data), and warns: nothing is lost by it
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    env = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return ProcessPoolExecutor(1, env=env, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    """A worker whose session was killed must not hold its GPU and its trial until that is finished."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Dask:
    """A Dask cluster: one that runs, or workers of this machine."""

    def __init__(self, address: str | None, jobs: int | None, default_jobs: int, threads: int) -> None:
        import dask
        from distributed import LocalCluster

        self._address, self._jobs, self._threads, self._cluster = address, jobs, threads, None
        if address is None:
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}):  # who counts them is `Dispatch`
                self._cluster = LocalCluster(
                    n_workers=jobs or default_jobs,
                    threads_per_worker=1,
                    memory_limit=0,  # no worker paused for the memory of its data
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
        self._client = self._connect(ANSWER)
        self._out: dict[Any, Trial] = {}

    def _connect(self, seconds: float) -> Any:
        from distributed import Client

        try:
            return Client(self._cluster or self._address, timeout=seconds, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise AlbenchError(
                f"--scheduler {self._address}: no Dask scheduler answers there ({_first_line(error)}); start one with "
                "`dask scheduler`; what was finished is kept"
            ) from error

    def room(self) -> int:
        if self._jobs is not None:
            return self._jobs
        with contextlib.suppress(OSError, TimeoutError, ValueError):  # away for a moment
            return max(1, sum(self._client.nthreads().values()))
        return 1

    def submit(self, trial: Trial, call: Call) -> None:
        # not pure: the same call may be sent out twice, and must then run twice
        future = self._client.submit(
            _in_own_process,
            self._threads,
            pickle.dumps(call),
            key=f"{trial}-{uuid.uuid4().hex[:8]}",
            pure=False,
            retries=0,
        )
        self._out[future] = trial

    def wait(self) -> Replies:
        from distributed import wait

        with contextlib.suppress(Exception):  # a timeout, or futures that were lost: each says so itself below
            wait(list(self._out), timeout=WAIT, return_when="FIRST_COMPLETED")
        if self._client.status not in ("running", "connecting"):
            return self._reconnect()
        ended = [future for future in self._out if future.status in ("finished", "error", "cancelled", "lost")]
        return [(self._out.pop(future), _dask_reply(future)) for future in ended]

    def _reconnect(self) -> Replies:
        """The scheduler was restarted: it knows none of our calls any more."""
        lost: Replies = [(trial, Lost("the scheduler was restarted")) for trial in self._out.values()]
        self._out.clear()
        with contextlib.suppress(Exception):
            self._client.close(timeout=1)
        self._client = self._connect(PATIENCE)
        return lost

    def close(self, cancel: bool) -> None:
        with contextlib.suppress(Exception):
            if cancel:
                self._client.cancel(list(self._out), force=True)
            self._out.clear()
            self._client.close(timeout=5)
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=10)


_IDLE: list[Any] = []  # executors of a Dask worker


def _in_own_process(threads: int, call: bytes) -> Any:
    """Have a process of its own make the call: Dask's threads draw from Python's global generator, and it has several.

    The call is bytes so that the Dask worker itself stays small.
    """
    # Dask marks its workers as daemons, which may have no children; ours end by themselves (`_end_with`)
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    try:
        executor = _IDLE.pop()
    except IndexError:
        executor = _process(threads)
    try:
        reply = executor.submit(_unpickled, call).result()
    except concurrent.futures.BrokenExecutor:
        executor.shutdown(wait=False)
        return KILLED
    _IDLE.append(executor)
    return reply


def _unpickled(call: bytes) -> Any:
    return pickle.loads(call)()


def _dask_reply(future: Any) -> Any:
    from distributed import KilledWorker

    if future.status != "error":
        return future.result() if future.status == "finished" else Lost("its worker, or the scheduler, was lost")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Lost("its worker was killed, or lost with its machine")
    return _not_run(error)


class Ray:
    """A Ray cluster: one that runs, or workers of this machine."""

    def __init__(self, address: str | None, jobs: int | None, default_jobs: int, threads: int, gpus: float) -> None:
        import ray

        self._ray, self._jobs, self._out = ray, jobs, dict[Any, Trial]()
        self._started = not ray.is_initialized()
        local: dict[str, Any] = (
            {} if address else {"num_cpus": (jobs or default_jobs) * threads, "include_dashboard": False}
        )
        try:
            if self._started:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, OSError, RuntimeError, ValueError, TimeoutError) as error:
            raise AlbenchError(
                f"--scheduler {address}: no Ray cluster answers there ({_first_line(error)}); start one with "
                "`ray start --head`"
            ) from error
        self._needs = {"num_cpus": threads, "num_gpus": gpus} if gpus else {"num_cpus": threads}
        self._call = ray.remote(max_retries=0, **self._needs)(_make)

    def room(self) -> int:
        if self._jobs is not None:
            return self._jobs
        all_of_it = self._ray.cluster_resources()
        kinds = {"num_cpus": "CPU", "num_gpus": "GPU"}
        return max(1, min(int(all_of_it.get(kinds[kind], 0) / need) for kind, need in self._needs.items()))

    def submit(self, trial: Trial, call: Call) -> None:
        self._out[self._call.remote(call)] = trial

    def wait(self) -> Replies:
        done, _ = self._ray.wait(list(self._out), timeout=WAIT)
        return [(self._out.pop(ref), self._reply(ref)) for ref in done]

    def _reply(self, ref: Any) -> Any:
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            return _not_run(error.cause or error)
        except self._ray.exceptions.RayError as error:
            return Lost(f"its worker was killed, or lost with its machine ({_first_line(error)})")

    def close(self, cancel: bool) -> None:
        with contextlib.suppress(Exception):
            for ref in self._out if cancel else ():
                self._ray.cancel(ref, force=True)
            self._out.clear()
            if self._started:
                self._ray.shutdown()


def _make(call: Call) -> Any:
    return call()


class Slurm:
    """Array jobs of Slurm through submitit, one element a trial; `cluster=local` starts processes here instead."""

    ARRAY = 1000  # elements of one array: Slurm's usual limit

    def __init__(self, folder: Path, parameters: dict[str, str], jobs: int, threads: int, gpu: bool) -> None:
        import submitit

        cluster = parameters.pop("cluster", None)
        self._local, self._jobs = cluster in ("local", "debug"), jobs
        self._pending: list[tuple[Trial, Call]] = []
        self._out: dict[Any, Trial] = {}
        shared = {"timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "name"}
        named = {
            key if key in shared or key.startswith("slurm_") else f"slurm_{key}": _number(value)
            for key, value in parameters.items()
        }
        ours = {"name": "albench", "timeout_min": 1440, "cpus_per_task": threads}
        ours |= {"gpus_per_node": 1} if gpu else {}
        ours |= {} if self._local else {"slurm_array_parallelism": jobs}
        try:
            self._executor = submitit.AutoExecutor(folder=folder / "slurm", cluster=cluster)
            self._executor.update_parameters(**ours | named)
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise AlbenchError(f"--slurm: {_first_line(error)}") from error

    def room(self) -> int:
        return self._jobs if self._local else self.ARRAY

    def submit(self, trial: Trial, call: Call) -> None:
        self._pending.append((trial, call))

    def wait(self) -> Replies:
        if self._pending:
            try:
                jobs = self._executor.map_array(_make, [call for _, call in self._pending])
            except (OSError, RuntimeError) as error:
                raise AlbenchError(f"--backend slurm: sbatch refused the jobs ({_first_line(error)})") from error
            self._out |= dict(zip(jobs, (trial for trial, _ in self._pending), strict=True))
            self._pending = []
        deadline = time.monotonic() + WAIT
        while not (done := [job for job in self._out if job.done()]) and time.monotonic() < deadline:
            time.sleep(0.2 if self._local else WAIT)
        return [(self._out.pop(job), _slurm_reply(job)) for job in done]

    def close(self, cancel: bool) -> None:
        for job in self._out if cancel or self._local else ():
            with contextlib.suppress(Exception):
                job.cancel()


def _slurm_reply(job: Any) -> Any:
    import submitit

    try:
        return job.result()
    except submitit.core.utils.FailedJobError as error:
        return _not_run(error)
    except submitit.core.utils.UncompletedJobError:
        return Lost(f"its job was killed or lost (state {job.state}); see {job.paths.stderr}")


def _not_run(error: BaseException) -> Any:
    """A call never raises of itself: the worker could not make it."""
    raise AlbenchError(
        f"a worker could not begin ({type(error).__name__}: {_first_line(error)}); has it the same Python, albench and "
        "packages as this machine?"
    ) from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text
