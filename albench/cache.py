"""Decoded data on disk: images are read from JPEGs once, then mapped into memory by every process that needs them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from albench.samples import Data, Samples


def cache_folder() -> Path:
    """$ALBENCH_CACHE, or ~/.cache/albench."""
    return Path(os.environ.get("ALBENCH_CACHE") or Path.home() / ".cache" / "albench")


def listing(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """(path, bytes, modification time) of files: changes whenever one of them does.

    Raises:
        FileNotFoundError: a file is not there.
    """
    return sorted((str(f), s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()])


def cached(key: object, build: Callable[[], Data]) -> Data:
    """The data that `build` makes, read from disk when the same key (anything with a faithful repr) was built before.

    One file per key, renamed into place when whole, so a kill leaves none that is torn; a second builder waits. Where
    the folder cannot be written the data is built in memory.
    """
    name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
    path, data = cache_folder() / f"{name}.safetensors", None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.is_file():
                try:
                    return _read(path)
                except (SafetensorError, KeyError, ValueError):
                    path.unlink()
            data = build()
            _write(path, data)
            return _read(path)
    except (OSError, SafetensorError):  # unwritable or full: a cache is no reason to fail
        return build() if data is None else data


def _write(path: Path, data: Data) -> None:
    tensors = {f"{part}/image": getattr(data, part).images.contiguous() for part in ("pool", "test")}
    for part in ("pool", "test"):
        tensors |= {f"{part}/target/{k}": v.contiguous() for k, v in getattr(data, part).targets.items()}
    facts = {"classes": data.classes, "notes": data.notes, "pool": data.pool.names, "test": data.test.names}
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata={"data": json.dumps(facts)})
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _read(path: Path) -> Data:
    with safe_open(path, framework="pt") as file:
        facts = json.loads((file.metadata() or {})["data"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict

    def samples(part: str) -> Samples:
        start = f"{part}/target/"
        targets = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        return Samples(tensors[f"{part}/image"], targets, facts[part])

    return Data(samples("pool"), samples("test"), tuple(facts["classes"]), facts["notes"])
