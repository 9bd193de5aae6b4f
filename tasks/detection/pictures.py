"""What data sets of photographs share: how they are decoded and kept, and the networks they are trained with."""

import contextlib
import functools
import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field, model_validator
from torch import nn

from albench.cache import NewImages
from albench.datafiles import as_rgb, attempt, opened_image
from albench.download import Wanted, download
from albench.errors import AlbenchError, did_you_mean
from albench.layout import share_out
from albench.oddities import Oddity, converted, counted, grouped, impossible
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.tasks.detection.annotations import VOC_CLASSES, Thing, clean
from albench.tasks.detection.boxes import Grid
from albench.tasks.detection.network import IMAGENET, SSD, SSD300, Vgg, compact_grids, imagenet_file, load_vgg
from albench.tasks.detection.suspicion import Sized, beyond, require_pixels
from albench.tasks.detection.task import DEVIATION, Detection

ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)  # an EXIF tag, and its values that swap the sides
MARGIN = 1.15  # images are kept this much larger than the network's input, unless `stored` says how large


class Pictures(Detection):
    """Photographs, kept as uint8 squares of `stored` pixels (their sides are scaled apart, as SSD does).

    Crops are scaled up from there: at 345, the default of a network that reads 300, a crop of .3 has 104 pixels a
    side, at 512 it has 154. An image takes 3 · stored² bytes of cache and device memory, 357,075 or 786,432; to
    augment one took 7.4 or 13.7 ms of a CPU core (medians of 30 batches of 8).

    The network is "compact", or the paper's "ssd300-vgg16" (size 300, width 64, 8,732 default boxes), whose `weights`
    are None, "imagenet", or a local file (see `network.load_vgg`). Such a file's path goes into `weights_file`, and
    `weights` becomes "sha256:…" (or "imagenet", where it is that very file): what a result hangs on is its content.
    """

    recipe: ClassVar[Recipe] = Recipe(
        updates=300, batch=16, optimiser="adam", learning_rate=0.003, schedule="cosine", weight_decay=1e-4
    )
    places: ClassVar[frozenset[str]] = frozenset({"folder", "weights_file"})

    network: Literal["compact", "ssd300-vgg16"] = "compact"
    weights: str | None = None
    weights_file: str | None = None  # set by `weights`
    size: Annotated[int, Field(ge=24)] = 160
    stored: Annotated[int, Field(ge=24, le=4096)] | None = None  # default: 1.15 × size, rounded up
    width: Annotated[int, Field(gt=0)] = 16

    @model_validator(mode="before")
    @classmethod
    def _network_sizes(cls, given: object) -> object:
        """The sizes of VGG-16's SSD, unless they are given; a weights file's path and sum, apart."""
        if not isinstance(given, dict):
            return given
        if given.get("network") == "ssd300-vgg16":
            given = {"size": 300, "width": 64} | given
        weights = given.get("weights")
        if isinstance(weights, str) and weights not in ("", "imagenet") and not given.get("weights_file"):
            given = given | {"weights": _content(weights), "weights_file": weights}
        return given

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.weights_file and not self.weights:
            raise ValueError("weights_file goes with weights: give the file's path as weights")
        if self.network == "ssd300-vgg16":
            if self.size != 300:
                raise ValueError("ssd300-vgg16 has size = 300")
            if self.weights and self.width != 64:
                raise ValueError("the weights of VGG-16 fit width = 64 alone")
        elif self.weights or self.weights_file:
            raise ValueError("weights are VGG-16's: they need network = 'ssd300-vgg16'")
        elif self.size % 8:
            raise ValueError("the compact network needs a size that is a multiple of 8")
        return self

    @property
    def side(self) -> int:
        """Of the squares that images are kept as, pixels."""
        return self.stored or math.ceil(MARGIN * self.size)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The default boxes, map by map."""
        return SSD300 if self.network == "ssd300-vgg16" else compact_grids(self.size)

    @property
    def deviation(self) -> float:
        """Pretrained VGG-16 reads pixels 0-255 less the mean; everything else unit variance."""
        return 1 / 255 if self.weights else DEVIATION

    def build(self, classes: Sequence[str]) -> nn.Module:
        """The network with fresh weights, or with the backbone's from `weights`.

        Raises:
            AlbenchError: the weights cannot be read, or their file has changed.
        """
        if self.network == "compact":
            return super().build(classes)
        model = SSD(backbone := Vgg(self.width), self.grids, len(classes), self.dropout)
        if self.weights_file:
            if _content(self.weights_file) != self.weights:
                raise AlbenchError(f"the weights {self.weights_file} are no longer those that the run began with")
            load_vgg(backbone, Path(self.weights_file))
        elif self.weights:
            _fetch_weights()
            load_vgg(backbone, imagenet_file())
        return model

    def fetch(self, root: Path) -> None:
        """The ImageNet weights, into torch's own cache (TORCH_HOME), where the network takes them."""
        if self._weights_wanted():
            _fetch_weights()

    def _weights_wanted(self) -> list[Wanted]:
        """The ImageNet weights, where the network takes them and no file is given."""
        return [(IMAGENET, imagenet_file())] if self.weights == "imagenet" and not self.weights_file else []


def _fetch_weights() -> None:
    try:
        download(IMAGENET, imagenet_file())
    except OSError as error:
        raise AlbenchError(f"the ImageNet weights cannot be kept at {imagenet_file()}: {error.strerror}") from error


def _content(weights: str) -> str:
    """What a file of weights holds: "imagenet" or "sha256:…".

    Raises:
        AlbenchError: it cannot be read.
    """
    try:
        status = Path(weights).stat()
        digest = _sha256(weights, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise AlbenchError(f"weights {weights!r} cannot be read: {error.strerror}") from error
    return "imagenet" if f"sha256:{digest}".startswith(IMAGENET.checksum) else f"sha256:{digest}"


@functools.lru_cache(maxsize=8)
def _sha256(file: str, _bytes: int, _changed: int) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@dataclass(frozen=True)
class Entry(ABC):
    """One image of a split: what it is called, where it is, and where its annotation is, for messages."""

    question: ClassVar[str]  # where boxes reach beyond their images: what they may be

    name: str
    image: Path
    origin: str

    @abstractmethod
    def annotated(self) -> tuple[list[Thing], tuple[int, int] | None]:
        """Its objects as they are written, and the (height, width) that the annotation states, if any."""


E = TypeVar("E", bound=Entry)


def gather(
    pool: Sequence[Entry],
    test: Sequence[Entry],
    classes: tuple[str, ...],
    side: int,
    new: NewImages,
    notes: Sequence[str] = (),
    absent: bool = False,
) -> Data:
    """Decode and clean everything; images at side × side, straight into what `new` gives. More `notes` follow.

    Without `classes` they are those of the annotations, sorted (in the official order if they are VOC's twenty).
    `absent`: that one of `classes` has no object is noted, too.

    Raises:
        AlbenchError: a file cannot be read, a class is not among `classes`, the pool has no object, or the test set
            none that counts.
    """
    entries = [*pool, *test]
    kept, held = new("pool", (len(pool), 3, side, side)), new("test", (len(test), 3, side, side))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        loaded = list(threads.map(_load, entries, [*kept, *held]))
    seen = sorted({thing.name for one in loaded for thing in one.things})
    cut = len(pool)
    parts = {"pool": loaded[:cut], "test set": loaded[cut:]}
    for part, those in parts.items():
        require_pixels([thing for one in those for thing in one.given], part)
        boxed = ((thing, one.size) for one in those for thing in one.given)
        notes = [*notes, *beyond(boxed, part, entries[0].question)]
    require_objects(thing for one in parts["pool"] for thing in one.things)
    require_counting(thing for one in parts["test set"] for thing in one.things)
    known = classes or (VOC_CLASSES if set(seen) == set(VOC_CLASSES) else tuple(seen))
    for entry, one in zip(entries, loaded, strict=True):
        require_known(one.things, known, entry.origin)
    notes = [*notes, *_odd_classes(known, parts if absent or not classes else {}), *_bare(parts)]
    notes += converted(one.mode for one in loaded)
    notes += grouped(oddity for one in loaded for oddity in one.odd)
    names = [entry.name for entry in entries]
    return Data(
        Samples(kept, _targets(parts["pool"], known), names[:cut]),
        Samples(held, _targets(parts["test set"], known), names[cut:]),
        tuple(known),
        notes,
    )


def shared_out(parts: list[list[E]], share: float | None) -> tuple[list[list[E]], list[str]]:
    """Pool and test set, and notes: the `parts` themselves, or where there is a `share`, drawn from the only one.

    Raises:
        AlbenchError: the share leaves one of them empty.
    """
    if share is None:
        return parts, []
    pool, test, note = share_out(parts[0], share, lambda entry: entry.name)
    return [pool, test], [note]


def examined(entry: Entry, side: int) -> list[str]:
    """A line for each object of an image that `load` survives although it is impossible; of an annotation that cannot
    be read none: that is said elsewhere.

    Raises:
        AlbenchError: the image cannot be read.
    """
    given: list[Thing] = []
    stated = None
    with contextlib.suppress(AlbenchError):
        given, stated = entry.annotated()
    _, (height, width), _ = decoded(entry.image, side, stated)
    return impossible(clean(given, height, width, entry.name)[1])


def images_of(*parts: Sequence[Entry]) -> list[list[Path]]:
    """The images of each part."""
    return [[entry.image for entry in part] for part in parts]


def suspicious(parts: dict[str, Sequence[Entry]], train_difficult: bool) -> Iterator[str]:
    """What is wrong with the objects of pool and test set together, a line each; an annotation that cannot be read is
    passed over."""
    for part, entries in parts.items():
        things: list[Thing] = []
        boxed: list[Sized] = []
        for entry in entries:
            with contextlib.suppress(AlbenchError):
                given, stated = entry.annotated()
                things += given
                boxed += [(thing, stated) for thing in given if stated and all(stated)]
        if entries:
            found: list[AlbenchError] = []
            attempt(partial(require_pixels, things, part), found.append)
            attempt(partial(require_counting if part == "test set" else require_objects, things), found.append)
            if part == "pool" and not train_difficult:
                attempt(partial(require_easy, [thing.difficult for thing in things]), found.append)
            yield from map(str, found)
            yield from beyond(boxed, part, entries[0].question)


def require_objects(things: Iterable[Thing]) -> None:
    """Raises: AlbenchError: there is nothing to learn from in a pool of these objects."""
    if not any(True for _ in things):
        raise AlbenchError("no object in the pool: its annotations are empty, so there is nothing to learn from")


def require_easy(difficult: Sequence[bool]) -> None:
    """Raises: AlbenchError: all objects of a pool are difficult, where such are not learnt from."""
    if difficult and all(difficult):
        raise AlbenchError(
            "every object of the pool is difficult (a crowd, in COCO), and such are not learnt from: set "
            "`train_difficult`, or annotate others"
        )


def require_counting(things: Iterable[Thing]) -> None:
    """Raises: AlbenchError: there is nothing to find in a test set of these objects."""
    if all(thing.difficult for thing in things):
        raise AlbenchError("no object in the test set counts: all are difficult (crowds, in COCO), or there are none")


def require_known(things: list[Thing], classes: Sequence[str], origin: str) -> None:
    """Raises: AlbenchError: an object's class is none of these."""
    for thing in things:
        if thing.name not in classes:
            hint = did_you_mean(thing.name, list(classes))
            raise AlbenchError(f"{origin}: class {thing.name!r} is not among `classes`.{hint}")


def decoded(file: Path, side: int, stated: tuple[int, int] | None = None) -> tuple[np.ndarray, tuple[int, int], str]:
    """An image as uint8 [side, side, 3], its original (height, width), and the mode of its pixels as Pillow names it.

    stated: what its annotation says they are. Where that is the image turned as its EXIF orientation says, it is
    turned: its boxes were drawn on it as viewers show it.

    Raises:
        AlbenchError: it cannot be read.
    """
    with opened_image(file) as opened:
        (width, height), mode = opened.size, opened.mode
        turned = width != height and stated == (width, height) and opened.getexif().get(ORIENTATION, 1) in LYING
        opened.draft("RGB", (side, side))  # a JPEG is decoded at 1/2, 1/4 … where that is still large enough
        image = ImageOps.exif_transpose(opened) if turned else opened
        square = as_rgb(image).resize((side, side), Image.Resampling.BILINEAR)
    if turned:
        width, height = height, width
    return np.array(square), (height, width), mode


class Loaded(NamedTuple):
    """An image's original (height, width) and mode, its objects and what is odd about them."""

    size: tuple[int, int]
    mode: str
    given: list[Thing]  # as they are written
    things: list[Thing]
    odd: list[Oddity]


def _load(entry: Entry, image: torch.Tensor) -> Loaded:
    """Decode an image into `image`, uint8 [3, side, side]."""
    given, stated = entry.annotated()
    square, (height, width), mode = decoded(entry.image, image.shape[-1], stated)
    things, odd = clean(given, height, width, entry.name)
    if stated not in (None, (0, 0), (height, width)):
        said = f"{stated[1]} × {stated[0]}" if stated else ""
        what = f"its annotation says {said}, the image is {width} × {height}; the image counts"
        kind = "images are not of the size that their annotations say; the image counts"
        odd.append(Oddity(f"{entry.name}:", what, kind))
    image.copy_(torch.from_numpy(square).permute(2, 0, 1))
    return Loaded((height, width), mode, given, things, odd)


def _odd_classes(classes: Sequence[str], parts: dict[str, list[Loaded]]) -> list[str]:
    """Notes on classes that differ in case only, and on those that are absent from a part."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(name.casefold(), []).append(name)
    notes = [f"classes {' and '.join(names)} differ in case only" for names in alike.values() if len(names) > 1]
    there = {part: {thing.name for one in loaded for thing in one.things} for part, loaded in parts.items()}
    nowhere = [name for name in classes if parts and not any(name in names for names in there.values())]
    notes += [f"class {name}: no object at all, but a class of the network" for name in nowhere]
    for part, names in there.items():
        notes += [f"class {name}: no object in the {part}" for name in classes if name not in {*names, *nowhere}]
    return notes


def _bare(parts: dict[str, list[Loaded]]) -> list[str]:
    """A note on the images that have no object."""
    bare = {part: sum(not one.things for one in loaded) for part, loaded in parts.items()}
    said = " and ".join(f"{counted(number, 'image')} of the {part}" for part, number in bare.items() if number)
    return [f"{said} without an object; kept"] if said else []


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
