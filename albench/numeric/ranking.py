"""How well one number orders another: ranking accuracy over pairs, and Spearman's ρ."""

import math

import numpy as np
import torch
from torch import Tensor

EXACT = 2000  # up to so many samples every pair is counted


def ranking_accuracy(
    predicted: Tensor, actual: Tensor, rng: torch.Generator | None = None, pairs: int = 1_000_000
) -> float:
    """Share of pairs that `predicted` orders as `actual` does.

    Pairs whose actual values are equal have no order and are left out; a pair whose predictions are equal counts one
    half, so that a constant predictor gets .5. All pairs up to EXACT samples; beyond, random ones.

    Args:
        predicted, actual: [N], finite.
        rng: draws the pairs, where not all are counted (None: the same ones for every N).
        pairs: how many are drawn then.

    Returns:
        0…1, or NaN where no pair has an order.

    Source: Yoo and Kweon, "Learning Loss for Active Learning", CVPR 2019, section 4 ("ranking accuracy").

    >>> ranking_accuracy(torch.tensor([1, 2, 3]), torch.tensor([10, 30, 20]))
    0.6666666666666666
    """
    guess, truth = _both(predicted, actual)
    count = len(truth)
    if count <= EXACT:  # every pair twice, which changes no share
        truths, guesses = (truth[:, None], truth), (guess[:, None], guess)
    else:
        rng = rng or torch.Generator().manual_seed(0)
        first = torch.randint(count, (pairs,), generator=rng)
        second = (first + torch.randint(1, count, (pairs,), generator=rng)) % count  # another one, all equally likely
        truths, guesses = (truth[first], truth[second]), (guess[first], guess[second])
    ordered, told = truths[0] != truths[1], guesses[0] != guesses[1]
    agree = ordered & told & ((truths[0] < truths[1]) == (guesses[0] < guesses[1]))
    number, equal = int(ordered.sum()), int((ordered & ~told).sum())
    return (int(agree.sum()) + equal / 2) / number if number else math.nan


def spearman(predicted: Tensor, actual: Tensor) -> float:
    """Spearman's ρ: the correlation of ranks; ties share the mean of their ranks.

    Args:
        predicted, actual: [N], finite.

    Returns:
        −1…1, or NaN where either is constant.

    >>> spearman(torch.tensor([1, 2, 3]), torch.tensor([1, 4, 9]))
    1.0
    """
    a, b = (_ranks(values.numpy()) - (len(values) + 1) / 2 for values in _both(predicted, actual))
    length = np.sqrt((a * a).sum() * (b * b).sum())
    return float(np.clip((a * b).sum() / length, -1, 1)) if length > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1; ties have the mean of theirs. (scipy.stats has it, and takes most of a second to import.)"""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _both(predicted: Tensor, actual: Tensor) -> tuple[Tensor, Tensor]:
    guess, truth = predicted.detach().cpu().double(), actual.detach().cpu().double()
    if guess.ndim != 1 or guess.shape != truth.shape:
        raise ValueError(f"two vectors of one length were expected, not {tuple(guess.shape)} and {tuple(truth.shape)}")
    return guess, truth
