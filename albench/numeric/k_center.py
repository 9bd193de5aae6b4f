"""k-center greedy: cover the pool by always taking the point that is farthest from everything taken so far."""

import torch
from torch import Tensor

from albench.errors import AlbenchError

# Rows whose differences are formed at once: few enough on a CPU to stay in its cache, many on a GPU to fill it.
_CPU_ROWS, _GPU_ROWS = 256, 65536
_PRODUCT = 1 << 22  # entries of the product with the given centres that are held at once


@torch.no_grad()
def k_center(candidates: Tensor, centres: Tensor | None, k: int) -> Tensor:
    """The k candidates that greedy k-center takes, in the order they are taken.

    Each pick is the candidate with the largest Euclidean distance to its nearest centre, given or picked before. Ties
    go to the lowest position; with no centres all candidates are tied, so position 0 comes first. (The engine shows
    candidates in a seeded random order: both are then random, and the same for every strategy.)

    Distances are fp32 differences, squared and summed: the expansion |a|² + |b|² − 2ab cancels. So an exact duplicate
    of a centre has distance 0 and is taken only when nothing else is left. On a CPU the expansion, less its largest
    rounding error, says which candidates a pick may be nearer to; the differences of all others are not formed, and
    the picks are the same. Memory: O(M·d); never M × M. On a GPU no value is read back between picks.

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

    least = _norms_less_rounding(points) if points.device.type == "cpu" else None
    everything = [slice(start, start + _GPU_ROWS) for start in range(0, count, _GPU_ROWS)]
    picks = torch.empty(k, dtype=torch.int64, device=points.device)
    for i in range(k):
        pick = distance.argmax()  # the first of equals
        picks[i] = pick
        centre = points.index_select(0, pick[None])[0]  # points[pick] would read the position back
        parts = everything if least is None else _perhaps_nearer(points, centre, least + least[pick], distance)
        for rows in parts:
            distance[rows] = torch.minimum(distance[rows], (points[rows] - centre).square_().sum(1))
        distance.index_fill_(0, pick, -1.0)  # below every distance: never again
    return picks


def _norms_less_rounding(points: Tensor) -> Tensor:
    """|a|² [M] less what rounding can add: least_a + least_b − 2ab is never above the sum of the squared differences.

    With u = eps / 2 and any order of summing, the norms are off by du(|a|² + |b|²), the product with them as its first
    term by 2(d + 1)u(|a|² + |b|²), the sum of squared differences by 2(d + 2)u(|a|² + |b|²): together fewer than
    6(d + 8)u. A result that underflows is off by `tiny` at most.
    """
    norms, fp32 = points.square().sum(1), torch.finfo(torch.float32)
    return norms - 3 * (points.shape[1] + 8) * (fp32.eps * norms + fp32.tiny)


def _perhaps_nearer(points: Tensor, centre: Tensor, norms: Tensor, distance: Tensor) -> tuple[Tensor, ...]:
    """Rows that the centre may be nearer to than `distance`, in parts; those whose expansion overflows among them."""
    bound = torch.addmv(norms, points, centre, alpha=-2)
    farther = (bound >= distance) & (bound < torch.inf)
    return farther.logical_not_().nonzero().flatten().split(_CPU_ROWS)


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
