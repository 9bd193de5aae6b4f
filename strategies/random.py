"""Random selection: the baseline that every comparison stands on."""

import torch
from torch import Tensor

from albench.strategy import PoolView, Strategy


class Random(Strategy):
    """k candidates, each equally likely, without replacement."""

    def select(self, pool: PoolView, k: int, rng: torch.Generator) -> Tensor:
        return torch.randperm(len(pool), generator=rng)[:k]


class RandomB(Random):
    """Random once more, with other draws (a strategy's name is among its seeds).

    An A/A test: how often does a comparison find a "difference" between two strategies that are the same?
    """
