"""Leeds Sports Pose and its extended set, in their official layouts: `images/` beside `joints.mat`.

Johnson and Everingham, "Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation" (BMVC 2010) and
"Learning Effective Human Pose Estimation from Inaccurate Annotation" (CVPR 2011).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from scipy.io import savemat

from albench.cache import cached, listing
from albench.datafiles import below, opened_image, require_inside
from albench.errors import AlbenchError
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.seeds import generator
from albench.tasks.pose.matlab import read_array
from albench.tasks.pose.painting import generate
from albench.tasks.pose.task import Pose

ROOM = 1.25  # side of a person's box over the extent of its joints, so that hands, feet and hair are on it


class LeedsSports(Pose):
    """One person in an image, 14 joints; LSP or LSPET, told apart by the shape of `joints.mat`.

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
            AlbenchError: the folder, `joints.mat` or an image is missing or unreadable, or the numbers differ.
        """
        folder = self._found(root)
        files = sorted(f for f in (folder / "images").iterdir() if f.suffix.lower() in {".jpg", ".jpeg", ".png"})
        for file in (folder / "joints.mat", *files):
            require_inside(file, folder, folder / "images")
        key = ("lsp", 1, self.size, self.margin, self.test, listing([folder / "joints.mat", *files]))
        return cached(key, lambda _: self._built(folder, files))

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

    def _built(self, folder: Path, files: list[Path]) -> Data:
        joints, visible, official = read_joints(folder / "joints.mat")
        if len(files) != len(joints):
            raise AlbenchError(
                f"{folder} has {len(files)} images but joints.mat annotates {len(joints)}{_gap(files, len(joints))}"
            )
        count = self._test_count(len(files), official)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            people = list(threads.map(self._person, files, joints, visible))
        notes = [f"{file.name}: {note}" for file, person in zip(files, people, strict=True) for note in person[3]]

        def samples(rows: range) -> Samples:
            kept = [i for i in rows if people[i][2].sum() >= 2]
            if not kept:
                raise AlbenchError(
                    f"{folder}: no image of the {'test set' if rows.stop == len(files) else 'pool'} has joints"
                )
            images, points, flags = (np.stack([people[i][part] for i in kept]) for part in range(3))
            targets = {"joints": torch.from_numpy(points).float(), "visible": torch.from_numpy(flags)}
            return Samples(
                torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), targets, [files[i].name for i in kept]
            )

        split = len(files) - count
        return Data(samples(range(split)), samples(range(split, len(files))), self.skeleton.names, notes)

    def _test_count(self, images: int, official: bool) -> int:
        count = self.test or (1000 if official and images == 2000 else max(1, images // 4))
        if count >= images:
            raise AlbenchError(f"lsp: test = {count} leaves no image for the pool; there are {images}")
        return count

    def _person(
        self, file: Path, joints: np.ndarray, visible: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """The stored crop [S, S, 3], joints in its pixels, which of them are annotated, and what was odd."""
        with opened_image(file) as opened:
            image = opened.convert("RGB")
        visible, notes = checked(joints, visible, image.size)
        if visible.sum() < 2:
            return np.zeros((self.stored, self.stored, 3), np.uint8), np.zeros_like(joints), visible, notes
        low, high = joints[visible].min(0), joints[visible].max(0)
        side = max(float((high - low).max()) * ROOM, 2.0) * self.margin
        corner = (low + high) / 2 - side / 2
        placed = np.where(visible[:, None], (joints - corner) * (self.stored / side), 0)
        return crop(image, corner, side, self.stored), placed, visible, notes

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


def checked(joints: np.ndarray, visible: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Which joints [14, 2] can be used in an image of (width, height), and a note on what was odd.

    A joint that is no number, or that lies more than a whole image away, counts as not annotated; one a little
    outside stays, because people are cut off by the image's edge.
    """
    extent = np.array(size)
    absurd = visible & ~((joints > -extent) & (joints < 2 * extent)).all(1)  # NaN compares false
    visible = visible & ~absurd
    outside = visible & ~((joints >= 0) & (joints <= extent)).all(1)
    notes = []
    if absurd.any():
        notes.append(f"{absurd.sum()} joints are NaN or far outside the image; taken as not annotated")
    if outside.any():
        notes.append(f"{outside.sum()} joints outside the image; kept")
    if visible.sum() < 2:
        notes.append("fewer than 2 annotated joints; left out")
    return visible, notes


def crop(image: Image.Image, corner: np.ndarray, side: float, stored: int) -> np.ndarray:
    """The square of an image at `corner` (x, y), resampled to uint8 [stored, stored, 3]; grey beyond the image."""
    start = np.floor(corner).astype(int)
    whole = int(np.ceil(side)) + 2
    canvas = Image.new("RGB", (whole, whole), (128, 128, 128))
    canvas.paste(image, (int(-start[0]), int(-start[1])))
    x, y = corner - start
    return np.asarray(canvas.resize((stored, stored), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side)))


def _gap(files: list[Path], count: int) -> str:
    """The first image that is missing from the official numbering, where there is one: "; im00017.jpg is missing"."""
    if not files or not files[0].stem.startswith("im"):
        return ""
    digits, there = len(files[0].stem) - 2, {file.stem for file in files}
    lost = next((name for i in range(1, count + 1) if (name := f"im{i:0{digits}d}") not in there), None)
    return f"; {lost}{files[0].suffix} is missing" if lost else ""
