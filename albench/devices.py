"""Which device a trial gets: the CPU, or a GPU of its own.

A worker process claims a slot of a GPU with a lock that the kernel gives back when the process ends, however it ends.
"""

import functools
import hashlib
import os
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from albench.errors import AlbenchError

Slot = tuple[str, int]  # the name of its lock, the index of its GPU among those that this process sees


def pick_device(name: str, elsewhere: bool = False) -> str:
    """'auto' is CUDA where there is any; `elsewhere`: the workers are on other machines, so their GPUs are not ours.

    Raises:
        AlbenchError: no such device on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise AlbenchError(f"device {name!r}: use auto, cpu, cuda or cuda:0")
    if kind == "cuda" and not elsewhere and int(number or 0) >= torch.cuda.device_count():
        raise AlbenchError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return name


def default_jobs(device: str, threads: int, per_gpu: int = 1) -> int:
    """Trials at once on this machine: one per core (or per `threads` cores) on a CPU, `per_gpu` on each GPU."""
    if device != "cpu":
        return per_gpu * (1 if ":" in device else max(1, torch.cuda.device_count()))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def slots(gpus: list[str], per_gpu: int, only: int | None = None) -> list[Slot]:
    """The slots of GPUs (each a name that no other GPU of the machine has): every GPU once before any twice.

    >>> slots(["a", "b"], 2)
    [('a-0', 0), ('b-0', 1), ('a-1', 0), ('b-1', 1)]
    """
    chosen = [(name, index) for index, name in enumerate(gpus) if only in (None, index)]
    return [(f"{name}-{place}", index) for place in range(per_gpu) for name, index in chosen]


def claim(free: list[Slot], folder: Path, poll: float = 1.0) -> tuple[int, FileLock]:
    """The GPU of the first slot that no other process holds, and the lock; waits for one where all are taken."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        for name, index in free:
            lock = FileLock(folder / name)
            try:
                lock.acquire(timeout=0)
                return index, lock
            except Timeout:
                continue
        time.sleep(poll)


@functools.cache  # a process keeps its GPU until it ends: its tasks' data are on it
def _claimed(device: str, per_gpu: int, run: Path) -> tuple[str, FileLock]:
    _, _, number = device.partition(":")
    # by the GPU's own number: under Slurm and Ray every worker calls its GPU "cuda:0"
    gpus = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
    if not gpus or (number and int(number) >= len(gpus)):
        raise AlbenchError(f"device {device!r}: this worker's machine has {len(gpus)} CUDA devices")
    mine = hashlib.blake2b(str(run).encode(), digest_size=6).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"albench-gpus-{os.getuid()}" / mine
    index, lock = claim(slots(gpus, per_gpu, int(number) if number else None), folder)
    return f"cuda:{index}", lock


def device_of_worker(device: str, per_gpu: int, run: Path) -> str:
    """'cpu', or the GPU that this process has claimed among the workers of a run (its folder): 'cuda:2'.

    Raises:
        AlbenchError: there is no such GPU on this machine.
    """
    return "cpu" if device == "cpu" else _claimed(device, per_gpu, run)[0]
