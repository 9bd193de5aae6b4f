"""k-center greedy: cover the pool by always taking the point that is farthest from everything taken so far."""

import torch
from torch import Tensor

from albench.errors import AlbenchError

# Rows whose differences are formed at once: few enough on a CPU to stay in its cache, many on a GPU to fill it.
_CPU_ROWS, _GPU_ROWS = 2048, 65536
_PRODUCT = 1 << 22  # entries of the product with the given centres that are held at once


@torch.no_grad()
def k_center(candidates: Tensor, centres: Tensor | None, k: int) -> Tensor:
    """The k candidates that greedy k-center takes, in the order they are taken.

    Each pick is the candidate with the largest Euclidean distance to its nearest centre, given or picked before. Ties
    go to the lowest position; with no centres all candidates are tied, so position 0 comes first. (The engine shows
    candidates in a seeded random order: both are then random, and the same for every strategy.)

    Distances are fp32 differences, squared and summed: the expansion |a|² + |b|² − 2ab is no faster for one centre
    at a time, and cancels. So an exact duplicate of a centre has distance 0 and is taken only when nothing else is
    left. Memory: O(M·d); never M × M. No value is read back from the device between picks.

    Args:
        candidates: [M, d], finite, any floating type.
        centres: [L, d] on the same device, or None (or L = 0).
        k: how many, 0…M.

    Returns:
        Positions among the candidates, int64 [k], distinct.

    Raises:
        AlbenchError: k > M, or a candidate or centre is not finite.

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
    algorithm 1.

    >>> k_center(torch.tensor([[0.0], [1.0], [5.0], [9.0]]), None, 3)
    tensor([0, 3, 2])
    """
    points = candidates.float()
    count = len(points)
    if not 0 <= k <= count:
        raise AlbenchError(f"k-center: {k} picks were asked of {count} candidates")
    _require_finite(points, "candidates")
    distance = points.new_full((count,), float("inf"))
    if centres is not None and len(centres):
        _require_finite(centres, "centres")
        distance = _to_nearest(points, centres.float())

    rows = _CPU_ROWS if points.device.type == "cpu" else _GPU_ROWS
    chunks = list(zip(points.split(rows), distance.split(rows), strict=True))  # views: updated in place
    picks = torch.empty(k, dtype=torch.int64, device=points.device)
    for i in range(k):
        pick = distance.argmax()  # the first of equals
        picks[i] = pick
        centre = points[pick]
        for chunk, nearest in chunks:
            torch.minimum(nearest, (chunk - centre).square_().sum(1), out=nearest)
        distance.index_fill_(0, pick, -1.0)  # below every distance: never again
    return picks


def _to_nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distance [M] of each point to its nearest centre.

    A matrix product finds the nearest, in fp64, where neither cancellation nor TF32 can change it; the distance to it
    is then taken by differences, as it is for every later pick.
    """
    exact = centres.double()
    norms = exact.square().sum(1)
    found = []
    for chunk in points.split(max(1, _PRODUCT // len(centres))):
        nearest = torch.addmm(norms, chunk.double(), exact.T, alpha=-2).argmin(1)
        found.append((chunk - centres[nearest]).square_().sum(1))
    return torch.cat(found)


def _require_finite(points: Tensor, what: str) -> None:
    if not torch.isfinite(points).all():
        raise AlbenchError(f"k-center: the {what}' embeddings hold NaN or infinity; has the training diverged?")
