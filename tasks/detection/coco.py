"""Any detection data set in COCO's format: an instances JSON and a folder of images, for the pool and for testing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeGuard

from pydantic import model_validator

from albench.cache import cached, listing
from albench.datafiles import Bad, attempt, each_line, named_file, read_json, refuse, require_apart
from albench.errors import AlbenchError
from albench.layout import TestShare, find, keys_say, require_no_test
from albench.oddities import counted
from albench.samples import Data
from albench.tasks.detection import miniature
from albench.tasks.detection.annotations import Thing
from albench.tasks.detection.pictures import (
    Entry,
    Pictures,
    examined,
    gather,
    images_of,
    require_easy,
    shared_out,
    suspicious,
)
from albench.tasks.detection.suspicion import require_pixels

VERSION = 5  # of what the cache holds
OFFICIAL = {"annotations/instances_train2017.json": 118_287, "annotations/instances_val2017.json": 5_000}  # images
BY_HAND = (
    "fetch train2017.zip and val2017.zip from http://images.cocodataset.org/zips/ and annotations_trainval2017.zip "
    "from http://images.cocodataset.org/annotations/ by hand and unpack them"
)


@dataclass(frozen=True)
class CocoEntry(Entry):
    """An image and what the JSON file says of it."""

    question: ClassVar[str] = "bbox is x, y, width, height; are these x, y, x, y?"

    size: tuple[int, int]  # (height, width) as stated
    things: list[Thing] = field(default_factory=list, repr=False)

    def annotated(self) -> tuple[list[Thing], tuple[int, int] | None]:
        """Its objects, and the size that is stated."""
        return self.things, self.size


class Coco(Pictures):
    """Detection on COCO 2017, or on any data set in its format.

    `folder` lies under the data root, which may be that folder itself, and the four others in it: the JSON files of
    pool and test set, and the folders of their images, which may also lie in images/. With `test_share` there is one
    JSON file, `pool`, and the test set is that share of its images, drawn by their names. Classes are the categories in
    the order of their ids, which need not be consecutive. Crowds (iscrowd) are difficult objects: neither hit nor
    miss, and not learnt from unless `train_difficult`. A bbox (x, y, w, h), from 0, becomes 1-based inclusive corners
    (x + 1, y + 1, x + w, y + h).

    The metric is VOC's ("map" at IoU .5), with COCO's own beside it. SSD300's default boxes are those for VOC; SSD's
    authors took smaller ones for COCO.
    """

    source: ClassVar[str] = "COCO 2017 (cocodataset.org) or a folder in its format, by hand"

    folder: str = "coco"
    pool: str = "annotations/instances_train2017.json"
    pool_images: str = "train2017"
    test: str = "annotations/instances_val2017.json"
    test_images: str = "val2017"
    train_difficult: bool = False
    test_share: TestShare = None  # of the pool's images that are the test set instead
    coco_metrics: bool = True

    @model_validator(mode="after")
    def _one_test_set(self) -> Self:
        require_no_test(self, "test", "test_images")
        return self

    @property
    def data_source(self) -> str:
        """COCO 2017, or a user's folder in the same format."""
        official = {self.pool, self.test} <= OFFICIAL.keys()
        return self.source.partition(" or ")[0] if official else f"the folder {self.folder}, in COCO's format"

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """24 + 8 images of painted shapes in COCO's layout, written to `folder`; a tiny network with dropout."""
        miniature.write_coco(folder / "coco")
        return cls(size=48, width=8, dropout=0.1)

    def load(self, root: Path | None) -> Data:
        """Read all annotations and images, or the cache of them; see Data.notes for the dirt that was survived."""
        files, folders = self._files(root)
        parts, classes = _read([read_json(file, dict) for file in files], files, folders, refuse)
        (pool, test), notes = shared_out(parts, self.test_share)
        held = [[thing for entry in part for thing in entry.things] for part in (pool, test)]
        for things, part in zip(held, ("pool", "test set"), strict=True):  # before any image is decoded
            require_pixels(things, part)
        if not self.train_difficult:
            require_easy([thing.difficult for thing in held[0]])
        images = [entry.image for entry in pool + test]
        places = [str(f) for f in files + folders]
        key = ("coco", VERSION, self.side, self.test_share, places, listing([*files, *images]))
        notes += _crowds(pool + test)
        return cached(key, lambda new: gather(pool, test, classes, self.side, new, notes, absent=True))

    def problems(self, root: Path | None) -> Iterator[str]:
        """Every bad image, category and annotation of the JSON files, every impossible box (also where `load` survives
        it), files of COCO 2017 that have another size than the official one, and every image that cannot be read."""
        files, folders = self._files(root)
        found: list[AlbenchError] = []
        contents = [attempt(partial(read_json, file, dict), found.append) for file in files]
        parts, _ = _read(contents, files, folders, found.append)
        yield from map(str, found)
        for name, file, content in zip((self.pool, self.test), files, contents, strict=False):
            images = (content or {}).get("images")
            if isinstance(images, list) and len(images) != OFFICIAL.get(name, len(images)):
                yield f"{file} has {len(images):,} images; the official one has {OFFICIAL[name]:,}"
        yield from each_line(lambda entry: examined(entry, self.side), [e for part in parts for e in part])
        if any(parts) or self.test_share is None:
            (pool, test), _ = shared_out(parts, self.test_share)
            yield from suspicious({"pool": pool, "test set": test}, self.train_difficult)

    def fetch(self, root: Path) -> None:
        """Nothing where the data are there, and the weights.

        Raises:
            AlbenchError: they are not: what to fetch by hand, from where, and where to put it.
        """
        self._files(root)
        super().fetch(root)

    def _files(self, root: Path | None) -> tuple[list[Path], list[Path]]:
        """The JSON files and the folders of images, of the pool and of the test set (where it has its own)."""
        if root is None:
            raise AlbenchError(f"{self.folder} lies in your data folder: give --data-root")
        given = {"pool": self.pool, "pool_images": self.pool_images}
        if self.test_share is None:
            given |= {"test": self.test, "test_images": self.test_images}
        own = keys_say(["folder", *given])
        fields = type(self).model_fields
        official = all(getattr(self, key) == fields[key].default for key in ("folder", *given))
        places = find(root, self.folder, given, f"{BY_HAND} in {{home}}; of other data {own}" if official else own)
        parts = ("pool", "test") if self.test_share is None else ("pool",)
        return [places[part] for part in parts], [places[f"{part}_images"] for part in parts]


def _read(
    contents: list[dict | None], files: list[Path], folders: list[Path], bad: Bad
) -> tuple[list[list[CocoEntry]], tuple[str, ...]]:
    """The images of pool and test set, and the classes; nothing of a file that could not be read (None)."""
    names: dict[int, str] = {}
    named: list[dict[int, str] | None] = []
    for file, content in zip(files, contents, strict=True):
        found = attempt(partial(_categories, content, file, names, bad), bad) if content is not None else None
        named.append(found)
        names |= found or {}
    parts: list[list[CocoEntry]] = []
    for content, own, file, folder in zip(contents, named, files, folders, strict=True):
        if content is None or own is None:
            parts.append([])
        else:
            parts.append(attempt(partial(_entries, content, file, folder, names, bad), bad) or [])
    if len(parts) > 1:
        attempt(lambda: require_apart(*images_of(*parts)), bad)
    return parts, tuple(names[key] for key in sorted(names))


def _crowds(entries: list[CocoEntry]) -> list[str]:
    """A note on the crowds."""
    number = sum(thing.difficult for entry in entries for thing in entry.things)
    return [f"{counted(number, 'crowd')} (iscrowd) taken as difficult: neither hit nor miss"] if number else []


def _rows(content: dict, kind: str, file: Path) -> list[dict]:
    """A section of the file: its "images", "annotations" or "categories"."""
    rows = content.get(kind)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise AlbenchError(f"{file}: {kind!r} is no list of objects; not an instances file of COCO")
    return rows


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _side(value: Any) -> TypeGuard[int]:
    return _whole(value) and 0 < value < 1_000_000


def _four(value: Any) -> TypeGuard[list[float]]:
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(v, int | float) for v in value)
    return numbers and all(abs(v) < 1e9 for v in value)  # NaN compares false


def _categories(content: dict, file: Path, known: dict[int, str], bad: Bad) -> dict[int, str]:
    """Names by id; `known`: those of the other file, which must not differ."""
    found: dict[int, str] = {}

    def add(row: dict) -> None:
        number, name = row.get("id"), row.get("name")
        where = f"{file}: category {str(number)[:40]}"
        if not _whole(number) or not isinstance(name, str) or not name:
            raise AlbenchError(f"{where} ({str(name)[:40]!r}) has no whole number as id, or no name")
        others = {**known, **found}
        if number in found or others.get(number, name) != name:
            raise AlbenchError(f"{where} is there twice, as {others[number]!r} and {name!r}")
        if any(other == name and key != number for key, other in others.items()):
            raise AlbenchError(f"{where}: another one is called {name!r}, too")
        found[number] = name

    for row in _rows(content, "categories", file):
        attempt(partial(add, row), bad)
    return found


def _entries(content: dict, file: Path, folder: Path, names: dict[int, str], bad: Bad) -> list[CocoEntry]:
    """The images with their objects, in the order of the file."""
    found: dict[int, CocoEntry] = {}
    owners: dict[Path, int] = {}  # whose file it is
    seen: set[int] = set()  # ids of annotations

    def add(row: dict) -> None:
        number, height, width = row.get("id"), row.get("height"), row.get("width")
        where = f"{file}: image {str(number)[:40]}"
        if not _whole(number) or number in found:
            raise AlbenchError(f"{where}: its id is no whole number, or there twice")
        if not _side(height) or not _side(width):
            raise AlbenchError(f"{where}: height {str(height)[:40]} and width {str(width)[:40]} are no image's")
        image = named_file(folder, row.get("file_name"), where)
        if (owner := owners.setdefault(image, number)) != number:
            raise AlbenchError(f"{where}: its file {row['file_name'][:80]!r} is image {owner}, too")
        found[number] = CocoEntry(str(row["file_name"]), image, where, (height, width))

    def annotate(row: dict) -> None:
        number, image = row.get("id"), row.get("image_id")
        if not (_whole(image) and image in lost):  # what is wrong with that image has been said
            where = f"{file}: annotation {str(number)[:40]}"
            if number is not None:  # some tools leave it out, and nothing here refers to it
                if not _whole(number) or number in seen:
                    raise AlbenchError(f"{where}: its id is no whole number, or there twice")
                seen.add(number)
            entry, thing = _thing(row, where, found, names)
            entry.things.append(thing)

    images = _rows(content, "images", file)
    if not images:
        raise AlbenchError(f"{file} has no image")
    for row in images:
        attempt(partial(add, row), bad)
    lost = {row["id"] for row in images if _whole(row.get("id")) and row["id"] not in found}
    for row in _rows(content, "annotations", file):
        attempt(partial(annotate, row), bad)
    return list(found.values())


def _thing(row: dict, where: str, images: dict[int, CocoEntry], names: dict[int, str]) -> tuple[CocoEntry, Thing]:
    """The image of an annotation and its object, the box in 1-based inclusive pixels."""
    image, category, box = row.get("image_id"), row.get("category_id"), row.get("bbox")
    if not _whole(image) or image not in images:
        raise AlbenchError(f"{where} is of image {str(image)[:40]}, which is not there")
    if not _whole(category) or category not in names:
        raise AlbenchError(f"{where} has category {str(category)[:40]}, which is not there")
    if not _four(box):
        raise AlbenchError(f"{where}: its bbox is {str(box)[:60]}, not four numbers x, y, width, height")
    x, y, width, height = box
    corners = (float(x + 1), float(y + 1), float(x + width), float(y + height))
    return images[image], Thing(names[category], corners, row.get("iscrowd") == 1)
