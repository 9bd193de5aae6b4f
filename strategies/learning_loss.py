"""Learning loss: a small module learns to predict each sample's loss; label what it expects to be worst.

Source: Yoo and Kweon, "Learning Loss for Active Learning", CVPR 2019 (arXiv 1905.03677).
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from albench.numeric.pooling import spatial_mean
from albench.strategy import Companion, Outputs, Strategy

# strict: what the module is given is the suite's value as it stands, so none may need converting
AtLeast0 = Annotated[float, Field(ge=0, strict=True)]
Width = Annotated[int, Field(gt=0, strict=True)]
Cut = Annotated[
    float, Field(ge=0, le=1, strict=True, description="a share of the training, from 0 to 1; 0.6 is epoch 120 of 200")
]


class LossPrediction(Companion):
    """The paper's loss prediction module, trained to order pairs by their loss.

    Each feature map goes through global average pooling → fully connected → ReLU; the results are concatenated →
    fully connected → one scalar, the predicted loss (its scale means nothing, its order does).

    weight: λ, of its loss in the objective (1; the paper's pose experiment takes 1e-4).
    margin: ξ, by which a pair should be ordered.
    cut: the fraction of the training after which its gradient no longer reaches the model (the paper: epoch 120 of
        200). The module itself goes on learning.
    width: of the fully connected layer behind each feature map.
    """

    def __init__(
        self, example: Outputs, weight: AtLeast0 = 1.0, margin: AtLeast0 = 1.0, cut: Cut = 0.6, width: Width = 128
    ) -> None:
        super().__init__()
        self.weight, self.margin, self.cut = weight, margin, cut
        channels = [feature.shape[1] for feature in example.features]
        self.branches = nn.ModuleList(nn.Linear(c, width) for c in channels)
        self.head = nn.Linear(width * len(channels), 1)

    def forward(self, outputs: Outputs, cut: Tensor | None = None) -> Tensor:
        """The predicted loss, fp32 [B]. `cut`, a bool tensor without dimensions, keeps the gradient from the model."""
        pooled = [spatial_mean(feature) for feature in outputs.features]  # fp32: in bf16 many losses would be equal
        if cut is not None:  # chosen by a tensor, so that a compiled step has one graph before and after the cut
            pooled = [torch.where(cut, p.detach(), p) for p in pooled]
        hidden = [functional.relu(branch(p)) for branch, p in zip(self.branches, pooled, strict=True)]
        return self.head(torch.cat(hidden, 1)).squeeze(1)

    def loss(self, outputs: Outputs, losses: Tensor, progress: Tensor) -> Tensor:
        """λ (2/B) Σ over the B/2 disjoint pairs of max(0, −1(l_i, l_j) · (l̂_i − l̂_j) + ξ).

        1(l_i, l_j) is +1 where l_i > l_j, else −1. The true losses l are constants. An odd sample is left out.
        """
        predicted = self(outputs, progress >= self.cut)
        even = len(losses) // 2 * 2  # the batch comes in random order: neighbours are a random pair
        (l_i, l_j), (p_i, p_j) = losses[:even].view(-1, 2).T, predicted[:even].view(-1, 2).T
        sign = torch.where(l_i > l_j, 1.0, -1.0)
        return self.weight * functional.relu(self.margin - sign * (p_i - p_j)).mean()


class LossPredictionMse(LossPrediction):
    """The same module, trained to hit the loss itself: what the authors tried first ("learn loss mse").

    The loss's scale drifts during the training, which is why they left it. `margin` has no part in it.
    """

    def loss(self, outputs: Outputs, losses: Tensor, progress: Tensor) -> Tensor:
        """λ (1/B) Σ (l̂ − l)²."""
        return self.weight * functional.mse_loss(self(outputs, progress >= self.cut), losses)


class LearningLoss(Strategy):
    """The highest predicted loss, from a module that was trained beside the model to order losses."""

    companion = "loss-prediction"

    def observe(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"score": outputs.companion}


class LearningLossMse(LearningLoss):
    """The highest predicted loss, from a module that was trained by mean squared error."""

    companion = "loss-prediction-mse"
