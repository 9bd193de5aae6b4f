"""Core-set: label what covers the pool best, whatever the model predicts."""

import torch
from torch import Tensor

from albench.numeric.k_center import k_center
from albench.strategy import Outputs, PoolView, Strategy


class CoreSet(Strategy):
    """Greedy k-center on embeddings: each pick is the candidate farthest from everything labelled or picked.

    It covers labelled ∪ candidates; with whole_pool = true that is the whole pool.

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018
    (the greedy algorithm, not the mixed integer program that refines it).
    """

    sees_labelled = True

    def observe(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"embedding": outputs.embedding}

    def select(self, pool: PoolView, k: int, rng: torch.Generator) -> Tensor:
        return k_center(pool.candidates["embedding"], pool.labelled["embedding"], k)
