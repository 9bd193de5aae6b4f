"""Fits a model, and a companion beside it, on the labelled samples."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from albench import step as steps
from albench.checkpoint import Checkpoint, Tree, restore_optimiser
from albench.errors import AlbenchError
from albench.memory import out_of_memory, release
from albench.numerics import Numerics
from albench.recipe import Recipe
from albench.samples import Batch, Data
from albench.seeds import Axis, generator, isolated
from albench.step import Fitted, Step
from albench.strategy import Companion, Outputs
from albench.task import Raw, Task

T = TypeVar("T")

POINTS = 20  # of a training's course that are kept
CHECK_EVERY = 50  # updates between two looks at the loss: each look waits for the device


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
        return steps.forward(model, batch["image"], self.numerics.precision == "bf16")


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


@dataclass
class _Training:
    """What changes while a model is fitted: all that a checkpoint has to keep."""

    fitted: Fitted
    step: Step
    rng: torch.Generator  # of the augmentation
    companion_rng: torch.Generator  # not the model's: pairing
    objectives: Tensor  # [updates], on the device
    update: int = 0
    checked: int = 0  # how many of the objectives are known to be finite

    @classmethod
    def begin(
        cls,
        setup: Setup,
        stage: int,
        labelled: Tensor,
        start: dict[str, Tensor] | None,
        log: Callable[[str], None],
    ) -> "_Training":
        fitted = build(setup, stage)
        if start is not None:
            load_state(fitted, start)
        fitted, step = _step(setup, fitted, labelled, log)
        rng = generator(*setup.axes, stage, "augmentation", device=setup.device)
        companion_rng = generator(*setup.axes, stage, "companion steps", device=setup.device)
        objectives = torch.zeros(setup.recipe.length(len(labelled)), device=setup.device)
        return cls(fitted, step, rng, companion_rng, objectives)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """The engine's own (""), and those that the companion or a module in it holds as an attribute, by name."""
        found = {"": self.step.optimiser}
        for name, module in self.fitted.companion.named_modules() if self.fitted.companion is not None else ():
            held = {f"{name}.{k}": v for k, v in vars(module).items() if isinstance(v, torch.optim.Optimizer)}
            found |= held
        return found

    def tree(self, device: torch.device) -> Tree:
        companion = self.fitted.companion
        return {
            "update": self.update,
            "objectives": self.objectives[: self.update],
            "model": self.fitted.model.state_dict(),
            "companion": companion.state_dict() if companion is not None else {},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers().items()},
            "generators": [self.rng.get_state(), self.companion_rng.get_state(), torch.get_rng_state()],
            "device generator": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def restore(self, tree: Tree, device: torch.device) -> None:
        """Go on from what `tree` made; inside `isolated`, whose generator it sets.

        Raises:
            KeyError, RuntimeError, ValueError: the state is of something else.
        """
        self.fitted.model.load_state_dict(tree["model"])
        if self.fitted.companion is not None:
            self.fitted.companion.load_state_dict(tree["companion"])
        optimisers = self.optimisers()
        if set(optimisers) != set(tree["optimisers"]):
            raise ValueError("the companion has other optimisers")
        for name, optimiser in optimisers.items():
            restore_optimiser(optimiser, tree["optimisers"][name])
        augmentation, companion, everywhere = tree["generators"]
        self.rng.set_state(augmentation)
        self.companion_rng.set_state(companion)
        torch.set_rng_state(everywhere)
        if tree["device generator"] is not None:
            torch.cuda.set_rng_state(tree["device generator"], device)
        self.update = tree["update"]
        self.objectives[: self.update] = tree["objectives"]


def fit(
    setup: Setup,
    stage: int,
    labelled: Tensor,
    start: dict[str, Tensor] | None = None,
    on_update: Callable[[int, int], None] = lambda update, updates: None,
    checkpoint: Checkpoint | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[Fitted, float]:
    """Train on the labelled rows [L] of the pool; returns the model and the mean objective of the last tenth.

    `start` is the state to continue from (`Fitted` as `state_dict` makes it). Nothing here depends on the strategy.
    With a `checkpoint` a training that was killed goes on where that was written; on a CPU the result is the same,
    bit for bit. `log` hears, in one line, of what went another way than asked for.

    Compiled steps share a model per process: what the last `fit` with the same network returned moves to a copy.

    Raises:
        AlbenchError: the loss is not finite: at which update; or the memory is not enough: which batch would fit.
    """
    for _ in range(2):
        try:
            return _fit(setup, stage, labelled, start, on_update, checkpoint, log)
        except Exception as error:
            if not out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        kept = steps.forget()
        if kept:
            log("not enough memory: compiled training steps were dropped, and are compiled again when they are needed")
        release(setup.device)  # here, where the failed update's tensors are gone with its traceback
        if not kept:
            break  # else without the steps of other networks there may be room
    batch = setup.recipe.batch
    fits = _batch_that_fits(setup, stage, labelled)
    tip = f"a batch of {fits} fits, and trains another experiment" if fits else "no smaller batch fits either"
    raise AlbenchError(f"not enough memory to train with recipe.batch = {batch} ({reason}); tried: {tip}")


def _batch_that_fits(setup: Setup, stage: int, labelled: Tensor) -> int | None:
    """The largest halving of the batch with which two updates (the second with the optimiser's state) go through."""
    setup = replace(setup, numerics=setup.numerics.model_copy(update={"compile": "off"}))
    size = setup.recipe.batch // 4 * 2  # even
    while size >= 2:
        recipe = setup.recipe.merged({"batch": size, "updates": 2})
        try:
            _fit(replace(setup, recipe=recipe), stage, labelled)
            return size
        except Exception as error:
            if not out_of_memory(error):
                return None
        release(setup.device)
        size = size // 4 * 2
    return None


def _fit(
    setup: Setup,
    stage: int,
    labelled: Tensor,
    start: dict[str, Tensor] | None = None,
    on_update: Callable[[int, int], None] = lambda update, updates: None,
    checkpoint: Checkpoint | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[Fitted, float]:
    updates = setup.recipe.length(len(labelled))
    who = "training" + (f" with companion {setup.companion.__name__}" if setup.companion else "")
    with isolated(*setup.axes, stage, "training", who=who), setup.numerics.equal_shapes():
        state = _begin_or_resume(setup, stage, labelled, start, checkpoint, log)
        if checkpoint is not None:
            checkpoint.leave_out(state.fitted.compiling)
        rows, others = _orders(setup, stage, labelled, updates)
        batches = setup.data.pool.batches(rows[state.update :])
        unlabelled = setup.data.pool.batches(others[state.update :], hidden=True)
        while state.update < updates:
            _update(setup, state, batches, unlabelled, state.update / updates)
            state.update += 1
            if state.update % CHECK_EVERY == 0 or state.update == updates:
                _check_finite(state)
            if checkpoint is not None and checkpoint.due():
                checkpoint.save(state.tree(setup.device))
            on_update(state.update, updates)
    fitted = state.fitted
    fitted.model.eval()
    if fitted.companion is not None:
        fitted.companion.eval()
    fitted.descent = _thinned(state.objectives)
    return fitted, float(state.objectives[-max(1, updates // 10) :].mean())


def _thinned(objectives: Tensor) -> list[float]:
    """The mean objective of each of up to `POINTS` equal parts of a training, in five digits: how it went down."""
    parts = objectives.cpu().tensor_split(min(POINTS, len(objectives)))
    return [float(f"{float(part.mean()):.5g}") for part in parts]


def _begin_or_resume(
    setup: Setup,
    stage: int,
    labelled: Tensor,
    start: dict[str, Tensor] | None,
    checkpoint: Checkpoint | None,
    log: Callable[[str], None],
) -> _Training:
    state = _Training.begin(setup, stage, labelled, start, log)
    tree = checkpoint.load(setup.device) if checkpoint is not None else None
    if checkpoint is None or tree is None:
        return state
    before = torch.get_rng_state()
    try:
        state.restore(tree, setup.device)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:  # its code has changed under the same version
        checkpoint.set_aside(f"does not fit ({str(error).partition(chr(10))[0]})")
        torch.set_rng_state(before)
        again = _Training.begin(setup, stage, labelled, start, log)
        again.fitted.compiling += state.fitted.compiling
        return again
    checkpoint.resumed = [*checkpoint.resumed, state.update]
    return state


def _step(setup: Setup, fitted: Fitted, labelled: Tensor, log: Callable[[str], None]) -> tuple[Fitted, Step]:
    """A training step for fresh weights: eager, or the process's compiled one with these weights written into it."""
    task, recipe, numerics, pool = setup.task, setup.recipe, setup.numerics, setup.data.pool
    if numerics.compile in ("off", "auto"):
        return fitted, Step(task, fitted, recipe, numerics, setup.device)

    def example(draws: bool) -> tuple[Batch, Batch | None]:
        rng = generator("example", device=setup.device)
        batch = pool.batch(labelled[torch.arange(recipe.batch) % len(labelled)])
        return (batch, task.draw_augmentation(batch, rng)) if draws else (task.augment(batch, rng), None)

    compiling = 0.0

    def make() -> Step:
        nonlocal compiling
        start = time.perf_counter()
        step = Step(task, copy.deepcopy(fitted), recipe, numerics, setup.device)
        with isolated("example", who="the compiled step"):
            step.compile(numerics.compile, example, log)
        compiling = time.perf_counter() - start
        return step

    key = (
        *(task, setup.data.classes, setup.companion, str(setup.companion_params), str(setup.device)),
        recipe.model_dump_json(exclude={"epochs", "updates"}),
        numerics.model_dump_json(exclude={"scoring_batch"}),
        *(f"{name}{tensor.shape[1:]}" for name, tensor in [("image", pool.images), *sorted(pool.targets.items())]),
    )
    step = steps.kept(key, make)
    if step.kind == "eager":  # modules that cannot be compiled may hold what `reset` does not know: they are fresh
        step = Step(task, fitted, recipe, numerics, setup.device)
    else:
        fitted = step.reset(fitted)
    fitted.compiling = compiling
    return fitted, step


def _update(
    setup: Setup, state: _Training, batches: Iterator[Batch], unlabelled: Iterator[Batch], progress: float
) -> None:
    """One update of the model, and the companion's own step after it. Nothing in it waits for the device."""
    task, companion, step = setup.task, state.fitted.companion, state.step
    step.at(progress)
    batch, drawn = next(batches), None
    if step.augments:
        drawn = task.draw_augmentation(batch, state.rng)
    else:
        batch = task.augment(batch, state.rng)
    state.objectives[state.update].copy_(step(batch, drawn))
    if companion is not None and (images := next(unlabelled, None)) is not None:
        companion.step(batch, task.augment(images, state.companion_rng), state.companion_rng)


def _orders(setup: Setup, stage: int, labelled: Tensor, updates: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Rows of each batch: the epochs' permutations, concatenated and cut evenly, so no batch is padded or dropped.

    With them the rows of the unlabelled batches, where the companion takes steps of its own; else none. They lie where
    the images do, so that nothing waits for the device.
    """
    pool = setup.data.pool
    place = pool.images.device
    size = setup.recipe.batch
    rng = generator(*setup.axes, stage, "batches")
    epochs = math.ceil(updates * size / len(labelled))
    order = torch.cat([labelled[torch.randperm(len(labelled), generator=rng)] for _ in range(epochs)])
    order = order[: updates * size].to(place)
    unlabelled: tuple[Tensor, ...] = ()
    if setup.companion is not None and setup.companion.step is not Companion.step:
        rest = torch.ones(len(pool), dtype=torch.bool)
        rest[labelled] = False
        rows = rest.nonzero().flatten()
        if len(rows):
            rng = generator(*setup.axes, stage, "unlabelled")
            drawn = rows[torch.randint(len(rows), (updates * size,), generator=rng)]
            unlabelled = drawn.to(place).split(size)
    return order.split(size), unlabelled


def _check_finite(state: _Training) -> None:
    finite = state.objectives[state.checked : state.update].isfinite()
    if not bool(finite.all()):
        first = state.checked + 1 + int(finite.logical_not().nonzero()[0])
        raise AlbenchError(
            f"the training loss is not finite at update {first}; lower recipe.learning_rate or set recipe.clip"
        )
    state.checked = state.update


def state_dict(fitted: Fitted) -> dict[str, Tensor]:
    """The weights of model and companion as one flat dictionary of CPU tensors."""
    parts: dict[str, nn.Module] = {"model": fitted.model}
    if fitted.companion is not None:
        parts["companion"] = fitted.companion
    return {
        f"{p}.{n}": torch.empty(t.shape, dtype=t.dtype).copy_(t.detach())  # never the weights themselves
        for p, m in parts.items()
        for n, t in m.state_dict().items()
    }


def load_state(fitted: Fitted, state: dict[str, Tensor]) -> None:
    """Put weights that `state_dict` made back in place."""

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}

    fitted.model.load_state_dict(part("model"))
    if fitted.companion is not None:
        fitted.companion.load_state_dict(part("companion"))
