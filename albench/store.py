"""Results on disk: one folder a run, one append-only file a trial. Reading never unpickles.

RUN_DIR/manifest.json            what was asked for, on what, with what
RUN_DIR/trials/<trial>.jsonl     records of a trial, one line each, with a checksum
RUN_DIR/trained/<identity>.*     a training by its identity: .json metrics, .npz outcomes, .safetensors weights,
                                 .checkpoint while it goes on
RUN_DIR/log.txt                  what went wrong and was survived, one line each
RUN_DIR/results.csv …            tables derived from the records; they can always be made again
"""

import contextlib
import hashlib
import json
import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import SoftFileLease

from albench.errors import AlbenchError

Record = dict[str, Any]


LEASE = 60.0  # seconds without a sign of life after which the holder of a lease on another host counts as dead

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

    def __init__(self, folder: Path, checkpoints: Path | None = None) -> None:
        """`checkpoints`: where they are kept if the folder itself will not last."""
        self.folder, self.checkpoints = folder, checkpoints

    def _trial(self, trial: Trial) -> Path:
        return self.folder / "trials" / f"{trial}.jsonl"

    def records(self, trial: Trial) -> list[Record]:
        """A trial's records in order; a torn last line (a kill during the write) counts as not there.

        Raises:
            AlbenchError: a line before the last is damaged.
        """
        return [record for _, record in self._whole_lines(trial)]

    def _whole_lines(self, trial: Trial) -> list[tuple[bytes, Record]]:
        lines, _ = self.lines(trial)
        whole = []
        for number, (line, record) in enumerate(lines, 1):
            if record is not None:
                whole.append((line, record))
            elif number < len(lines):  # a damaged last line counts as torn, too
                raise AlbenchError(
                    f"{self._trial(trial)}, line {number}: a damaged record; "
                    f"`albench doctor {self.folder} --repair` sets it aside"
                )
        return whole

    def lines(self, trial: Trial) -> tuple[list[tuple[bytes, Record | None]], bytes]:
        """A trial's lines as they stand, each with its record (None: damaged), and what follows the last one: torn."""
        path = self._trial(trial)
        *lines, torn = path.read_bytes().split(b"\n") if path.is_file() else [b""]
        return [(line + b"\n", _unseal(line)) for line in lines], torn

    def replace(self, trial: Trial, lines: list[bytes]) -> None:
        """Have a trial consist of these of its lines alone."""
        write_whole(self._trial(trial), b"".join(lines))

    def append(self, trial: Trial, record: Record) -> None:
        """Add a record behind the last whole one; one that is there already (its kind and stage) stays as it is."""
        self._append(trial, [(_seal(record), record)])

    def append_lines(self, trial: Trial, content: bytes) -> None:
        """Add the records of another store's file that this one lacks."""
        lines = ((line + b"\n", _unseal(line)) for line in content.split(b"\n")[:-1])
        self._append(trial, [(line, record) for line, record in lines if record is not None])

    def _append(self, trial: Trial, lines: list[tuple[bytes, Record]]) -> None:
        path = self._trial(trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._whole_lines(trial)
        known = {(record.get("kind"), record.get("stage")) for _, record in whole}
        end = sum(len(line) for line, _ in whole)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(end)
            file.seek(end)
            for line, record in lines:
                if (record.get("kind"), record.get("stage")) not in known:
                    file.write(line)
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

    def lock(self, name: str) -> SoftFileLease:
        """Held by one process of any machine, while it trains an identity or works on a trial; another waits.

        A lease and not a lock of the kernel's, since shared file systems often have none. One whose holder died is
        taken over: at once on the same host, elsewhere after LEASE seconds without a sign of life. A holder that only
        seemed dead goes on, and the same is then computed twice, to equal numbers; `append` writes them once.
        """
        path = self.folder / ".locks" / f"{name}.lease"
        path.parent.mkdir(parents=True, exist_ok=True)
        return SoftFileLease(path, lease_duration=LEASE, poll_interval=0.2)

    def trained(self, identity: str) -> Record | None:
        """The record of a finished training and evaluation, or None."""
        path = self._trained(identity, ".json")
        return _unseal(path.read_bytes().removesuffix(b"\n")) if path.is_file() else None

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

    def checkpoint(self, identity: str) -> Path:
        """Where a training keeps its state while it goes on."""
        return (self.checkpoints or self.folder / "trained") / f"{identity}.checkpoint"

    # What went wrong -----------------------------------------------------------------------------------------------

    def log(self, line: str) -> None:
        """Add a line to log.txt; where even that fails nothing is stopped by it."""
        with contextlib.suppress(OSError), (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")

    def log_size(self) -> int:
        """Where the next line of the log will begin."""
        path = self.folder / "log.txt"
        return path.stat().st_size if path.is_file() else 0

    def logged(self, since: int) -> list[str]:
        """The lines of the log from a place on."""
        path = self.folder / "log.txt"
        return path.read_bytes()[since:].decode(errors="replace").splitlines() if path.is_file() else []

    def last_words(self, trial: Trial) -> Path:
        """Where a trial's process says why it is going to end itself."""
        return self.folder / "failures" / f"{trial}.last-words"

    def sweep(self) -> None:
        """Remove temporary files that killed processes of this machine left behind; nobody else works on the run."""
        for path in self.folder.glob("**/.*.tmp"):
            host, _, pid = path.name.removesuffix(".tmp").rpartition("@")[2].rpartition("-")
            if host == socket.gethostname() and pid.isdigit() and not _alive(int(pid)):
                path.unlink(missing_ok=True)

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


def planned(manifest: Record) -> Record:
    """The seeds, stages and strategies of a run's first session; of an older run, which kept no more, its seeds."""
    return dict(manifest.get("planned") or {"seeds": manifest.get("planned_seeds", manifest["suite"]["seeds"])})


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
    temporary = path.with_name(f".{path.name}@{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            _sync(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _sync(file: Any) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:  # a write error names no file by itself
        raise OSError(error.errno, error.strerror, str(file.name)) from error
