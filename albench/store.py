"""Results on disk: one folder a run, one append-only file a trial. Reading never unpickles.

RUN_DIR/manifest.json            what was asked for, on what, with what
RUN_DIR/trials/<trial>.jsonl     records of a trial, one line each, with a checksum
RUN_DIR/trained/<identity>.*     a training by its identity: .json metrics, .npz outcomes, .safetensors weights
RUN_DIR/results.csv …            tables derived from the records; they can always be made again
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from albench.errors import AlbenchError

Record = dict[str, Any]


CEILING = "full-data"  # the label of trials that train once on the whole pool; no strategy may have it


TRIAL_NAME = re.compile(r"(.+?)--(.+?)--seed([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, order=True)
class Trial:
    """One task (its label in the suite), one strategy (its label), one seed."""

    task: str
    strategy: str
    seed: int

    def __str__(self) -> str:
        return f"{self.task}--{self.strategy}--seed{self.seed}"


class Store:
    """The records of one run folder. Every write is whole or not there, and on disk before the call returns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _trial(self, trial: Trial) -> Path:
        return self.folder / "trials" / f"{trial}.jsonl"

    def records(self, trial: Trial) -> list[Record]:
        """A trial's records in order; a torn last line (a kill during the write) counts as not there.

        Raises:
            AlbenchError: a line before the last is damaged.
        """
        return [record for _, record in self._whole_lines(trial)]

    def _whole_lines(self, trial: Trial) -> list[tuple[bytes, Record]]:
        path = self._trial(trial)
        if not path.is_file():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn
        whole = []
        for number, line in enumerate(lines, 1):
            record = _unseal(line)
            if record is not None:
                whole.append((line + b"\n", record))
            elif number < len(lines):  # a damaged last line counts as torn, too
                raise AlbenchError(
                    f"{path}, line {number}: a damaged record; `albench doctor {self.folder} --repair` sets it aside"
                )
        return whole

    def append(self, trial: Trial, record: Record) -> None:
        """Add a record behind the last whole one."""
        path = self._trial(trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        end = sum(len(line) for line, _ in self._whole_lines(trial))
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(end)
            file.seek(end)
            file.write(_seal(record))
            _sync(file)

    def trials(self) -> list[Trial]:
        """The trials that have records, sorted."""
        found = []
        for path in (self.folder / "trials").glob("*--seed*.jsonl"):
            if parts := TRIAL_NAME.fullmatch(path.stem):
                found.append(Trial(parts[1], parts[2], int(parts[3])))
        return sorted(found)

    def save_failure(self, trial: Trial, error: str | None, trace: str | None) -> None:
        """Keep why a trial failed (the line, then the traceback), or forget it (error None)."""
        path = self.folder / "failures" / f"{trial}.txt"
        if error is None:
            path.unlink(missing_ok=True)
        else:
            write_whole(path, f"{error}\n\n{trace or ''}".encode())

    # A training, by its identity -----------------------------------------------------------------------------------

    def _trained(self, identity: str, suffix: str) -> Path:
        return self.folder / "trained" / f"{identity}{suffix}"

    def lock(self, identity: str) -> FileLock:
        """Held while one process trains it: another waits, and goes on at once if the first one dies."""
        path = self.folder / ".locks" / identity
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def trained(self, identity: str) -> Record | None:
        """The record of a finished training and evaluation, or None."""
        path = self._trained(identity, ".json")
        return _unseal(path.read_bytes().strip()) if path.is_file() else None

    def save_trained(self, identity: str, record: Record, outcomes: dict[str, np.ndarray], weights: dict) -> None:
        """Outcomes and weights first, the record last: where it is, they are."""
        from safetensors.torch import save

        write_whole(self._trained(identity, ".npz"), _npz(outcomes))
        self.save_weights(identity, save(weights, {"checksum": _sum_of(weights)}))
        write_whole(self._trained(identity, ".json"), _seal(record))

    def save_weights(self, identity: str, weights: bytes) -> None:
        """Weights as safetensors bytes."""
        write_whole(self._trained(identity, ".safetensors"), weights)

    def weights(self, identity: str) -> dict | None:
        """The weights of a training, or None where they were dropped or are damaged (they can be trained again)."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._trained(identity, ".safetensors"), framework="pt") as file:
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                checksum = (file.metadata() or {}).get("checksum")
        except (FileNotFoundError, SafetensorError):
            return None
        return weights if checksum in (None, _sum_of(weights)) else None  # older files have none

    def drop_weights(self, identity: str) -> None:
        """Free the space of weights that no later step needs."""
        self._trained(identity, ".safetensors").unlink(missing_ok=True)

    def outcomes(self, identity: str) -> dict[str, np.ndarray]:
        """Outcomes per test sample of a training.

        Raises:
            AlbenchError: they are missing or damaged.
        """
        path = self._trained(identity, ".npz")
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except Exception as error:  # zipfile and numpy raise whatever a damaged file makes them trip over
            raise AlbenchError(f"{path}: outcomes cannot be read ({type(error).__name__}: {error})") from error

    # The manifest --------------------------------------------------------------------------------------------------

    def manifest(self) -> Record | None:
        """What the run is, or None for a folder without one.

        Raises:
            AlbenchError: the file is damaged: not JSON, or not what its checksum says.
        """
        path = self.folder / "manifest.json"
        if not path.is_file():
            return None
        tip = f"`albench doctor {self.folder} --repair` sets it aside"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise AlbenchError(f"{path}: not valid JSON ({error}); {tip}") from error
        if not isinstance(manifest, dict):
            raise AlbenchError(f"{path}: holds no table; {tip}")
        if manifest.pop("checksum", None) not in (None, _checksum(_canonical(manifest))):  # older ones have none
            raise AlbenchError(f"{path}: damaged, or edited by hand: it is not what its checksum says; {tip}")
        return manifest

    def save_manifest(self, manifest: Record) -> None:
        """Replace the manifest as a whole."""
        sealed = manifest | {"checksum": _checksum(_canonical(manifest))}
        write_whole(self.folder / "manifest.json", json.dumps(sealed, indent=2, ensure_ascii=False).encode())


def failures(folder: Path) -> list[dict[str, str]]:
    """The trials of a run folder whose last attempt failed: {"trial", "error"} each."""
    found = sorted((folder / "failures").glob("*--seed*.txt"))
    return [{"trial": p.stem, "error": p.read_text(encoding="utf-8").partition("\n")[0]} for p in found]


def _seal(record: Record) -> bytes:
    """A line of JSON with a checksum before it."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=True, separators=(",", ":")).encode()
    return _checksum(text).encode() + b" " + text + b"\n"


def _unseal(line: bytes) -> Record | None:
    checksum, _, text = line.partition(b" ")
    if _checksum(text).encode() != checksum:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):  # sealed by somebody else
        return None
    return record if isinstance(record, dict) else None


def _checksum(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _canonical(manifest: Record) -> bytes:
    """The same bytes before writing and after reading."""
    return json.dumps(json.loads(json.dumps(manifest)), sort_keys=True).encode()


def _sum_of(weights: dict) -> str:
    """A checksum of names, types, shapes and bytes: safetensors has none of its own."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            _sync(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(file: Any) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:  # a write error names no file by itself
        raise OSError(error.errno, error.strerror, str(file.name)) from error
