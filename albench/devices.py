"""Which device a trial gets: the CPU, or a GPU of its own.

A worker process holds a slot of a GPU while it works on a trial, by a lock that the kernel gives back when the process
ends, however it ends. An idle process holds none. One that finds none free hands its trial back.
"""

import contextlib
import functools
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from albench.errors import AlbenchError
from albench.memory import release
from albench.pools import cores

SLOT_WAIT = 10.0  # seconds for a process that was killed, or is between two trials, to give its slot back
SHARE = 0.4  # of a trial's part of a GPU's memory, at most, is for images
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
    return max(1, cores() // threads)


def fits(size: int, device: torch.device, per_gpu: int = 1) -> bool:
    """Whether so many bytes of images may lie on a device, beside a network and `per_gpu` − 1 other trials."""
    if device.type != "cuda":
        return True
    release(device)  # what torch keeps for later counts as taken
    free, total = torch.cuda.mem_get_info(device)
    return size <= SHARE * min(free, total / per_gpu)


def slots(gpus: list[str], per_gpu: int, only: int | None = None) -> list[Slot]:
    """The slots of GPUs (each a name that no other GPU of the machine has): every GPU once before any twice.

    >>> slots(["a", "b"], 2)
    [('a-0', 0), ('b-0', 1), ('a-1', 0), ('b-1', 1)]
    """
    chosen = [(name, index) for index, name in enumerate(gpus) if only in (None, index)]
    return [(f"{name}-{place}", index) for place in range(per_gpu) for name, index in chosen]


class NoSlotError(AlbenchError):
    """Every slot of this machine's GPUs is held by other processes of the run."""


def claim(free: list[Slot], folder: Path, seconds: float, poll: float = 0.5) -> tuple[Slot, FileLock]:
    """The first slot that no other process holds, and its lock; waits so long for one where all are taken.

    Raises:
        NoSlotError: all were taken for all that time.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + seconds
    while True:
        for slot in free:
            lock = FileLock(folder / slot[0])
            try:
                lock.acquire(timeout=0)
                return slot, lock
            except Timeout:
                continue
        left = deadline - time.monotonic()
        if left <= 0:
            raise NoSlotError(
                f"every GPU slot of {socket.gethostname()} is held by another process of this run: use as many workers "
                "as GPUs there, or a higher --trials-per-gpu"
            )
        time.sleep(min(poll, left))


@functools.cache
def _slots(device: str, per_gpu: int) -> list[Slot]:
    _, _, number = device.partition(":")
    # by the GPU's own number: under Slurm and Ray every worker calls its GPU "cuda:0"
    gpus = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
    if not gpus or (number and int(number) >= len(gpus)):
        raise AlbenchError(f"device {device!r}: this worker's machine has {len(gpus)} CUDA devices")
    return slots(gpus, per_gpu, int(number) if number else None)


_LAST: list[Slot] = []  # that this process held: its tasks' data are on that GPU


@contextlib.contextmanager
def device_of_worker(device: str, per_gpu: int, run: Path) -> Iterator[str]:
    """'cpu', or a GPU of which this process holds a slot meanwhile, among the workers of a run (its folder): 'cuda:2'.

    Raises:
        NoSlotError: all slots of this machine are taken.
        AlbenchError: there is no such GPU on this machine.
    """
    if device == "cpu":
        yield device
        return
    mine = hashlib.blake2b(str(run).encode(), digest_size=6).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"albench-gpus-{os.getuid()}" / mine
    free = sorted(_slots(device, per_gpu), key=lambda slot: slot not in _LAST)  # the last one first
    slot, lock = claim(free, folder, SLOT_WAIT)
    _LAST[:] = [slot]
    try:
        yield f"cuda:{slot[1]}"
    finally:
        lock.release()
