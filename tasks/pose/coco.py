"""COCO keypoints, in the official layout: `annotations/person_keypoints_<split>.json` beside the images' folders.

Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV 2014); https://cocodataset.org/#format-data.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import Field

from albench.cache import PARTS, NewImages, Part, cached, listing
from albench.datafiles import (
    Bad,
    attempt,
    below,
    each_problem,
    image_files,
    named_file,
    numbers,
    read_json,
    refuse,
    require_inside,
    require_readable,
)
from albench.errors import AlbenchError
from albench.recipe import Recipe
from albench.samples import Data
from albench.tasks.pose import crops, miniature
from albench.tasks.pose.crops import Person
from albench.tasks.pose.metric import Pck
from albench.tasks.pose.skeleton import COCO, Skeleton
from albench.tasks.pose.task import Pose

OFFICIAL = {"train2017": 118_287, "val2017": 5_000}  # images
NAMES = [name.replace(" ", "_") for name in COCO.names]  # as the files have them


class CocoKeypoints(Pose):
    """People of COCO with 17 keypoints, cut out by their annotated boxes.

    A joint with v = 0 is not annotated; v = 1 (hidden) and 2 (seen) are. Crowds and people without keypoints are left
    out, and counted in the notes. The square has `enlarge` × the box's longer side.

    "pck-box@0.2": within 0.2 × the longer side of the person's box. COCO's own average precision by object keypoint
    similarity is not measured: it ranks detections by a score, and here every person's box is given.

    The sizes are for CPUs; at the paper's (size 256 …) the cache of train2017 has about 46 GB.
    """

    metric: ClassVar[str] = "pck-box@0.2"
    skeleton: ClassVar[Skeleton] = COCO
    pcks: ClassVar[tuple[Pck, ...]] = (Pck("pck-box@0.2", 0.2, "box"),)
    source: ClassVar[str] = "https://cocodataset.org: train2017, val2017 and their annotations, by hand"
    recipe: ClassVar[Recipe] = Recipe(  # that of `lsp`; not tuned on COCO
        updates=600, batch=16, optimiser="adam", learning_rate=0.006, weight_decay=0.0, schedule="cosine"
    )

    folder: str = "coco"  # in the data root; the data root itself may be that folder
    pool_split: str = "train2017"
    test_split: str = "val2017"
    enlarge: Annotated[float, Field(gt=0)] = 1.25  # of the person's square

    def load(self, root: Path | None) -> Data:
        """Crops of every person with an annotated joint, decoded once and cached.

        Raises:
            AlbenchError: a file is missing, unreadable or says something impossible: which one, which annotation.
        """
        home = self._found(root)
        places = {part: _places(home, split) for part, split in self._splits.items()}
        files = [file for annotation, images in places.values() for file in [annotation, *image_files(images)]]
        key = ("coco-keypoints", crops.VERSION, self.size, self.margin, self.enlarge, self.pool_split, self.test_split)
        return cached((*key, listing(files)), lambda new: self._built(places, new))

    def problems(self, root: Path | None) -> Iterator[str]:
        """Every bad entry of the JSON files, splits of COCO 2017 that are not the official size, and every image that
        cannot be read."""
        home = self._found(root)
        found: list[AlbenchError] = []
        shown = [attempt(partial(_check, home, split, found.append), found.append) for split in self._splits.values()]
        attempt(lambda: _require_disjoint(*(images or set() for images in shown)), found.append)
        yield from map(str, found)
        folders = sorted({_places(home, split)[1] for split in self._splits.values()})
        yield from each_problem(require_readable, [file for folder in folders for file in image_files(folder)])

    @property
    def _splits(self) -> dict[Part, str]:
        return {"pool": self.pool_split, "test": self.test_split}

    def _found(self, root: Path | None) -> Path:
        if root is None:
            raise AlbenchError(f"coco-keypoints reads from the data root; set one that holds {self.folder}/")
        missing: dict[Path, list[Path]] = {}
        for folder in (below(root, self.folder, "folder"), root):
            needed = [place for split in self._splits.values() for place in _places(folder, split)]
            missing[folder] = [place for place in needed if not place.exists()]
            if not missing[folder]:
                return folder
        folder = root / self.folder
        raise AlbenchError(f"{missing[folder][0]} is missing; {HOW} into {folder}")

    def _built(self, places: dict[Part, tuple[Path, Path]], new: NewImages) -> Data:
        people: dict[Part, list[Person]] = {}
        notes: list[str] = []
        for part, (file, images) in places.items():
            people[part], odd = self._people(file, images)
            notes += odd
        _require_disjoint(*({person.image for person in people[part]} for part in PARTS))
        pool, test = (crops.samples(part, people[part], self.stored, self.margin, new, "box") for part in PARTS)
        return Data(pool, test, self.skeleton.names, notes)

    def _people(self, file: Path, images: Path) -> tuple[list[Person], list[str]]:
        """The people of a split and what was odd, annotation by annotation."""
        content = read(file)
        annotations, notes = _annotated(content, file)
        named = {
            number: _image(content.images[number], images, file)
            for number in {annotation["image_id"] for annotation in annotations}
        }
        size = crops.sizes(set(named.values()))
        notes += [note for number, image in named.items() for note in _resized(content.images[number], size[image])]
        people = []
        for annotation in annotations:
            image = named[annotation["image_id"]]
            person, odd = self._person(annotation, image, size[image], file)
            notes += [f"{image.name}, annotation {annotation['id']}: {note}" for note in odd]
            people += [person] if person else []
        if not people:
            raise AlbenchError(f"{file} has no person with an annotated joint")
        return people, notes

    def _person(
        self, annotation: dict[str, Any], image: Path, size: tuple[int, int], file: Path
    ) -> tuple[Person | None, list[str]]:
        """The person of an annotation, or None where the box is none or no joint is of use; and what was odd."""
        x, y, width, height = _box(annotation, file)
        points = _points(annotation, file)
        longer = max(width, height)
        middle = np.array([x + width / 2, y + height / 2])
        inside = (middle >= 0).all() and (middle <= size).all()
        if not (inside and min(width, height) > 0 and 1 <= longer <= 2 * max(size)):  # NaN compares false
            return None, [f"a bbox of ({x:g}, {y:g}, {width:g}, {height:g}); left out"]
        joints = points[:, :2] + 0.5  # numbers of pixels, the first is 0
        visible, notes = crops.checked(joints, points[:, 2] > 0, size, least=1)
        if not visible.any():
            return None, notes
        count = int((points[:, 2] > 0).sum())
        said = annotation.get("num_keypoints", count)
        if said != count:
            notes.append(f"num_keypoints is {str(said)[:40]}, and {count} are annotated")
        name = f"{image.name} #{annotation['id']}"
        return Person(name, image, middle, longer * self.enlarge, joints, visible, longer), notes

    def fetch(self, root: Path) -> None:
        """Nothing where the data are there.

        Raises:
            AlbenchError: they are not: what to fetch by hand, from where, and where to put it.
        """
        self._found(root)

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """24 + 8 generated figures in the official layout, a crowd among them, and the smallest network."""
        miniature.write_coco(folder / "coco", NAMES)
        return cls(size=32, stride=2, depth=1, width=8, dropout=0.1)


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


def _image(entry: dict[str, Any], images: Path, file: Path) -> Path:
    return named_file(images, entry.get("file_name"), f"{file}, image {entry['id']}: file_name")


def _resized(entry: dict[str, Any], size: tuple[int, int]) -> list[str]:
    """A note where an image is said to have another (width, height) than it has."""
    stated = (entry.get("width", size[0]), entry.get("height", size[1]))
    if stated == size:
        return []
    said, found = (" × ".join(str(side)[:20] for side in sides) for sides in (stated, size))
    return [f"{entry['file_name']}: its annotation says {said}, the image is {found}; the image counts"]


def _box(annotation: dict[str, Any], file: Path) -> np.ndarray:
    """[4]: x, y, width and height."""
    return numbers(annotation, "bbox", (4,), f"{file}, annotation {annotation['id']}")


def _points(annotation: dict[str, Any], file: Path) -> np.ndarray:
    """[17, 3]: x, y and v."""
    where = f"{file}, annotation {annotation['id']}"
    points = numbers(annotation, "keypoints", (51,), where).reshape(17, 3)
    odd = points[~np.isin(points[:, 2], (0, 1, 2)), 2]
    if len(odd):
        raise AlbenchError(f"{where}: a v of its keypoints is {odd[0]:g}; it is 0, 1 or 2")
    return points


HOW = (
    "fetch by hand, 19 GB: train2017.zip and val2017.zip from http://images.cocodataset.org/zips/, "
    "annotations_trainval2017.zip from http://images.cocodataset.org/annotations/, and unpack them"
)


def _places(home: Path, split: str) -> tuple[Path, Path]:
    """A split's annotation file and folder of images, whether they are there or not."""
    images = below(home, split, "split")
    if not images.is_dir() and (home / "images" / split).is_dir():
        images = home / "images" / split
    annotation = home / "annotations" / f"person_keypoints_{split}.json"
    require_inside(annotation, home, annotation.parent)
    return annotation, images


def _annotated(content: Coco, file: Path, bad: Bad = refuse) -> tuple[list[dict[str, Any]], list[str]]:
    """The annotations of single people with keypoints, and notes on how many others there are.

    What has no 51 numbers as keypoints is `bad`.

    Raises:
        AlbenchError: no category has COCO's keypoints.
    """
    people = {number for number, category in content.categories.items() if category.get("keypoints") == NAMES}
    if not people:
        raise AlbenchError(f"{file}: no category has COCO's 17 keypoints (nose, left_eye … right_ankle)")
    kept, left_out = [], Counter[str]()
    for annotation in content.annotations.values():
        if annotation["category_id"] not in people:
            continue
        if annotation.get("iscrowd"):
            left_out["crowds"] += 1
            continue
        points = attempt(partial(_points, annotation, file), bad)
        if points is None:
            continue
        if (points[:, 2] > 0).any():
            kept.append(annotation)
        else:
            left_out["people without keypoints"] += 1
    return kept, [f"{file.name}: {count:,} {what} left out" for what, count in sorted(left_out.items())]


def _check(home: Path, split: str, bad: Bad) -> set[Path]:
    """The images of a split's people; what is wrong with them goes to `bad`."""
    file, images = _places(home, split)
    content = read(file, bad)
    if len(content.images) != OFFICIAL.get(split, len(content.images)):
        bad(AlbenchError(f"{file} has {len(content.images):,} images; the official one has {OFFICIAL[split]:,}"))
    annotations, _ = _annotated(content, file, bad)
    numbers = sorted({annotation["image_id"] for annotation in annotations})
    shown = [attempt(partial(_image, content.images[number], images, file), bad) for number in numbers]
    for annotation in annotations:
        attempt(partial(_box, annotation, file), bad)
    return {image for image in shown if image}


def _require_disjoint(pool: set[Path], test: set[Path]) -> None:
    if both := sorted(pool & test):
        raise AlbenchError(f"{len(both)} images are in pool and test both, {both[0]} among them; change the splits")
