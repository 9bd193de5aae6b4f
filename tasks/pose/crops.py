"""People cut out of images: the square around each one, resampled to the stored size, straight into the cache."""

import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from albench.cache import NewImages, Part
from albench.datafiles import Bad, as_rgb, attempt, opened_image, refuse
from albench.oddities import Oddity, counted
from albench.samples import Samples

VERSION = 4  # of what the cache holds
THREADS = min(4, os.cpu_count() or 1)
OUTSIDE = "outside the image; kept"
COARSE = 16  # a square of so many times the stored side is shrunk to half of that before it is resampled


class Person(NamedTuple):
    """Someone in an image; positions are in its pixels, continuous (it spans [0, W])."""

    name: str
    image: Path
    centre: np.ndarray  # (x, y)
    side: float  # of the square that the network sees
    joints: np.ndarray  # [J, 2]
    visible: np.ndarray  # bool [J]: annotated
    length: float = 0.0  # what errors are relative to; 0: unknown


class Header(NamedTuple):
    """An image's (width, height), and the mode of its pixels as Pillow names it."""

    size: tuple[int, int]
    mode: str


def headers(files: Iterable[Path], bad: Bad = refuse) -> dict[Path, Header]:
    """What the header of each image says; one that is no image goes to `bad`, and is left out.

    Raises:
        AlbenchError: one is no image.
    """

    def header(file: Path) -> Header:
        with opened_image(file) as image:
            return Header(image.size, image.mode)

    ordered = sorted(files)
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda file: attempt(partial(header, file), bad), ordered))
    return {file: one for file, one in zip(ordered, found, strict=True) if one}


def sizes(files: Iterable[Path], bad: Bad = refuse) -> dict[Path, tuple[int, int]]:
    """(width, height) of each image, from its header; one that is no image goes to `bad`, and is left out.

    Raises:
        AlbenchError: one is no image.
    """
    return {file: header.size for file, header in headers(files, bad).items()}


def checked(joints: np.ndarray, visible: np.ndarray, size: tuple[int, int], least: int) -> tuple[np.ndarray, list[str]]:
    """Which joints [J, 2] can be used in an image of (width, height), and a note on what was odd.

    A joint that is no number, or that lies more than a whole image away, counts as not annotated; one a little
    outside stays, because people are cut off by the image's edge. Fewer than `least` are said to be too few.
    """
    extent = np.array(size)
    absurd = visible & ~((joints > -extent) & (joints < 2 * extent)).all(1)  # NaN compares false
    visible = visible & ~absurd
    outside = visible & ~((joints >= 0) & (joints <= extent)).all(1)
    notes = []
    if absurd.any():
        notes.append(f"{counted(int(absurd.sum()), 'joint')} NaN or far outside the image; taken as not annotated")
    if outside.any():
        notes.append(f"{counted(int(outside.sum()), 'joint')} {OUTSIDE}")
    if visible.sum() < least:
        notes.append(f"fewer than {least} annotated joints; left out" if least > 1 else "no annotated joint; left out")
    return visible, notes


def noted(where: str, notes: Iterable[str]) -> list[Oddity]:
    """Notes on a person's joints as oddities: those that differ in the number of joints alone are of one kind, and all
    are impossible but joints a little outside, as the edge cuts people."""
    kinds = {note: re.sub(r"^[0-9,]+ joints?", "joints", note) for note in notes}
    return [Oddity(where, note, f"people with {kind}", not note.endswith(OUTSIDE)) for note, kind in kinds.items()]


def samples(
    part: Part, people: Sequence[Person], stored: int, margin: float, new: NewImages, length: str | None = None
) -> Samples:
    """The people's crops, decoded into what `new` gives, with targets joints [N, J, 2] and visible [N, J].

    A crop shows `margin` times the person's square. Joints are in pixels of the crop, 0 where not annotated; `length`
    names a target [N] with the people's lengths in those pixels.

    Raises:
        AlbenchError: an image cannot be read.
    """
    images = new(part, (len(people), 3, stored, stored))
    with ThreadPoolExecutor(THREADS) as threads:
        joints = list(threads.map(lambda person, image: _cut(person, margin, image), people, images))
    targets = {
        "joints": torch.from_numpy(np.stack(joints)).float(),
        "visible": torch.from_numpy(np.stack([person.visible for person in people])),
    }
    if length is not None:
        lengths = [person.length * stored / (person.side * margin) for person in people]
        targets[length] = torch.tensor(lengths, dtype=torch.float32)
    return Samples(images, targets, [person.name for person in people])


def _cut(person: Person, margin: float, image: Tensor) -> np.ndarray:
    """Fill `image`, uint8 [3, S, S]; the person's joints [J, 2] in its pixels."""
    stored = image.shape[-1]
    side = person.side * margin
    corner = person.centre - side / 2
    with opened_image(person.image) as opened:
        whole = as_rgb(opened)
    image.copy_(torch.from_numpy(crop(whole, corner, side, stored)).permute(2, 0, 1))
    return np.where(person.visible[:, None], (person.joints - corner) * (stored / side), 0)


def crop(image: Image.Image, corner: np.ndarray, side: float, stored: int) -> np.ndarray:
    """The square of an image at `corner` (x, y), resampled to uint8 [stored, stored, 3]; grey beyond the image."""
    if side > COARSE * stored:  # or a square much larger than the image would take as much memory
        factor = int(2 * side / (COARSE * stored))
        image, corner, side = image.reduce(factor), corner / factor, side / factor
    start = np.floor(corner).astype(int)
    whole = int(np.ceil(side)) + 2
    canvas = Image.new("RGB", (whole, whole), (128, 128, 128))
    canvas.paste(image, (int(-start[0]), int(-start[1])))
    x, y = corner - start
    return np.array(canvas.resize((stored, stored), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side)))
