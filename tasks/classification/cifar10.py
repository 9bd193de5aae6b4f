"""CIFAR-10 from its official files, binary or Python, checked by md5 before a byte is read."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from albench.cache import cached, listing
from albench.errors import AlbenchError
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.tasks.classification.task import Classification

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# The md5 of each official file (https://www.cs.toronto.edu/~kriz/cifar.html and torchvision's CIFAR10).
BINARY = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
PYTHON = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
FOLDERS = {"cifar-10-batches-bin": BINARY, "cifar-10-batches-py": PYTHON}
RECORD = 1 + 3 * 32 * 32  # bytes: a label, then the pixels


class Cifar10(Classification):
    """60,000 32×32 images of ten classes (Krizhevsky 2009): 50,000 in the pool, 10,000 to test on.

    `network` is the paper's ResNet-18 with its recipe, or a compact network for CPUs (narrow, three stages; the image
    goes in at full size). `pool` and `test` take the first so many images of a fixed permutation; 0 takes all.
    """

    recipe = Recipe(epochs=200, batch=128, learning_rate=0.1, weight_decay=5e-4, milestones=(0.8,))
    source = "https://www.cs.toronto.edu/~kriz/cifar.html"
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    network: Literal["resnet18", "compact"] = "resnet18"
    blocks: tuple[Annotated[int, Field(gt=0)], ...] = (2, 2, 2, 2)
    width: Annotated[int, Field(gt=0)] = 64
    pad: Annotated[int, Field(ge=0)] = 4
    pool: Annotated[int, Field(ge=0, le=50_000)] = 0
    test: Annotated[int, Field(ge=0, le=10_000)] = 0
    verify: bool = True  # compare every file with its official md5

    @model_validator(mode="before")
    @classmethod
    def _compact(cls, values: dict) -> dict:
        """The compact network's own sizes, unless they are given."""
        if isinstance(values, dict) and values.get("network") == "compact":
            return {"blocks": (1, 1, 1), "width": 24} | values
        return values

    def load(self, root: Path | None) -> Data:
        """Official `cifar-10-batches-bin` or `cifar-10-batches-py` below the data root (or the folder itself)."""
        folder, sums = _find(root)
        files = [folder / name for name in sums]
        for file in files:
            if not file.is_file():
                raise AlbenchError(f"{file}: missing; run `albench data prepare cifar10 --data-root {root}`")
        data = cached(("cifar10", 1, self.verify, listing(files)), lambda _: _read(folder, sums, self.verify))
        return Data(_part(data.pool, self.pool), _part(data.test, self.test), data.classes)

    def fetch(self, root: Path) -> None:
        """torchvision's download of the official Python batches (170 MB), unless either layout is there and whole."""
        if any(_whole(folder, sums, self.verify) for folder, sums in _places(root)):
            return
        from torchvision.datasets import CIFAR10

        try:
            CIFAR10(str(root), download=True)
        except Exception as error:
            raise AlbenchError(
                f"the download from {self.source} failed ({error}); fetch cifar-10-binary.tar.gz by hand and unpack it "
                f"in {root}"
            ) from error
        folder, sums = _find(root)
        if not _whole(folder, sums, self.verify):
            raise AlbenchError(f"{folder}: not the official files, and read before those just fetched; move it away")

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """Six official-layout binary files with 12 noisy colour patches each, unverified."""
        target = folder / "cifar-10-batches-bin"
        target.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for name in BINARY:
            labels = np.arange(12, dtype=np.uint8) % 10
            shade = (labels[:, None] * 20 + rng.integers(0, 40, (12, 3))).repeat(1024, 1)
            pixels = np.clip(shade + rng.integers(0, 30, shade.shape), 0, 255).astype(np.uint8)
            (target / name).write_bytes(np.concatenate([labels[:, None], pixels], 1).tobytes())
        return cls(network="compact", width=4, blocks=(1, 1), dropout=0.2, verify=False)


def _find(root: Path | None) -> tuple[Path, dict[str, str]]:
    """The folder with the batches, in whichever layout it is, and the official sums of its files."""
    if root is None:
        raise AlbenchError("cifar10 needs --data-root DIR, the folder that holds cifar-10-batches-bin or -py")
    for enough in (all, any):  # a layout that lacks no file goes before one with some
        for folder, sums in _places(root):
            if enough((folder / file).is_file() for file in sums):
                return folder, sums
    raise AlbenchError(
        f"{root}: neither cifar-10-batches-bin nor cifar-10-batches-py is there; "
        f"run `albench data prepare cifar10 --data-root {root}`"
    )


def _places(root: Path) -> list[tuple[Path, dict[str, str]]]:
    """Where the batches may lie, in the order they are looked for, and the official sums of the files there."""
    return [(folder, sums) for name, sums in FOLDERS.items() for folder in (root / name, root)]


def _whole(folder: Path, sums: dict[str, str], verify: bool) -> bool:
    """Whether no file is missing and, if they are to be verified, none differs from the official one."""
    files = [folder / name for name in sums]
    return all(file.is_file() for file in files) and not (
        verify and any(_md5(file.read_bytes()) != md5 for file, md5 in zip(files, sums.values(), strict=True))
    )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _read(folder: Path, sums: dict[str, str], verify: bool) -> Data:
    parts = [_read_file(folder / name, md5 if verify else None) for name, md5 in sums.items()]
    images, labels = [torch.from_numpy(p[0]) for p in parts], [torch.from_numpy(p[1]) for p in parts]

    def samples(name: str, image: torch.Tensor, label: torch.Tensor) -> Samples:
        return Samples(image, {"label": label}, [f"{name}[{row}]" for row in range(len(image))])

    pool = samples("train", torch.cat(images[:5]), torch.cat(labels[:5]))
    return Data(pool, samples("test", images[5], labels[5]), CLASSES)


def _read_file(path: Path, md5: str | None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [N, 3, 32, 32] and int64 labels [N] of one batch file."""
    content = path.read_bytes()
    if md5 is not None and _md5(content) != md5:
        raise AlbenchError(f"{path}: not the official bytes (md5 differs: truncated or changed); fetch it again")
    if path.suffix == ".bin":
        if not content or len(content) % RECORD:
            raise AlbenchError(f"{path}: {len(content)} bytes are no whole number of {RECORD}-byte records")
        records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
        labels, pixels = records[:, 0], records[:, 1:]
    else:
        if md5 is None:
            raise AlbenchError(f"{path}: Python batches are read only when verified (a pickle can run code)")
        batch = _Arrays(io.BytesIO(content), encoding="bytes").load()
        labels, pixels = np.asarray(batch[b"labels"], np.uint8), batch[b"data"]
    if labels.max() > 9:
        raise AlbenchError(f"{path}: a label above 9; not CIFAR-10")
    return pixels.reshape(-1, 3, 32, 32).copy(), labels.astype(np.int64)


class _Arrays(pickle.Unpickler):
    """Builds numpy arrays and nothing else; the md5 has told the official bytes already."""

    def find_class(self, module: str, name: str) -> object:
        if (module.removeprefix("numpy.").replace("_core.", "core."), name) in _NAMES:
            return super().find_class(module.replace("numpy.core.", "numpy._core."), name)
        raise AlbenchError(f"a CIFAR-10 batch holds {module}.{name}; it is none")


_NAMES = {("core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


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
