"""CIFAR-100 from its official files, Python or binary."""

from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from albench.download import Source, fetch_archive
from albench.errors import AlbenchError
from albench.tasks.classification.cifar10 import PIXELS, read_batch
from albench.tasks.classification.official import Images, OfficialImages, Sums

# The fine classes, in the order of their numbers.
FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
CLASSES = tuple(FINE.split())
PYTHON: Sums = {  # torchvision's
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
ARCHIVE = Source("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "md5:eb9058c3a382ffc7106e4002c42a8d85")
BINARY: Sums = {"train.bin": None, "test.bin": None}  # no md5 of these files is published


class Cifar100(OfficialImages):
    """60,000 32×32 images of 100 classes (Krizhevsky 2009): 50,000 in the pool, 10,000 to test on."""

    source = "https://www.cs.toronto.edu/~kriz/cifar.html"
    mean = (0.5071, 0.4865, 0.4409)  # as commonly given, like those of the other sets; not computed here
    std = (0.2673, 0.2564, 0.2762)
    registered = "cifar100"
    labels = CLASSES
    layouts: ClassVar[dict[str, Sums]] = {"cifar-100-python": PYTHON, "cifar-100-binary": BINARY}
    by_hand = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz by hand and unpack it in {root}"

    def _read(self, folder: Path, sums: Sums) -> tuple[Images, Images]:
        if self.verify and None in sums.values():
            raise AlbenchError(
                f"{folder}: no md5 of the binary files is published; fetch the Python version, or read them as they "
                "are: --set verify=false, or params.verify = false in a suite"
            )
        train, test = [read_batch(folder / name, md5, "fine_labels", label_bytes=2) for name, md5 in sums.items()]
        return train, test

    def _download(self, root: Path) -> None:
        fetch_archive(ARCHIVE, root)

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """The two official-layout binary files (a coarse label, the fine one, pixels), unverified."""
        target = folder / "cifar-100-binary"
        target.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for name, count in zip(BINARY, (40, 12), strict=True):
            labels = np.stack([np.arange(count) % 20, np.arange(count) * 7 % 100], 1)
            pixels = (labels[:, 1:] + rng.integers(0, 100, (count, PIXELS))).astype(np.uint8)
            (target / name).write_bytes(np.concatenate([labels.astype(np.uint8), pixels], 1).tobytes())
        return cls(network="compact", width=4, blocks=(1, 1), dropout=0.2, verify=False)
