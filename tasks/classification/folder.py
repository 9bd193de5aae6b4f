"""Any images in a folder per class, as torchvision's ImageFolder has them."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field, model_validator
from torch import Tensor

from albench.cache import PARTS, NewImages, Part, cached, listing
from albench.datafiles import (
    OTHERS,
    SUFFIXES,
    as_rgb,
    below,
    each_problem,
    image_files,
    opened_image,
    require_apart,
    require_inside,
)
from albench.errors import AlbenchError
from albench.layout import TestShare, require_no_test, share_out
from albench.oddities import converted
from albench.samples import Data, Samples
from albench.tasks.classification.task import Classification

VERSION = 3  # of what the cache holds


class ImageFolder(Classification):
    """JPEG and PNG files in FOLDER/SPLIT/CLASS/, at any depth; one split is the pool, another one the test set.

    A split without a name, "", is FOLDER itself: its folders are the classes. With `test_share` the test set is that
    share of the pool's images, drawn by their names.

    What is kept of an image, and seen by the network, is the square in its middle, scaled to `size`. Grey images get
    three channels; a photo that says so in its EXIF data is turned. Mirrored images are taken for the same class.
    The network is a compact one for CPUs; ResNet-18 has blocks = [2, 2, 2, 2] and width = 64.
    """

    source: ClassVar[str] = "your own images: SPLIT/CLASS/*.jpg or *.png"

    folder: str = "images"  # in the data root; the data root itself may be that folder
    pool_split: str = "train"
    test_split: str = "test"
    size: Annotated[int, Field(ge=8)] = 64  # side of the square, pixels
    test_share: TestShare = None  # of the pool's images that are the test set instead

    @model_validator(mode="after")
    def _one_test_set(self) -> Self:
        require_no_test(self, "test_split")
        return self

    def load(self, root: Path | None) -> Data:
        """Every image, decoded once and cached; classes are the folders' names, sorted.

        Raises:
            AlbenchError: a split is missing or holds no class with images, or an image cannot be read.
        """
        parts, notes = self._parts(root)
        key = (
            "image-folder",
            VERSION,
            self.size,
            self.test_share,
            {part: listing(p.file for p in parts[part]) for part in PARTS},
            notes,
        )
        return cached(key, lambda new: self._built(parts, notes, new))

    def problems(self, root: Path | None) -> Iterator[str]:
        """Every image that cannot be read."""
        parts, _ = self._parts(root)
        yield from each_problem(lambda picture: _square(picture.file, self.size), parts["pool"] + parts["test"])

    def _parts(self, root: Path | None) -> tuple[dict[Part, list["Picture"]], list[str]]:
        """The images of pool and test set in the order of their paths, and what was odd about the folders."""
        if root is None:
            raise AlbenchError(f"image-folder reads from the data root; set one that holds {self.folder}/")
        splits: dict[Part, str] = {"pool": self.pool_split}
        if self.test_share is None:
            splits["test"] = self.test_split
        if self.pool_split == splits.get("test"):
            raise AlbenchError(f"pool_split and test_split are both {self.pool_split!r}: test images must be others")
        homes = [below(root, self.folder, "folder")]
        if self.pool_split or root.resolve().name == Path(self.folder).name:  # else any data root would do
            homes.append(root)
        home = next((home for home in homes if below(home, self.pool_split, "pool_split").is_dir()), homes[0])
        found = {part: _pictures(below(home, split, f"{part}_split"), part) for part, split in splits.items()}
        parts = {part: pictures for part, (pictures, _) in found.items()}
        notes = [note for _, note in found.values() if note]
        said = dict(splits)
        if self.test_share is not None:
            pool, test, note = share_out(parts["pool"], self.test_share, lambda picture: picture.place)
            parts, said = {"pool": pool, "test": test}, {"pool": "the pool", "test": "the test set"}
            notes = [note, *notes]
        else:
            require_apart(*([picture.file for picture in parts[part]] for part in PARTS))
        there = {part: {picture.label for picture in pictures} for part, pictures in parts.items()}
        notes += [f"class {label}: no image in {said['test']}" for label in sorted(there["pool"] - there["test"])]
        notes += [f"class {label}: no image in {said['pool']}" for label in sorted(there["test"] - there["pool"])]
        return parts, notes

    def _built(self, parts: dict[Part, list["Picture"]], notes: list[str], new: NewImages) -> Data:
        classes = tuple(sorted({picture.label for pictures in parts.values() for picture in pictures}))
        if len(classes) < 2:
            raise AlbenchError(f"all images are of one class, {classes[0]}; put each class into a folder of its own")
        number = {label: place for place, label in enumerate(classes)}

        def samples(part: Part) -> Samples:
            pictures = parts[part]
            images = new(part, (len(pictures), 3, self.size, self.size))
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                for image, (square, mode) in zip(images, threads.map(self._pixels, pictures), strict=True):
                    image.copy_(square)
                    modes.append(mode)
            labels = torch.tensor([number[picture.label] for picture in pictures])
            return Samples(images, {"label": labels}, [picture.name for picture in pictures])

        modes: list[str] = []
        pool, test = samples("pool"), samples("test")
        notes = [*notes, *converted(modes)]
        seen = {_digest(image) for image in pool.images}
        twice = [name for name, image in zip(test.names, test.images, strict=True) if _digest(image) in seen]
        if twice:
            notes = [*notes, f"{len(twice)} test images are in the pool, too, to the pixel, {twice[0]} among them"]
        return Data(pool, test, classes, notes)

    def _pixels(self, picture: "Picture") -> tuple[Tensor, str]:
        square, mode = _square(picture.file, self.size)
        return torch.from_numpy(square).permute(2, 0, 1), mode

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """24 + 8 oblong noisy patches of four colours, JPEG and PNG, and the smallest network."""
        rng = np.random.default_rng(0)
        for split, count in (("train", 24), ("test", 8)):
            for i in range(count):
                home = folder / "images" / split / "abcd"[i % 4]
                home.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 90, (20, 28, 3)) + 50 * (np.arange(3) == i % 4)
                Image.fromarray(pixels.astype(np.uint8)).save(home / f"{i}.{'jpg' if i % 3 else 'png'}")
        return cls(size=16, width=4, blocks=(1, 1), pad=2, dropout=0.2)


class Picture(NamedTuple):
    """An image file, its class, what it is called (SPLIT/CLASS/FILE), and where it lies in the split (CLASS/FILE)."""

    file: Path
    label: str
    name: str
    place: str


def _pictures(split: Path, part: Part) -> tuple[list[Picture], str]:
    """The images of a split, class by class, and a note on those that are none of the kinds that are read.

    Raises:
        AlbenchError: there is none, a class has none that is read, or a file is a link that leads out of the split.
    """
    if not split.is_dir():
        flat = ' ("": the folders of the classes lie in `folder` itself)' if part == "pool" else ""
        raise AlbenchError(f"there is no folder {split}; make it, with a folder per class, or set `{part}_split`{flat}")
    found: list[Picture] = []
    unread: list[Path] = []
    for home in sorted(place for place in split.iterdir() if place.is_dir() and not place.name.startswith(".")):
        require_inside(home, split)
        files = image_files(home, SUFFIXES + OTHERS)
        read = [file for file in files if file.suffix.lower() in SUFFIXES]
        if files and not read:
            raise AlbenchError(f"{home} has images, but no .jpg, .jpeg or .png: save {files[0].name} as one of these")
        unread += [file for file in files if file.suffix.lower() in OTHERS]
        for file in read:
            require_inside(file, split)
            name, place = (file.relative_to(above).as_posix() for above in (split.parent, split))
            found.append(Picture(file, home.name, name, place))
    if not found:
        raise AlbenchError(f"{split} has no .jpg, .jpeg or .png in a folder per class")
    return found, _left_out(split, unread) if unread else ""


def _left_out(split: Path, files: list[Path]) -> str:
    """A note on images that are none of the kinds that are read."""
    kinds = ", ".join(f"{suffix} {count:,}" for suffix, count in Counter(f.suffix.lower() for f in files).items())
    first = files[0].relative_to(split.parent).as_posix()
    return f"{split.name}: left out, being no .jpg, .jpeg or .png: {kinds}; {first} the first"


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()


def _square(file: Path, size: int) -> tuple[np.ndarray, str]:
    """The middle of an image as uint8 [size, size, 3], and the mode of its pixels as Pillow names it.

    Raises:
        AlbenchError: it cannot be read.
    """
    with opened_image(file) as opened:
        mode = opened.mode
        opened.draft("RGB", (size, size))  # a JPEG is decoded at 1/2, 1/4 … where that is still large enough
        upright = as_rgb(ImageOps.exif_transpose(opened))
        return np.array(ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR)), mode
