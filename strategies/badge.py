"""BADGE: label a batch that is both uncertain and diverse, by the gradients it would give."""

import torch
from torch import Tensor

from albench.numeric.k_means_pp import k_means_pp
from albench.strategy import Outputs, PoolView, Strategy


class Badge(Strategy):
    """k-means++ on the last layer's gradients at the model's own most likely label.

    A gradient is (p − onehot(argmax p)) ⊗ h: long where the model is unsure. It stays in its two factors.

    Source: Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020.
    """

    needs = frozenset({"gradient"})

    def observe(self, outputs: Outputs) -> dict[str, Tensor]:
        g, h = outputs.gradient
        return {"g": g, "h": h}

    def select(self, pool: PoolView, k: int, rng: torch.Generator) -> Tensor:
        return k_means_pp(pool.candidates["g"], pool.candidates["h"], k, rng)
