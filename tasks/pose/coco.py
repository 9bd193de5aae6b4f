"""Keypoints in COCO's format; COCO's own as `annotations/person_keypoints_<split>.json` beside the images' folders.

Lin et al., "Microsoft COCO: Common Objects in Context" (ECCV 2014); https://cocodataset.org/#format-data.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from albench.cache import PARTS, NewImages, Part, cached, listing
from albench.datafiles import (
    Bad,
    attempt,
    each_problem,
    ignore,
    image_files,
    named_file,
    numbers,
    refuse,
    require_apart,
    require_readable,
)
from albench.errors import AlbenchError
from albench.facts import LATER
from albench.layout import TestShare, find, keys_say, require_no_test, share_out
from albench.oddities import Oddity, converted, counted, grouped, impossible
from albench.recipe import Recipe
from albench.samples import Batch, Data
from albench.task import Raw
from albench.tasks.pose import crops, miniature
from albench.tasks.pose.crops import Person
from albench.tasks.pose.keypoints import NAMES, Body, Coco, body, read
from albench.tasks.pose.metric import Pck
from albench.tasks.pose.skeleton import COCO, Skeleton
from albench.tasks.pose.task import Pose

VERSION = 1  # of what the cache holds, beside that of the crops
OFFICIAL = {"train2017": 118_287, "val2017": 5_000}  # images
HOW = (
    "fetch by hand, 19 GB: train2017.zip and val2017.zip from http://images.cocodataset.org/zips/, "
    "annotations_trainval2017.zip from http://images.cocodataset.org/annotations/, and unpack them into {home}"
)
Given = Annotated[str | None, LATER]  # a file or a folder of images, in `folder`


class Places(NamedTuple):
    """A JSON file, and the folder of its images."""

    file: Path
    images: Path


class CocoKeypoints(Pose):
    """People of COCO with 17 keypoints, or of any data set in its format, cut out by their annotated boxes.

    COCO's own files are found by `pool_split` and `test_split`. Others are named as in `coco`: `pool` and `test`, JSON
    files in `folder`, and `pool_images` and `test_images`, the folders of their images; or, with `test_share`, `pool`
    alone, and the test set is the people of that share of its images, drawn by their names. Keypoints and what is
    drawn between them are those of the file's category; "left_x" and "right_x" are swapped in a mirror.

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
    pool: Given = None  # default: annotations/person_keypoints_<pool_split>.json
    pool_images: Given = None  # default: <pool_split>; it may also lie in images/
    test: Given = None  # as of the pool, by test_split
    test_images: Given = None  # as of the pool
    test_share: TestShare = None  # of the pool's images that are the test set instead

    @model_validator(mode="after")
    def _one_test_set(self) -> Self:
        require_no_test(self, "test_split", "test", "test_images")
        return self

    @property
    def data_source(self) -> str:
        """COCO 2017, or a user's folder in the same format."""
        official = self.pool is None and self.test is None and {self.pool_split, self.test_split} <= OFFICIAL.keys()
        return self.source if official else f"the folder {self.folder}, in COCO's format"

    def load(self, root: Path | None) -> Data:
        """Crops of every person with an annotated joint, decoded once and cached.

        Raises:
            AlbenchError: a file is missing, unreadable or says something impossible: which one, which annotation.
        """
        places = self._found(root)
        files = [place.file for place in places.values()]
        for folder in {place.images for place in places.values()}:  # an annotation may name files of any suffix
            files += [file for file in folder.rglob("*") if file.is_file()]
        key = ("coco-keypoints", VERSION, crops.VERSION, self.size, self.margin, self.enlarge, self.test_share)
        where = [str(path) for place in places.values() for path in place]
        return cached((*key, where, listing(files)), lambda new: self._built(places, new))

    def problems(self, root: Path | None) -> Iterator[str]:
        """Every bad entry of the JSON files, every person that says something impossible (also where `load` survives
        it), splits of COCO 2017 that are not the official size, and every image that cannot be read."""
        places = self._found(root)
        found: list[AlbenchError] = []
        bad = found.append
        bodies: list[Body] = []
        shown = [attempt(partial(self._check, part, places[part], bodies, bad), bad) for part in places]
        attempt(lambda: _require_one_skeleton(bodies), bad)
        if len(shown) > 1:
            attempt(lambda: require_apart(*(images or set() for images in shown)), bad)
        yield from map(str, found)
        files = {file for place in places.values() for file in image_files(place.images)}
        yield from each_problem(require_readable, sorted(files.union(*(images or () for images in shown))))

    def _check(self, part: Part, place: Places, bodies: list[Body], bad: Bad) -> set[Path]:
        """The images of a part's people; what is wrong with them goes to `bad`, and what body they have to `bodies`."""
        content = read(place.file, bad)
        split = self.pool_split if part == "pool" else self.test_split
        if getattr(self, part) is None and len(content.images) != OFFICIAL.get(split, len(content.images)):
            said = f"{place.file} has {len(content.images):,} images; the official one has {OFFICIAL[split]:,}"
            bad(AlbenchError(said))
        bodies.append(own := body(content, place.file))
        annotations, _ = _annotated(content, place.file, own, bad)
        numbers = sorted({annotation["image_id"] for annotation in annotations})
        shown = {number: attempt(partial(_image, content.images[number], place), bad) for number in numbers}
        images = {image for image in shown.values() if image}
        size = crops.sizes(images, ignore)
        for annotation in annotations:
            image = shown[annotation["image_id"]]
            if image is None or image not in size:
                attempt(partial(_box, annotation, place.file), bad)
            elif found := attempt(partial(self._person, annotation, image, size[image], place.file, own), bad):
                for line in impossible(found[1]):
                    bad(AlbenchError(f"{place.file}: {line}"))
        return images

    def _found(self, root: Path | None) -> dict[Part, Places]:
        """The files of the pool and of the test set (where it has its own)."""
        if root is None:
            raise AlbenchError(f"coco-keypoints reads from the data root; set one that holds {self.folder}/")
        splits: dict[Part, str] = {"pool": self.pool_split}
        if self.test_share is None:
            splits["test"] = self.test_split
        given: dict[str, str] = {}
        for part, split in splits.items():
            file, images = getattr(self, part), getattr(self, f"{part}_images")
            given[part] = f"annotations/person_keypoints_{split}.json" if file is None else file
            given[f"{part}_images"] = split if images is None else images
        own = keys_say(["folder", *given])
        official = all(getattr(self, key) is None for key in given) and {*splits.values()} <= OFFICIAL.keys()
        official = official and self.folder == type(self).model_fields["folder"].default
        places = find(root, self.folder, given, f"{HOW}; of other data {own}" if official else own)
        return {part: Places(places[part], places[f"{part}_images"]) for part in splits}

    def _built(self, places: dict[Part, Places], new: NewImages) -> Data:
        contents = {part: read(place.file) for part, place in places.items()}
        bodies = {part: body(content, places[part].file) for part, content in contents.items()}
        _require_one_skeleton(list(bodies.values()))
        skeleton = bodies["pool"].skeleton
        notes = list(dict.fromkeys(note for own in bodies.values() for note in own.notes))
        people: dict[Part, list[Person]] = {}
        for part, place in places.items():
            people[part], odd = self._people(contents[part], bodies[part], place)
            notes += odd
        if self.test_share is not None:
            named = partial(_name, images=places["pool"].images)
            people["pool"], people["test"], note = share_out(people["pool"], self.test_share, named, "person")
            notes = [note, *notes]
        require_apart(*({person.image for person in people[part]} for part in PARTS))
        notes += _unlabelled(people, skeleton)
        pool, test = (crops.samples(part, people[part], self.stored, self.margin, new, "box") for part in PARTS)
        if skeleton is not COCO:
            for samples in (pool, test):
                samples.targets |= _described(skeleton, len(samples))
        return Data(pool, test, skeleton.names, notes)

    def _people(self, content: Coco, own: Body, place: Places) -> tuple[list[Person], list[str]]:
        """The people of a split and what was odd."""
        annotations, notes = _annotated(content, place.file, own)
        named = {
            number: _image(content.images[number], place)
            for number in {annotation["image_id"] for annotation in annotations}
        }
        if spare := len(content.images) - len(named):
            notes.append(f"{place.file.name}: {counted(spare, 'image')} without anyone who has keypoints; not used")
        headers = crops.headers(set(named.values()))
        notes += [f"{place.file.name}: {note}" for note in converted(header.mode for header in headers.values())]
        odd = [one for number, image in named.items() for one in _resized(content.images[number], headers[image].size)]
        people = []
        for annotation in annotations:
            image = named[annotation["image_id"]]
            person, strange = self._person(annotation, image, headers[image].size, place.file, own)
            odd += strange
            people += [person] if person else []
        if not people:
            raise AlbenchError(f"{place.file} has no person with an annotated joint")
        return people, notes + grouped(odd)

    def _person(
        self, annotation: dict[str, Any], image: Path, size: tuple[int, int], file: Path, own: Body
    ) -> tuple[Person | None, list[Oddity]]:
        """The person of an annotation, or None where the box is none or no joint is of use; and what was odd."""
        where = f"{image.name}, annotation {annotation['id']}:"
        x, y, width, height = _box(annotation, file)
        points = _points(annotation, file, own)
        longer = max(width, height)
        middle = np.array([x + width / 2, y + height / 2])
        inside = (middle >= 0).all() and (middle <= size).all()
        if not (inside and min(width, height) > 0 and 1 <= longer <= 2 * max(size)):  # NaN compares false
            what = f"a bbox of ({x:g}, {y:g}, {width:g}, {height:g}); left out"
            return None, [Oddity(where, what, "people whose bbox is none, or outside the image; left out", True)]
        joints = points[:, :2] + 0.5  # numbers of pixels, the first is 0
        visible, notes = crops.checked(joints, points[:, 2] > 0, size, least=1)
        odd = crops.noted(where, notes)
        if not visible.any():
            return None, odd
        count = int((points[:, 2] > 0).sum())
        said = annotation.get("num_keypoints", count)
        if said != count:
            what = f"num_keypoints is {str(said)[:40]}, and {count} are annotated"
            odd.append(Oddity(where, what, "people with another num_keypoints than are annotated"))
        name = f"{image.name} #{annotation['id']}"
        return Person(name, image, middle, longer * self.enlarge, joints, visible, longer), odd

    def outputs(self, forward: Callable[[Batch], Raw], batch: Batch) -> Raw:
        """As every pose task; without a flip test of candidates, whose joints nobody asks for: which one each becomes
        in a mirror is hidden with their annotations."""
        return super().outputs(forward, batch) if "joints" in batch else forward(batch)

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


def _described(skeleton: Skeleton, count: int) -> Batch:
    """The targets that say what the joints of `count` people are: mirror [N, J], and limbs [N, L, 2] if there are."""
    mirror = torch.tensor(skeleton.mirrored).repeat(count, 1)
    limbs = {"limbs": torch.tensor(skeleton.limbs).repeat(count, 1, 1)} if skeleton.limbs else {}
    return {"mirror": mirror} | limbs


def _name(person: Person, images: Path) -> str:
    """Of the person's image, below the folder of the images."""
    return person.image.relative_to(images).as_posix()


def _unlabelled(people: dict[Part, list[Person]], skeleton: Skeleton) -> list[str]:
    """Notes on keypoints that nobody of a part has annotated."""
    seen = {part: np.any([person.visible for person in those], 0) for part, those in people.items()}
    return [
        f"keypoint {name}: annotated nowhere in the {'test set' if part == 'test' else part}"
        for part, there in seen.items()
        for name, annotated in zip(skeleton.names, there, strict=True)
        if not annotated
    ]


def _image(entry: dict[str, Any], place: Places) -> Path:
    return named_file(place.images, entry.get("file_name"), f"{place.file}, image {entry['id']}: file_name")


def _resized(entry: dict[str, Any], size: tuple[int, int]) -> list[Oddity]:
    """Where an image is said to have another (width, height) than it has."""
    stated = (entry.get("width", size[0]), entry.get("height", size[1]))
    if stated == size:
        return []
    said, found = (" × ".join(str(side)[:20] for side in sides) for sides in (stated, size))
    what = f"its annotation says {said}, the image is {found}; the image counts"
    return [Oddity(f"{entry['file_name']}:", what, "images are not of the size that is said; the image counts")]


def _box(annotation: dict[str, Any], file: Path) -> np.ndarray:
    """[4]: x, y, width and height."""
    return numbers(annotation, "bbox", (4,), f"{file}, annotation {annotation['id']}")


def _points(annotation: dict[str, Any], file: Path, own: Body) -> np.ndarray:
    """[J, 3]: x, y and v."""
    where = f"{file}, annotation {annotation['id']}"
    joints = len(own.skeleton.names)
    points = numbers(annotation, "keypoints", (3 * joints,), where).reshape(joints, 3)
    odd = points[~np.isin(points[:, 2], (0, 1, 2)), 2]
    if len(odd):
        raise AlbenchError(f"{where}: a v of its keypoints is {odd[0]:g}; it is 0, 1 or 2")
    return points


def _annotated(content: Coco, file: Path, own: Body, bad: Bad = refuse) -> tuple[list[dict[str, Any]], list[str]]:
    """The annotations of single people with keypoints, and notes on how many others there are.

    What has not three numbers a keypoint is `bad`.
    """
    kept, left_out = [], Counter[tuple[str, str]]()
    for annotation in content.annotations.values():
        if annotation["category_id"] not in own.categories:
            continue
        if annotation.get("iscrowd"):
            left_out["crowd", "crowds"] += 1
            continue
        points = attempt(partial(_points, annotation, file, own), bad)
        if points is None:
            continue
        if (points[:, 2] > 0).any():
            kept.append(annotation)
        else:
            left_out["person without keypoints", "people without keypoints"] += 1
    return kept, [f"{file.name}: {counted(count, *what)} left out" for what, count in sorted(left_out.items())]


def _require_one_skeleton(bodies: list[Body]) -> None:
    if len({own.skeleton.names for own in bodies}) > 1:
        pool, test = (", ".join(own.skeleton.names)[:80] for own in bodies)
        raise AlbenchError(f"the pool's keypoints ({pool} …) are not those of the test set ({test} …)")
