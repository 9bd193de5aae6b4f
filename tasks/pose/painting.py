"""Painting articulated figures: bodies in random poses, rendered for all images at once.

A shape is painted on every image of a set in one step (the distance of all pixels to a segment each), so 1,400 figures
take about a second.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Tone = Callable[[Sequence[float]], Tensor]  # a colour → that colour in each image [N, 3]

AT_ONCE = 64  # images: what a shape needs of them stays in the processor's cache, in a third of the time
# Colours tell the sides apart, as nothing else on a flat figure does.
TONES = {
    "left": (0.96, 0.50, 0.10),
    "right": (0.12, 0.45, 0.92),
    "shirt": (0.90, 0.88, 0.80),
    "skin": (0.95, 0.74, 0.60),
}


def generate(count: int, side: int, body: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Figures as uint8 images [N, 3, side, side] and joints [N, 14, 2] in pixels (an image spans [0, side]).

    All joints lie in the middle square of side `body`. Every draw comes from `rng`, a CPU generator.
    """
    difficulty = torch.rand(count, generator=rng)
    joints = _fit(_pose(count, rng), side, body, rng)
    return _paint(joints, difficulty, side, rng), joints


def _uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=rng)


def _polar(length: Tensor, angle: Tensor) -> Tensor:
    """Offsets [N, 2]: angle 0 points down the image, and grows anticlockwise as one looks at it."""
    return torch.stack([length * angle.sin(), length * angle.cos()], -1)


def _pose(count: int, rng: torch.Generator) -> Tensor:
    """Joints [N, 14, 2] of bodies about one torso long, hips near the origin: lean, turn, bent limbs, their lengths."""
    build = _uniform(rng, 0.85, 1.2, count)  # limb lengths of this body over its torso's
    lean = 0.6 * torch.randn(count, generator=rng)
    turn = _uniform(rng, 0.35, 1.0, count) * torch.sign(
        torch.rand(count, generator=rng) - 0.35
    )  # < 0: seen from behind
    up = -_polar(torch.ones(count), lean)
    across = torch.stack([-up[:, 1], up[:, 0]], -1) * turn[:, None]  # towards the person's left
    neck = up * 1.0
    head = neck + _uniform(rng, 0.42, 0.55, count)[:, None] * -_polar(
        torch.ones(count), lean + 0.25 * torch.randn(count, generator=rng)
    )
    joints = torch.empty(count, 14, 2)
    joints[:, 12], joints[:, 13] = neck, head
    for sign, (hip, knee, ankle), (shoulder, elbow, wrist) in ((1, (3, 4, 5), (9, 10, 11)), (-1, (2, 1, 0), (8, 7, 6))):
        outwards = sign * torch.sign(turn)
        joints[:, hip] = sign * 0.22 * across
        joints[:, shoulder] = neck * 0.93 + sign * 0.36 * across
        joints[:, knee], joints[:, ankle] = _limb(joints[:, hip], 0.62 * build, lean, outwards, (-0.4, 1.2), 1.3, rng)
        joints[:, elbow], joints[:, wrist] = _limb(
            joints[:, shoulder], 0.45 * build, lean, outwards, (-0.5, 2.7), 1.8, rng
        )
    return joints


def _limb(
    start: Tensor,
    length: Tensor,
    lean: Tensor,
    outwards: Tensor,
    swing: tuple[float, float],
    bend: float,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Middle and end of a limb: swung outwards by an angle in `swing`, bent by up to `bend`, foreshortened."""
    count = len(start)
    upper = lean + outwards * _uniform(rng, *swing, count)
    lower = upper + _uniform(rng, -bend, bend, count)
    middle = start + _polar(length * _uniform(rng, 0.65, 1.1, count), upper)
    return middle, middle + _polar(length * _uniform(rng, 0.65, 1.1, count), lower)


def _fit(joints: Tensor, side: int, body: float, rng: torch.Generator) -> Tensor:
    """Bodies scaled to 70–92 % of the square of side `body` in the middle of the image, and moved about in it."""
    count = len(joints)
    low, high = joints.amin(1), joints.amax(1)
    extent = (high - low).amax(1)
    span = body * _uniform(rng, 0.7, 0.92, count)
    scale = span / extent
    room = 0.9 * (0.96 * body - scale[:, None] * (high - low)) / 2
    shift = side / 2 + room * _uniform(rng, -1, 1, count, 2)
    return (joints - (low + high)[:, None] / 2) * scale[:, None, None] + shift[:, None]


class _Canvas:
    """Images [N, 3, side, side] in 0…1, painted shape by shape, all images at once."""

    def __init__(self, colour: Tensor, slope: Tensor, side: int) -> None:
        axis = torch.arange(side) + 0.5
        self.x, self.y = axis.view(1, 1, side), axis.view(1, side, 1)
        ramp = (self.x / side - 0.5) * slope[:, :1, None] + (self.y / side - 0.5) * slope[:, 1:, None]
        self.image = colour[:, :, None, None] + ramp[:, None]
        self.parts = [slice(row, row + AT_ONCE) for row in range(0, len(colour), AT_ONCE)]

    def capsule(self, a: Tensor, b: Tensor, radius: Tensor, colour: Tensor, opacity: Tensor | float = 1.0) -> None:
        """A thick line with round ends from a to b [N, 2] (a disc where they coincide), with soft edges."""
        for rows in self.parts:
            (ax, ay), (along_x, along_y) = (v[rows, :, None, None].unbind(1) for v in (a, b - a))
            dx, dy = self.x - ax, self.y - ay
            t = ((dx * along_x + dy * along_y) / (along_x**2 + along_y**2).clamp_min(1e-6)).clamp_(0, 1)
            distance = torch.hypot(dx - t * along_x, dy - t * along_y)
            self._blend(rows, (radius[rows, None, None] - distance + 0.5).clamp_(0, 1), colour, opacity)

    def box(self, centre: Tensor, half: Tensor, colour: Tensor, opacity: Tensor | float = 1.0) -> None:
        """An upright rectangle; half [N, 2] are half its width and height."""
        for rows in self.parts:
            (x, y), (wide, high) = (v[rows, :, None, None].unbind(1) for v in (centre, half))
            inside = torch.minimum(wide - (self.x - x).abs(), high - (self.y - y).abs())
            self._blend(rows, (inside + 0.5).clamp_(0, 1), colour, opacity)

    def _blend(self, rows: slice, cover: Tensor, colour: Tensor, opacity: Tensor | float) -> None:
        cover = cover * (opacity.view(-1)[rows, None, None] if isinstance(opacity, Tensor) else opacity)
        image = self.image[rows]
        image += cover[:, None] * (colour[rows, :, None, None] - image)


def _paint(joints: Tensor, difficulty: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """uint8 images [N, 3, side, side] of the bodies; difficulty [N] in 0…1 spoils contrast and adds what misleads."""
    count = len(joints)
    ground = _uniform(rng, 0.15, 0.75, count, 1) + 0.12 * torch.randn(count, 3, generator=rng)
    canvas = _Canvas(ground, _uniform(rng, -0.4, 0.4, count, 2), side)
    contrast = (1.0 - 0.75 * difficulty + 0.1 * torch.randn(count, generator=rng)).clamp(0.2, 1)[:, None]

    def tone(colour: Sequence[float]) -> Tensor:
        """The colour in each image: shifted a little, and nearer to the ground the lower the contrast."""
        varied = torch.tensor(colour) + 0.13 * torch.randn(count, 3, generator=rng)
        return ground + contrast * (varied - ground)

    _clutter(canvas, difficulty, tone, side, rng)
    torso = (joints[:, 9] - joints[:, 2]).norm(dim=1)
    _body(canvas, joints, torso, {name: tone(colour) for name, colour in TONES.items()}, rng)
    _occluders(canvas, joints, difficulty, ground, side, rng)
    noise = (0.02 + 0.1 * difficulty.view(-1, 1, 1, 1)) * torch.randn(canvas.image.shape, generator=rng)
    return (canvas.image + noise).clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def _body(canvas: "_Canvas", joints: Tensor, torso: Tensor, tones: dict[str, Tensor], rng: torch.Generator) -> None:
    """Right limbs, trunk, left limbs, head: what is painted later hides what was painted before."""
    limb = torso * _uniform(rng, 0.09, 0.13, len(joints)) + 0.2

    def side(names: str, hip: int, knee: int, ankle: int, shoulder: int, elbow: int, wrist: int) -> None:
        dark = tones[names] * 0.85  # the lower half of a limb is a little darker, so that knees and elbows show
        canvas.capsule(joints[:, knee], joints[:, ankle], limb * 0.9, dark)
        canvas.capsule(joints[:, hip], joints[:, knee], limb * 1.15, tones[names])
        canvas.capsule(joints[:, elbow], joints[:, wrist], limb * 0.75, dark)
        canvas.capsule(joints[:, shoulder], joints[:, elbow], limb * 0.9, tones[names])

    side("right", 2, 1, 0, 8, 7, 6)
    for a, b, radius in ((8, 2, 1.4), (9, 3, 1.4), (8, 9, 1.0), (2, 3, 1.2)):
        canvas.capsule(joints[:, a], joints[:, b], limb * radius, tones["shirt"])
    canvas.capsule((joints[:, 8] + joints[:, 9]) / 2, (joints[:, 2] + joints[:, 3]) / 2, limb * 2, tones["shirt"])
    side("left", 3, 4, 5, 9, 10, 11)
    middle = joints[:, 12] * 0.4 + joints[:, 13] * 0.6
    canvas.capsule(joints[:, 12], middle, limb * 0.7, tones["skin"])
    canvas.capsule(middle, middle, 0.4 * (joints[:, 13] - joints[:, 12]).norm(dim=1) + 0.2, tones["skin"])


def _clutter(canvas: "_Canvas", difficulty: Tensor, tone: Tone, side: int, rng: torch.Generator) -> None:
    """Sticks and discs in the colours of limbs and skin behind the figure: the harder the image, the more."""
    count = len(difficulty)
    for i, name in enumerate(("left", "right", "skin", "left", "right", "shirt", "left", "right")):
        start = _uniform(rng, 0, side, count, 2)
        length = 0.0 if name == "skin" else _uniform(rng, 0.08, 0.3, count) * side
        end = start + _polar(length * torch.ones(count), _uniform(rng, 0, 6.283, count))
        there = (torch.rand(count, generator=rng) < 0.15 + 0.85 * difficulty - 0.06 * i).float()
        canvas.capsule(start, end, _uniform(rng, 0.02, 0.04, count) * side, tone(TONES[name]), there)


def _occluders(
    canvas: "_Canvas", joints: Tensor, difficulty: Tensor, ground: Tensor, side: int, rng: torch.Generator
) -> None:
    """Two rectangles in front of the figure, each near a joint; hard images have more and larger ones."""
    count = len(joints)
    for _ in range(2):
        joint = torch.randint(joints.shape[1], (count,), generator=rng)
        centre = joints[torch.arange(count), joint] + 0.04 * side * torch.randn(count, 2, generator=rng)
        half = side * (0.03 + 0.07 * difficulty[:, None]) * _uniform(rng, 0.6, 1.4, count, 2)
        there = (torch.rand(count, generator=rng) < 0.1 + 0.6 * difficulty).float()
        canvas.box(centre, half, ground + 0.15 * torch.randn(count, 3, generator=rng), there)
