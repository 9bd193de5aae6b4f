"""Heat maps: from joints to targets, and from maps back to joints and to distributions.

Positions are continuous: an image spans [0, W], pixel i covers [i, i + 1) and has its centre at i + 0.5. The same
holds for the cells of a map, so a joint's position in cells is its position in pixels over the stride.
"""

import math

import torch
from torch import Tensor


def gaussians(joints: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """Maps [B, J, H, W] with a Gaussian of peak 1 around each joint; joints [B, J, 2] and sigma in cells.

    The centre is the joint itself, not its cell's centre, so a map tells where in the cell the joint is.
    """
    ys = torch.arange(height, device=joints.device) + 0.5
    xs = torch.arange(width, device=joints.device) + 0.5
    along_x = torch.exp(-((xs - joints[..., :1]) ** 2) / (2 * sigma**2))
    along_y = torch.exp(-((ys - joints[..., 1:]) ** 2) / (2 * sigma**2))
    return along_y.unsqueeze(-1) * along_x.unsqueeze(-2)


def inside(joints: Tensor, height: int, width: int) -> Tensor:
    """bool [B, J]: whether a joint (in cells) lies on the map."""
    x, y = joints.unbind(-1)
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def cells(joints: Tensor, height: int, width: int) -> Tensor:
    """The number y·W + x [B, J] of the cell in which each joint lies; the nearest cell where it is off the map."""
    x = joints[..., 0].floor().clamp(0, width - 1)
    y = joints[..., 1].floor().clamp(0, height - 1)
    return (y * width + x).long()


def decode(maps: Tensor) -> Tensor:
    """Joints [B, J, 2] in cells: the centre of the highest cell, a quarter towards the higher of its neighbours.

    The quarter (Newell et al. 2016) makes up for part of the rounding to cells; a peak on the border has no quarter.
    """
    height, width = maps.shape[-2:]
    flat = maps.flatten(2)
    peak = flat.argmax(2)
    y, x = peak // width, peak % width

    def quarter(position: Tensor, size: int, step: int) -> Tensor:
        interior = (position > 0) & (position < size - 1)
        after = flat.gather(2, (peak + step).clamp(max=height * width - 1).unsqueeze(2)).squeeze(2)
        before = flat.gather(2, (peak - step).clamp(min=0).unsqueeze(2)).squeeze(2)
        return 0.25 * torch.sign(after - before) * interior

    return torch.stack([x + 0.5 + quarter(x, width, 1), y + 0.5 + quarter(y, height, width)], -1).float()


def softmax_logp(maps: Tensor) -> Tensor:
    """log-softmax [B, J, H·W] over the cells of each map, in the precision of the maps."""
    return maps.flatten(2).log_softmax(2)


def clipped_logp(maps: Tensor) -> Tensor:
    """Log-probabilities [B, J, H·W] of maps that are regressions: negative values clipped, the rest summing to 1.

    A softmax over such maps is nearly uniform whatever they show. A map without a positive value is uniform.
    """
    flat = maps.float().flatten(2).clamp_min(0)
    total = flat.sum(2, keepdim=True)
    return torch.where(total > 0, flat.log() - total.log(), -math.log(flat.shape[2]))
