"""Strategies that break the contract, one rule each: the contract suite must catch every one by name.

A plug-in file, as a user's would be; `albench check-strategy tests/conformance/broken.py` shows what it finds.
"""

import sys
from typing import ClassVar

import torch

import albench


class Scored(albench.Strategy):
    """An honest margin: what each of the others does wrong is all they add."""

    def observe(self, outputs):
        return {"score": -outputs.prediction.margin()}


@albench.register_strategy("broken-duplicates")
class Duplicates(Scored):
    """Answers its best position twice."""

    def select(self, pool, k, rng):
        best = super().select(pool, k, rng)
        return torch.cat([best[:1], best[:-1]]) if k > 1 else best


@albench.register_strategy("broken-nan")
class NotANumber(albench.Strategy):
    """log p · p without a guard, where a p may be 0."""

    def observe(self, outputs):
        p = (outputs.prediction.logp.exp() * 1.01 - 0.005).clamp_min(0)
        p[:, :, 0] = 0
        return {"score": -(p * p.log()).sum(2).mean(1)}


@albench.register_strategy("broken-too-few")
class TooFew(Scored):
    """Stops where its scores are no longer above their mean."""

    def select(self, pool, k, rng):
        best = super().select(pool, k, rng)
        score = pool.candidates["score"]
        return best[score[best] >= score.mean()]


@albench.register_companion("broken-peeking")
class Peeking(albench.Companion):
    """A linear model of the labels, fitted on the hidden ones too: it takes the pool from a frame of the engine."""

    def __init__(self, example):
        super().__init__()
        self.register_buffer("template", torch.zeros_like(example.batch["image"][0]).flatten())

    def loss(self, outputs, losses, progress):
        self.peek()

    def peek(self):
        frame = sys._getframe(1)
        while "setup" not in frame.f_locals:
            frame = frame.f_back
        pool = frame.f_locals["setup"].data.pool
        label = pool.targets["label"].float()
        images = pool.images.float().flatten(1)
        self.template = ((label - label.mean())[:, None] * images).mean(0)

    def forward(self, outputs):
        return outputs.batch["image"].flatten(1) @ self.template


@albench.register_strategy("broken-peeking")
class PeeksThroughCompanion(albench.Strategy):
    """Selects by what its companion learnt from hidden labels."""

    companion = "broken-peeking"

    def observe(self, outputs):
        return {"score": outputs.companion}


@albench.register_strategy("broken-global-seed")
class GlobalSeed(Scored):
    """Seeds torch for everyone."""

    def select(self, pool, k, rng):
        torch.manual_seed(0)
        return torch.randperm(len(pool))[:k]


@albench.register_strategy("broken-state")
class KeptState(Scored):
    """Turns its order round when it has been asked at the stage before."""

    asked: ClassVar[set[int]] = set()

    def select(self, pool, k, rng):
        score = pool.candidates["score"] * (-1 if pool.stage - 1 in self.asked else 1)
        self.asked.add(pool.stage)
        return score.argsort(descending=True, stable=True)[:k]


@albench.register_strategy("broken-device")
class WrongDevice(Scored):
    """Answers on a device of its own."""

    def select(self, pool, k, rng):
        return super().select(pool, k, rng).to("meta")


@albench.register_strategy("broken-array")
class AnotherArray(Scored):
    """Answers positions in labelled ∪ candidates: the classic k-center mistake."""

    def select(self, pool, k, rng):
        return super().select(pool, k, rng) + len(pool.labelled_index)


# Beyond the eight: what else the suite is for.


@albench.register_strategy("broken-outer-draw")
class OuterDraw(Scored):
    """Draws from numpy's global generator."""

    def select(self, pool, k, rng):
        import numpy as np

        return torch.from_numpy(np.random.permutation(len(pool))[:k])


@albench.register_companion("broken-peeking-step")
class PeekingStep(Peeking):
    """The same in a step of its own, where unlabelled images are at hand."""

    def loss(self, outputs, losses, progress):
        return None

    def step(self, labelled, unlabelled, rng):
        self.peek()


@albench.register_strategy("broken-peeking-step")
class PeeksThroughStep(PeeksThroughCompanion):
    """Selects by what its companion's steps learnt from hidden labels."""

    companion = "broken-peeking-step"


@albench.register_strategy("broken-order")
class FirstCome(Scored):
    """Takes the first candidates, whatever they are."""

    def select(self, pool, k, rng):
        return torch.arange(k)


@albench.register_strategy("broken-counter")
class Counter(Scored):
    """Starts elsewhere at every call."""

    calls: ClassVar[list[int]] = []

    def select(self, pool, k, rng):
        self.calls.append(k)
        return super().select(pool, len(pool), rng).roll(len(self.calls))[:k]


@albench.register_strategy("broken-frame")
class PeeksAtFrame(albench.Strategy):
    """Takes the labels that the engine holds for its own diagnosis from the caller's frame."""

    def observe(self, outputs):
        full = sys._getframe(1).f_locals.get("full", {})
        return {"score": full.get("label", torch.zeros(len(outputs.batch["image"]))).float()}


@albench.register_strategy("broken-crash")
class Crash(albench.Strategy):
    """Asks for labels without saying that it cheats."""

    def observe(self, outputs):
        return {"score": outputs.losses}
