"""What the boxes of a set give away together: that they are of another kind than they are read as."""

from collections.abc import Iterable, Sequence

from albench.errors import AlbenchError
from albench.oddities import counted
from albench.tasks.detection.annotations import Thing

FAR = 2  # pixels beyond the image; tools disagree about the first or the last one
MANY = 0.2  # of the boxes

Sized = tuple[Thing, tuple[int, int]]  # an object, and its image's (height, width)


def require_pixels(things: Sequence[Thing], part: str) -> None:
    """Raises: AlbenchError: all boxes of a part ("pool") lie within 0…1: shares of the image's sides, not pixels."""
    if things and all(0 <= value <= 2 for thing in things for value in thing.box):  # 2: corners are counted from 1
        said = "the only box" if len(things) == 1 else f"all {len(things):,} boxes"
        raise AlbenchError(
            f"{said} of the {part} lie within 0…1, as shares of the image's sides do; boxes are in pixels here: "
            "multiply them by width and height"
        )


def beyond(boxed: Iterable[Sized], part: str, question: str) -> list[str]:
    """A line where so many boxes of a part reach beyond their images that they may be misread, with the `question`."""
    total = far = 0
    for thing, (height, width) in boxed:
        left, top, right, bottom = thing.box
        total += 1
        far += min(left, top) < 1 - FAR or right > width + FAR or bottom > height + FAR
    if far <= MANY * total:
        return []
    return [f"{far:,} of {counted(total, 'box', 'boxes')} of the {part} reach beyond their image: {question}"]
