"""BALD: label where passes with different dropout are each sure, and disagree."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from albench.strategy import Outputs, Strategy


class Bald(Strategy):
    """The highest mutual information of the outcome and the weights: H(mean p) − mean H(p) over dropout passes.

    Passes have real dropout, and batch norm as in evaluation; a task whose model has no dropout does not offer this
    strategy (without it the passes would be equal). Passes are summed as they come: memory does not grow with them.

    passes: how many forward passes.

    Sources: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning", 2011; Gal, Islam
    and Ghahramani, "Deep Bayesian Active Learning with Image Data", ICML 2017.
    """

    needs = frozenset({"dropout"})

    passes: Annotated[int, Field(gt=1)] = 10

    def observe(self, outputs: Outputs) -> dict[str, Tensor]:
        mean = expected = torch.zeros(())
        for prediction in outputs.samples(self.passes):
            p = prediction.logp.exp()
            mean = mean + p / self.passes
            expected = expected + torch.special.entr(p).sum(2) / self.passes  # entr(0) = 0: log 0 is never met
        information = torch.special.entr(mean).sum(2) - expected
        return {"score": prediction.mean(information)}
