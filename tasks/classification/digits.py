"""The 1,797 handwritten digits that scikit-learn bundles: a real classification task that needs no download."""

from pathlib import Path
from typing import Annotated, Self

import numpy as np
import torch
from pydantic import Field

from albench.datafiles import bundled_digits
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.tasks.classification.task import Classification

TEST = 597  # the other 1,200 are the pool


class Digits(Classification):
    """8×8 images of ten digits from 43 writers (Alpaydin and Kaynak 1998): 1,200 in the pool, 597 to test on."""

    recipe = Recipe(updates=250, batch=16, learning_rate=0.05, weight_decay=5e-4)
    source = "UCI optical recognition of handwritten digits, bundled with scikit-learn"
    mean = (0.3,)
    std = (0.36,)
    flips = False

    blocks: tuple[Annotated[int, Field(gt=0)], ...] = (1, 1, 1)
    width: Annotated[int, Field(gt=0)] = 12
    pad: Annotated[int, Field(ge=0)] = 1
    samples: Annotated[int, Field(ge=20, le=1797)] = 1797

    def load(self, root: Path | None) -> Data:
        """A fixed random third to test on, the rest to choose from; `samples` takes a part of all."""
        pixels, classes = bundled_digits()
        order = np.random.default_rng(0).permutation(len(pixels))[: self.samples]
        images = torch.from_numpy(np.clip(pixels * 16, 0, 255).astype(np.uint8))[:, None]
        labels = torch.from_numpy(classes)
        test = round(len(order) * TEST / 1797)

        def part(rows: np.ndarray) -> Samples:
            index = torch.from_numpy(rows)
            return Samples(images[index], {"label": labels[index]}, [f"digit {row}" for row in rows])

        return Data(part(order[test:]), part(order[:test]), tuple("0123456789"))

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """72 digits, a network of four channels."""
        return cls(samples=72, width=4, blocks=(1, 1), dropout=0.2)
