"""k-means++ seeding on outer products g ⊗ h that are never formed."""

import torch
from torch import Tensor

from albench.errors import AlbenchError

# A squared distance below this share of the two squared norms is rounding of fp32: the two are the same point.
_ROUNDING = 1e-5


@torch.no_grad()
def k_means_pp(g: Tensor, h: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """k distinct picks by k-means++ on the vectors g_i ⊗ h_i, which need C·d numbers each and are not made.

    |g ⊗ h − g′ ⊗ h′|² = |g|²|h|² + |g′|²|h′|² − 2 (g·g′)(h·h′), so a pick costs two matrix-vector products. The first
    pick is the longest vector (ties: the lowest position); each next is drawn with probability proportional to the
    squared distance to the nearest pick. When only duplicates of picks are left, it is drawn evenly from them, so
    picks are always distinct. No value is read back from the device between picks.

    Args:
        g: [M, C] and h: [M, d], finite, of the same device.
        k: how many, 0…M.
        rng: where the draws come from; all k of them at once, so their number never depends on the data.

    Returns:
        Positions, int64 [k], in the order they were drawn.

    Raises:
        AlbenchError: k > M, or a factor is not finite.

    Sources: Arthur and Vassilvitskii, "k-means++", SODA 2007; Ash et al., "Deep Batch Active Learning by Diverse,
    Uncertain Gradient Lower Bounds" (BADGE), ICLR 2020.

    >>> g, h = torch.tensor([[1.0], [0.0], [3.0]]), torch.ones(3, 1)
    >>> k_means_pp(g, h, 1, torch.Generator())
    tensor([2])
    """
    count = len(g)
    if not 0 <= k <= count:
        raise AlbenchError(f"k-means++: {k} picks were asked of {count} candidates")
    if not (torch.isfinite(g).all() and torch.isfinite(h).all()):
        raise AlbenchError("k-means++: the gradients hold NaN or infinity; has the training diverged?")
    g, h = g.float(), h.float()
    norms = g.square().sum(1) * h.square().sum(1)
    distance = torch.full_like(norms, float("inf"))  # squared, to the nearest pick
    left = torch.ones_like(norms)  # 1 until picked
    draws = torch.rand(k, generator=rng, device=rng.device, dtype=torch.float64).to(g.device)
    picks = torch.empty(k, dtype=torch.int64, device=g.device)
    for i in range(k):
        pick = norms.argmax() if i == 0 else _draw(distance, left, draws[i])
        picks[i] = pick
        left.index_fill_(0, pick, 0.0)
        norm, along, across = (x.index_select(0, pick[None])[0] for x in (norms, g, h))  # x[pick] would read pick back
        both = norms + norm
        squared = both - 2 * torch.mv(g, along) * torch.mv(h, across)
        squared = torch.where(squared > _ROUNDING * both, squared, 0.0)
        distance = torch.minimum(distance, squared) * left
    return picks


def _draw(distance: Tensor, left: Tensor, uniform: Tensor) -> Tensor:
    """A position with probability ∝ distance; where all are 0, evenly among those that are left."""
    weights = torch.where(distance.sum() > 0, distance, left)
    ladder = weights.double().cumsum(0)
    position = torch.searchsorted(ladder, uniform * ladder[-1], right=True)
    # fp64 can round uniform · total up to the total itself: then the last rung that has any width.
    return position.clamp_max(torch.searchsorted(ladder, ladder[-1]))
