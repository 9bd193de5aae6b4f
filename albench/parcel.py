"""What travels where workers do not see the run folder: a trial's records and trainings, there and back, as bytes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from albench.store import Store, Trial, write_whole

_NAME = re.compile(r"[0-9a-f]{32}\.[a-z.]+")  # a training's file: its identity and what it holds


@dataclass(frozen=True)
class Parcel:
    """The lines of a trial's records, and files of trained/ by name; `dropped`: those that were sent and are gone.

    `others`: the trials that this one follows or shares its trainings with, and their records.
    """

    records: bytes
    trained: dict[str, bytes] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    others: tuple[tuple[Trial, bytes], ...] = ()


def outward(store: Store, trial: Trial, siblings: list[Trial], others: Iterable[Trial] = ()) -> Parcel:
    """What a worker needs for a trial's next stage: its records and latest training, and what others have of it.

    siblings: trials whose stage 0 may be this one's. others: those that it follows or shares every training with.
    """
    trained = _trained(store, trial)
    wanted = set(trained[-1:])
    for other in [*others, *([] if trained else siblings)]:
        wanted |= set(_trained(store, other)[len(trained) : len(trained) + 1])
    records = tuple((other, _lines(store, other)) for other in others)
    return Parcel(_lines(store, trial), _files(store.folder, wanted), others=records)


def _lines(store: Store, trial: Trial) -> bytes:
    """The lines as they are, so that a damaged one is the worker's error as it would be ours; without a torn end."""
    return b"".join(line for line, _ in store.lines(trial)[0])


def _trained(store: Store, trial: Trial) -> list[str]:
    """The identities of a trial's trainings, stage by stage."""
    return [r["identity"] for _, r in store.lines(trial)[0] if r is not None and r.get("kind") == "trained"]


def _files(folder: Path, identities: set[str]) -> dict[str, bytes]:
    found = {}
    for identity in sorted(identities):
        for path in (folder / "trained").glob(f"{identity}.*"):
            if _NAME.fullmatch(path.name):
                found[path.name] = path.read_bytes()
    return found


def unpack(parcel: Parcel, store: Store, trial: Trial) -> None:
    """Lay out on the worker what `outward` packed."""
    for name, content in parcel.trained.items():
        write_whole(store.folder / "trained" / Path(name).name, content)
    for whose, records in [(trial, parcel.records), *parcel.others]:
        if records:
            store.replace(whose, [records])


def homeward(store: Store, trial: Trial, sent: Parcel) -> Parcel:
    """What has become of it on the worker: all records, the trainings that are new, the names of those dropped."""
    here = {path.name for path in (store.folder / "trained").glob("*") if _NAME.fullmatch(path.name)}
    new = {name: (store.folder / "trained" / name).read_bytes() for name in here - set(sent.trained)}
    return Parcel(_lines(store, trial), new, tuple(sorted(set(sent.trained) - here)))


def receive(parcel: Parcel, store: Store, trial: Trial) -> None:
    """Put what came home where it belongs: trainings first, so that where a record is, they are.

    Raises:
        OSError: the run folder cannot be written.
    """
    for name, content in parcel.trained.items():
        path = store.folder / "trained" / Path(name).name
        if _NAME.fullmatch(path.name) and not path.exists():
            write_whole(path, content)
    store.append_lines(trial, parcel.records)
    for name in parcel.dropped:
        if _NAME.fullmatch(name):
            (store.folder / "trained" / name).unlink(missing_ok=True)
