"""Sets of small images in their official files, each checked by md5 before it is read."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from albench.cache import cached, listing
from albench.datafiles import each_problem
from albench.download import Source, download
from albench.errors import AlbenchError
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.tasks.classification.task import Classification

Sums = dict[str, str | None]  # file → its official md5, None where none is published
Images = tuple[np.ndarray, np.ndarray]  # uint8 [N, C, H, W], int64 labels [N]


class OfficialImages(Classification):
    """What the sets share: layouts, checks, a part of the images, and the paper's recipe for CIFAR-10.

    `network` is the paper's ResNet-18 with its recipe, or a compact network for CPUs (narrow, three stages; the image
    goes in at full size). `pool` and `test` take the first so many images of a fixed permutation; 0 takes all.
    """

    recipe = Recipe(epochs=200, batch=128, learning_rate=0.1, weight_decay=5e-4, milestones=(0.8,))
    registered: ClassVar[str]  # the task's name, for messages
    labels: ClassVar[tuple[str, ...]]  # what the classes are called
    layouts: ClassVar[dict[str, Sums]]  # folder → its files, in the order they are looked for
    by_hand: ClassVar[str]  # what to fetch where there is no network, and how to lay it out

    network: Literal["resnet18", "compact"] = "resnet18"
    blocks: tuple[Annotated[int, Field(gt=0)], ...] = (2, 2, 2, 2)
    width: Annotated[int, Field(gt=0)] = 64
    pad: Annotated[int, Field(ge=0)] = 4
    pool: Annotated[int, Field(ge=0)] = 0
    test: Annotated[int, Field(ge=0)] = 0
    verify: bool = True  # compare every file with its official md5

    @model_validator(mode="before")
    @classmethod
    def _compact(cls, values: dict) -> dict:
        """The compact network's own sizes, unless they are given."""
        if isinstance(values, dict) and values.get("network") == "compact":
            return {"blocks": (1, 1, 1), "width": 24} | values
        return values

    @abstractmethod
    def _read(self, folder: Path, sums: Sums) -> tuple[Images, Images]:
        """The images to choose from and those to test on, from the files of one layout.

        Raises:
            AlbenchError: a file is damaged.
        """

    @abstractmethod
    def _download(self, root: Path) -> None:
        """Fetch the official files into `root`.

        Raises:
            AlbenchError: what to fetch by hand, and where to put it.
        """

    def load(self, root: Path | None) -> Data:
        """An official layout below the data root (or the folder itself)."""
        folder, sums = self._find(root)
        files = [folder / name for name in sums]
        for file in files:
            if not file.is_file():
                raise AlbenchError(
                    f"{file}: missing; run `albench data prepare {self.registered} --data-root {root}`, or fetch "
                    f"{self.by_hand.format(root=root)}"
                )
        if not self.verify:
            sums = dict.fromkeys(sums)
        data = cached((self.registered, 2, self.verify, listing(files)), lambda _: self._data(folder, sums))
        if not (self.pool or self.test):
            return data
        return Data(_part(data.pool, self.pool), _part(data.test, self.test), data.classes)

    def fetch(self, root: Path) -> None:
        """The official files, unless a layout is there and whole.

        Raises:
            AlbenchError: what to fetch by hand, and where to put it; or files of another layout are in the way.
        """
        if any(_whole(folder, sums, self.verify) for folder, sums in self._places(root)):
            return
        self._download(root)
        folder, sums = self._find(root)
        if not _whole(folder, sums, self.verify):
            raise AlbenchError(f"{folder}: not the official files, and read before those just fetched; move it away")

    def problems(self, root: Path | None) -> Iterator[str]:
        """Every file that is missing or, unless `verify` is off, differs from the official one; whether they are read
        without the cache."""
        folder, sums = self._find(root)
        if not self.verify:
            sums = dict.fromkeys(sums)
        yield from (found := list(each_problem(lambda name: official(folder / name, sums[name]), sums)))
        if not found:
            self._data(folder, sums)

    def _data(self, folder: Path, sums: Sums) -> Data:
        def samples(name: str, images: np.ndarray, labels: np.ndarray) -> Samples:
            if len(labels) != len(images) or not len(labels):
                raise AlbenchError(
                    f"{folder}: {len(images)} images and {len(labels)} labels ({name}); fetch them again"
                )
            if labels.min() < 0 or labels.max() >= len(self.labels):
                raise AlbenchError(
                    f"{folder}: a label outside 0…{len(self.labels) - 1} ({name}); not {self.registered}"
                )
            names = [f"{name}[{row}]" for row in range(len(images))]
            return Samples(torch.from_numpy(images), {"label": torch.from_numpy(labels)}, names)

        pool, test = self._read(folder, sums)
        return Data(samples("train", *pool), samples("test", *test), self.labels)

    def _find(self, root: Path | None) -> tuple[Path, Sums]:
        """The folder with the files, in whichever layout it is, and the official sums of its files."""
        name, layouts = self.registered, " nor ".join(self.layouts)
        if root is None:
            raise AlbenchError(f"{name} needs --data-root DIR, the folder that holds {' or '.join(self.layouts)}")
        for enough in (all, any):  # a layout that lacks no file goes before one with some
            for folder, sums in self._places(root):
                if enough((folder / file).is_file() for file in sums):
                    return folder, sums
        raise AlbenchError(
            f"{root}: no {layouts} is there; run `albench data prepare {name} --data-root {root}`, or fetch "
            f"{self.by_hand.format(root=root)}"
        )

    def _places(self, root: Path) -> list[tuple[Path, Sums]]:
        """Where the files may lie, in the order they are looked for, and their official sums."""
        return [(folder, sums) for name, sums in self.layouts.items() for folder in (root / name, root)]


def fetch_files(sources: Sequence[Source], folder: Path) -> None:
    """Fetch files into a folder.

    Raises:
        AlbenchError: what to fetch by hand, and where to put it.
    """
    wanted = [(source, folder / Path(source.url).name) for source in sources]
    for source, file in wanted:
        download(source, file, *wanted)


def _whole(folder: Path, sums: Sums, verify: bool) -> bool:
    """Whether no file is missing and, if they are to be verified, none differs from the official one."""
    files = [folder / name for name in sums]
    return all(file.is_file() for file in files) and not (
        verify and any(md5_of(file.read_bytes()) != md5 for file, md5 in zip(files, sums.values(), strict=True))
    )


def md5_of(content: bytes) -> str:
    """As the official sums are written."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def official(path: Path, md5: str | None) -> bytes:
    """A file's bytes; `md5` None takes them as they are.

    Raises:
        AlbenchError: it cannot be read, or they are not the official ones.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AlbenchError(f"{path}: cannot be read ({error.strerror}); fetch it again") from error
    if md5 is not None and md5_of(content) != md5:
        raise AlbenchError(f"{path}: not the official bytes (md5 differs: truncated or changed); fetch it again")
    return content


def _part(samples: Samples, count: int) -> Samples:
    """The first `count` rows of a fixed permutation; all for 0.

    Raises:
        AlbenchError: there are fewer.
    """
    if not count:
        return samples
    if count > len(samples):
        raise AlbenchError(f"{count} samples were asked for; there are {len(samples)}")
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(samples))[:count])
    return Samples(
        samples.images[rows], {k: v[rows] for k, v in samples.targets.items()}, [samples.names[r] for r in rows]
    )
