"""Digit scenes: scikit-learn's real handwritten digits composed into small cluttered scenes; nothing to download."""

import functools
import math
from pathlib import Path
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from albench.cache import cached
from albench.datafiles import bundled_digits
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.seeds import generator
from albench.tasks.detection.boxes import iou
from albench.tasks.detection.task import Detection

VERSION = 1  # of the generator: a change makes other scenes, so the cache must know
TEST_DIGITS = 0.25  # share of the digits that only test scenes use


class DigitScenes(Detection):
    """Three digits per scene, which may overlap, among bars and fragments of other digits, light on dark or not.

    Each scene has a difficulty of its own, which sets its contrast, noise, clutter and occlusion together, and a size
    of its own, because large digits match more default boxes: so its loss can be foreseen from the image, and not from
    the number of objects. Pool and test share no digit.

    Recipe and sides were chosen without any strategy's curve: for the mAP of random labels, and for losses that the
    loss prediction module (λ = 1, trained beside) can order. With 40, 120, 200 random labels (mean of seeds 100 and
    101) mAP is .09, .15, .18 and the module orders .60, .68, .70 of the pairs of test scenes; the number of default
    boxes that a scene's digits match, which needs its labels, would order .79.
    """

    recipe: ClassVar[Recipe] = Recipe(
        updates=220, batch=16, optimiser="adam", learning_rate=0.005, schedule="cosine", weight_decay=1e-4
    )
    source: ClassVar[str] = "scikit-learn's bundled digits (UCI optical recognition), composed from a seed"
    channels: ClassVar[int] = 1
    mean: ClassVar[tuple[float, ...]] = (0.5,)

    pool: Annotated[int, Field(gt=0)] = 1200  # scenes
    test: Annotated[int, Field(gt=0)] = 200
    objects: tuple[int, int] = (3, 3)  # fewest and most per scene
    sides: tuple[float, float] = (14.0, 28.0)  # of a scene's digits, pixels; each varies by 15 % about its scene's
    hardest: Annotated[float, Field(ge=0, le=1)] = 0.6  # difficulty of the hardest scene; the easiest has 0
    scene_seed: int = 0
    width: int = 24
    expand: float = 1.1
    crop: float = 0.9
    mirror: bool = False  # a mirrored 2 is no digit
    photometric: float = 0.5

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """48 + 16 scenes and a tiny network with dropout; needs no file."""
        return cls(pool=48, test=16, width=8, dropout=0.1)

    def load(self, root: Path | None) -> Data:
        """Compose the scenes, or read them from the cache."""
        key = (
            "digit-scenes",
            VERSION,
            self.size,
            self.pool,
            self.test,
            self.objects,
            self.sides,
            self.hardest,
            self.scene_seed,
        )
        return cached(key, lambda _: self._compose())

    def _compose(self) -> Data:
        pixels, classes = bundled_digits()
        order = torch.randperm(len(classes), generator=generator("digit-scenes", "split", self.scene_seed))
        images, labels = torch.from_numpy(pixels)[order].float() / 16, torch.from_numpy(classes)[order]
        cut = int(len(order) * TEST_DIGITS)
        compose = functools.partial(
            scenes, size=self.size, objects=self.objects, sides=self.sides, hardest=self.hardest
        )
        parts = {}
        for name, count, digits in (("test", self.test, slice(cut)), ("pool", self.pool, slice(cut, None))):
            rng = generator("digit-scenes", name, self.scene_seed)
            image, targets = compose(images[digits], labels[digits].long(), count, rng)
            parts[name] = Samples(image, targets, [f"{name} scene {i}" for i in range(count)])
        return Data(parts["pool"], parts["test"], tuple(str(d) for d in range(10)))


def uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform numbers in [low, high)."""
    return low + (high - low) * torch.rand(shape, generator=rng)


def scenes(
    digits: Tensor,
    labels: Tensor,
    count: int,
    rng: torch.Generator,
    size: int,
    objects: tuple[int, int],
    sides: tuple[float, float],
    hardest: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """uint8 [count, 1, size, size] and the targets, from digits [M, 8, 8] in [0, 1] and labels [M]."""
    hard, most = uniform(rng, 0, hardest, count, 1, 1), objects[1]
    present = torch.arange(most) < torch.randint(objects[0], most + 1, (count, 1), generator=rng)
    row = torch.randint(len(digits), (count, most), generator=rng)
    part = ink_boxes(digits)[row]
    box = places(part, size, sides, rng)
    ink = paste(digits[row], part, box, size) * present[..., None, None]

    light = uniform(rng, 0.7, 1, count, most, 1, 1) * (1 - 0.8 * hard[..., None])
    canvas = clutter(ground(hard, size, rng), digits, hard, rng)
    for i in range(most):
        canvas = canvas + ink[:, i] * (0.15 + 0.85 * light[:, i] - canvas)
    canvas = occlude(canvas, hard, rng)
    canvas = canvas + torch.randn(canvas.shape, generator=rng) * 0.15 * hard
    canvas = torch.where(uniform(rng, 0, 1, count, 1, 1) < 0.5, canvas, 1 - canvas)  # light on dark, or dark on light

    pixels = torch.cat((box[..., :2].floor() + 1, box[..., 2:].ceil()), 2)
    targets = {
        "boxes": torch.where(present[..., None], pixels, 0.0),
        "labels": torch.where(present, labels[row], -1),
        "difficult": torch.zeros(count, most, dtype=torch.bool),
        "size": torch.full((count, 2), size),
    }
    return (canvas.clamp(0, 1) * 255).round().to(torch.uint8)[:, None], targets


def ink_boxes(digits: Tensor) -> Tensor:
    """Corners [M, 4] of the ink of digits [M, 8, 8], in fractions of their side."""
    inked = digits > 0.2
    lines = inked.any(1).float(), inked.any(2).float()
    low, high = [t.argmax(1) for t in lines], [8 - t.flip(1).argmax(1) for t in lines]
    return torch.stack((*low, *high), 1) / 8


def places(part: Tensor, size: int, sides: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Corners [N, G, 4] in pixels for objects with ink in `part` [N, G, 4]: of 20 layouts the one that overlaps least.

    The least of 20 keeps two digits from hiding each other; three or four large ones still overlap.
    """
    count, most, tries = *part.shape[:2], 20
    ink = part[..., 2:] - part[..., :2]
    side = (
        ink / ink.amax(2, keepdim=True) * uniform(rng, *sides, count, 1, 1) * uniform(rng, 0.85, 1.15, count, most, 1)
    )
    low = uniform(rng, 0, 1, count, tries, most, 2) * (size - side)[:, None]
    layouts = torch.cat((low, low + side[:, None].expand_as(low)), 3)
    worst = (iou(layouts, layouts) - torch.eye(most)).amax((2, 3))
    return layouts[torch.arange(count), worst.argmin(1)]


def paste(digits: Tensor, part: Tensor, box: Tensor, size: int) -> Tensor:
    """Ink [N, G, size, size]: the `part` (corners, fractions) of digits [N, G, 8, 8] stretched over `box` (pixels)."""
    count, most = box.shape[:2]
    pixel = torch.arange(size) + 0.5
    share = (pixel[:, None] - box[..., None, :2]) / (box[..., 2:] - box[..., :2])[..., None, :]  # [N, G, size, 2]
    inside = (share > -0.05) & (share < 1.05)
    source = part[..., None, :2] + share * (part[..., 2:] - part[..., :2])[..., None, :]
    source = torch.where(inside, source * 2 - 1, 5.0).flatten(0, 1)  # 5 is far outside: grid_sample gives 0
    x = source[:, None, :, 0].expand(-1, size, -1)
    y = source[:, :, None, 1].expand(-1, -1, size)
    ink = F.grid_sample(digits.reshape(-1, 1, 8, 8), torch.stack((x, y), 3), align_corners=False)
    return ink.reshape(count, most, size, size)


def ground(hard: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Smooth background [N, size, size], rougher in harder scenes."""
    coarse = uniform(rng, -1, 1, len(hard), 1, 5, 5) * (0.05 + 0.2 * hard[:, None])
    return 0.15 + F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)[:, 0].abs()


def clutter(canvas: Tensor, digits: Tensor, hard: Tensor, rng: torch.Generator, fragments: int = 4) -> Tensor:
    """Quarters of digits, turned and stretched, up to `fragments` of them in the hardest scenes."""
    count, size = len(canvas), canvas.shape[-1]
    row = torch.randint(len(digits), (count, fragments), generator=rng)
    low = torch.randint(2, (count, fragments, 2), generator=rng) / 2
    corner = uniform(rng, 0, size - 12, count, fragments, 2)
    box = torch.cat((corner, corner + uniform(rng, 5, 12, count, fragments, 2)), 2)
    ink = paste(digits[row].mT, torch.cat((low, low + 0.5), 2), box, size)
    shown = uniform(rng, 0, 1, count, fragments) < hard[..., 0]
    level = uniform(rng, 0.3, 0.8, count, fragments, 1, 1)
    for i in range(fragments):
        canvas = canvas + ink[:, i] * shown[:, i, None, None] * (level[:, i] - canvas)
    return canvas


def occlude(canvas: Tensor, hard: Tensor, rng: torch.Generator, bars: int = 2) -> Tensor:
    """Up to `bars` straight bars of 2 to 4 pixels across the whole scene, more often in harder ones."""
    count, size = len(canvas), canvas.shape[-1]
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    for _ in range(bars):
        angle, through = uniform(rng, 0, math.pi, count, 1, 1), uniform(rng, 0, size, 2, count, 1, 1)
        distance = (x - through[0]) * angle.cos() + (y - through[1]) * angle.sin()
        bar = (distance.abs() < uniform(rng, 1, 2, count, 1, 1)) & (uniform(rng, 0, 1, count, 1, 1) < 0.8 * hard)
        canvas = torch.where(bar, uniform(rng, 0.1, 0.7, count, 1, 1), canvas)
    return canvas
