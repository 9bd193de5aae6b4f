"""Selection by the true loss: a control for learning loss, not a strategy anyone could use."""

from torch import Tensor

from albench.strategy import Outputs, Strategy


class TrueLoss(Strategy):
    """The highest true loss. It reads the hidden labels (reports mark it), and it is *not* an upper bound.

    What learning loss would select if it predicted the loss without error: where this does no better than random, a
    better loss predictor would not help.
    """

    cheats = True

    def observe(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"score": outputs.losses}
