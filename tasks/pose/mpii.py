"""MPII Human Pose: the official annotations for head boxes, the common JSON split for people and joints.

Andriluka, Pishchulin, Gehler and Schiele, "2D Human Pose Estimation: New Benchmark and State of the Art Analysis"
(CVPR 2014).
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field

from albench.cache import PARTS, NewImages, Part, cached, listing
from albench.datafiles import (
    Bad,
    attempt,
    below,
    each_problem,
    ignore,
    image_files,
    named_file,
    numbers,
    read_json,
    require_inside,
    require_readable,
)
from albench.errors import AlbenchError
from albench.oddities import Oddity, grouped, impossible
from albench.recipe import Recipe
from albench.samples import Data
from albench.tasks.pose import crops, heads, metric, miniature
from albench.tasks.pose.crops import Person
from albench.tasks.pose.metric import Pck
from albench.tasks.pose.skeleton import MPII, Skeleton
from albench.tasks.pose.task import Pose

VERSION = 1  # of what the cache holds, beside that of the crops
FILES: dict[Part, str] = {"pool": "train.json", "test": "valid.json"}
PEOPLE: dict[Part, int] = {"pool": 22_246, "test": 2_958}  # of the common split
MAT = "mpii_human_pose_v1_u12_1.mat"
PLACES = ("", "annot", "mpii_human_pose_v1_u12_2")  # where annotations may lie in the folder
HEIGHT = 200  # pixels: a person's height is 200 px × scale
WIDEST = 100  # times the image's longer side: beyond that no one has a square or stands
UNCOUNTED = "for whoever is there; does not count in PCKh"
HEADLESS = f"people to test on without a head box in {MAT}; they do not count in PCKh"
TALLEST = 8  # times the image's longer side: a body has some eight heads, so of a taller one not even the head fits


class Mpii(Pose):
    """People of MPII Human Pose with 16 joints, by the common split: 22,246 in the pool, 2,958 to test on.

    A person's square has the side 200 px · scale · `enlarge`, and its centre is `shift` · scale px below the annotated
    one, since that lies high on the body and feet would be cut off: the two adjustments that hourglass training codes
    make. The stored image shows `margin` times as much.

    PCKh@0.5: an error of at most half of 0.6 × the diagonal of the person's head box; the mean is over all joints but
    pelvis and thorax. Whoever has no head box is trained on and does not count in it. "pck-tenth@0.5" is the number
    that hourglass training codes log (metric.tenth_accuracy).

    Positions in the files count pixels from 1, so a pixel's number less a half is its centre.
    """

    metric: ClassVar[str] = "pckh@0.5"
    skeleton: ClassVar[Skeleton] = MPII
    pcks: ClassVar[tuple[Pck, ...]] = (
        Pck(
            "pckh@0.5",
            0.5,
            "head",
            left_out=(6, 7),
            groups={  # of the official table
                "head": (8, 9),
                "shoulder": (12, 13),
                "elbow": (11, 14),
                "wrist": (10, 15),
                "hip": (2, 3),
                "knee": (1, 4),
                "ankle": (0, 5),
            },
        ),
    )
    source: ClassVar[str] = "http://human-pose.mpi-inf.mpg.de (a licence to accept) and the common JSON split, by hand"
    recipe: ClassVar[Recipe] = Recipe(  # the paper's
        epochs=125, batch=6, optimiser="rmsprop", learning_rate=2.5e-4, weight_decay=0.0, milestones=(0.8,)
    )

    folder: str = "mpii"  # in the data root; the data root itself may be that folder
    enlarge: Annotated[float, Field(gt=0)] = 1.25  # of the person's square
    shift: float = 15.0  # of its centre, downwards, in pixels at scale 1
    size: Annotated[int, Field(gt=0)] = 256
    stride: Literal[2, 4] = 4
    stacks: Annotated[int, Field(gt=0)] = 2
    depth: Annotated[int, Field(gt=0)] = 4
    width: Annotated[int, Field(gt=0, multiple_of=2)] = 256
    heatmap_loss: Literal["mse", "cross-entropy"] = "mse"

    def load(self, root: Path | None) -> Data:
        """Crops of every person of train.json and valid.json, decoded once and cached.

        Raises:
            AlbenchError: a file is missing, unreadable or says something impossible: which one, and which person.
        """
        folder = self._found(root)
        annotations = {part: _annotation(folder, file) for part, file in FILES.items()}
        mat = _annotation(folder, MAT)
        files = [*annotations.values(), mat, *image_files(folder / "images")]
        key = ("mpii", VERSION, crops.VERSION, self.size, self.margin, self.enlarge, self.shift, listing(files))
        return cached(key, lambda new: self._built(folder / "images", annotations, mat, new))

    def problems(self, root: Path | None) -> Iterator[str]:
        """Head boxes that cannot be read, every person that says something impossible (also where `load` survives it)
        or is there twice, splits of another size than the official one, every unreadable image."""
        folder = self._found(root)
        yield from each_problem(lambda name: heads.read(_annotation(folder, name)), [MAT])
        found: list[AlbenchError] = []
        entries = {
            part: attempt(partial(self._check, part, folder, found.append), found.append) or [] for part in PARTS
        }
        yield from map(str, found)
        yield from (f"{name} is in train.json and valid.json both" for name in _shared(entries))
        named = {entry.image for part in PARTS for entry in entries[part]}
        yield from each_problem(require_readable, sorted(named.union(image_files(folder / "images"))))

    def _check(self, part: Part, folder: Path, bad: Bad) -> list["Entry"]:
        """The people of a file; what is wrong with them goes to `bad`."""
        given = _numbered(_annotation(folder, FILES[part]))
        read = [attempt(partial(_entry, one, folder / "images"), bad) for one in given]
        entries = [entry for entry in read if entry]
        size = crops.sizes({entry.image for entry in entries}, ignore)
        lines = _odd_count(part, len(given)) + _repeated(part, entries)
        for (where, _), entry in zip(given, read, strict=True):
            if entry and entry.image in size:
                _, odd = self._person(entry, size[entry.image], {})
                lines += [f"{where}, {line}" for line in impossible(odd)]
        for line in lines:
            bad(AlbenchError(line))
        return entries

    def _found(self, root: Path | None) -> Path:
        if root is None:
            raise AlbenchError(f"mpii reads its images from the data root; set one that holds {self.folder}/")
        for folder in (below(root, self.folder, "folder"), root):
            if all(_place(folder, name) for name in (MAT, *FILES.values())) and (folder / "images").is_dir():
                return folder
        folder = root / self.folder
        names = [name for name in (MAT, *FILES.values()) if not _place(folder, name)]
        missing = names + ([] if (folder / "images").is_dir() else ["images/"])
        raise AlbenchError(f"{folder} has no {', '.join(missing)}; {_how(folder)}")

    def _built(self, folder: Path, annotations: dict[Part, Path], mat: Path, new: NewImages) -> Data:
        entries = {part: _entries(file, folder) for part, file in annotations.items()}
        if both := _shared(entries):
            raise AlbenchError(f"{len(both)} people are in train.json and valid.json both, {both[0]} among them")
        size = crops.sizes({entry.image for part in PARTS for entry in entries[part]})
        boxes, notes, odd = heads.read(mat), [], []
        people: dict[Part, list[Person]] = {"pool": [], "test": []}
        for part in PARTS:
            notes += _odd_count(part, len(entries[part])) + _repeated(part, entries[part])
            for entry in entries[part]:
                person, strange = self._person(entry, size[entry.image], boxes)
                if part == "test" and person and not person.length:
                    strange.append(Oddity(f"{entry.name}:", f"no head box in {MAT} {UNCOUNTED}", HEADLESS))
                odd += strange
                people[part] += [person] if person else []
            if not people[part]:
                raise AlbenchError(f"{FILES[part]} has no person with an annotated joint")
        if not any(person.length for person in people["test"]):
            raise AlbenchError(
                f"{mat} has a head box for nobody of {FILES['test']}, so PCKh would measure nobody: are both of MPII?"
            )
        notes += grouped(odd)
        pool, test = (crops.samples(part, people[part], self.stored, self.margin, new, "head") for part in PARTS)
        return Data(pool, test, self.skeleton.names, notes)

    def _person(self, entry: "Entry", size: tuple[int, int], boxes: heads.Heads) -> tuple[Person | None, list[Oddity]]:
        """The person of an entry, or None where nothing can be cut out; and what was odd."""
        centre, scale, where = entry.centre, entry.scale, f"{entry.name}:"
        side = HEIGHT * scale * self.enlarge
        most = WIDEST * max(size)
        if not ((np.abs(centre) <= most).all() and 1 <= side <= most):  # NaN compares false
            what = f"a center of ({centre[0]:g}, {centre[1]:g}) and a scale of {scale:g}; left out"
            return None, [Oddity(where, what, "people whose center and scale cannot be; left out", True)]
        visible, notes = crops.checked(entry.joints, entry.visible, size, least=1)
        odd = crops.noted(where, notes)
        if not visible.any():
            return None, odd
        if HEIGHT * scale > TALLEST * max(size):
            times = HEIGHT * scale / max(size)
            what = f"a scale of {scale:g}, so a height of {times:.0f} times the image's longer side; kept"
            odd.append(Oddity(where, what, "people far higher, by their scale, than the image; kept", True))
        length = heads.take(boxes, entry.image.name, centre, scale)
        middle = centre - 0.5 + np.array([0, self.shift * scale])
        if not (np.abs(entry.joints[visible] - middle) <= side / 2).all(1).any():
            what = f"no annotated joint in the square that center and a scale of {scale:g} give; kept"
            odd.append(
                Oddity(where, what, "people without a joint in the square of their center and scale; kept", True)
            )
        return Person(entry.name, entry.image, middle, side, entry.joints, visible, length), odd

    def beside(self, predicted: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> dict[str, float]:
        """ "pck-tenth@0.5", on ankles, knees, hips, wrists and elbows."""
        counted = visible & ((joints >= 0) & (joints < self.size)).all(2)
        which = (0, 1, 2, 3, 4, 5, 10, 11, 14, 15)
        value = metric.tenth_accuracy(predicted, joints, counted, self.stride, self.cells, which)
        return {} if np.isnan(value) else {"pck-tenth@0.5": value}

    def fetch(self, root: Path) -> None:
        """Nothing where the data are there.

        Raises:
            AlbenchError: they are not: what to fetch by hand, from where, and where to put it.
        """
        self._found(root)

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """24 + 8 generated figures in the official layout, and the smallest network."""
        miniature.write_mpii(folder / "mpii", MAT)
        return cls(size=32, stride=2, stacks=1, depth=1, width=8, dropout=0.1, shift=0.0)


class Entry(NamedTuple):
    """A person of a JSON file; centre (x, y) as it is there, joints [16, 2] in continuous pixels."""

    name: str
    image: Path
    centre: np.ndarray
    scale: float
    joints: np.ndarray
    visible: np.ndarray


def _how(folder: Path) -> str:
    return (
        f"fetch by hand, after accepting the licence on http://human-pose.mpi-inf.mpg.de: "
        f"mpii_human_pose_v1.tar.gz (12.9 GB) and put its images into {folder / 'images'}, "
        f"mpii_human_pose_v1_u12_2.zip and put {MAT} from it into {folder}; and train.json and valid.json of the "
        f"common split (joints, joints_vis, image, scale, center; the data section of "
        f"https://github.com/leoxiaobin/deep-high-resolution-net.pytorch links them) and put them into "
        f"{folder / 'annot'}"
    )


def _place(folder: Path, name: str) -> Path | None:
    return next((file for place in PLACES if (file := folder / place / name).is_file()), None)


def _annotation(folder: Path, name: str) -> Path:
    file = _place(folder, name)
    assert file is not None  # _found has looked
    require_inside(file, folder, file.parent)
    return file


def _entries(file: Path, images: Path) -> list[Entry]:
    """The people of a JSON file.

    Raises:
        AlbenchError: it is no such file, or an entry lacks something: which one.
    """
    found = [_entry(one, images) for one in _numbered(file)]
    if not found:
        raise AlbenchError(f"{file} names no person")
    return found


def _numbered(file: Path) -> list[tuple[str, Any]]:
    """Where each person stands in a JSON file, and what is said of them."""
    return [(f"{file}, person {i}", given) for i, given in enumerate(read_json(file, list))]


def _entry(numbered: tuple[str, Any], images: Path) -> Entry:
    where, given = numbered
    if not isinstance(given, dict):
        raise AlbenchError(f"{where} is no object with image, center, scale, joints and joints_vis")
    image = named_file(images, given.get("image"), f"{where}: image")
    centre, scale = numbers(given, "center", (2,), where), numbers(given, "scale", (), where)
    joints, visible = numbers(given, "joints", (16, 2), where), numbers(given, "joints_vis", (16,), where) > 0
    name = f"{image.name} at ({centre[0]:g}, {centre[1]:g})"
    return Entry(name, image, centre, float(scale), joints - 0.5, visible)


def _odd_count(part: Part, count: int) -> list[str]:
    """Whether a file has another number of people than the official split."""
    name, official = FILES[part], PEOPLE[part]
    return [] if count == official else [f"{name} has {count:,} people, where the official split has {official:,}"]


def _repeated(part: Part, entries: list[Entry]) -> list[str]:
    """Everyone who is in a file again: the same image, center and scale."""
    count = Counter((entry.name, entry.scale) for entry in entries)
    return [f"{FILES[part]}: {name} is there {times} times" for (name, _), times in count.items() if times > 1]


def _shared(entries: dict[Part, list[Entry]]) -> list[str]:
    """Who is in both splits."""
    return sorted({entry.name for entry in entries["pool"]} & {entry.name for entry in entries["test"]})
