"""Any detection data set in COCO's format: an instances JSON and a folder of images, for the pool and for testing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeGuard

from albench.cache import cached, listing
from albench.datafiles import Bad, attempt, below, each_problem, named_file, read_json, refuse, require_inside
from albench.errors import AlbenchError
from albench.samples import Data
from albench.tasks.detection import miniature
from albench.tasks.detection.annotations import Thing
from albench.tasks.detection.pictures import Entry, Pictures, decoded, gather, require_apart, require_counting

VERSION = 3  # of what the cache holds
BY_HAND = (
    "fetch train2017.zip and val2017.zip from http://images.cocodataset.org/zips/ and annotations_trainval2017.zip "
    "from http://images.cocodataset.org/annotations/ by hand and unpack them"
)


@dataclass(frozen=True)
class CocoEntry(Entry):
    """An image and what the JSON file says of it."""

    size: tuple[int, int]  # (height, width) as stated
    things: list[Thing] = field(default_factory=list, repr=False)

    def annotated(self) -> tuple[list[Thing], tuple[int, int] | None]:
        """Its objects, and the size that is stated."""
        return self.things, self.size


class Coco(Pictures):
    """Detection on COCO 2017, or on any data set in its format.

    `folder` lies under the data root, and the four others in it: the JSON files of pool and test set, and the folders
    of their images. Classes are the categories in the order of their ids, which need not be consecutive. Crowds
    (iscrowd) are difficult objects: neither hit nor miss, and not learnt from unless `train_difficult`. A bbox
    (x, y, w, h), from 0, becomes 1-based inclusive corners (x + 1, y + 1, x + w, y + h).

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
    coco_metrics: bool = True

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """24 + 8 images of painted shapes in COCO's layout, written to `folder`; a tiny network with dropout."""
        miniature.write_coco(folder / "coco")
        return cls(size=48, width=8, dropout=0.1)

    def load(self, root: Path | None) -> Data:
        """Read all annotations and images, or the cache of them; see Data.notes for the dirt that was survived."""
        files, folders = self._files(root)
        (pool, test), classes = self._read(files, folders, refuse)
        images = [entry.image for entry in pool + test]
        key = ("coco", VERSION, self.side, [str(f) for f in files + folders], listing([*files, *images]))
        return cached(key, lambda new: gather(pool, test, classes, self.side, new))

    def problems(self, root: Path | None) -> Iterator[str]:
        """Every bad image, category and annotation of the JSON files, and every image that cannot be read."""
        found: list[AlbenchError] = []
        parts, _ = self._read(*self._files(root), found.append)
        yield from map(str, found)
        yield from each_problem(lambda entry: decoded(entry.image, self.side), parts[0] + parts[1])
        yield from each_problem(require_counting, [[thing for entry in parts[1] for thing in entry.things]])

    def fetch(self, root: Path) -> None:
        """Nothing where the data are there, and the weights.

        Raises:
            AlbenchError: they are not: what to fetch by hand, from where, and where to put it.
        """
        self._files(root)
        super().fetch(root)

    def _files(self, root: Path | None) -> tuple[list[Path], list[Path]]:
        """The two JSON files and the two folders of images."""
        if root is None:
            raise AlbenchError(f"{self.folder} lies in your data folder: give --data-root")
        home = below(Path(root), self.folder, "folder")
        files = [below(home, self.pool, "pool"), below(home, self.test, "test")]
        folders = [below(home, self.pool_images, "pool_images"), below(home, self.test_images, "test_images")]
        missing = [f for f in files if not f.is_file()] + [f for f in folders if not f.is_dir()]
        if missing:
            raise AlbenchError(f"no {missing[0]}; {BY_HAND} in {home}, or set `folder` and the files in it")
        for file in files:
            require_inside(file, home, file.parent)
        return files, folders

    def _read(self, files: list[Path], folders: list[Path], bad: Bad) -> tuple[list[list[CocoEntry]], tuple[str, ...]]:
        """The images of pool and test set, and the classes."""
        contents = [read_json(file, dict) for file in files]
        names: dict[int, str] = {}
        for file, content in zip(files, contents, strict=True):
            names |= _categories(content, file, names, bad)
        parts = [_entries(*one, names, bad) for one in zip(contents, files, folders, strict=True)]
        attempt(lambda: require_apart(*parts), bad)
        return parts, tuple(names[key] for key in sorted(names))


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

    def add(row: dict) -> None:
        number, height, width = row.get("id"), row.get("height"), row.get("width")
        where = f"{file}: image {str(number)[:40]}"
        if not _whole(number) or number in found:
            raise AlbenchError(f"{where}: its id is no whole number, or there twice")
        if not _side(height) or not _side(width):
            raise AlbenchError(f"{where}: height {str(height)[:40]} and width {str(width)[:40]} are no image's")
        image = named_file(folder, row.get("file_name"), where)
        found[number] = CocoEntry(str(row["file_name"]), image, where, (height, width))

    def annotate(row: dict) -> None:
        image = row.get("image_id")
        if not (_whole(image) and image in lost):  # what is wrong with that image has been said
            entry, thing = _thing(row, f"{file}: annotation {str(row.get('id'))[:40]}", found, names)
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
