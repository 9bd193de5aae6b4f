"""Many trials on workers: processes of this machine, Dask, Ray, or Slurm through submitit.

A pool takes calls and gives replies. Where a worker dies, its trial is lost and no other: it is tried again, from its
records. (joblib's adapters lose that: tried, with Dask's a killed worker took a trial along that had not even begun and
the rest was given up, and Ray's hands nothing out before the end. The processes here are joblib's loky.)
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from albench.errors import AlbenchError
from albench.store import Trial

BACKENDS = {"loky": (), "dask": ("distributed",), "ray": ("ray",), "slurm": ("submitit",)}  # and what each needs


@dataclass(frozen=True)
class Options:
    """Where trials run. `jobs` None: as many as fit; `scheduler`: a running cluster's address; `slurm`: parameters."""

    backend: str = "loky"
    jobs: int | None = None
    scheduler: str | None = None
    slurm: dict[str, str] = field(default_factory=dict)
    per_gpu: int = 1

    def check(self) -> None:
        """See that the options go together and what they need is installed.

        Raises:
            AlbenchError: they do not, or it is not.
        """
        if self.backend not in BACKENDS:
            raise AlbenchError(f"--backend {self.backend}: use one of {', '.join(BACKENDS)}")
        if self.scheduler is not None and self.backend not in ("dask", "ray"):
            raise AlbenchError(f"--scheduler is for --backend dask and ray, not {self.backend}")
        if self.slurm and self.backend != "slurm":
            raise AlbenchError(f"--slurm is for --backend slurm, not {self.backend}")
        if self.jobs is not None and self.jobs < 1:
            raise AlbenchError(f"--jobs must be at least 1, not {self.jobs}")
        if self.per_gpu < 1:
            raise AlbenchError(f"--trials-per-gpu must be at least 1, not {self.per_gpu}")
        if self.per_gpu > 1 and self.backend == "slurm":
            raise AlbenchError("--trials-per-gpu is not for --backend slurm, which gives each trial's job its own GPU")
        for module in BACKENDS[self.backend]:
            try:
                importlib.import_module(module)
            except ImportError as error:
                tip = f'pip install "albench[{self.backend}]"'
                raise AlbenchError(f"--backend {self.backend} needs {module} ({error}): {tip}") from error

    def elsewhere(self) -> bool:
        """Whether workers may be on other machines than this one."""
        return self.scheduler is not None or (self.backend == "slurm" and self.slurm.get("cluster") != "local")


def parameters(pairs: tuple[str, ...]) -> dict[str, str]:
    """What --slurm key=value, repeated, says.

    Raises:
        AlbenchError: one has no "=".
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise AlbenchError(f"--slurm {pair!r}: use key=value, for instance partition=gpu")
        found[key.strip()] = value.strip()
    return found


@dataclass(frozen=True)
class Lost:
    """In place of a reply: the worker died, or was lost with its machine or scheduler; `why` in a few words."""

    why: str


class Pool(Protocol):
    """Workers. `close` ends what it started itself; `cancel`: also what would go on without it."""

    def room(self) -> int:
        """How many calls it takes at once, at this moment."""

    def submit(self, trial: Trial, call: Callable[[], Any]) -> None:
        """Have a worker make the call."""

    def wait(self) -> list[tuple[Trial, Any]]:
        """The replies since the last look (or Lost); returns within seconds, also where there is none.

        Raises:
            AlbenchError: the cluster is lost for good.
        """

    def close(self, cancel: bool) -> None:
        """No more calls."""


def start(options: Options, threads: int, gpu: bool, folder: Any, default_jobs: int) -> Pool:
    """The workers that the options name; `threads` per trial, `gpu`: each needs one, `folder`: of the run.

    Raises:
        AlbenchError: the scheduler cannot be reached, or refuses.
    """
    from albench import pools

    jobs = options.jobs
    if options.backend == "loky":
        return pools.Processes(jobs or default_jobs, threads)
    if options.backend == "dask":
        return pools.Dask(options.scheduler, jobs, default_jobs, threads)
    if options.backend == "ray":
        return pools.Ray(options.scheduler, jobs, default_jobs, threads, 1 / options.per_gpu if gpu else 0.0)
    return pools.Slurm(folder, dict(options.slurm), jobs or default_jobs, threads, gpu)
