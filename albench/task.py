"""What a task is: data, model, per-sample loss, distributions, features, metric.

The one idea: **a prediction is D categorical distributions over C outcomes.** An image's class: D = 1. A pose:
D = joints, C = heat-map cells. A detection: D = default boxes, C = classes with background. So an uncertainty is
written once and serves them all.

A task object is its parameters and pure functions; the data it loads is handed to the engine and never kept, so that
no strategy can reach a hidden label through it.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from albench.errors import AlbenchError
from albench.recipe import Recipe
from albench.samples import Batch, Data, Samples

Raw = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


def fixed(function: F) -> F:
    """For functions of plain values whose tensor never changes: a compiled step takes it as it is.

    As torch.compiler.assume_constant_result, which imports the compiler wherever it stands. The view gives each result
    a name of its own there: marked functions' results share one, and a step with two of them would not compile.
    """

    @functools.wraps(function)
    def view(*args: Any) -> Tensor:
        return function(*args)[...]

    function.__dict__["_dynamo_marked_constant"] = True
    return cast(F, view)


@fixed
def constant(values: tuple, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers (a tuple, nested for more dimensions) as a tensor on the device, made once: never write to it.

    A copy from the host in every training step would wait for the device, and no CUDA graph may hold one.
    """
    return _constant(values, device, dtype)


@functools.cache
def _constant(values: tuple, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # used in training, too
        return torch.tensor(values, device=device, dtype=dtype)


@dataclass
class Prediction:
    """D categorical distributions over C outcomes for each of B samples.

    logp: fp32 [B, D, C], log-probabilities (-inf is allowed). weight: [B, D] or None for equal weights.
    grid: (H, W) where the outcomes are the cells of a heat map. softmax_logp: the softmax of the raw outputs where
    that is another distribution than the model's belief (heat maps trained by mean squared error), else None; in fp64,
    since it is nearly uniform: in fp32 the entropies of many samples are equal but for rounding.
    """

    logp: Tensor
    weight: Tensor | None = None
    grid: tuple[int, int] | None = None
    softmax_logp: Tensor | None = None

    def mean(self, values: Tensor) -> Tensor:
        """The weighted mean [B] of one value per distribution [B, D]."""
        if self.weight is None:
            return values.mean(1)
        return (values * self.weight).sum(1) / self.weight.sum(1).clamp_min(1e-12)

    def entropy(self, raw: bool = False) -> Tensor:
        """Mean entropy [B] in nats; `raw` takes the plain softmax of the outputs where the two differ."""
        logp = self.softmax_logp if raw and self.softmax_logp is not None else self.logp
        return self.mean(torch.special.entr(logp.exp()).sum(2))

    def margin(self) -> Tensor:
        """Mean difference [B] of the two highest probabilities: low is uncertain."""
        top = self.logp.topk(2, dim=2).values.exp()
        return self.mean(top[..., 0] - top[..., 1])

    def confidence(self) -> Tensor:
        """Mean highest probability [B]."""
        return self.mean(self.logp.amax(2).exp())


class Task(BaseModel, ABC):
    """A data set with its model, loss and metric. A parameter is a field; its default is the bundled choice.

    Methods take and return batches on the device they are on; nothing is kept between calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    must_say: ClassVar[tuple[str, ...]] = ("metric", "recipe")  # what has no default; checked when it is registered
    metric: ClassVar[str]  # the primary metric. A property where a parameter decides
    higher_is_better: ClassVar[bool] = True  # of the primary metric; False for an error or a loss
    recipe: ClassVar[Recipe]  # how it is trained unless the suite says otherwise
    source: ClassVar[str] = "made from a seed; nothing to download"  # where the data come from, in one line
    pictures: ClassVar[int] = 8  # `draw` on axes so small that so many fit in a row; fewer where details matter
    places: ClassVar[frozenset[str]] = frozenset()  # parameters that say where files lie, and no more

    @property
    def data_source(self) -> str:
        """`source`, or what these very parameters name: a user's own folder is not the set that a task is known for."""
        return self.source

    @property
    def can(self) -> frozenset[str]:
        """What it offers beyond the minimum, of: "dropout", "gradient"."""
        return frozenset()

    @abstractmethod
    def load(self, root: Path | None) -> Data:
        """Read (or generate) the data; `root` is the user's data folder, None where the task needs none.

        Raises:
            AlbenchError: a file is missing or unreadable: which one, and what to do.
        """

    def fetch(self, root: Path) -> None:
        """Download the data into `root` where the host allows it; safe to repeat. Default: nothing to do.

        Raises:
            AlbenchError: it must be fetched by hand: what, from where, and where to put it.
        """

    def problems(self, root: Path | None) -> Iterator[str]:
        """What is wrong with the data, a line for each bad file or annotation; the files are read, not the cache.

        Default: the first that stops `load`, which raises it.

        Raises:
            AlbenchError: nothing can be looked at: the folder is missing.
        """
        self.load(root)
        return iter(())

    def describe(self, data: Data) -> dict[str, str]:
        """Lines of `albench data verify` on the annotations, by a short word each. Default: their names and shapes."""
        shapes = {key: " × ".join(map(str, value.shape[1:])) for key, value in sorted(data.pool.targets.items())}
        said = [f"{key} ({f'{shape} numbers' if shape else 'a number'} a sample)" for key, shape in shapes.items()]
        return {"annotations": ", ".join(said)}

    @classmethod
    @abstractmethod
    def miniature(cls, folder: Path) -> Self:
        """The task at a size that trains in a second; what it reads from files is written to `folder` first.

        For conformance suites: `cls.miniature(folder).load(folder)` works without any download, and
        gives at least 18 samples in the pool and 6 to test on.
        """

    @abstractmethod
    def build(self, classes: Sequence[str]) -> nn.Module:
        """A model with fresh weights, drawn from torch's global generator; forward(image [B, C, H, W]) → raw."""

    @abstractmethod
    def prepare(self, batch: Batch) -> Batch:
        """A batch as the network reads it, without augmentation: float images, targets (if present) encoded."""

    def augment(self, batch: Batch, rng: torch.Generator) -> Batch:
        """As `prepare`, under random augmentation drawn from `rng`, which lives on the batch's device.

        Two halves, so that a compiled step can hold the second: override those, or this where it has no such halves
        (it then runs outside the compiled step).
        """
        return self.apply_augmentation(batch, self.draw_augmentation(batch, rng))

    def draw_augmentation(self, batch: Batch, rng: torch.Generator) -> Batch:
        """The random numbers of a batch's augmentation, by name; shapes depend on those of the batch alone.

        Default: none, and `apply_augmentation` is `prepare`.
        """
        return {}

    def apply_augmentation(self, batch: Batch, drawn: Batch) -> Batch:
        """What `augment` returns: a pure function of the batch and `drawn`, without copies from or to the host."""
        return self.prepare(batch)

    @abstractmethod
    def losses(self, raw: Raw, batch: Batch) -> Tensor:
        """fp32 [B]: each sample's own loss, independent of the others in its batch (so that any two compare)."""

    def scale(self, batch: Batch) -> Tensor | float:
        """A positive number for the batch: the mean of `losses · scale` is the training objective. Default 1."""
        return 1.0

    @abstractmethod
    def predict(self, raw: Raw) -> Prediction:
        """The model's belief, fp32."""

    @abstractmethod
    def features(self, raw: Raw) -> list[Tensor]:
        """The feature maps [B, C_i, H_i, W_i] that a loss prediction module reads."""

    @abstractmethod
    def embedding(self, raw: Raw) -> Tensor:
        """fp32 [B, d]: one vector per sample, for distances."""

    def gradient(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """Factors (g [B, C], h [B, d]) of the last layer's gradient g ⊗ h at the model's own most likely label."""
        raise NotImplementedError

    def outputs(self, forward: Callable[[Batch], Raw], batch: Batch) -> Raw:
        """What `measure` sees of a prepared batch; `forward` runs the network. For augmentation at test time.

        Default: one plain pass. What is added must leave `losses`, `features` and `embedding` as they are: strategies
        observe the plain pass.
        """
        return forward(batch)

    @abstractmethod
    def measure(
        self, batches: Iterable[tuple[Raw, Batch]], classes: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics by name, and outcomes per test sample, from the test set's prepared batches in order.

        Metric names: "accuracy", "pck@0.2", and "pck@0.2/left knee" for parts. Outcomes are compact arrays, with N
        rows, or flat with a column "sample" of row numbers.
        """

    def remeasure(self, outcomes: dict[str, np.ndarray], counts: np.ndarray) -> np.ndarray:
        """The primary metric [R] of stored outcomes, had test sample n been there counts[r, n] times: the bootstrap.

        outcomes: what `measure` returned. counts: non-negative integers [R, N]. Ones give the measured value to the
        bit, zeros and ones that of the sub-set; NaN where the metric is not defined on what is left.

        Raises:
            AlbenchError: the task has no such rule, or the outcomes lack something (an older version's run).
        """
        raise AlbenchError(f"{type(self).__name__} has no remeasure(), so its test set cannot be resampled")

    def contents(self, targets: Batch, classes: Sequence[str]) -> Tensor:
        """What the annotations of samples hold, int64 [N, classes]: how often each class, object or joint is there.

        `targets` are the columns of Samples.targets. From it reports tell the balance of a selection and what its
        labels cost. Default: nothing is counted.
        """
        return torch.zeros(len(next(iter(targets.values()))), len(classes), dtype=torch.int64)

    def trivial(self, batch: Batch) -> Tensor:
        """A predictor [B] of the loss that needs no model, as a baseline: the prepared image's mean intensity."""
        return batch["image"].float().mean((1, 2, 3))

    def answer(self, outcomes: dict[str, np.ndarray], sample: int) -> dict[str, Any]:
        """The prediction for one sample among what `measure` returned, small and JSON-able, as `draw` takes it.

        Default: {}, nothing to draw.
        """
        return {}

    @abstractmethod
    def draw(
        self, axes: Any, samples: Samples, row: int, classes: Sequence[str], answer: dict[str, Any] | None = None
    ) -> None:
        """Draw a sample with its annotation (class, skeleton, boxes) on matplotlib axes; and with an `answer`."""

    def legend(self, classes: Sequence[str]) -> dict[str, str]:
        """Colours (hex) by name where `draw` tells things apart by colour, for a legend. Default: none."""
        return {}


def stored(outcomes: dict[str, np.ndarray], *names: str) -> list[np.ndarray]:
    """Outcomes by name.

    Raises:
        AlbenchError: one is missing: an older version did not keep it.
    """
    missing = [name for name in names if name not in outcomes]
    if missing:
        raise AlbenchError(f"no stored outcome {', '.join(missing)}; runs of an older albench did not keep it")
    return [outcomes[name] for name in names]
