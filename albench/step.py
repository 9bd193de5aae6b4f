"""The training step: one update of a model and of the companion beside it; eager, compiled, or as a CUDA graph.

A compiled step is made once in a worker, and stays: a new stage, seed or strategy writes fresh weights into its model.
Everything that changes from update to update (batch, random numbers, progress, learning rate) is a tensor, so that
there is one graph for all of them.
"""

import copy
import types
import weakref
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from albench.memory import out_of_memory, release
from albench.numerics import Numerics
from albench.optimisers import eager
from albench.recipe import Recipe
from albench.samples import Batch
from albench.strategy import Companion, Outputs
from albench.task import Raw, Task

KEPT = 8  # compiled steps in a worker process: each holds a model, its optimiser's state, and its graphs
WARM_UP = 3  # updates before a CUDA graph is captured
BACKEND = "inductor"  # of torch.compile
HOW = {"eager": "eagerly", "compiled": "compiled"}


@dataclass
class Fitted:
    """A model and its companion, on the device, and how they were trained.

    `step`: eager, compiled, graphs or eager-graphs. `descent`: the mean objective of equal parts of the training, in
    order. `memory`: bytes that a CUDA graph had allocated when it was captured, 0 without one; a replay allocates none.
    `compiling`: seconds that went into the step before the first update, 0 where the process had it.
    """

    model: nn.Module
    companion: Companion | None
    step: str = "eager"
    descent: list[float] = field(default_factory=list)
    memory: int = 0
    compiling: float = 0.0


def takes_part(companion: Companion | None) -> bool:
    """Whether it adds to the objective."""
    return companion is not None and type(companion).loss is not Companion.loss


def takes_steps(companion: Companion | None) -> bool:
    """Whether it makes updates of its own."""
    return companion is not None and type(companion).step is not Companion.step


def forward(model: nn.Module, image: Tensor, bf16: bool) -> Raw:
    """The network's pass over prepared images: channels last, in the precision of the numerics."""
    with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
        return model(image.contiguous(memory_format=torch.channels_last))


class Objective:
    """The mean of the (scaled) per-sample losses, and what the companion adds from the same forward pass."""

    def __init__(self, task: Task, fitted: Fitted, numerics: Numerics) -> None:
        self.task, self.model, self.bf16 = task, fitted.model, numerics.precision == "bf16"
        self.companion = fitted.companion if takes_part(fitted.companion) else None

    def __call__(self, batch: Batch, drawn: Batch | None, progress: Tensor) -> Tensor:
        """A scalar. The batch is augmented here by what was `drawn`, or was augmented already (None)."""
        if drawn is not None:
            batch = self.task.apply_augmentation(batch, drawn)
        raw = forward(self.model, batch["image"], self.bf16)
        losses = self.task.losses(raw, batch) * self.task.scale(batch)
        objective = losses.mean()
        if self.companion is not None:
            outputs = Outputs(self.task, self.model, batch, self.companion, raw)
            extra = self.companion.loss(outputs, losses.detach(), progress)
            if extra is not None:
                objective = objective + extra
        return objective


class Step:
    """One update of model and companion by one optimiser. `at` sets progress and learning rate before each."""

    def __init__(self, task: Task, fitted: Fitted, recipe: Recipe, numerics: Numerics, device: torch.device) -> None:
        self.fitted, self.recipe = fitted, recipe
        self.kind = "eager"
        self.augments = False  # whether batches come with what was drawn for their augmentation
        self.progress = torch.zeros((), dtype=torch.float64, device=device)
        self.parameters = list(fitted.model.train().parameters())
        if fitted.companion is not None:
            fitted.companion.train()
            if takes_part(fitted.companion) or numerics.compile == "off":  # one with steps alone is not kept
                self.parameters += list(fitted.companion.parameters())
        fast = numerics.compile != "off" or device.type == "cuda"
        self.optimiser = optimiser(recipe, self.parameters, fast, device)
        self.objective: Callable[..., Tensor] = Objective(task, fitted, numerics)
        self._halves = type(task).augment is Task.augment and not takes_steps(fitted.companion)
        self._captured: Captured | None = None
        self._handed: Callable[[], Fitted | None] = lambda: None

    def at(self, progress: float) -> None:
        """Set the progress of the training, and the learning rate that the recipe gives it, in place."""
        self.progress.fill_(progress)
        rate = self.recipe.rate(progress)
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def __call__(self, batch: Batch, drawn: Batch | None) -> Tensor:
        """Update by a batch; returns the objective, which the next call may overwrite. Nothing waits for the device."""
        return (self._captured or self._update)(batch, drawn)

    def _update(self, batch: Batch, drawn: Batch | None) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        objective = self.objective(batch, drawn, self.progress)
        objective.backward()
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimiser.step()
        return objective.detach()

    def compile(
        self, how: str, example: Callable[[bool], tuple[Batch, Batch | None]], log: Callable[[str], None]
    ) -> None:
        """Make it fast, as `Numerics.compile` has it: "on", "graphs" or "eager-graphs".

        It warms up on an example (given whether augmentation is drawn), which trains: `reset` afterwards. Whatever
        fails is said in the log, and the step stays what it was before: eager, or compiled without graphs.
        """
        plain, self.augments = self.objective, self._halves
        if takes_part(self.fitted.companion) and takes_steps(self.fitted.companion):
            log("a companion with a loss and steps of its own is not compiled; training goes on eagerly")
            self.augments = False
            return
        batch, drawn = example(self.augments)
        self.at(0.0)
        if how == "eager-graphs":
            self._capture(batch, drawn, log)
            self.augments = self.augments and self.kind != "eager"
            return
        try:
            call = types.MethodType(_apart(Objective.__call__), plain)
            self.objective = torch.compile(call, fullgraph=True, dynamic=False, backend=BACKEND)
            self._update(batch, drawn)
            self.at(0.5)
            with torch.compiler.set_stance("fail_on_recompile"):  # by a count that is no tensor, say
                self._update(batch, drawn)
            self.kind = "compiled"
        except Exception as error:
            if out_of_memory(error):
                raise
            self.objective, self.augments = plain, False
            log(f"the training step was not compiled ({_reason(error)}); training goes on eagerly")
            return
        if how == "graphs":
            self._capture(batch, drawn, log)

    def _capture(self, batch: Batch, drawn: Batch | None, log: Callable[[str], None]) -> None:
        device = batch["image"].device
        if device.type != "cuda":
            return
        stream = torch.cuda.current_stream(device)
        try:
            self._captured = Captured(self._update, batch, drawn)
            self.kind = "graphs" if self.kind == "compiled" else "eager-graphs"
        except Exception as error:
            torch.cuda.set_stream(stream)  # torch stays on the other one where the end of a capture fails
            if out_of_memory(error):
                raise
            log(f"no CUDA graph was captured ({_reason(error)}); training goes on without, {HOW[self.kind]}")

    def reset(self, fresh: Fitted) -> Fitted:
        """Begin anew: the fresh weights, written in place; no gradient, no state of the optimiser.

        Whoever still holds what the last training returned gets a copy of it. A companion that takes no part in the
        objective is the fresh one.
        """
        if (last := self._handed()) is not None:
            last.model, last.companion = copy.deepcopy((last.model, last.companion))
        with torch.no_grad():
            for mine, theirs in zip(self._tensors(self.fitted), self._tensors(fresh), strict=True):
                mine.copy_(theirs)
            for state in self.optimiser.state.values():
                for value in state.values():
                    if isinstance(value, Tensor):
                        value.zero_()
        companion = self.fitted.companion if takes_part(self.fitted.companion) else fresh.companion
        companion = companion.train() if companion is not None else None
        memory = self._captured.memory if self._captured else 0
        fitted = Fitted(self.fitted.model.train(), companion, self.kind, memory=memory)
        self._handed = weakref.ref(fitted)
        return fitted

    @staticmethod
    def _tensors(fitted: Fitted) -> Iterator[Tensor]:
        for module in (fitted.model, fitted.companion if takes_part(fitted.companion) else None):
            if module is not None:
                yield from module.parameters()
                yield from module.buffers()


class Captured:
    """An update as one CUDA graph: its inputs are copied to where the graph reads them, and it is replayed."""

    def __init__(self, update: Callable[[Batch, Batch | None], Tensor], batch: Batch, drawn: Batch | None) -> None:
        self.batch = {name: tensor.clone() for name, tensor in batch.items()}
        self.drawn = {name: tensor.clone() for name, tensor in drawn.items()} if drawn is not None else None
        with torch.cuda.device(batch["image"].device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    update(self.batch, self.drawn)
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            # matrix products get a workspace of the graph's own: whoever frees the others (torch.compile's graphs do)
            # would take it from under this graph
            torch._C._cuda_clearCublasWorkspaces()
            # torch's own stream for it stays with the first GPU that was used; other threads may copy batches meanwhile
            with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
                self.objective = update(self.batch, self.drawn)
            torch._C._cuda_clearCublasWorkspaces()
            self.memory = torch.cuda.max_memory_allocated()

    def __call__(self, batch: Batch, drawn: Batch | None) -> Tensor:
        """See Step.__call__."""
        for held, given in ((self.batch, batch), (self.drawn or {}, drawn or {})):
            for name, tensor in held.items():
                tensor.copy_(given[name])
        self.graph.replay()
        return self.objective


def optimiser(
    recipe: Recipe, parameters: list[nn.Parameter], fast: bool, device: torch.device
) -> torch.optim.Optimizer:
    """The recipe's optimiser; `fast`: in few kernels, its learning rate a tensor that a compiled step may hold."""
    cuda = device.type == "cuda"
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if fast and (cuda or recipe.optimiser != "rmsprop"):  # RMSprop on a CPU takes no tensor
        options["lr"] = torch.tensor(recipe.learning_rate, device=device)
    if recipe.optimiser == "sgd":
        options |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov, "fused": fast or None}
    elif recipe.optimiser == "adam":
        options |= {"fused": fast or None, "capturable": fast and cuda}
    else:
        options |= {"capturable": fast and cuda}
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[recipe.optimiser]
    made = eager(kind)(parameters, **options)
    if options.get("fused") and options.get("momentum"):
        for parameter in parameters:  # one whose first gradient comes later; the first update is the same from zeros
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return made


def _apart(function: Any) -> Any:
    """A copy with code of its own: torch keeps its graphs with the code, and at most eight of them."""
    return types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


_kept: dict[Hashable, Step] = {}


def kept(key: Hashable, make: Callable[[], Step]) -> Step:
    """The process's compiled step of this key, made if there is none; the one unused for longest makes room."""
    step = _kept.pop(key, None) or make()
    _kept[key] = step
    forget(but=KEPT)
    return step


def kept_now() -> int:
    """How many there are."""
    return len(_kept)


def forget(but: int = 0) -> int:
    """Free all of them but so many that were used last, since their memory is needed; returns how many went."""
    unused = list(_kept)[: max(0, len(_kept) - but)]
    for key in unused:
        del _kept[key]
    if unused and torch.cuda.is_initialized():
        release(torch.device("cuda"))  # compiled code refers to itself, and holds its graph's memory until it is gone
    return len(unused)
