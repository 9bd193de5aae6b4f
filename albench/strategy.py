"""What a strategy is: it observes, then selects (map, then reduce); and what a companion is.

`observe` sees one batch of the model's outputs on the device and keeps something small per sample. `select` sees the
concatenated small things and returns k *positions* among the candidates. A strategy that observes nothing costs no
pass. What an observation touches is computed then, and once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from albench.errors import AlbenchError
from albench.samples import Batch
from albench.task import Prediction, Raw, Task


class Outputs:
    """One batch through the model, lazily. The batch is prepared; candidates come without their labels."""

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        batch: Batch,
        companion: "Companion | None" = None,
        raw: Raw | None = None,
        cheats: bool = False,
        bf16: bool = False,
    ) -> None:
        self._task, self._model, self._companion, self._cheats, self._bf16 = task, model, companion, cheats, bf16
        self.batch = batch
        self._made: dict[str, Any] = {} if raw is None else {"raw": raw}

    def _once(self, name: str, make: Callable[..., Any], *arguments: Any) -> Any:
        """A plain dictionary, since a compiled training step cannot see through `cached_property`."""
        if name not in self._made:
            self._made[name] = make(*arguments)
        return self._made[name]

    @property
    def raw(self) -> Raw:
        """What the model's forward returned."""
        return self._once("raw", self._forward)

    def _forward(self) -> Raw:
        """The network alone runs in reduced precision: what strategies compute from it stays fp32."""
        image = self.batch["image"]
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self._bf16):
            return self._model(image)

    @property
    def prediction(self) -> Prediction:
        """The model's belief: logp [B, D, C]."""
        return self._once("prediction", self._task.predict, self.raw)

    @property
    def features(self) -> list[Tensor]:
        """The feature maps [B, C_i, H_i, W_i] that the task names, in the precision of the network: bf16, maybe."""
        return self._once("features", self._task.features, self.raw)

    @property
    def embedding(self) -> Tensor:
        """fp32 [B, d]."""
        return self._once("embedding", self._task.embedding, self.raw)

    @property
    def gradient(self) -> tuple[Tensor, Tensor]:
        """Factors (g [B, C], h [B, d]) of the last layer's gradient at the most likely label. Needs "gradient"."""
        return self._once("gradient", self._task.gradient, self.raw)

    @property
    def companion(self) -> Tensor:
        """What the companion says of the batch (a loss prediction module: the predicted loss [B])."""
        if self._companion is None:
            raise AlbenchError("no companion was trained beside the model; set `companion` on the strategy")
        return self._once("companion", self._companion, self)

    @property
    def losses(self) -> Tensor:
        """The true losses [B]: for strategies that declare `cheats = True` alone."""
        if not self._cheats:
            raise AlbenchError("the labels of candidates are hidden; only a strategy with cheats = True may ask losses")
        return self._once("losses", self._task.losses, self.raw, self.batch)

    def samples(self, passes: int) -> Iterator[Prediction]:
        """`passes` predictions with the model's dropout on and batch norm as in evaluation. Needs "dropout"."""
        dropouts = [m for m in self._model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
        before = [m.training for m in dropouts]
        try:
            for module in dropouts:
                module.train()
            for _ in range(passes):
                yield self._task.predict(self._forward())
        finally:
            for module, mode in zip(dropouts, before, strict=True):
                module.train(mode)


class Companion(nn.Module):
    """What is trained beside the model, by the same optimiser and schedule. Weights have a seed of their own.

    Built as `cls(example, **parameters)`, where `example` is the untrained model's Outputs on a few unlabelled images:
    shapes of features and embeddings can be read from it. Keyword parameters and their defaults are the options; their
    types and ranges, `Annotated[float, Field(ge=0)]`, are checked when a suite is resolved.

    A training that was killed goes on from a checkpoint. Of a companion that holds its `state_dict()` (parameters and
    buffers) and the optimisers that it, or a module in it, has as attributes since `__init__`. What else it counts or
    remembers belongs into a buffer; gradients are not kept from one update to the next.
    """

    def forward(self, outputs: Outputs) -> Tensor:
        """What `outputs.companion` gives to strategies, [B, …]; a companion that only trains along needs none."""
        raise NotImplementedError

    @classmethod
    def predicts(cls) -> bool:
        """Whether it says something of a sample at all."""
        return cls.forward is not Companion.forward

    def loss(self, outputs: Outputs, losses: Tensor, progress: Tensor) -> Tensor | None:
        """A scalar added to the objective. `losses` [B] are constants; `progress` in [0, 1) is the training's.

        `progress` is a tensor without dimensions, on the device: choose by `torch.where`, since an `if` on it waits
        for the device and keeps the training step from being compiled.
        """
        return None

    def step(self, labelled: Batch, unlabelled: Batch, rng: torch.Generator) -> None:
        """An update with optimisers of its own, after the model's; `unlabelled` holds images alone."""


@dataclass(frozen=True)
class PoolView:
    """What a strategy sees when it selects. Rows of `candidates` and `index` are the positions it answers with.

    Rows of `labelled` and `targets` are those of `labelled_index`, whose parts are `history`.
    """

    task: str
    seed: int
    stage: int
    index: Tensor  # [M] candidates' numbers in the pool: for looking records up, never an answer
    labelled_index: Tensor  # [L] the same of the labelled: the first, random ones, then what each stage selected
    candidates: dict[str, Tensor]  # what observe() kept, [M, …] each
    labelled: dict[str, Tensor]  # the same for the labelled samples, where sees_labelled
    targets: dict[str, Tensor]  # the labelled samples' annotations, [L, …] each
    history: tuple[Tensor, ...] = ()  # `labelled_index` in parts: the first labels, then each stage's, in its order
    followed: Tensor | None = None  # [k] numbers in the pool that the strategy it follows selected at this stage

    def __len__(self) -> int:
        return len(self.index)


class Strategy(BaseModel):
    """Picks what to label next. A parameter is a field with a default; instances are frozen, so no state is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    needs: ClassVar[frozenset[str]] = frozenset()  # of task.can; what is missing is said before anything runs
    companion: ClassVar[str | None] = None  # a registered companion, trained beside the model
    sees_labelled: ClassVar[bool] = False  # observe the labelled samples too
    cheats: ClassVar[bool] = False  # sees hidden labels; every report marks it

    whole_pool: bool = False  # choose from the whole pool, not from the stage's random subset

    def observe(self, outputs: Outputs) -> dict[str, Any]:
        """Keep something small per sample: name → tensor [B, …]. "score" is what the default `select` ranks."""
        return {}

    def select(self, pool: PoolView, k: int, rng: torch.Generator) -> Tensor:
        """k distinct positions in 0…len(pool)-1, best first. Default: the k highest scores.

        Candidates come in a seeded random order, so a stable sort breaks ties fairly.
        """
        return pool.candidates["score"].argsort(descending=True, stable=True)[:k]

    def sees_hidden_labels(self) -> bool:
        """Whether reports must mark what it selects; Replay has to ask what it replays."""
        return self.cheats

    def follows(self) -> str | None:
        """The label of a strategy of the same run whose selections it needs: `pool.followed`. Its trials go first."""
        return None

    @classmethod
    def observes(cls) -> bool:
        """Whether a pass over the candidates is needed at all."""
        return cls.observe is not Strategy.observe
