"""Boxes: overlap, default boxes, matching, and the offsets that a detector regresses (SSD, Liu et al. 2016).

Corners are (x1, y1, x2, y2) and centres (cx, cy, w, h), both in fractions of the image: 0 is its left or upper edge,
1 its right or lower edge. A ground-truth label of -1 is padding.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

VARIANCE = (0.1, 0.2)  # SSD's scaling of the offsets of centre and size
MATCH = 0.5  # a default box that overlaps an object by more than this is trained to find it


class Grid(NamedTuple):
    """The default boxes of one source map, all lengths in fractions of the image."""

    cells: int  # the map is cells × cells
    step: float  # distance between two cells' centres
    scale: float  # side of the square box
    larger: float  # side of the second, larger square box
    ratios: tuple[float, ...]  # each r adds a box r times as wide as high, and one r times as high as wide

    @property
    def boxes(self) -> int:
        """Default boxes per cell."""
        return 2 + 2 * len(self.ratios)


def default_boxes(grids: tuple[Grid, ...]) -> Tensor:
    """Centres [D, 4] of all default boxes: map by map, row by row, cell by cell; sizes are at most 1."""
    maps = []
    for grid in grids:
        sizes = [(grid.scale, grid.scale), (grid.larger, grid.larger)]
        for root in (math.sqrt(r) for r in grid.ratios):
            sizes += [(grid.scale * root, grid.scale / root), (grid.scale / root, grid.scale * root)]
        centre = (torch.arange(grid.cells, dtype=torch.float64) + 0.5) * grid.step
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        place = torch.stack((x, y), 2).reshape(-1, 1, 2).expand(-1, len(sizes), 2)
        size = torch.tensor(sizes, dtype=torch.float64).clamp(max=1).expand(len(place), -1, 2)
        maps.append(torch.cat((place, size), 2).reshape(-1, 4))
    return torch.cat(maps).float()


def corners(centres: Tensor) -> Tensor:
    """(cx, cy, w, h) → (x1, y1, x2, y2), [..., 4]."""
    centre, half = centres[..., :2], centres[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1)


def centres(corners: Tensor) -> Tensor:
    """(x1, y1, x2, y2) → (cx, cy, w, h), [..., 4]."""
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat(((low + high) / 2, high - low), -1)


def area(boxes: Tensor) -> Tensor:
    """Areas [...] of corners [..., 4]; 0 for a box that is inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union [..., N, M] of corners a [..., N, 4] and b [..., M, 4]; 0 where both are empty."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    return inter / (area(a)[..., :, None] + area(b)[..., None, :] - inter).clamp_min(1e-12)


def encode(boxes: Tensor, defaults: Tensor) -> Tensor:
    """Offsets [..., D, 4] that turn default boxes (centres [D, 4]) into boxes (corners [..., D, 4])."""
    own = centres(boxes)
    shift = (own[..., :2] - defaults[..., :2]) / (VARIANCE[0] * defaults[..., 2:])
    stretch = (own[..., 2:].clamp_min(1e-6) / defaults[..., 2:]).log() / VARIANCE[1]
    return torch.cat((shift, stretch), -1)


def decode(offsets: Tensor, defaults: Tensor) -> Tensor:
    """The inverse of `encode`: corners [..., D, 4]."""
    centre = defaults[..., :2] + offsets[..., :2] * VARIANCE[0] * defaults[..., 2:]
    size = defaults[..., 2:] * (offsets[..., 2:] * VARIANCE[1]).clamp(max=8).exp()  # e⁸: no overflow when untrained
    return corners(torch.cat((centre, size), -1))


def match(boxes: Tensor, labels: Tensor, defaults: Tensor) -> tuple[Tensor, Tensor]:
    """What each default box is trained to say: labels [B, D], 0 for background and class + 1; offsets [B, D, 4].

    boxes: corners [B, G, 4]. labels: [B, G], -1 for padding. A default box takes the object that it overlaps most, if
    by more than 0.5; each object also takes the default box that overlaps it most, whatever the overlap. Where two
    objects want the same one, the larger overlap wins and the other goes without, as torchvision's loser does (of
    objects in augmented VOC images .8 %).
    """
    overlap = iou(boxes, corners(defaults)).masked_fill((labels < 0)[..., None], -3)
    best = overlap.argmax(2, keepdim=True)
    overlap = overlap.scatter_add(2, best, torch.full_like(best, 2, dtype=overlap.dtype))
    value, row = overlap.max(1)
    found = torch.where(value > MATCH, labels.gather(1, row) + 1, 0)
    own = boxes.gather(1, row[..., None].expand(-1, -1, 4))
    offsets = torch.where((found > 0)[..., None], encode(own, defaults), 0.0)
    return found, offsets
