"""CIFAR-10 from its official files, binary or Python."""

import io
import pickle
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from albench.download import Source, fetch_archive
from albench.errors import AlbenchError
from albench.tasks.classification.official import Images, OfficialImages, Sums, official

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# The md5 of each official file (https://www.cs.toronto.edu/~kriz/cifar.html and torchvision's CIFAR10).
BINARY: Sums = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
PYTHON: Sums = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
ARCHIVE = Source("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a")
PIXELS = 3 * 32 * 32


class Cifar10(OfficialImages):
    """60,000 32×32 images of ten classes (Krizhevsky 2009): 50,000 in the pool, 10,000 to test on."""

    source = "https://www.cs.toronto.edu/~kriz/cifar.html"
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    registered = "cifar10"
    labels = CLASSES
    layouts: ClassVar[dict[str, Sums]] = {"cifar-10-batches-bin": BINARY, "cifar-10-batches-py": PYTHON}
    by_hand = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz by hand and unpack it in {root}"

    def _read(self, folder: Path, sums: Sums) -> tuple[Images, Images]:
        parts = [read_batch(folder / name, md5, "labels") for name, md5 in sums.items()]
        images, labels = zip(*parts[:-1], strict=True)
        return (np.concatenate(images), np.concatenate(labels)), parts[-1]

    def _download(self, root: Path) -> None:
        fetch_archive(ARCHIVE, root)

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


def read_batch(path: Path, md5: str | None, key: str, label_bytes: int = 1) -> Images:
    """uint8 images [N, 3, 32, 32] and int64 labels [N] of one CIFAR batch file.

    key: the labels' in a Python batch. label_bytes: that begin a binary record; the last of them is the label.

    Raises:
        AlbenchError: not the official bytes, no whole records, or a Python batch that is not verified.
    """
    content = official(path, md5)
    if path.suffix == ".bin":
        record = label_bytes + PIXELS
        if not content or len(content) % record:
            raise AlbenchError(f"{path}: {len(content)} bytes are no whole number of {record}-byte records")
        records = np.frombuffer(content, np.uint8).reshape(-1, record)
        labels, pixels = records[:, label_bytes - 1], records[:, label_bytes:]
    else:
        if md5 is None:
            raise AlbenchError(f"{path}: Python batches are read only when verified (a pickle can run code)")
        batch = _Arrays(io.BytesIO(content), encoding="bytes").load()
        labels, pixels = np.asarray(batch[key.encode()], np.uint8), batch[b"data"]
    return pixels.reshape(-1, 3, 32, 32).copy(), labels.astype(np.int64)


class _Arrays(pickle.Unpickler):
    """Builds numpy arrays and nothing else; the md5 has told the official bytes already."""

    def find_class(self, module: str, name: str) -> object:
        if (module.removeprefix("numpy.").replace("_core.", "core."), name) in _NAMES:
            return super().find_class(module.replace("numpy.core.", "numpy._core."), name)
        raise AlbenchError(f"a CIFAR batch holds {module}.{name}; it is none")


_NAMES = {("core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
