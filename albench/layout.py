"""Where a user's own files lie, and a test set drawn from them where they have none."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field

from albench.datafiles import below, require_inside
from albench.errors import AlbenchError
from albench.facts import LATER
from albench.oddities import counted
from albench.seeds import seed

T = TypeVar("T")

TestShare = Annotated[float | None, LATER, Field(gt=0, lt=1)]  # a task's `test_share: TestShare = None`
IMAGES = "_images"  # how the settings that name folders of images end; others name files


def find(root: Path, folder: str, given: Mapping[str, str], remedy: str) -> dict[str, Path]:
    """The files and folders of images that settings (`given`: key → path) name in `folder`, or in the data root itself.

    Folders of images may also lie in images/.

    Raises:
        AlbenchError: some are missing: each of them with its key, and the `remedy` ("{home}" is where they should
            lie); or one leads out of the data root.
    """
    homes = [below(root, folder, "folder"), root]
    for home in homes:
        places = _places(home, given)
        if not _missing(places):
            for key, place in places.items():
                if not key.endswith(IMAGES):
                    require_inside(place, home, place.parent)
            return places
    missing = _missing(_places(homes[0], given))
    said = ", ".join(f"no {place} (`{key}`)" for key, place in missing.items())
    raise AlbenchError(f"{said}; {remedy.format(home=homes[0])}")


def _places(home: Path, given: Mapping[str, str]) -> dict[str, Path]:
    places = {key: below(home, path, key) for key, path in given.items()}
    for key, path in given.items():
        inner = home / "images" / path
        if key.endswith(IMAGES) and inner.is_dir() and not places[key].is_dir():
            places[key] = inner
    return places


def _missing(places: Mapping[str, Path]) -> dict[str, Path]:
    there = {key: place.is_dir() if key.endswith(IMAGES) else place.is_file() for key, place in places.items()}
    return {key: place for key, place in places.items() if not there[key]}


def keys_say(keys: Iterable[str]) -> str:
    """What to do where a user's own files are missing: the settings to give.

    >>> keys_say(["folder", "pool", "pool_images"])
    '`folder`, `pool` and `pool_images` say where they lie'
    >>> keys_say(["folder", "pool", "test"])
    '`folder`, `pool` and `test` say where they lie (or `test_share` draws a test set from the pool)'
    """
    *first, last = [f"`{key}`" for key in keys]
    share = " (or `test_share` draws a test set from the pool)" if last.startswith("`test") else ""
    return f"{', '.join(first)} and {last} say where they lie{share}"


def require_no_test(task: BaseModel, *keys: str) -> None:
    """Where a task has a `test_share`, the settings of a test set of its own stand at their defaults.

    Raises:
        ValueError: one does not.
    """
    given = [key for key in keys if getattr(task, key) != type(task).model_fields[key].default]
    if getattr(task, "test_share", None) is not None and given:
        raise ValueError(f"test_share draws the test set from the pool: leave {' and '.join(given)} out")


def share_out(
    things: Iterable[T], share: float, name: Callable[[T], str], what: str = "image"
) -> tuple[list[T], list[T], str]:
    """Pool, test set of about `share` of the things, in their order; and a note on it.

    Each thing's own `name` decides by its hash, so it stays where it is when others are added or taken away; those of
    one name (people in an image) stay together. `what` a thing is, is for the note.

    Raises:
        AlbenchError: one of the two would be empty.
    """
    parts: tuple[list[T], list[T]] = [], []
    for thing in things:
        parts[seed("test share", name(thing)) < share * 2**63].append(thing)
    pool, test = parts
    total = counted(len(pool) + len(test), what, {"person": "people"}.get(what))
    if not pool or not test:
        empty = "test set" if pool else "pool"
        raise AlbenchError(f"test_share = {share:g} of {total} leaves none for the {empty}; take another share")
    return pool, test, f"{len(test):,} of {total} are the test set, drawn by the images' names (test_share = {share:g})"
