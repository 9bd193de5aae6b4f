"""Fashion-MNIST from its official compressed IDX files."""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from albench.download import Source
from albench.errors import AlbenchError
from albench.tasks.classification.official import Images, OfficialImages, Sums, fetch_files, official

FILES: Sums = {  # torchvision's
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"  # torchvision's, too
SOURCES = [Source(f"{SITE}/{name}", f"md5:{md5}") for name, md5 in FILES.items()]
MOST = 1 << 26  # bytes that a file may hold unpacked: the largest official one holds 47 million


class FashionMnist(OfficialImages):
    """70,000 grey 28×28 images of clothes, ten classes (Xiao et al. 2017): 60,000 in the pool, 10,000 to test on."""

    source = "https://github.com/zalandoresearch/fashion-mnist"
    mean = (0.2860,)
    std = (0.3530,)
    registered = "fashion-mnist"
    labels = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    layouts: ClassVar[dict[str, Sums]] = {"FashionMNIST/raw": FILES}
    by_hand = (
        "the four .gz files from https://github.com/zalandoresearch/fashion-mnist by hand and put them, still "
        "compressed, in {root}/FashionMNIST/raw"
    )

    def _read(self, folder: Path, sums: Sums) -> tuple[Images, Images]:
        arrays = [_idx(folder / name, md5) for name, md5 in sums.items()]
        if [array.ndim for array in arrays] != [3, 1, 3, 1]:
            raise AlbenchError(f"{folder}: images and labels are not those of Fashion-MNIST; fetch them again")
        (train, train_labels), (test, test_labels) = arrays[:2], arrays[2:]
        return (train[:, None], train_labels.astype(np.int64)), (test[:, None], test_labels.astype(np.int64))

    def _download(self, root: Path) -> None:
        fetch_files(SOURCES, root / "FashionMNIST" / "raw")

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """The four official-layout files with a few noisy squares, unverified."""
        target = folder / "FashionMNIST" / "raw"
        target.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        images, labels = list(FILES)[::2], list(FILES)[1::2]
        for image_file, label_file, count in zip(images, labels, (40, 12), strict=True):
            label = np.arange(count) % 10
            pixels = label[:, None, None] * 20 + rng.integers(0, 50, (count, 28, 28))
            for name, array in ((image_file, pixels), (label_file, label)):
                head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
                (target / name).write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes(), 1))
        return cls(network="compact", width=4, blocks=(1, 1), dropout=0.2, verify=False)


def _idx(path: Path, md5: str | None) -> np.ndarray:
    """The uint8 array of a compressed IDX file (0, 0, type 8, dimensions, sizes as big-endian uint32, then the bytes).

    Raises:
        AlbenchError: not the official bytes, or no such file.
    """
    try:
        with gzip.open(io.BytesIO(official(path, md5))) as file:
            content = file.read(MOST + 1)
        dimensions = content[3]
        sizes = struct.unpack_from(f">{dimensions}I", content, 4)
    except (OSError, EOFError, zlib.error, struct.error, IndexError) as error:
        raise AlbenchError(f"{path}: no compressed IDX file, or cut short ({error}); fetch it again") from error
    begin = 4 + 4 * dimensions
    if content[:3] != b"\0\0\x08" or math.prod(sizes) != len(content) - begin:
        raise AlbenchError(f"{path}: its head does not fit what it holds; fetch it again")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(sizes).copy()
