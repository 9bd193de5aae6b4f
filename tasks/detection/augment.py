"""SSD's augmentation as batched operations on the device: colours, expand, IoU crop, mirror; one grid_sample.

Images come as fractions of full brightness less the mean colour: 0 is what expanding fills with. Boxes are corners in
fractions of the image, padded [B, G, 4], labels [B, G] with -1 for padding.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from albench.task import constant
from albench.tasks.detection.boxes import iou

TRIES = 50  # crops drawn per image; the first that keeps enough of an object is taken
LEAST_OVERLAP = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # with an object; 0: any crop with an object's centre in it
KINDS = len(LEAST_OVERLAP) + 1  # and the whole canvas


class Policy(NamedTuple):
    """How strong it is. SSD's own is Policy(4, 0.3, True, 1)."""

    expand: float = 4.0  # largest side of the canvas, in sides of the image; 1 switches it off
    crop: float = 0.3  # shortest side of a crop, in sides of the canvas; 1 switches it off
    mirror: bool = True
    photometric: float = 1.0  # 0 switches it off


class Drawn(NamedTuple):
    """The random numbers of a batch of B images."""

    amount: Tensor  # [4, B] of brightness, contrast, hue and saturation, in -1 … 1; 0 for half of them
    canvas: Tensor  # [B, 4] corners, in sides of the image
    share: Tensor  # [B, TRIES, 2] width and height of the crops tried, in sides of the canvas
    corner: Tensor  # [B, TRIES, 2] their upper left
    lot: Tensor  # [B, KINDS] the highest wins, of what an image allows: a crop by each of LEAST_OVERLAP, the whole
    flip: Tensor  # bool [B]


def draw(count: int, policy: Policy, rng: torch.Generator) -> Drawn:
    """One random change for each of `count` images."""
    amount = torch.zeros(4, count, device=rng.device)
    if policy.photometric > 0:
        amount = uniform((4, count), -1, 1, rng) * policy.photometric * (uniform((4, count), 0, 1, rng) < 0.5)
    canvas = expand(count, policy.expand, rng)
    share = uniform((count, TRIES, 2), policy.crop, 1, rng)
    corner = uniform((count, TRIES, 2), 0, 1, rng) * (1 - share)
    lot = uniform((count, KINDS), 0, 1, rng)
    flip = torch.rand(count, generator=rng, device=rng.device) < (0.5 if policy.mirror else 0)
    return Drawn(amount, canvas, share, corner, lot, flip)


def augment(
    image: Tensor, boxes: Tensor, labels: Tensor, size: int, policy: Policy, drawn: Drawn, mean: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Image [B, C, size, size], boxes and labels under what was drawn; lost objects get label -1.

    mean: [C], the mean colour, which the image is less of.
    """
    if policy.photometric > 0:
        image = colour(image, drawn.amount, mean)
    region = drawn.canvas
    if policy.crop < 1:
        region = crop(region, boxes, labels, drawn.share, drawn.corner, drawn.lot)
    image = look(image, region, drawn.flip, size)
    return image, *move(boxes, labels, region, drawn.flip)


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    """Uniform numbers on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=rng, device=rng.device)


def colour(image: Tensor, amount: Tensor, mean: Tensor) -> Tensor:
    """SSD's photometric distortion: `distort` by brightness (±32 of 255), contrast and saturation (.5 to 1.5) and hue
    (±18°), each by its amount in ±1 [4, B]."""
    bright, contrast, hue, saturation = amount
    return distort(image, bright * 32 / 255, 1 + contrast * 0.5, hue * math.pi / 10, 1 + saturation * 0.5, mean)


def distort(image: Tensor, bright: Tensor, contrast: Tensor, hue: Tensor, saturation: Tensor, mean: Tensor) -> Tensor:
    """The image [B, C, H, W] (less the mean colour [C]) made brighter, then scaled about black, then turned in hue
    (radians) and scaled in saturation about its grey value; cut off at black and white. Each amount is [B].

    All are linear, so they are one 3 × 3 matrix and one offset per image. Saturation mixes with the mean of the
    channels and hue is a rotation about the grey axis, where SSD goes through HSV. One channel has neither.
    """
    base = mean[:, None, None]
    count, channels = image.shape[:2]
    matrix = contrast[:, None, None].expand(count, channels, channels) * torch.eye(channels, device=image.device)
    if channels == 3:
        grey = torch.full((3, 3), 1 / 3, device=image.device)
        chroma = torch.eye(3, device=image.device) - grey
        cross = constant(((0.0, -1, 1), (1, 0, -1), (-1, 1, 0)), image.device) / math.sqrt(3)
        turn = chroma * hue.cos()[:, None, None] + cross * hue.sin()[:, None, None]
        matrix = matrix @ (grey + saturation[:, None, None] * turn)
    shift = matrix @ (mean + bright[:, None])[..., None]  # of what is added to the image: the mean and the brightness
    flat = torch.baddbmm(shift, matrix, image.flatten(2)).reshape(image.shape)
    return flat.clamp(0, 1) - base


def expand(count: int, largest: float, rng: torch.Generator) -> Tensor:
    """For half of the images a canvas up to `largest` sides wide with the image somewhere on it; corners [B, 4]."""
    side = torch.where(uniform((count,), 0, 1, rng) < 0.5, uniform((count,), 1, largest, rng), 1.0)[:, None]
    low = -uniform((count, 2), 0, 1, rng) * (side - 1)
    return torch.cat((low, low + side), 1)


def crop(canvas: Tensor, boxes: Tensor, labels: Tensor, share: Tensor, corner: Tensor, lot: Tensor) -> Tensor:
    """A part of each canvas (corners [B, 4]) that keeps an object, or the whole canvas; corners [B, 4].

    For each of LEAST_OVERLAP the first of 50 random crops (at most twice as long as wide) that holds an object's
    centre and overlaps it by as much. One of those that were found, or the whole, each as likely, as SSD's batch
    sampler chooses: a minimum that no crop reaches is not the whole in its place. See Drawn for the last three.
    """
    origin, side = canvas[:, None, :2], (canvas[:, 2:] - canvas[:, :2])[:, None]
    low = origin + corner * side
    tried = torch.cat((low, low + share * side), 2)
    centre = ((boxes[..., :2] + boxes[..., 2:]) / 2)[:, None]
    inside = ((centre > tried[:, :, None, :2]) & (centre < tried[:, :, None, 2:])).all(3) & (labels >= 0)[:, None]
    ratio = share[..., 0] / share[..., 1]
    inside &= ((ratio > 0.5) & (ratio < 2))[..., None]
    overlap = torch.where(inside, iou(tried, boxes), -1.0).amax(2)
    good = overlap[..., None] >= constant(LEAST_OVERLAP, canvas.device)  # [B, TRIES, KINDS - 1]
    first = (good * torch.arange(TRIES, 0, -1, device=canvas.device)[:, None]).argmax(1)
    found = F.pad(good.any(1), (0, 1), value=True)
    kind = torch.where(found, lot, -1.0).argmax(1)[:, None]
    regions = torch.cat((tried.gather(1, first[..., None].expand(-1, -1, 4)), canvas[:, None]), 1)
    return regions.gather(1, kind[..., None].expand(-1, -1, 4))[:, 0]


def look(image: Tensor, region: Tensor, flip: Tensor, size: int) -> Tensor:
    """Each image's region (corners [B, 4], which may reach beyond it), mirrored where `flip`, at size × size.

    Bilinear without smoothing, also where it shrinks: as SSD's readers in Python do.
    """
    side, middle = region[:, 2:] - region[:, :2], region[:, :2] + region[:, 2:] - 1
    theta = torch.zeros(len(image), 2, 3, device=image.device)
    theta[:, 0, 0] = torch.where(flip, -side[:, 0], side[:, 0])
    theta[:, 1, 1] = side[:, 1]
    theta[:, :, 2] = middle
    grid = F.affine_grid(theta, [len(image), 1, size, size], align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def move(boxes: Tensor, labels: Tensor, region: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes in fractions of their region, cut at its edges; objects whose centre is outside get label -1."""
    origin, side = region[:, None, :2], (region[:, 2:] - region[:, :2])[:, None]
    low, high = (boxes[..., :2] - origin) / side, (boxes[..., 2:] - origin) / side
    mirrored = flip[:, None]
    left = torch.where(mirrored, 1 - high[..., 0], low[..., 0])
    right = torch.where(mirrored, 1 - low[..., 0], high[..., 0])
    moved = torch.stack((left, low[..., 1], right, high[..., 1]), 2)
    centre = (moved[..., :2] + moved[..., 2:]) / 2
    kept = ((centre > 0) & (centre < 1)).all(2)
    return moved.clamp(0, 1), torch.where(kept, labels, -1)
