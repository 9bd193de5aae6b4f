"""PASCAL VOC annotations: one XML file an image, read strictly and cleaned with a note."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from albench.errors import AlbenchError
from albench.oddities import Oddity

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)  # the official order


TINY = "boxes are less than a pixel wide or high; kept"
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
_NUMBER = re.compile(r"\s*[0-9]{1,9}\s*")


class Thing(NamedTuple):
    """An annotated object: box in 1-based inclusive pixels (xmin, ymin, xmax, ymax)."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class _NoDocumentType(ElementTree.TreeBuilder):
    """Refuses a DTD before any entity of it is expanded: an annotation needs none, an attack does."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise AlbenchError("has a document type declaration, which annotations never need")


def read(file: Path) -> tuple[list[Thing], tuple[int, int] | None]:
    """The objects of an annotation as they are written, and the (height, width) that it states, if any.

    Raises:
        AlbenchError: the file is missing, no XML, has a DTD, or an object lacks its name or a corner.
    """
    try:
        root = ElementTree.fromstring(file.read_bytes(), ElementTree.XMLParser(target=_NoDocumentType()))
    except OSError as error:
        raise AlbenchError(f"annotation {file} cannot be read: {error.strerror}") from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # an unknown encoding is one of the others
        raise AlbenchError(f"{file} is not well-formed XML: {error}") from error
    except AlbenchError as error:
        raise AlbenchError(f"{file} {error}") from error
    try:
        things = [_thing(node) for node in root.findall("object")]
    except KeyError as error:
        raise AlbenchError(f"{file}: an object's `difficult` is {error.args[0]!r}; it is 0 or 1") from error
    except (TypeError, ValueError) as error:
        raise AlbenchError(f"{file}: an object lacks its name or a corner of its box, or it is no number") from error
    stated = [root.findtext(f"size/{side}") or "" for side in ("height", "width")]
    size = (int(stated[0]), int(stated[1])) if all(_NUMBER.fullmatch(s) for s in stated) else None
    return things, size


def _thing(node: ElementTree.Element) -> Thing:
    name = (node.findtext("name") or "").strip()
    xmin, ymin, xmax, ymax = (float(node.findtext(f"bndbox/{k}") or "") for k in ("xmin", "ymin", "xmax", "ymax"))
    if not name or not all(abs(v) < float("inf") for v in (xmin, ymin, xmax, ymax)):
        raise ValueError
    return Thing(name, (xmin, ymin, xmax, ymax), _FLAGS[(node.findtext("difficult") or "").strip().lower()])


def clean(things: list[Thing], height: int, width: int, image: str) -> tuple[list[Thing], list[Oddity]]:
    """Objects cut to their image of height × width, and what is odd about those that were cut, left out or so.

    Corners are pixels that belong to the box, so one with xmax == xmin is a pixel wide, and kept. One without width or
    height is left out, and so are one outside the image and a single pixel: that is a slip of the hand, though the
    official evaluation would count it. Impossible are those that are inside out, outside the image, or end farther
    beyond it than it is wide or high.
    """
    kept: list[Thing] = []
    odd: list[Oddity] = []
    seen = set()
    for name, given, difficult in things:
        xmin, ymin, xmax, ymax = given
        told = f"{image}: {name} box ({xmin:g}, {ymin:g}, {xmax:g}, {ymax:g})"
        if (name, given) in seen:
            odd.append(Oddity(told, "is there twice; kept", "boxes are there twice; kept"))
        seen.add((name, given))
        box = max(xmin, 1.0), max(ymin, 1.0), min(xmax, float(width)), min(ymax, float(height))
        if xmax - xmin <= -1 or ymax - ymin <= -1 or (xmax == xmin and ymax == ymin):
            inside_out = xmax - xmin < -1 or ymax - ymin < -1
            odd.append(Oddity(told, "is degenerate; left out", "boxes are degenerate; left out", inside_out))
        elif box[2] - box[0] <= -1 or box[3] - box[1] <= -1:
            what = f"is outside the image of {width} × {height}; left out"
            odd.append(Oddity(told, what, "boxes are outside their image; left out", True))
        else:
            if box != (xmin, ymin, xmax, ymax):
                what = f"reaches beyond the image of {width} × {height}; cut"
                far = xmin < -width or ymin < -height or xmax > 2 * width or ymax > 2 * height
                odd.append(Oddity(told, what, "boxes reach beyond their image; cut", far))
            if min(xmax - xmin, ymax - ymin) < 0:
                odd.append(Oddity(told, "is less than a pixel wide or high; kept", TINY))
            kept.append(Thing(name, box, difficult))
    return kept, odd
