"""How a model is trained: one recipe per task, part of every stage's identity."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from albench.facts import LATER


class Recipe(BaseModel):
    """Epochs or a constant number of updates, batch, optimiser, schedule.

    Milestones are fractions of the training, so that they mean the same for epochs and for updates: "×.1 after epoch
    160 of 200" is milestones = [0.8].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[int, Field(gt=0)] | None = None
    updates: Annotated[int, Field(gt=0)] | None = None
    batch: Annotated[int, Field(gt=1, multiple_of=2)] = 128  # even, so that it splits into pairs
    optimiser: Literal["sgd", "adam", "rmsprop"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # sgd alone
    nesterov: Annotated[bool, LATER] = False  # sgd alone: the gradient is taken where the momentum leads
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.8,)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0  # fraction of the training with a linearly rising rate
    clip: Annotated[float, Field(gt=0)] | None = None  # largest norm of the gradient

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.epochs is None) == (self.updates is None):
            raise ValueError("give either epochs or updates")
        if self.nesterov and (self.optimiser != "sgd" or not self.momentum):
            raise ValueError("nesterov needs optimiser sgd and a momentum above 0")
        return self

    def merged(self, changes: dict) -> "Recipe":
        """This recipe with some fields replaced; naming epochs drops updates, and the other way round."""
        base = self.model_dump()
        if "epochs" in changes:
            base["updates"] = None
        if "updates" in changes:
            base["epochs"] = None
        return Recipe.model_validate(base | changes)

    def length(self, labelled: int) -> int:
        """Updates for a number of labelled samples: every sample is seen `epochs` times, up to one batch."""
        return self.updates or math.ceil((self.epochs or 0) * labelled / self.batch)

    def rate(self, progress: float) -> float:
        """The learning rate at a fraction of the training in [0, 1)."""
        factor = min(1.0, (progress + 1e-9) / self.warmup) if self.warmup and progress < self.warmup else 1.0
        if self.schedule == "step":
            factor *= self.gamma ** sum(progress >= m for m in self.milestones)
        elif self.schedule == "cosine":
            factor *= 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * factor
