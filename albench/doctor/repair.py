"""Sets aside what is bad, so that `albench run` carries on from what is good. Nothing is deleted."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from albench import tables
from albench.alone import alone_on
from albench.doctor.findings import Health
from albench.errors import AlbenchError
from albench.store import Store


def repair(folder: Path, health: Health, say: Callable[[str], object] = lambda line: None) -> list[str]:
    """Do what an examination asks for; returns what was done, one line each.

    Bad files and the original of every trial that is cut go to RUN_DIR/set-aside/<date>/, each under its own path.
    say: is told of a wait for a run that another host may be at.

    Raises:
        AlbenchError: a run is at work on the folder, or it cannot be written.
    """
    try:
        with alone_on(folder, say, "a run is at work on this folder; repair it when that has ended"):
            return _repair(Store(folder), health)
    except OSError as error:
        raise AlbenchError(f"{error.filename or folder}: {error.strerror}; nothing is lost; repair it again") from error


def _repair(store: Store, health: Health) -> list[str]:
    folder, done = store.folder, []
    place = folder / "set-aside" / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
    for trial, lines in sorted(health.keep.items()):
        name = Path("trials") / f"{trial}.jsonl"
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if lines:
            shutil.copy2(folder / name, place / name)
            store.replace(trial, lines)
        else:
            os.replace(folder / name, place / name)
        done.append(f"{name}: keeps {len(lines)} records; the original is {(place / name).relative_to(folder)}")
    for name in sorted(health.aside):
        if (folder / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / name, place / name)
            done.append(f"{name}: set aside as {(place / name).relative_to(folder)}")
    if done or health.tables:
        tables.write(store)
        done.append("results.csv and the other tables: made again from the records")
    return done
