"""Leeds Sports Pose and its extended set, in their official layouts: `images/` beside `joints.mat`.

Johnson and Everingham, "Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation" (BMVC 2010) and
"Learning Effective Human Pose Estimation from Inaccurate Annotation" (CVPR 2011).
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from PIL import Image
from pydantic import Field
from scipy.io import savemat

from albench.cache import PARTS, NewImages, Part, cached, listing
from albench.datafiles import SUFFIXES, below, each_problem, ignore, require_inside, require_readable
from albench.errors import AlbenchError
from albench.matlab import read_array
from albench.oddities import Oddity, counted, grouped, impossible
from albench.recipe import Recipe
from albench.samples import Data
from albench.seeds import generator
from albench.tasks.pose import crops
from albench.tasks.pose.crops import Person
from albench.tasks.pose.metric import segment_lengths
from albench.tasks.pose.painting import generate
from albench.tasks.pose.skeleton import LSP_TORSO
from albench.tasks.pose.task import Pose

NUMBERED = re.compile(r"im([0-9]+)")  # the official names: "im00012"
ROOM = 1.25  # side of a person's box over the extent of its joints, so that hands, feet and hair are on it


class LeedsSports(Pose):
    """One person in an image, 14 joints; LSP or LSPET, told apart by the shape of `joints.mat`.

    Image im00012.jpg belongs to the twelfth annotation; images of other names are paired in the order of these, frame2
    before frame10.

    The crop is a square around the person: centre = the middle of the annotated joints' bounding box, side = 1.25 ×
    its longer side (MPII's center and scale, a scale being side / 200 px). The network sees that square; the stored
    image shows `margin` times as much of the original, grey where there is none, so that rotation and scale bring in
    real pixels.

    LSP has an official split, the first 1,000 for training and the last 1,000 for testing. LSPET was published as
    training data: here its last images, a quarter unless `test` says how many, are the test set.
    """

    source: ClassVar[str] = "Leeds Sports Pose (LSP, LSPET): lspet_dataset.zip or lsp_dataset.zip, by hand"
    # Random selection on 2,000 images of LSPET, one trial: PCK@0.2 .12, .15, .17, .19, .19 with 60 labels more a
    # stage, .23 from the whole pool of 1,500. About 20 s a stage on one CPU thread; 1,000 updates give .28 from all.
    recipe: ClassVar[Recipe] = Recipe(
        updates=600, batch=16, optimiser="adam", learning_rate=0.006, weight_decay=0.0, schedule="cosine"
    )

    folder: str = "lspet_dataset"  # in the data root; the data root itself may be that folder
    test: Annotated[int, Field(gt=0)] | None = None  # images of the test set, the last ones

    def load(self, root: Path | None) -> Data:
        """Crops of every person with two annotated joints or more, decoded once and cached.

        Raises:
            AlbenchError: the folder, `joints.mat` or an image is missing or unreadable, or an image is not annotated.
        """
        folder, files = self._files(root)
        key = ("lsp", crops.VERSION, self.size, self.margin, self.test, listing([folder / "joints.mat", *files]))
        return cached(key, lambda new: self._built(folder, files, new))

    def _files(self, root: Path | None) -> tuple[Path, list[Path]]:
        """The folder with `joints.mat`, and its images in the order of its annotations."""
        folder = self._found(root)
        there = (f for f in (folder / "images").iterdir() if f.suffix.lower() in SUFFIXES and f.name[0] != ".")
        files = sorted(there, key=lambda file: (_number(file), *_natural(file.stem)))
        for file in (folder / "joints.mat", *files):
            require_inside(file, folder, folder / "images")
        return folder, files

    def _found(self, root: Path | None) -> Path:
        if root is None:
            raise AlbenchError(f"lsp reads its images from the data root; set one that holds {self.folder}/")
        for folder in (below(root, self.folder, "folder"), root):
            if (folder / "joints.mat").is_file() and (folder / "images").is_dir():
                return folder
        folder = root / self.folder
        if not folder.is_dir():
            raise AlbenchError(f"there is no folder {folder}; {HOW}")
        missing = "joints.mat" if not (folder / "joints.mat").is_file() else "images/"
        raise AlbenchError(f"{folder} has no {missing}; {HOW}")

    def _built(self, folder: Path, files: list[Path], new: NewImages) -> Data:
        joints, visible, official = read_joints(folder / "joints.mat")
        if wrong := list(_unpaired(files, len(joints))):
            more = f"; `albench data verify lsp` names {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
            raise AlbenchError(wrong[0] + more)
        split = len(files) - self._test_count(len(files), official)
        people: dict[Part, list[Person]] = {"pool": [], "test": []}
        odd: list[Oddity] = []
        size = crops.sizes(files)
        for row, file in enumerate(files):
            flags, notes = crops.checked(joints[row], visible[row], size[file], least=2)
            odd += crops.noted(f"{file.name}:", notes)
            if flags.sum() >= 2:
                people["pool" if row < split else "test"].append(_person(file, joints[row], flags))
        for part, there in people.items():
            if not there:
                raise AlbenchError(f"{folder}: no image of the {'test set' if part == 'test' else part} has joints")
        notes = [*grouped(odd), *self._uncounted(people["test"]), *_flat(people["pool"] + people["test"])]
        pool, test = (crops.samples(part, people[part], self.stored, self.margin, new) for part in PARTS)
        return Data(pool, test, self.skeleton.names, notes)

    def problems(self, root: Path | None) -> Iterator[str]:
        """Every image that is missing, not annotated or cannot be read, a `joints.mat` that can't, and every person
        that says something impossible (also where `load` survives it)."""
        folder, files = self._files(root)
        joints, visible, _ = read_joints(folder / "joints.mat")
        yield from _unpaired(files, len(joints))
        pairs = _pairs(files, len(joints))
        size = crops.sizes(pairs, ignore)
        for file, row in pairs.items():
            if file in size:
                yield from _impossible(file, joints[row], visible[row], size[file])
        yield from each_problem(require_readable, files)

    def _uncounted(self, people: list[Person]) -> list[str]:
        """A note where the metric cannot count someone of the test set, who has no torso.

        Raises:
            AlbenchError: it can count nobody.
        """
        visible = np.stack([person.visible for person in people])
        joints = np.where(visible[..., None], np.stack([person.joints for person in people]), 0)
        lengths = segment_lengths(joints, visible, LSP_TORSO)
        lost = [person.name for person, length in zip(people, lengths, strict=True) if not length]
        ends = " and ".join(self.skeleton.names[joint] for joint in LSP_TORSO)
        if len(lost) == len(people):
            raise AlbenchError(f"nobody in the test set has a torso ({ends}), so {self.metric} would measure nobody")
        who = counted(len(lost), "test person has", "test people have")
        what = f"no torso ({ends}) and {'does' if len(lost) == 1 else 'do'} not count in {self.metric}"
        return [f"{who} {what}, {lost[0]} the first"] if lost else []

    def _test_count(self, images: int, official: bool) -> int:
        count = self.test or (1000 if official and images == 2000 else max(1, images // 4))
        if count >= images:
            raise AlbenchError(f"lsp: test = {count} leaves no image for the pool; there are {images}")
        return count

    def fetch(self, root: Path) -> None:
        """Nothing where the data are there.

        Raises:
            AlbenchError: they are not: what to fetch by hand, from where, and where to put it.
        """
        self._found(root)

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """24 generated figures as JPEGs in LSPET's layout, one joint not labelled, and the smallest network."""
        place = folder / "lspet_dataset"
        (place / "images").mkdir(parents=True, exist_ok=True)
        images, joints = generate(24, 80, 64, generator("lsp miniature"))
        for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(place / "images" / f"im{i + 1:05d}.jpg", quality=92)
        table = np.concatenate([joints.double().numpy(), np.ones((24, 14, 1))], 2)
        table[3, 5] = 0  # a left ankle that nobody labelled
        savemat(place / "joints.mat", {"joints": table.transpose(1, 2, 0)})
        return cls(size=32, stride=2, depth=1, width=8, dropout=0.1)


HOW = (
    "fetch lspet_dataset.zip (10,000 images; or lsp_dataset.zip, 2,000) by hand from "
    "http://sam.johnson.io/research/lspet.html and unpack it so that images/ and joints.mat lie there"
)


def read_joints(file: Path) -> tuple[np.ndarray, np.ndarray, bool]:
    """Joints [N, 14, 2] in image pixels, which are annotated [N, 14], and whether the layout is LSP's.

    LSP is 3×14×N, and its third row flags joints that are occluded: all are annotated. LSPET is 14×3×N, and its third
    column is 0 where a joint is not labelled.

    Raises:
        AlbenchError: the file cannot be read or is neither.
    """
    try:
        table = read_array(file, "joints")
    except (OSError, ValueError) as error:
        raise AlbenchError(f"{file} cannot be read ({error}); fetch it again") from error
    if table is None:
        raise AlbenchError(f"{file} holds no array named 'joints'")
    if table.ndim == 2:  # MATLAB drops the last axis of a single image
        table = table[..., None]
    if table.ndim == 3 and table.shape[:2] == (3, 14):
        return table[:2].transpose(2, 1, 0), np.ones((table.shape[2], 14), bool), True
    if table.ndim == 3 and table.shape[:2] == (14, 3):
        return table[:, :2].transpose(2, 0, 1), table[:, 2].T > 0, False
    shape = "×".join(map(str, table.shape))
    raise AlbenchError(f"{file}: 'joints' is {shape}; LSP has 3×14×N, LSPET 14×3×N")


def _person(file: Path, joints: np.ndarray, visible: np.ndarray) -> Person:
    """The person of an image, in the square around the annotated joints."""
    low, high = joints[visible].min(0), joints[visible].max(0)
    return Person(file.name, file, (low + high) / 2, max(float((high - low).max()) * ROOM, 2.0), joints, visible)


def _impossible(file: Path, joints: np.ndarray, visible: np.ndarray, size: tuple[int, int]) -> list[str]:
    """A line for each thing that the joints of the person in an image of (width, height) say and that cannot be."""
    flags, notes = crops.checked(joints, visible, size, least=2)
    flat = flags.sum() >= 2 and _flat([_person(file, joints, flags)])
    lines = impossible(crops.noted(f"{file}:", notes))
    return lines + ([f"{file}: all joints are on one point; kept"] if flat else [])


def _flat(people: list[Person]) -> list[str]:
    """A note where all joints of someone are on one point."""
    flat = [person.name for person in people if not np.ptp(person.joints[person.visible], 0).any()]
    who = counted(len(flat), "person has", "people have")
    return [f"{who} all joints on one point, {flat[0]} the first; kept"] if flat else []


def _number(file: Path) -> int:
    """Of an image, 12 of im00012.jpg; -1 where its name holds none."""
    found = NUMBERED.fullmatch(file.stem)
    return int(found[1]) if found else -1


def _pairs(files: list[Path], count: int) -> dict[Path, int]:
    """Which annotation of `count` is an image's, where that is sure although others may be missing or too many."""
    numbers = {file: _number(file) - 1 for file in files}
    if all(number < 0 for number in numbers.values()):
        return {file: row for row, file in enumerate(files)} if len(files) == count else {}
    often = Counter(numbers.values())
    return {file: number for file, number in numbers.items() if 0 <= number < count and often[number] == 1}


def _natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts frame2 before frame10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _unpaired(files: list[Path], count: int) -> Iterator[str]:
    """What keeps images from being paired with `count` annotations, a line for each missing or surplus image.

    Where an image has a number, all must have them, from 1 to `count`: else a missing one and a spare one would shift
    everyone between them to another one's joints.
    """
    numbers = [_number(file) for file in files]
    if all(number < 0 for number in numbers):
        if len(files) != count:
            yield f"joints.mat annotates {count:,} images, and images/ beside it has {len(files):,}"
        return
    annotated = f"joints.mat annotates {count:,} images, numbered from 1"
    first = next(file for file, number in zip(files, numbers, strict=True) if number >= 0)
    stem = first.stem.rstrip("0123456789")
    digits = len(first.stem) - len(stem) if first.stem[len(stem)] == "0" else 1
    for number in sorted({*range(1, count + 1)} - {*numbers}):
        yield f"{first.parent / f'{stem}{number:0{digits}d}{first.suffix}'} is missing: {annotated}"
    for place, (file, number) in enumerate(zip(files, numbers, strict=True)):
        if not 1 <= number <= count:
            yield f"{file} is none of them: {annotated}; take it away"
        elif number in numbers[max(place - 1, 0) : place]:  # they are sorted
            yield f"{file}: another image has this number, too; take one of them away"
