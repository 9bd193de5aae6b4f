"""A toy model whose outputs can be computed by hand, for strategies that are looked at alone."""

import pytest
import torch
from torch import nn

from albench.strategy import Outputs, PoolView
from albench.task import Prediction


class ToyTask:
    """The part of a task that Outputs asks for: 2 × 3-way distributions, two feature maps, one embedding."""

    def predict(self, raw):
        return Prediction(raw["logits"].float().log_softmax(2))

    def features(self, raw):
        return [raw["low"], raw["high"]]

    def embedding(self, raw):
        return raw["high"].float().mean((2, 3))

    def gradient(self, raw):
        p = raw["logits"][:, 0].softmax(1)
        return p - nn.functional.one_hot(p.argmax(1), 3), self.embedding(raw)

    def losses(self, raw, batch):
        return nn.functional.cross_entropy(raw["logits"][:, 0], batch["label"], reduction="none")


class ToyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3)
        self.norm, self.drop, self.out = nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Linear(5, 6)

    def forward(self, image):
        low = self.low(image).relu()
        high = self.norm(self.high(low)).relu()
        return {"low": low, "high": high, "logits": self.out(self.drop(high.mean((2, 3)))).view(-1, 2, 3)}


@pytest.fixture
def outputs():
    """A function that makes Outputs of a batch of random images; companion and cheats as asked."""
    torch.manual_seed(0)
    model = ToyModel().eval()

    def make(count=8, companion=None, cheats=False):
        rng = torch.Generator().manual_seed(count)
        batch = {"image": torch.randn(count, 1, 8, 8, generator=rng)}
        if cheats:
            batch["label"] = torch.randint(3, (count,), generator=rng)
        return Outputs(ToyTask(), model, batch, companion, cheats=cheats)

    return make


@pytest.fixture
def view():
    """A function that makes a PoolView of what a strategy kept."""

    def make(kept, labelled=None, stage=0, index=None, labelled_index=None):
        count = len(next(iter(kept.values()))) if kept else len(index)
        index = torch.arange(count) + 100 if index is None else torch.tensor(index)
        labelled_index = torch.arange(3) if labelled_index is None else torch.tensor(labelled_index)
        return PoolView("toy", 0, stage, index, labelled_index, kept, labelled or {}, {})

    return make


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)
