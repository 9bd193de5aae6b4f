"""k-center greedy: cover the pool by always taking the point that is farthest from everything taken so far."""

import math

import torch
from torch import Tensor

from albench.errors import AlbenchError

LEADERS = 512  # candidates that each pick is held against at once, on a CPU: few enough to stay in its cache
_CPU_ROWS, _GPU_ROWS = 256, 65536  # rows whose differences are formed at once: as above; enough to fill a GPU
_PRODUCT = 1 << 22  # entries of a product with centres, and of a factor in fp64, that are held at once
TAKEN = -1.0  # below every distance


@torch.no_grad()
def k_center(candidates: Tensor, centres: Tensor | None, k: int) -> Tensor:
    """The k candidates that greedy k-center takes, in the order they are taken.

    Each pick is the candidate with the largest Euclidean distance to its nearest centre, given or picked before. Ties
    go to the lowest position; with no centres all candidates are tied, so position 0 comes first. (The engine shows
    candidates in a seeded random order: both are then random, and the same for every strategy.)

    Distances are fp32 differences, squared and summed: the expansion |a|² + |b|² − 2ab cancels. So an exact duplicate
    of a centre has distance 0 and is taken only when nothing else is left. Memory: O(M·d); never M × M.

    A pick only ever lowers distances. So on a CPU it is held against the leaders alone, the candidates that were next
    in turn, until what one of the others had is more than what is left of theirs; then all are brought up to date with
    the picks they missed, in one matrix product. The picks are the same. On a GPU each pick is held against all at
    once, and no value is read back between picks.

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

    greedy = _leaders_first if points.device.type == "cpu" else _all_at_once
    return greedy(points, distance, k)


def _all_at_once(points: Tensor, distance: Tensor, k: int) -> Tensor:
    """Greedy picks, `distance` [M] (to the given centres) kept up to date after each."""
    parts = [slice(start, start + _GPU_ROWS) for start in range(0, len(points), _GPU_ROWS)]
    picks = torch.empty(k, dtype=torch.int64, device=points.device)
    for i in range(k):
        pick = distance.argmax()  # the first of equals
        picks[i] = pick
        centre = points.index_select(0, pick[None])[0]  # points[pick] would read the position back
        for rows in parts:
            distance[rows] = torch.minimum(distance[rows], _squared(points[rows], centre))
        distance.index_fill_(0, pick, TAKEN)
    return picks


def _leaders_first(points: Tensor, distance: Tensor, k: int) -> Tensor:
    """The same picks. `distance` [M] is to the given centres and the first `known` picks, `near` (leaders) to all."""
    least = _norms_less_rounding(points)
    picks = torch.empty(k, dtype=torch.int64)
    known, (leaders, following) = 0, _in_turn(distance)
    rows, near = points[leaders], distance[leaders]
    for i in range(k):
        first = near.argmax()
        if _turn(near[first], leaders[first]) > following:
            distance[leaders] = near
            _bring_up_to_date(distance, points, picks[known:i], least)
            known, (leaders, following) = i, _in_turn(distance)
            rows, near = points[leaders], distance[leaders]
            first = near.argmax()
        picks[i] = leaders[first]
        near = torch.minimum(near, _squared(rows, rows[first]))
        near[first] = TAKEN
    return picks


def _in_turn(distance: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """The LEADERS positions that are next in turn, ascending, and the turn of the one after them."""
    order = distance.sort(descending=True, stable=True).indices
    after = order[LEADERS : LEADERS + 1]
    return order[:LEADERS].sort().values, _turn(distance[after], after) if len(after) else (math.inf, 0.0)


def _turn(distance: Tensor, position: Tensor) -> tuple[float, float]:
    """What candidates are taken in the order of: farthest first, of equals the lowest position."""
    return -float(distance), float(position)


def _norms_less_rounding(points: Tensor) -> Tensor:
    """|a|² [M] less what rounding can add: least_a + least_b − 2ab is never above the sum of the squared differences.

    With u = eps / 2 and any order of summing, the norms are off by du(|a|² + |b|²), the product with them as its first
    term by 2(d + 1)u(|a|² + |b|²), the sum of squared differences by 2(d + 2)u(|a|² + |b|²): together fewer than
    6(d + 8)u. A result that underflows is off by `tiny` at most.
    """
    norms, fp32 = points.square().sum(1), torch.finfo(torch.float32)
    return norms - 3 * (points.shape[1] + 8) * (fp32.eps * norms + fp32.tiny)


def _bring_up_to_date(distance: Tensor, points: Tensor, picks: Tensor, least: Tensor) -> None:
    """Lower `distance` [M] to that of the picks, where one of them is nearer.

    The expansion, less its largest rounding error, says which pick may be nearer to which candidate; the differences of
    all others are not formed. It is a product in fp64, which no setting of precision changes.
    """
    centres, norms = points[picks].double().T, least[picks].double()
    size = max(1, _PRODUCT // max(centres.shape))
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        bound = torch.addmm(norms, points[rows].double(), centres, alpha=-2).add_(least[rows, None])
        farther = (bound >= distance[rows, None]) & (bound < torch.inf)  # not so where it overflows
        which, pick = farther.logical_not_().nonzero(as_tuple=True)
        for one, centre in zip((which + start).split(_CPU_ROWS), picks[pick].split(_CPU_ROWS), strict=True):
            distance.scatter_reduce_(0, one, _squared(points[one], points[centre]), "amin")


def _squared(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distance of each point to its centre, or to the one."""
    return (points - centres).square_().sum(1)


def _to_nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distance [M] of each point to its nearest centre.

    A matrix product finds the nearest, in fp64, where neither cancellation nor TF32 can change it; the distance to it
    is then taken by differences, as it is for every later pick.
    """
    exact = centres.double()
    norms = exact.square().sum(1)
    found = []
    for chunk in points.split(max(1, _PRODUCT // max(centres.shape))):
        nearest = torch.addmm(norms, chunk.double(), exact.T, alpha=-2).argmin(1)
        found.append(_squared(chunk, centres[nearest]))
    return torch.cat(found)


def _require_finite(points: Tensor, what: str) -> None:
    if not torch.isfinite(points).all():
        raise AlbenchError(f"k-center: the {what}' embeddings hold NaN or infinity; has the training diverged?")
