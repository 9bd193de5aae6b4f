"""From stored images to what the network sees: scale, rotation and flip as one resampling, joints by the same matrix.

Positions are continuous (an image spans [0, W]; see heatmaps.py), both images are square, and their centres coincide.
"""

import torch
from torch import Tensor
from torch.nn import functional

from albench.task import constant


def similarity(scale: Tensor, angle: Tensor, flip: Tensor) -> Tensor:
    """Matrices [B, 2, 2] that mirror (where `flip`), then rotate by `angle` (radians), then scale."""
    cos, sin = scale * angle.cos(), scale * angle.sin()
    sign = 1 - 2 * flip.to(scale.dtype)
    return torch.stack([torch.stack([sign * cos, -sin], -1), torch.stack([sign * sin, cos], -1)], -2)


def draw_similarity(
    count: int, scaling: float, rotation: float, flip: bool, rng: torch.Generator
) -> tuple[Tensor, ...]:
    """Random (scale, angle, flip) [B] each: scale in 1 ± scaling, angle in ± rotation (degrees), flip half the time."""
    scale, angle, coin = torch.rand(3, count, generator=rng, device=rng.device).unbind()
    return 1 + scaling * (2 * scale - 1), torch.deg2rad(rotation * (2 * angle - 1)), (coin < 0.5) & flip


def warp_images(images: Tensor, matrix: Tensor, size: int) -> Tensor:
    """Images [B, C, S, S] through the matrix about their centre, as [B, C, size, size]; zero where nothing was."""
    # A similarity's inverse without a solver, which would synchronise: Aᵀ over the squared scale.
    inverse = matrix.transpose(1, 2) / matrix[:, :, :1].square().sum(1, keepdim=True)
    centres = torch.arange(size, device=images.device) + 0.5 - size / 2
    points = torch.stack([centres.expand(size, size), centres[:, None].expand(size, size)], -1)
    grid = _apply(inverse[:, None], points) * (2 / images.shape[-1])
    return functional.grid_sample(images, grid.to(images.dtype), align_corners=False)


def warp_joints(joints: Tensor, matrix: Tensor, stored: int, size: int) -> Tensor:
    """Joints [B, J, 2] in pixels of the stored image, as pixels of the warped one."""
    return _apply(matrix, joints - stored / 2) + size / 2


def _apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Matrices [B, (1,) 2, 2] on points [(B,) …, 2]; not as a matmul, which may run in TF32 and move a joint."""
    x, y = points[..., 0], points[..., 1]
    a, b, c, d = (matrix[..., i, j, None] for i in (0, 1) for j in (0, 1))
    return torch.stack([a * x + b * y, c * x + d * y], -1)


def swap_sides(values: Tensor, flip: Tensor, mirrored: tuple[int, ...] | Tensor) -> Tensor:
    """Where `flip` [B], each joint of values [B, J, …] is replaced by the one that it becomes in a mirror: one list
    for all, or each sample's own [B, J]."""
    where = flip.view(-1, *[1] * (values.ndim - 1))
    if isinstance(mirrored, Tensor):
        index = mirrored.view(*mirrored.shape, *[1] * (values.ndim - 2)).expand_as(values)
        return torch.where(where, values.gather(1, index), values)
    return torch.where(where, values.index_select(1, constant(mirrored, values.device, torch.int64)), values)
