"""Fits a model, and a companion beside it, on the labelled samples; evaluates it on the test set."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from albench.errors import AlbenchError
from albench.recipe import Recipe
from albench.samples import Batch, Data, Samples
from albench.seeds import Axis, generator, isolated
from albench.strategy import Companion, Outputs
from albench.task import Raw, Task

CHECK_EVERY = 50  # updates between two looks at the loss: each look waits for the device


class Numerics(BaseModel):
    """What changes the last bits of a result: part of every stage's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["fp32", "bf16"] = "fp32"  # of the network; losses, softmax and distances are fp32 always
    threads: int = Field(default=1, gt=0)  # CPU threads of one trial, whatever --jobs says
    scoring_batch: int = Field(default=256, gt=0)  # samples a forward pass of evaluation and observation takes


@dataclass(frozen=True)
class Setup:
    """What is the same at every stage of a trial. `axes` (suite seed, trial seed, task label) begin every seed."""

    task: Task
    data: Data  # on the device
    recipe: Recipe
    numerics: Numerics
    device: torch.device
    axes: tuple[Axis, ...]
    companion: type[Companion] | None = None
    companion_params: dict[str, Any] = field(default_factory=dict)

    def forward(self, model: nn.Module, batch: Batch) -> Raw:
        """The network's pass over a prepared batch: channels last, in the precision of the numerics."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.numerics.precision == "bf16"):
            return model(batch["image"].contiguous(memory_format=torch.channels_last))


@dataclass
class Fitted:
    """A trained model and its companion, on the device, in evaluation mode."""

    model: nn.Module
    companion: Companion | None


def build(setup: Setup, stage: int) -> Fitted:
    """Fresh weights for a stage. The companion has a seed of its own, so adding one changes no weight of the model."""
    with isolated(*setup.axes, "weights", stage, who="the model"):
        model = setup.task.build(setup.data.classes)
    model = model.to(setup.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if setup.companion is None:
        return Fitted(model, None)
    images = setup.data.pool.batch(torch.arange(min(2, len(setup.data.pool))), hidden=True)
    with isolated(*setup.axes, "companion", stage, who=f"the companion {setup.companion.__name__}"):
        with torch.no_grad():
            example = Outputs(setup.task, model, setup.task.prepare(images))
            _ = example.raw
        try:
            companion = setup.companion(example, **setup.companion_params)
        except TypeError as error:
            raise AlbenchError(f"companion {setup.companion.__name__}: {error}") from error
    return Fitted(model, companion.to(setup.device).eval())


def fit(
    setup: Setup,
    stage: int,
    labelled: Tensor,
    start: dict[str, Tensor] | None = None,
    on_update: Callable[[int, int], None] = lambda update, updates: None,
) -> tuple[Fitted, float]:
    """Train on the labelled rows [L] of the pool; returns the model and the mean objective of the last tenth.

    `start` is the state to continue from (`Fitted` as `state_dict` makes it). Nothing here depends on the strategy.

    Raises:
        AlbenchError: the loss is not finite: at which update.
    """
    fitted = build(setup, stage)
    if start is not None:
        load_state(fitted, start)
    model, companion, task = fitted.model.train(), fitted.companion, setup.task
    parameters = list(model.parameters())
    if companion is not None:
        parameters += list(companion.train().parameters())
    optimiser = _optimiser(setup.recipe, parameters)
    updates = setup.recipe.length(len(labelled))
    rng = generator(*setup.axes, stage, "augmentation", device=setup.device)
    companion_rng = generator(*setup.axes, stage, "companion steps", device=setup.device)  # not the model's: pairing
    orders = _orders(setup, stage, labelled, updates)
    recent: list[Tensor] = []
    who = "training" + (f" with companion {setup.companion.__name__}" if setup.companion else "")
    with isolated(*setup.axes, stage, "training", who=who):
        for update, (rows, unlabelled) in enumerate(orders):
            progress = update / updates
            for group in optimiser.param_groups:
                group["lr"] = setup.recipe.rate(progress)
            batch = task.augment(setup.data.pool.batch(rows), rng)
            objective = _objective(setup, fitted, batch, progress)
            optimiser.zero_grad(set_to_none=True)
            objective.backward()
            if setup.recipe.clip is not None:
                nn.utils.clip_grad_norm_(parameters, setup.recipe.clip)
            optimiser.step()
            if companion is not None and unlabelled is not None:
                images = setup.data.pool.batch(unlabelled, hidden=True)
                companion.step(batch, task.augment(images, companion_rng), companion_rng)
            recent.append(objective.detach())
            if (update + 1) % CHECK_EVERY == 0 or update + 1 == updates:
                _check_finite(recent, update + 1)
                recent = recent[-max(1, updates // 10) :]
            on_update(update + 1, updates)
    model.eval()
    if companion is not None:
        companion.eval()
    return fitted, float(torch.stack(recent).mean())


def _objective(setup: Setup, fitted: Fitted, batch: Batch, progress: float) -> Tensor:
    """The mean of the (scaled) per-sample losses, and what the companion adds from the same forward pass."""
    raw = setup.forward(fitted.model, batch)
    losses = setup.task.losses(raw, batch) * setup.task.scale(batch)
    objective = losses.mean()
    if fitted.companion is not None:
        outputs = Outputs(setup.task, fitted.model, batch, fitted.companion, raw)
        extra = fitted.companion.loss(outputs, losses.detach(), progress)
        if extra is not None:
            objective = objective + extra
    return objective


def _orders(setup: Setup, stage: int, labelled: Tensor, updates: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Rows of each batch: the epochs' permutations, concatenated and cut evenly, so no batch is padded or dropped.

    With them the rows of an unlabelled batch, where the companion takes steps of its own.
    """
    size = setup.recipe.batch
    rng = generator(*setup.axes, stage, "batches")
    epochs = math.ceil(updates * size / len(labelled))
    order = torch.cat([labelled[torch.randperm(len(labelled), generator=rng)] for _ in range(epochs)])
    order = order[: updates * size].to(setup.device)
    unlabelled: tuple[Tensor, ...] | None = None
    if setup.companion is not None and setup.companion.step is not Companion.step:
        rest = torch.ones(len(setup.data.pool), dtype=torch.bool)
        rest[labelled] = False
        rows = rest.nonzero().flatten()
        if len(rows):
            rng = generator(*setup.axes, stage, "unlabelled")
            drawn = rows[torch.randint(len(rows), (updates * size,), generator=rng)]
            unlabelled = drawn.to(setup.device).split(size)
    for update, chunk in enumerate(order.split(size)):
        yield chunk, None if unlabelled is None else unlabelled[update]


def _optimiser(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=recipe.momentum, weight_decay=decay)
    kinds = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}
    return kinds[recipe.optimiser](parameters, lr=rate, weight_decay=decay)


def _check_finite(objectives: list[Tensor], update: int) -> None:
    finite = torch.stack(objectives).isfinite()
    if not bool(finite.all()):
        first = update - len(objectives) + 1 + int(finite.logical_not().nonzero()[0])
        raise AlbenchError(
            f"the training loss is not finite at update {first}; lower recipe.learning_rate or set recipe.clip"
        )


def passes(setup: Setup, model: nn.Module, samples: Samples, rows: Tensor | None = None) -> Iterator[tuple[Raw, Batch]]:
    """(raw, prepared batch) over the rows (default: all) in order, in evaluation mode and without augmentation."""
    rows = torch.arange(len(samples)) if rows is None else rows
    for chunk in rows.split(setup.numerics.scoring_batch):
        batch = setup.task.prepare(samples.batch(chunk))
        yield setup.forward(model, batch), batch


def evaluate(setup: Setup, model: nn.Module) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics on the test set, and outcomes per test sample.

    Raises:
        AlbenchError: the primary metric is missing or not finite.
    """
    with torch.inference_mode():
        metrics, outcomes = setup.task.measure(passes(setup, model, setup.data.test), setup.data.classes)
    if not math.isfinite(metrics.get(setup.task.metric, math.nan)):
        raise AlbenchError(f"the metric {setup.task.metric!r} is not finite on the test set: {metrics}")
    return metrics, outcomes


def state_dict(fitted: Fitted) -> dict[str, Tensor]:
    """The weights of model and companion as one flat dictionary of CPU tensors."""
    parts: dict[str, nn.Module] = {"model": fitted.model}
    if fitted.companion is not None:
        parts["companion"] = fitted.companion
    return {f"{p}.{n}": t.detach().cpu().contiguous() for p, m in parts.items() for n, t in m.state_dict().items()}


def load_state(fitted: Fitted, state: dict[str, Tensor]) -> None:
    """Put weights that `state_dict` made back in place."""

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}

    fitted.model.load_state_dict(part("model"))
    if fitted.companion is not None:
        fitted.companion.load_state_dict(part("companion"))
