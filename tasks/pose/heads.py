"""Head boxes of MPII's official annotations, by which PCKh measures, and whose they are."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from albench.errors import AlbenchError
from albench.matlab import read_nested

FIELDS = frozenset(
    {"annolist", "image", "name", "annorect", "x1", "y1", "x2", "y2", "scale", "objpos", "x", "y"}
)  # annopoints are passed over: joints come from the JSON split
BIAS = 0.6  # of the diagonal of a head box: what official PCKh takes as the size of a head
NEAR = 2.0  # pixels between a person's centre in the JSON file and in the official one


class Head(NamedTuple):
    """Of one person: the centre (x, y) and scale that tell who it is, and the head's size in pixels."""

    centre: np.ndarray
    scale: float
    size: float


Heads = dict[str, list[Head]]  # by the image's name


def read(file: Path) -> Heads:
    """The head sizes, 0.6 × the diagonal of (x1, y1, x2, y2), of all people that have a box and a position.

    Raises:
        AlbenchError: the file cannot be read, or is not MPII's.
    """
    try:
        release = _records(read_nested(file, "RELEASE", FIELDS))
    except (OSError, ValueError) as error:
        raise AlbenchError(f"{file} cannot be read ({error}); fetch it again") from error
    images = _records(release[0].get("annolist")) if release else []
    if not images:
        raise AlbenchError(f"{file} holds no struct 'RELEASE' with the field 'annolist'")
    found: Heads = {}
    for image in images:
        for name in (record.get("name") for record in _records(image.get("image"))[:1]):
            found.setdefault(str(name), []).extend(_heads(image))
    return found


def _heads(image: dict[str, Any]) -> list[Head]:
    found = []
    for person in _records(image.get("annorect")):
        x1, y1, x2, y2, scale = (_number(person, key) for key in ("x1", "y1", "x2", "y2", "scale"))
        size = BIAS * float(np.hypot(x2 - x1, y2 - y1))
        position = (_records(person.get("objpos")) or [{}])[0]
        centre = np.array([_number(position, "x"), _number(position, "y")])
        if np.isfinite(size) and size > 0 and np.isfinite(centre).all():
            found.append(Head(centre, scale, size))
    return found


def _records(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else []


def _number(record: dict[str, Any], key: str) -> float:
    """One number, NaN where there is none."""
    value = record.get(key)
    return float(value.flat[0]) if isinstance(value, np.ndarray) and value.size else float("nan")


def take(heads: Heads, image: str, centre: np.ndarray, scale: float) -> float:
    """The head size of whoever is at `centre` in an image, 0 where nobody is; each is given once.

    The nearest one, and of several at the same place the one of the nearest scale.
    """
    there = heads.get(image, [])
    near = [head for head in there if np.abs(head.centre - centre).max() <= NEAR]
    if not near:
        return 0.0
    best = min(near, key=lambda head: (float(np.abs(head.centre - centre).max()), _apart(head.scale, scale)))
    there[:] = [head for head in there if head is not best]
    return best.size


def _apart(one: float, other: float) -> float:
    return abs(one - other) if np.isfinite(one) else np.inf
