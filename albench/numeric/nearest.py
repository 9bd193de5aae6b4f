"""How far apart the samples of a set lie: a measure of redundancy."""

import torch
from torch import Tensor

ROWS = 1024  # rows whose distances are held at once: memory within O(N · ROWS)


def nearest_distance(points: Tensor) -> float:
    """The mean Euclidean distance of each of N points [N, d] to its nearest other one; NaN for fewer than two.

    Differences are squared (no norm expansion, which cancels): two equal points have distance 0.

    >>> nearest_distance(torch.tensor([[0.0], [1.0], [4.0]]))  # (1 + 1 + 3) / 3
    1.6666666666666667
    """
    count = len(points)
    if count < 2:
        return float("nan")
    total = 0.0
    for start in range(0, count, ROWS):
        chunk = points[start : start + ROWS].float()
        distance = torch.cdist(chunk, points.float(), compute_mode="donot_use_mm_for_euclid_dist")
        distance[torch.arange(len(chunk)), start + torch.arange(len(chunk))] = torch.inf
        total += float(distance.amin(1).sum())
    return total / count
