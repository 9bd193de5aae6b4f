"""Street View House Numbers, the cropped digits, from the official MATLAB files."""

from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from albench.download import Source
from albench.errors import AlbenchError
from albench.matlab import read_array
from albench.tasks.classification.official import Images, OfficialImages, Sums, fetch_files, official

FILES: Sums = {  # torchvision's
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
SITE = "http://ufldl.stanford.edu/housenumbers"
SOURCES = [Source(f"{SITE}/{name}", f"md5:{md5}") for name, md5 in FILES.items()]


class Svhn(OfficialImages):
    """99,289 32×32 crops of house numbers (Netzer et al. 2011): 73,257 in the pool, 26,032 to test on; not `extra`."""

    source = "http://ufldl.stanford.edu/housenumbers/"
    mean = (0.4377, 0.4438, 0.4728)
    std = (0.1980, 0.2010, 0.1970)
    flips = False  # a mirrored digit is none, or another
    registered = "svhn"
    labels = tuple("0123456789")
    layouts: ClassVar[dict[str, Sums]] = {"svhn": FILES}
    by_hand = (
        "train_32x32.mat and test_32x32.mat from http://ufldl.stanford.edu/housenumbers/ by hand and put them in "
        "{root}/svhn"
    )

    def _read(self, folder: Path, sums: Sums) -> tuple[Images, Images]:
        train, test = [_read_file(folder / name, md5) for name, md5 in sums.items()]
        return train, test

    def _download(self, root: Path) -> None:
        fetch_files(SOURCES, root / "svhn")

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """Two official-layout files with a few noisy squares, unverified."""
        from scipy.io import savemat

        (folder / "svhn").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for name, count in zip(FILES, (40, 12), strict=True):
            labels = (np.arange(count) % 10 + 1).astype(np.uint8)
            pixels = (labels * 20 + rng.integers(0, 50, (32, 32, 3, count))).astype(np.uint8)
            savemat(folder / "svhn" / name, {"X": pixels, "y": labels[:, None]}, do_compression=True)
        return cls(network="compact", width=4, blocks=(1, 1), dropout=0.2, verify=False)


def _read_file(path: Path, md5: str | None) -> Images:
    """Images and labels of one file: `X` uint8 [32, 32, 3, N], `y` [N, 1] with 10 for the digit 0.

    Raises:
        AlbenchError: not the official bytes, or it does not hold these.
    """
    official(path, md5)
    try:
        images, labels = read_array(path, "X", np.uint8), read_array(path, "y", np.int64)
    except ValueError as error:
        raise AlbenchError(f"{path}: {error}; fetch it again") from error
    if images is None or labels is None or images.shape[:3] != (32, 32, 3) or images.ndim != 4:
        raise AlbenchError(f"{path}: no images X [32, 32, 3, N] with labels y; not an SVHN file of cropped digits")
    labels = labels.reshape(-1)
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), np.where(labels == 10, 0, labels)
