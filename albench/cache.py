"""Decoded data on disk: images are read from JPEGs once, then mapped into memory by every process that needs them.

An entry is a folder: `pool.npy` and `test.npy`, the images as uint8 [N, C, H, W], and `rest.safetensors`, the targets,
names, classes, notes and the fingerprint, which is not taken anew at every start: only where the files were written to
since. Images are decoded straight into the files, so a set may be larger than memory.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from albench.errors import AlbenchError
from albench.samples import Data, Samples
from albench.terminal import busy, filling, say

try:
    import fcntl
except ImportError:  # Windows, where a file that is mapped cannot be removed anyhow
    fcntl = None  # type: ignore[assignment]

Part = Literal["pool", "test"]
PARTS: tuple[Part, ...] = ("pool", "test")
Shape = tuple[int, int, int, int]
NewImages = Callable[[Part, Shape], Tensor]
REST = "rest.safetensors"
DIGITS = 32  # of an entry's name
PATIENCE = 1.0  # seconds to wait for another builder before that is said
TORN = (OSError, SafetensorError, KeyError, ValueError, EOFError)  # what reading a damaged entry raises


def cache_folder() -> Path:
    """$ALBENCH_CACHE, or ~/.cache/albench."""
    return Path(os.environ.get("ALBENCH_CACHE") or Path.home() / ".cache" / "albench")


def listing(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """(path, bytes, modification time) of files: changes whenever one of them does.

    Raises:
        FileNotFoundError: a file is not there.
    """
    return sorted((str(f), s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()])


def cached(key: object, build: Callable[[NewImages], Data]) -> Data:
    """The data that `build` makes, read from disk when the same key (anything with a faithful repr) was built before.

    `build` is given a function of (part, shape) → an uninitialised uint8 tensor that lies in the entry's file: images
    written there never have to fit in memory. Images that it makes elsewhere are copied.

    An entry is built beside its place and renamed when whole, so a kill leaves none that is torn; a second builder
    waits for the first. Where the folder cannot be written, or is full, the data are built in memory, and a line on
    stderr says so.

    Raises:
        AlbenchError: what `build` raises; or the data fit neither on disk nor in memory.
        OSError: what `build` raises.
    """
    if _UNUSED.get():
        return build(_in_memory)
    entry = cache_folder() / hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
    task = str(key[0] if isinstance(key, tuple) else key)
    suspicion = _SUSPICIOUS.get()
    if (data := _read(entry, suspicion)) is not None:  # without the lock: a shared cache may be read-only
        return data
    try:
        with _locked(entry, task):
            if (data := _read(entry, suspicion)) is None:
                _write(entry, task, build)
                data = _read(entry)
            if data is None:
                raise _UnusableError("what was written there cannot be read")
    except _UnusableError as error:  # a cache is no reason to fail
        _warn(
            cache_folder(),
            f"images cannot be kept there ({error}): every process decodes them again, in memory; set ALBENCH_CACHE to "
            "a folder with room that can be written",
        )
        return build(_in_memory)
    return data


def suspicious() -> contextlib.AbstractContextManager[None]:
    """While the block runs, entries are read to their end and compared with their fingerprint before they are used."""
    return _while(_SUSPICIOUS)


def unused() -> contextlib.AbstractContextManager[None]:
    """While the block runs, data are built in memory, for those that nobody will ask for again; nothing is written."""
    return _while(_UNUSED)


@contextlib.contextmanager
def _while(said: ContextVar[bool]) -> Iterator[None]:
    token = said.set(True)
    try:
        yield
    finally:
        said.reset(token)


_SUSPICIOUS = ContextVar("suspicious", default=False)
_UNUSED = ContextVar("unused", default=False)
_WARNED: set[Path] = set()


def _warn(place: Path, line: str) -> None:
    """Say something of a place, once in this process."""
    if place not in _WARNED:
        _WARNED.add(place)
        say(f"{place}: {line}")


class _UnusableError(Exception):
    """The cache cannot be written, and why."""


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """What is raised in the block is the cache's fault, not that of whoever builds the data."""
    try:
        yield
    except (OSError, SafetensorError, NotImplementedError) as error:
        raise _UnusableError(getattr(error, "strerror", None) or " ".join(str(error).split())) from error


@contextlib.contextmanager
def _locked(entry: Path, task: str) -> Iterator[None]:
    """Be the entry's only builder."""
    with _own_errors():
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{entry}.lock")
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            say(f"{task}: waiting for another process that decodes these images into {entry}")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _in_memory(part: Part, shape: Shape) -> Tensor:
    if math.prod(shape) > psutil.virtual_memory().available:
        raise AlbenchError(
            f"the decoded images take {math.prod(shape) / 1e9:.1f} GB: there is no room in {cache_folder()} nor in "
            "memory; set ALBENCH_CACHE to a folder on a larger disk"
        )
    return torch.empty(shape, dtype=torch.uint8)


def _write(entry: Path, task: str, build: Callable[[NewImages], Data]) -> None:
    """Build the entry, whose lock is ours."""
    with _own_errors():
        sweep(entry)
        temporary = Path(tempfile.mkdtemp(dir=entry.parent, prefix=entry.name, suffix=".tmp"))
    try:
        with filling(f"{task}: decoding images") as watch:

            def new(part: Part, shape: Shape) -> Tensor:
                with _own_errors():
                    images = _on_disk(temporary / f"{part}.npy", shape)
                watch(images)
                return torch.from_numpy(images)

            data = build(new)
        with _own_errors(), busy(f"{task}: writing {entry}"):
            _finish(temporary, task, data)
            shutil.rmtree(entry, ignore_errors=True)  # one that could not be read
            os.replace(temporary, entry)
            _to_disk(entry.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _finish(folder: Path, task: str, data: Data) -> None:
    """Write what an entry holds beside the images that are there already, and wait until all is on disk: a rename may
    get there before what is renamed, and power may fail in between."""
    tensors: dict[str, Tensor] = {}
    for part in PARTS:
        samples: Samples = getattr(data, part)
        if not (folder / f"{part}.npy").exists():
            images = _on_disk(folder / f"{part}.npy", tuple(samples.images.shape))
            torch.from_numpy(images).copy_(samples.images)
        _to_disk(folder / f"{part}.npy")
        tensors |= {f"{part}/{name}": target.contiguous() for name, target in samples.targets.items()}
    facts: dict[str, Any] = {
        "task": task,
        "classes": data.classes,
        "notes": data.notes,
        "pool": data.pool.names,
        "test": data.test.names,
    }
    facts |= {"fingerprint": data.fingerprint(), "written": _written(folder)}
    save_file(tensors, folder / REST, metadata={"data": json.dumps(facts)})
    _to_disk(folder / REST)
    _to_disk(folder)


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sweep(entry: Path | None = None) -> None:
    """Remove what builders that were killed left: whose lock is free, or that of this entry, which is the caller's."""
    for remains in cache_folder().glob("*.tmp"):
        built = remains.with_name(remains.name[:DIGITS])
        if built == entry:
            shutil.rmtree(remains, ignore_errors=True)
            continue
        with contextlib.suppress(OSError), FileLock(f"{built}.lock").acquire(timeout=0):  # held, or somebody else's
            shutil.rmtree(remains, ignore_errors=True)


def _written(entry: Path) -> list[int]:
    """When the images were last written to: a fingerprint is of nothing later."""
    return [(entry / f"{part}.npy").stat().st_mtime_ns for part in PARTS]


def _on_disk(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new uint8 array in a file. Its blocks are reserved first: writing through a map to a full disk would kill."""
    needed, free = math.prod(shape), shutil.disk_usage(file.parent).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e9:.3g} GB are needed, {free / 1e9:.3g} GB are free", str(file))
    array = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return array


def _read(entry: Path, compared: bool = False) -> Data | None:
    """The entry's data, images mapped and not read; None where there is none, or none that is whole.

    The fingerprint is `compared` also where the files were written to, or copied, since they were built.
    """
    try:
        facts, tensors = _facts(entry), load_file(entry / REST)
        parts = [_samples(entry, part, tensors, facts[part]) for part in PARTS]
        data = Data(parts[0], parts[1], tuple(facts["classes"]), facts["notes"], facts["fingerprint"])
        if (moved := facts["written"] != _written(entry)) or compared:
            with busy(f"{facts['task']}: reading {entry}"):
                if replace(data, known=None).fingerprint() != data.known:
                    _warn(entry, "damaged: it does not hold what was decoded; that is done again")
                    return None
    except TORN:
        return None
    with contextlib.suppress(OSError):  # a shared cache may be read-only
        if moved:  # it need not be read again
            for part, time in zip(PARTS, facts["written"], strict=True):
                os.utime(entry / f"{part}.npy", ns=(time, time))
        os.utime(entry)  # when it was last used
    return data


def _facts(entry: Path) -> dict[str, Any]:
    """What is known of an entry beside its tensors; raises one of TORN."""
    with safe_open(entry / REST, framework="pt") as file:
        return {"task": "?"} | json.loads((file.metadata() or {})["data"])


def _samples(entry: Path, part: Part, tensors: dict[str, Tensor], names: list[str]) -> Samples:
    images = np.load(entry / f"{part}.npy", mmap_mode="c")  # private: a stray write stays in its process
    _hold(images, entry / f"{part}.npy")
    targets = {k.removeprefix(f"{part}/"): v for k, v in tensors.items() if k.startswith(f"{part}/")}
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(names):
        raise ValueError(f"{entry} is not a cache entry")
    return Samples(torch.from_numpy(images), targets, names)


def _hold(images: np.ndarray, file: Path) -> None:
    """Hold a shared lock on the file as long as the images are in use, so that `remove` leaves it."""
    if fcntl is None:
        return
    opened = os.open(file, os.O_RDONLY)
    weakref.finalize(images, os.close, opened)
    with contextlib.suppress(OSError):  # no such locks there: images that are mapped stay with who mapped them
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)


class Entry(NamedTuple):
    """What lies in the cache."""

    folder: Path
    task: str  # "?" where that cannot be read
    size: int  # bytes
    used: float  # last, in seconds of the epoch


def entries() -> list[Entry]:
    """Everything in the cache, what was used last first."""
    found = []
    for folder in cache_folder().glob("?" * DIGITS):
        try:
            task = _facts(folder)["task"]
        except TORN:
            task = "?"
        with contextlib.suppress(OSError):  # removed meanwhile
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append(Entry(folder, task, size, folder.stat().st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def remove(entry: Path) -> bool:
    """Remove an entry unless a process reads or builds it; whether it is gone.

    Raises:
        OSError: it cannot be removed.
    """
    try:
        with FileLock(f"{entry}.lock").acquire(timeout=0):
            if any(_held(entry / f"{part}.npy") for part in PARTS):
                return False
            shutil.rmtree(entry)
            return True
    except Timeout:
        return False


def _held(file: Path) -> bool:
    """Whether a process has these images in use."""
    if fcntl is None:
        return False
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # not there, or a file system without such locks
        return False
    return False
