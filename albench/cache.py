"""Decoded data on disk: images are read from JPEGs once, then mapped into memory by every process that needs them.

An entry is a folder: `pool.npy` and `test.npy`, the images as uint8 [N, C, H, W], and `rest.safetensors`, the targets,
names, classes, notes and the fingerprint, which is not taken anew at every start. Images are decoded straight into the
files, so a set may be larger than memory.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from albench.errors import AlbenchError
from albench.samples import Data, Samples

Part = Literal["pool", "test"]
PARTS: tuple[Part, ...] = ("pool", "test")
Shape = tuple[int, int, int, int]
NewImages = Callable[[Part, Shape], Tensor]
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
    waits for the first. Where the folder cannot be written, or is full, the data are built in memory.

    Raises:
        AlbenchError: what `build` raises; or the data fit neither on disk nor in memory.
    """
    entry = cache_folder() / hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
    if (data := _read(entry)) is not None:  # without the lock: a shared cache may be read-only
        return data
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{entry}.lock"):
            if (data := _read(entry)) is None:
                _write(entry, build)
                data = _read(entry)
    except (OSError, SafetensorError):  # unwritable or full: a cache is no reason to fail
        data = None
    return build(_in_memory) if data is None else data


def _in_memory(part: Part, shape: Shape) -> Tensor:
    if math.prod(shape) > psutil.virtual_memory().available:
        raise AlbenchError(
            f"the decoded images take {math.prod(shape) / 1e9:.1f} GB: there is no room in {cache_folder()} nor in "
            "memory; set ALBENCH_CACHE to a folder on a larger disk"
        )
    return torch.empty(shape, dtype=torch.uint8)


def _write(entry: Path, build: Callable[[NewImages], Data]) -> None:
    """Build the entry; what builders of it left that were killed goes first (the lock is ours, so none is alive)."""
    for remains in entry.parent.glob(f"{entry.name}*.tmp"):
        shutil.rmtree(remains, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=entry.parent, prefix=entry.name, suffix=".tmp"))
    try:
        data = build(lambda part, shape: _on_disk(temporary / f"{part}.npy", shape))
        tensors: dict[str, Tensor] = {}
        for part in PARTS:
            samples: Samples = getattr(data, part)
            if not (temporary / f"{part}.npy").exists():
                _on_disk(temporary / f"{part}.npy", tuple(samples.images.shape)).copy_(samples.images)
            tensors |= {f"{part}/{name}": target.contiguous() for name, target in samples.targets.items()}
        facts: dict[str, Any] = {
            "classes": data.classes,
            "notes": data.notes,
            "pool": data.pool.names,
            "test": data.test.names,
        }
        facts |= {"fingerprint": data.fingerprint(), "written": _written(temporary)}
        save_file(tensors, temporary / "rest.safetensors", metadata={"data": json.dumps(facts)})
        shutil.rmtree(entry, ignore_errors=True)  # one that could not be read
        os.replace(temporary, entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _written(entry: Path) -> list[int]:
    """When the images were last written to: a fingerprint is of nothing later."""
    return [(entry / f"{part}.npy").stat().st_mtime_ns for part in PARTS]


def _on_disk(file: Path, shape: tuple[int, ...]) -> Tensor:
    """A new uint8 array in a file. Its blocks are reserved first: writing through a map to a full disk would kill."""
    if shutil.disk_usage(file.parent).free < math.prod(shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
    array = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return torch.from_numpy(array)


def _read(entry: Path) -> Data | None:
    """The entry's data, images mapped and not read; None where there is none, or none that is whole."""
    try:
        with safe_open(entry / "rest.safetensors", framework="pt") as file:
            facts = json.loads((file.metadata() or {})["data"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        parts = [_samples(entry, part, tensors, facts[part]) for part in PARTS]
        known = facts.get("fingerprint") if facts.get("written") == _written(entry) else None
        return Data(parts[0], parts[1], tuple(facts["classes"]), facts["notes"], known)
    except TORN:
        return None


def _samples(entry: Path, part: Part, tensors: dict[str, Tensor], names: list[str]) -> Samples:
    images = np.load(entry / f"{part}.npy", mmap_mode="c")  # private: a stray write stays in its process
    targets = {k.removeprefix(f"{part}/"): v for k, v in tensors.items() if k.startswith(f"{part}/")}
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(names):
        raise ValueError(f"{entry} is not a cache entry")
    return Samples(torch.from_numpy(images), targets, names)
