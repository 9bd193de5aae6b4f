"""Files in COCO's format with keypoints: their entries, and the body that their categories describe."""

from pathlib import Path, PurePath
from typing import Any, NamedTuple

from albench.datafiles import Bad, read_json, refuse
from albench.errors import AlbenchError
from albench.tasks.pose.skeleton import COCO, Skeleton

NAMES = [name.replace(" ", "_") for name in COCO.names]  # as COCO's own files have them


class Coco(NamedTuple):
    """A file in COCO's format: its entries as they are there, each with an id, an integer, that no other one has."""

    images: dict[int, dict[str, Any]]
    categories: dict[int, dict[str, Any]]
    annotations: dict[int, dict[str, Any]]  # their image_id and category_id are among those


def read(file: Path, bad: Bad = refuse) -> Coco:
    """The entries of a COCO-format JSON file, by id.

    What lacks an id of its own, names none that is there, or is an image of another one's file, is `bad`.

    Raises:
        AlbenchError: it is no such file.
    """
    content = read_json(file, dict)
    found = Coco({}, {}, {})
    for section, entries in found._asdict().items():
        given = content.get(section)
        if not isinstance(given, list):
            raise AlbenchError(f"{file} has no list {section!r}, so it is not in COCO's format")
        for position, entry in enumerate(given):
            number = entry.get("id") if isinstance(entry, dict) else None
            if type(number) is not int or number in entries:
                bad(AlbenchError(f"{file}, {section}[{position}]: no id of its own"))
            else:
                entries[number] = entry
    named: dict[PurePath, int] = {}
    for number, entry in found.images.items():
        name = entry.get("file_name")
        if isinstance(name, str) and named.setdefault(PurePath(name), number) != number:
            bad(AlbenchError(f"{file}, image {number}: {name[:80]!r} is image {named[PurePath(name)]}, too"))
    for number, entry in list(found.annotations.items()):
        for key, there in (("image_id", found.images), ("category_id", found.categories)):
            if type(entry.get(key)) is not int or entry[key] not in there:
                bad(AlbenchError(f"{file}, annotation {number}: {key} is none of the file's"))
                found.annotations.pop(number, None)
    return found


class Body(NamedTuple):
    """The categories whose annotations are people (or hands, or cows), what their keypoints are, and what was odd."""

    categories: frozenset[int]
    skeleton: Skeleton
    notes: tuple[str, ...] = ()


def body(content: Coco, file: Path) -> Body:
    """The body of a file: COCO's where a category has COCO's 17 keypoints, else the one that its categories describe.

    Raises:
        AlbenchError: no category has keypoints, their names are not names, or categories have different ones.
    """
    given = {number: entry["keypoints"] for number, entry in content.categories.items() if entry.get("keypoints")}
    if official := frozenset(number for number, names in given.items() if names == NAMES):
        return Body(official, COCO)
    if not given:
        raise AlbenchError(
            f"{file}: no category has `keypoints`, a list of their names, as COCO's person_keypoints files have it"
        )
    first, *others = given
    if different := [number for number in others if given[number] != given[first]]:
        kinds = " and ".join(repr(content.categories[number].get("name")) for number in (first, different[0]))
        raise AlbenchError(f"{file}: categories {kinds} have different keypoints; take one of them out of the file")
    where = f"{file}: category {first}"
    names = _names(given[first], where)
    limbs = _limbs(content.categories[first].get("skeleton"), len(names))
    skeleton = Skeleton(names, limbs or ())
    notes = (
        [] if limbs is not None else [f"{where}: its skeleton is no list of pairs from 1 to {len(names)}; not drawn"]
    )
    return Body(frozenset(given), skeleton, (*notes, *_sides(skeleton)))


def _names(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) and name.strip(" _") for name in given):
        raise AlbenchError(f"{where}: its keypoints are no list of names")
    names = tuple(" ".join(name.replace("_", " ").split()) for name in given)
    if len({name.casefold() for name in names}) < len(names):
        raise AlbenchError(f"{where}: two of its keypoints have one name")
    return names


def _limbs(given: Any, joints: int) -> tuple[tuple[int, int], ...] | None:
    """Pairs of joints, numbered from 0 here and from 1 in the file; None where they are no such pairs."""
    if given is None:
        return ()
    numbers = range(1, joints + 1)
    if not isinstance(given, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(type(end) is int and end in numbers for end in pair)
        for pair in given
    ):
        return None
    return tuple((a - 1, b - 1) for a, b in given)


def _sides(skeleton: Skeleton) -> list[str]:
    """What a mirror cannot swap: a note on names of one side alone, and where there are no sides at all."""
    names, mirrored = skeleton.names, skeleton.mirrored
    lone = [name for name in names if name.casefold().split()[0] in ("left", "right")]
    lone = [name for name in lone if mirrored[names.index(name)] == names.index(name)]
    notes = [f"keypoint {name}: no such one on the other side, so a mirror leaves it" for name in lone]
    if not lone and mirrored == tuple(range(len(names))):
        notes.append("no keypoint is called left … or right …: a mirrored image swaps none; flip = false mirrors none")
    return notes
