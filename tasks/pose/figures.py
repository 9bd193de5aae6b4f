"""Generated articulated figures: a pose benchmark without a download.

A figure's left limbs are warm and its right limbs cool in colour. Each image has a difficulty of its own (low contrast,
clutter that looks like limbs, occluders, noise), so its loss can be predicted from the image: without that there would
be no loss to rank.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field

from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.seeds import generator
from albench.tasks.pose.painting import generate
from albench.tasks.pose.task import Pose


class Figures(Pose):
    """Stick figures of varied build and pose, among clutter.

    A mirrored figure would wear its colours on the wrong side, so this task augments without flips.
    """

    # Tuned on random selection alone (`seed` = 100, trials' seeds from 100 on): with 20 labels more a stage PCK@0.2 is
    # .26, .35, .41, .47, .50; training on the whole pool gives .57. About 1.3 s a stage on one CPU thread.
    recipe: ClassVar[Recipe] = Recipe(
        updates=100, batch=16, optimiser="adam", learning_rate=0.01, weight_decay=0.0, schedule="cosine"
    )

    seed: int = 0  # of the generated images
    pool: Annotated[int, Field(gt=0)] = 1200
    test: Annotated[int, Field(gt=0)] = 240
    size: Annotated[int, Field(gt=0)] = 32
    stride: Literal[2, 4] = 2
    depth: Annotated[int, Field(gt=0)] = 1
    width: Annotated[int, Field(gt=0, multiple_of=2)] = 32
    scaling: Annotated[float, Field(ge=0, lt=1)] = 0.03  # little, because the figures vary enough by themselves
    rotation: Annotated[float, Field(ge=0, le=180)] = 3.0
    flip: bool = False

    def load(self, root: Path | None) -> Data:
        """Generate pool and test set from the seed, each from a stream of its own."""

        def samples(part: str, count: int) -> Samples:
            rng = generator("figures", self.seed, part)
            images, joints = generate(count, self.stored, self.size, rng)
            visible = torch.ones(count, joints.shape[1], dtype=torch.bool)
            return Samples(images, {"joints": joints, "visible": visible}, [f"{part} {i}" for i in range(count)])

        return Data(samples("pool", self.pool), samples("test", self.test), self.skeleton.names)

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """48 and 16 figures and the smallest network, with dropout."""
        return cls(pool=48, test=16, width=8, dropout=0.1)
