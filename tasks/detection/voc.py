"""Any data set in PASCAL VOC's layout: JPEGImages, Annotations, ImageSets/Main."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import nn

from albench.cache import NewImages, cached, listing
from albench.datafiles import below, opened_image, require_inside
from albench.errors import AlbenchError, did_you_mean
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.tasks.detection import miniature
from albench.tasks.detection.annotations import VOC_CLASSES, Thing, clean, read
from albench.tasks.detection.boxes import Grid
from albench.tasks.detection.network import SSD, SSD300, Vgg, load_vgg
from albench.tasks.detection.task import Detection

VERSION = 1  # of what the cache holds
MARGIN = 1.15  # images are kept this much larger than the network's input, since crops are scaled up


class Entry(NamedTuple):
    """One image of a split and where its two files are."""

    name: str
    image: Path
    annotation: Path


class PascalVoc(Detection):
    """Detection on a folder in VOC layout.

    `folder` lies under the data root ("." is the root itself). A split is a file ImageSets/Main/<split>.txt; several
    are joined by "+", and each may name a folder of its own: folder = "VOCdevkit", pool_split =
    "VOC2007/trainval+VOC2012/trainval". Without `classes` they are those of the annotations, sorted (in the official
    order if they are VOC's twenty).

    Images are kept as uint8 squares of 1.15 × `size` (their sides are scaled apart, as SSD does). The network is
    "compact", or the paper's "ssd300-vgg16" (size 300, width 64, 8,732 default boxes), whose `weights` are None,
    "imagenet", or a local file with vgg16's state dict.
    """

    recipe: ClassVar[Recipe] = Recipe(
        updates=300, batch=16, optimiser="adam", learning_rate=0.003, schedule="cosine", weight_decay=1e-4
    )
    source: ClassVar[str] = "a folder in PASCAL VOC layout (VOC 2007 and 2012: albench data prepare voc)"

    folder: str = "VOCdevkit/VOC2012"
    pool_split: str = "train"
    test_split: str = "val"
    classes: tuple[str, ...] = ()
    network: Literal["compact", "ssd300-vgg16"] = "compact"
    weights: str | None = None
    size: Annotated[int, Field(ge=24)] = 160
    width: Annotated[int, Field(gt=0)] = 16

    @model_validator(mode="before")
    @classmethod
    def _network_sizes(cls, given: object) -> object:
        """The sizes of VGG-16's SSD, unless they are given."""
        if isinstance(given, dict) and given.get("network") == "ssd300-vgg16":
            return {"size": 300, "width": 64} | given
        return given

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.network == "ssd300-vgg16":
            if self.size != 300:
                raise ValueError("ssd300-vgg16 has size = 300")
            if self.weights and self.width != 64:
                raise ValueError("the weights of VGG-16 fit width = 64 alone")
        elif self.weights:
            raise ValueError("weights are VGG-16's: they need network = 'ssd300-vgg16'")
        elif self.size % 8:
            raise ValueError("the compact network needs a size that is a multiple of 8")
        return self

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """24 + 8 images of painted shapes in VOC layout, written to `folder`; a tiny network with dropout."""
        miniature.write(folder)
        return cls(folder=".", size=48, width=8, dropout=0.1)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The default boxes, map by map."""
        return SSD300 if self.network == "ssd300-vgg16" else super().grids

    @property
    def deviation(self) -> float:
        """Pretrained VGG-16 reads pixels 0-255 less the mean; everything else unit variance."""
        return 1 / 255 if self.weights else super().deviation

    def build(self, classes: Sequence[str]) -> nn.Module:
        """The network with fresh weights, or with the backbone's from `weights`."""
        if self.network == "compact":
            return super().build(classes)
        model = SSD(backbone := Vgg(self.width), self.grids, len(classes), self.dropout)
        if self.weights:
            load_vgg(backbone, self.weights)
        return model

    def load(self, root: Path | None) -> Data:
        """Read all images and annotations, or the cache of them; see Data.notes for the dirt that was survived."""
        if root is None:
            raise AlbenchError(f"{self.folder} lies in your data folder: give --data-root")
        home = below(Path(root), self.folder, "folder")
        if not home.is_dir():
            raise AlbenchError(f"no folder {home}; `albench data prepare` says how to get it, or set `folder`")
        pool, test = self._entries(home, self.pool_split), self._entries(home, self.test_split)
        both = sorted({e.image for e in pool} & {e.image for e in test})
        if both:
            raise AlbenchError(f"{len(both)} images are in pool and test both, {both[0]} among them; change the splits")
        files = [f for e in pool + test for f in (e.image, e.annotation)]
        side = math.ceil(MARGIN * self.size)
        key = ("voc", VERSION, side, self.classes, self.pool_split, self.test_split, str(home), listing(files))
        return cached(key, lambda new: build(pool, test, self.classes, side, new))

    def _entries(self, home: Path, splits: str) -> list[Entry]:
        """The images of one or more splits, in order; a missing file of any kind is an AlbenchError."""
        found: dict[Path, Entry] = {}
        for part in splits.split("+"):
            place, _, split = part.strip().rpartition("/")
            folder = below(home, place, "split")
            names = _names(folder / "ImageSets" / "Main", split)
            images = {p.stem: p for p in (folder / "JPEGImages").glob("*") if p.suffix.lower() in SUFFIXES}
            for name in names:
                if name not in images:
                    raise AlbenchError(f"no image {folder / 'JPEGImages' / name}.jpg, which split {split!r} names")
                annotation = folder / "Annotations" / f"{name}.xml"
                if not annotation.is_file():
                    raise AlbenchError(f"no annotation {annotation}, which split {split!r} needs")
                for file in (images[name], annotation):
                    require_inside(file, home, file.parent)
                found[images[name]] = Entry(images[name].name, images[name], annotation)
        return list(found.values())

    def fetch(self, root: Path) -> None:
        """VOC 2007 and 2012 through torchvision, unless they are there. Anything else is to be put there by hand."""
        for splits in (self.pool_split, self.test_split):
            for part in splits.split("+"):
                place, _, split = part.strip().rpartition("/")
                home = below(below(root, self.folder, "folder"), place, "split")
                if not _unpacked(home, split):
                    _download(home, split)


SUFFIXES = (".jpg", ".jpeg", ".png")


def _names(folder: Path, split: str) -> list[str]:
    """The first column of a split's file: official class lists have a second one with 1, 0 or -1."""
    file = folder / f"{split}.txt"
    if not file.is_file():
        there = sorted(p.stem for p in folder.glob("*.txt"))
        raise AlbenchError(f"no split {split!r}: {file} is missing.{did_you_mean(split, there)}")
    try:
        names = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise AlbenchError(f"split {file} is no text ({error.reason} at byte {error.start})") from error
    if not names:
        raise AlbenchError(f"split {file} names no image")
    return names


def _unpacked(home: Path, split: str) -> bool:
    """Whether the split is there with the files of its first and last image: an interrupted unpacking lacks some."""
    try:
        names = _names(home / "ImageSets" / "Main", split)
    except AlbenchError:
        return False
    return all(
        (home / "Annotations" / f"{name}.xml").is_file()
        and any((home / "JPEGImages" / f"{name}{suffix}").is_file() for suffix in SUFFIXES)
        for name in (names[0], names[-1])
    )


def _download(home: Path, split: str) -> None:
    from torchvision.datasets import VOCDetection

    year = home.name.removeprefix("VOC")
    if home.parent.name != "VOCdevkit" or year not in ("2007", "2012"):
        raise AlbenchError(f"put the data by hand where {home}/JPEGImages, Annotations and ImageSets/Main are expected")
    year += "-test" if (year, split) == ("2007", "test") else ""
    try:
        VOCDetection(str(home.parent.parent), year=year, image_set=split, download=True)
    except Exception as error:
        what = f"VOC {year} from http://host.robots.ox.ac.uk/pascal/VOC/ by hand and unpack it, so that {home} exists"
        raise AlbenchError(f"download failed ({error}); fetch {what}") from error


def build(pool: list[Entry], test: list[Entry], classes: tuple[str, ...], side: int, new: NewImages) -> Data:
    """Decode and clean everything; images at side × side, straight into what `new` gives."""
    kept, held = new("pool", (len(pool), 3, side, side)), new("test", (len(test), 3, side, side))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        loaded = list(threads.map(_load, pool + test, [*kept, *held]))
    seen = sorted({thing.name for one in loaded for thing in one.things})
    known = classes or (VOC_CLASSES if set(seen) == set(VOC_CLASSES) else tuple(seen))
    for entry, one in zip(pool + test, loaded, strict=True):
        for thing in one.things:
            if thing.name not in known:
                hint = did_you_mean(thing.name, list(known))
                raise AlbenchError(f"{entry.annotation}: class {thing.name!r} is not among `classes`.{hint}")
    if not known:
        raise AlbenchError(f"no object in any annotation, {pool[0].annotation} the first")
    cut = len(pool)
    notes = [note for one in loaded for note in one.notes]
    names = [entry.name for entry in pool + test]
    return Data(
        Samples(kept, _targets(loaded[:cut], known), names[:cut]),
        Samples(held, _targets(loaded[cut:], known), names[cut:]),
        tuple(known),
        notes,
    )


class Loaded(NamedTuple):
    """An image's original (height, width), its objects and the notes on them."""

    size: tuple[int, int]
    things: list[Thing]
    notes: list[str]


def _load(entry: Entry, image: torch.Tensor) -> Loaded:
    """Decode an image into `image`, uint8 [3, side, side]."""
    side = image.shape[-1]
    things, stated = read(entry.annotation)
    with opened_image(entry.image) as file:
        width, height = file.size
        file.draft("RGB", (side, side))  # a JPEG is decoded at 1/2, 1/4 … where that is still large enough
        square = file.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    things, notes = clean(things, height, width, entry.name)
    if stated not in (None, (0, 0), (height, width)):
        said = f"{stated[1]} × {stated[0]}" if stated else ""
        notes.append(f"{entry.name}: its annotation says {said}, the image is {width} × {height}; the image counts")
    image.copy_(torch.from_numpy(np.array(square)).permute(2, 0, 1))
    return Loaded((height, width), things, notes)


def _targets(loaded: list[Loaded], classes: Sequence[str]) -> dict[str, torch.Tensor]:
    most = max(1, *(len(one.things) for one in loaded)) if loaded else 1
    boxes, labels = torch.zeros(len(loaded), most, 4), torch.full((len(loaded), most), -1)
    difficult = torch.zeros(len(loaded), most, dtype=torch.bool)
    for row, one in enumerate(loaded):
        for place, thing in enumerate(one.things):
            boxes[row, place] = torch.tensor(thing.box)
            labels[row, place] = classes.index(thing.name)
            difficult[row, place] = thing.difficult
    size = torch.tensor([one.size for one in loaded])
    return {"boxes": boxes, "labels": labels, "difficult": difficult, "size": size}
