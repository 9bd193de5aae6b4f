"""What was odd in a data set and survived, as notes: one each while they are few, of many of a kind their number."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

FEW = 3  # of a kind that are said one by one; of more, so many are named


class Oddity(NamedTuple):
    """Something odd: `where` it is and `what` it is; and the `kind`, as it reads after the number of many such.

    impossible: no annotator means it, so that `data verify` has it among the problems.
    """

    where: str  # "im1.jpg: leaf box (1, 2, 3, 4)"
    what: str  # "is there twice; kept"
    kind: str  # "boxes are there twice; kept"
    impossible: bool = False


def impossible(found: Iterable[Oddity]) -> list[str]:
    """A line for each that is impossible."""
    return [f"{one.where} {one.what}" for one in found if one.impossible]


def grouped(found: Iterable[Oddity]) -> list[str]:
    """A note for each, or one for all of a kind where they are more than FEW, with the first of them; kinds in the
    order in which they begin."""
    kinds: dict[str, list[Oddity]] = {}
    for oddity in found:
        kinds.setdefault(oddity.kind, []).append(oddity)
    notes: list[str] = []
    for kind, those in kinds.items():
        if len(those) > FEW:
            notes.append(f"{len(those):,} {kind}; the first: {', '.join(one.where.rstrip(':') for one in those[:FEW])}")
        else:
            notes += [f"{one.where} {one.what}" for one in those]
    return notes


def counted(number: int, one: str, many: str | None = None) -> str:
    """ "1 crowd", "2 crowds"; `many` where an s at the end does not make it."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def converted(modes: Iterable[str]) -> list[str]:
    """Notes on how many images are not in colour, or have transparency, by Pillow's names of their modes."""
    kinds: Counter[str] = Counter()
    for mode in modes:
        if mode in ("RGBA", "LA", "PA"):
            kinds["with transparency, which is left out"] += 1
        elif mode in ("1", "L", "I") or mode.startswith("I;16"):
            kinds["in grey, put into three channels"] += 1
        elif mode not in ("RGB", "P"):
            kinds[f"in {mode}, converted to RGB"] += 1
    return [f"{counted(number, 'image')} {kind}" for kind, number in sorted(kinds.items())]
