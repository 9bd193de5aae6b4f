"""Does a strategy keep the contract? Tried on the miniature of every task where it is defined, in the real engine.

A first look calls `observe` and `select` bare, so that each broken rule is said by its own name. What follows runs as
the cycle runner does it: training with the companion, observing, selecting, several stages, hidden labels exchanged.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from albench import cache, registry
from albench.cycle import Plan, candidates, initial_set
from albench.errors import AlbenchError
from albench.observing import observe, select
from albench.seeds import generator, isolated
from albench.strategy import Companion, Outputs, PoolView, Strategy
from albench.training import Fitted, Numerics, Setup, fit

INITIAL, BUDGET, SUBSET = 8, 4, 20  # labels at stage 0, K and M of the miniature trials
UPDATES, BATCH = 4, 6


@dataclass(frozen=True)
class Finding:
    """One check on one task. `passed` is None where it does not apply; `text` says why, or what is wrong."""

    task: str
    check: str
    passed: bool | None
    text: str = ""


class Inapplicable(Exception):
    """Raised by a check that has nothing to say about this strategy."""


class Bench:
    """A task at miniature size, and models trained on it for a few updates."""

    def __init__(self, name: str, folder: Path) -> None:
        """`name` is a registered task; what its miniature reads from files is written to `folder`."""
        cls = registry.tasks.get(name)
        self.name, self.task = name, cls.miniature(folder)
        with cache.unused():  # the folder is gone tomorrow, and its entries would never be found again
            self.data = self.task.load(folder)
        self.recipe = cls.recipe.merged({"updates": UPDATES, "batch": BATCH})
        self._plain: dict[int, Fitted] = {}

    def setup(self, companion: type[Companion] | None = None) -> Setup:
        """What the engine needs to train and observe, with or without a companion."""
        return Setup(self.task, self.data, self.recipe, Numerics(), torch.device("cpu"), (0, 0, self.name), companion)

    def fitted(self, stage: int, companion: type[Companion] | None) -> Fitted:
        """A stage's model. Without a companion it is the same for every strategy, and trained once."""
        if companion is not None:
            return fit(self.setup(companion), stage, self.labelled(stage))[0]
        if stage not in self._plain:
            self._plain[stage] = fit(self.setup(), stage, self.labelled(stage))[0]
        return self._plain[stage]

    def labelled(self, stage: int) -> Tensor:
        """Rows that are labelled at a stage (more of them at a later one)."""
        return initial_set(self.setup(), Plan(2, INITIAL + stage * BUDGET, BUDGET, SUBSET))

    def candidates(self, stage: int) -> Tensor:
        """Rows a strategy chooses from."""
        return candidates(self.setup(), Plan(2, INITIAL, BUDGET, SUBSET), stage, self.labelled(stage))

    def exchange_hidden(self) -> Callable[[], None]:
        """Give the unlabelled samples each other's annotations, *in place*; returns what puts them back.

        In place, so that whatever a strategy holds on to (a reference, a frame, a global) sees the exchange.
        """
        free = torch.ones(len(self.data.pool), dtype=torch.bool)
        free[self.labelled(1)] = False
        rows = free.nonzero().flatten()
        # Handed on along a random circle: nobody keeps their own.
        order = rows[torch.randperm(len(rows), generator=generator("exchange"))]
        before = {name: target.clone() for name, target in self.data.pool.targets.items()}
        for name, target in self.data.pool.targets.items():
            target[order] = before[name][order.roll(1)]

        def restore() -> None:
            for name, target in self.data.pool.targets.items():
                target.copy_(before[name])

        return restore


@dataclass
class Look:
    """What a strategy's methods answered when they were called bare."""

    kept: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    answers: dict[int, Any] = field(default_factory=dict)  # k → what select() returned
    crash: BaseException | None = None
    disturbed: str | None = None  # what it did to the random state outside


class Case:
    """One strategy on one task."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.name = bench, name
        self.cls: type[Strategy] = registry.strategies.get(name)
        self.companion = registry.companions.get(self.cls.companion) if self.cls.companion else None

    def selection(self, stage: int, strategy: Strategy | None = None) -> tuple[PoolView, list[int]]:
        """Train, observe and select as the cycle runner does; the view, and what was selected, by pool index."""
        fitted = self.bench.fitted(stage, self.companion)
        strategy = strategy or self.cls()
        view = self.view(stage, fitted, strategy)
        positions = select(self.bench.setup(), strategy, self.name, view, BUDGET)
        return view, view.index[positions].tolist()

    def view(self, stage: int, fitted: Fitted, strategy: Strategy) -> PoolView:
        """What the strategy sees at a stage, observed by the engine."""
        setup, pool = self.bench.setup(), self.bench.data.pool
        kept: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}
        rows = self.bench.candidates(stage), self.bench.labelled(stage)
        if strategy.observes():
            kept[0].update(observe(setup, strategy, fitted, pool, rows[0], stage, diagnose=True)[0])
            if strategy.sees_labelled:
                kept[1].update(observe(setup, strategy, fitted, pool, rows[1], stage)[0])
        targets = {name: target[rows[1]] for name, target in pool.targets.items()}
        return PoolView(self.bench.name, 0, stage, *rows, *kept, targets, _history(rows[1]))

    @cached_property
    def look(self) -> Look:
        """`observe` on one batch and `select` at several k, without the engine's guards between."""
        found = Look()
        # At stage 1: that nothing was seen of a stage 0 yet is what "no state" starts from.
        fitted = self.bench.fitted(1, self.companion)
        try:
            with isolated("look", who="it"):
                try:
                    self._look(fitted, found)
                except Exception as error:
                    found.crash = error
        except AlbenchError as error:
            found.disturbed = str(error)
        return found

    def _look(self, fitted: Fitted, found: Look) -> None:
        bench, strategy = self.bench, self.cls()
        rows, labelled = bench.candidates(1), bench.labelled(1)

        def kept(which: Tensor) -> dict[str, Any]:
            batch = bench.task.prepare(bench.data.pool.batch(which, hidden=not strategy.cheats))
            outputs = Outputs(bench.task, fitted.model, batch, fitted.companion, cheats=strategy.cheats)
            return strategy.observe(outputs)

        with torch.no_grad():
            found.rows = len(rows)
            found.kept = kept(rows) if strategy.observes() else {}
            beside = kept(labelled) if strategy.sees_labelled else {}
            targets = {name: target[labelled] for name, target in bench.data.pool.targets.items()}
            view = PoolView(bench.name, 0, 1, rows, labelled, found.kept, beside, targets, _history(labelled))
            for k in (BUDGET, 1, len(rows)):
                found.answers[k] = strategy.select(view, k, generator("look", k))


def _history(labelled: Tensor) -> tuple[Tensor, ...]:
    """The labelled rows as `PoolView.history` has them."""
    later = (len(labelled) - INITIAL) // BUDGET
    return labelled.split([INITIAL] + [BUDGET] * later)


def _runs(case: Case) -> str | None:
    """Training with the companion, observe() and select() at K, 1 and all raise nothing."""
    crash = case.look.crash
    return f"{type(crash).__name__}: {crash}" if crash else None


def _random_state(case: Case) -> str | None:
    """Nothing outside is seeded or drawn from."""
    return case.look.disturbed


def _device(case: Case) -> str | None:
    """What is kept and answered lies on the run's device or on the CPU."""
    named = {f"observe() keeps {name!r}": value for name, value in case.look.kept.items()}
    named |= {f"select() at k = {k} answers": value for k, value in case.look.answers.items()}
    for what, value in named.items():
        if isinstance(value, Tensor) and value.device.type != "cpu":
            return f"{what} on the device {value.device}; the run is on cpu"
    return None


def _numbers(case: Case) -> str | None:
    """observe() keeps one row per sample, and no score is NaN or infinite."""
    for name, value in case.look.kept.items():
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != case.look.rows:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            return f"observe() keeps {name!r} as {shape} of {case.look.rows} samples; one row per sample is needed"
        if name == "score" and not bool(value.isfinite().all()):
            return f"{int((~value.isfinite()).sum())} of {len(value)} scores are NaN or infinite"
    return None


def _exactly_k(case: Case) -> str | None:
    """select() answers k positions, at K, at 1 and at all."""
    for k, answer in case.look.answers.items():
        if not isinstance(answer, Tensor) or answer.ndim != 1:
            return f"select() at k = {k} answers {type(answer).__name__} {tuple(getattr(answer, 'shape', ()))}, not [k]"
        if len(answer) != k:
            return f"select() at k = {k} answers {len(answer)} positions"
    return None


def _each_once(case: Case) -> str | None:
    """No position is answered twice."""
    for k, answer in case.look.answers.items():
        if len(answer.unique()) != len(answer):
            return f"select() at k = {k} answers {len(answer) - len(answer.unique())} positions twice"
    return None


def _candidates(case: Case) -> str | None:
    """Positions are whole numbers among the candidates."""
    for k, answer in case.look.answers.items():
        if answer.dtype.is_floating_point or answer.dtype == torch.bool:
            return f"select() answers {answer.dtype}, not whole numbers"
        wrong = answer[(answer < 0) | (answer >= case.look.rows)].tolist()
        if wrong:
            return (
                f"select() at k = {k} answers {wrong[:3]} among {case.look.rows} candidates; "
                "are these positions in another array, or pool indices?"
            )
    return None


def _repeats(case: Case) -> str | None:
    """The same view and the same generator give the same selection."""
    first, second = case.selection(1)[1], case.selection(1)[1]
    return None if first == second else f"the same stage twice selects {first}, then {second}"


def _no_state(case: Case) -> str | None:
    """Nothing is carried from stage to stage: in the instance, its class or its module, in the companion's class."""
    fresh = case.selection(1)[1]
    used = case.cls()
    case.selection(0, used)
    after = case.selection(1, used)[1]
    return None if fresh == after else f"stage 1 selects {fresh}; after a stage 0 it selects {after}"


def _hidden_labels(case: Case) -> str | None:
    """With the unlabelled samples' annotations exchanged, what is kept and selected stays the same."""
    if case.cls.cheats:
        raise Inapplicable("it declares that it cheats")
    view, before = case.selection(1)
    restore = case.bench.exchange_hidden()
    try:
        other, after = case.selection(1)
    finally:
        restore()
    for name, value in view.candidates.items():
        if not torch.equal(value, other.candidates[name]):
            return f"what observe() keeps as {name!r} changes with the hidden labels"
    return None if before == after else "the selection changes with the hidden labels"


def _order(case: Case) -> str | None:
    """A selection that draws nothing does not hang on the order of the candidates (ties apart)."""
    view = case.view(1, case.bench.fitted(1, case.companion), case.cls())

    def selected(view: PoolView, seed: int) -> list[int]:
        answer = case.cls().select(view, BUDGET, generator("order", seed))
        return sorted(view.index[torch.as_tensor(answer).cpu()].tolist())

    with isolated("order", who="it"), torch.no_grad():
        before = selected(view, 0)
        if any(selected(view, seed) != before for seed in (1, 2, 3)):
            raise Inapplicable("it draws at random")
        order = torch.randperm(len(view), generator=generator("order"))
        kept = {name: value[order.to(value.device)] for name, value in view.candidates.items()}
        turned = replace(view, index=view.index[order], candidates=kept)
        after = selected(turned, 0)
    if before == after or _tied(view, before, after):
        return None
    return f"{before} are selected, and {after} when the candidates come in another order"


def _tied(view: PoolView, before: list[int], after: list[int]) -> bool:
    """Whether two selections differ only among candidates of which the strategy kept the same."""
    row = {index: position for position, index in enumerate(view.index.tolist())}

    def kept(indices: list[int]) -> list[list[Any]]:
        rows = torch.tensor([row[index] for index in indices])
        return sorted([value[row].tolist() for value in view.candidates.values()] for row in rows)

    return bool(view.candidates) and kept(before) == kept(after)


# In this order, as each builds on those before it. What is looked at bare comes first.
CHECKS: dict[str, Callable[[Case], str | None]] = {
    "runs": _runs,
    "random state": _random_state,
    "device": _device,
    "numbers": _numbers,
    "exactly k": _exactly_k,
    "each once": _each_once,
    "candidates": _candidates,
    "repeats": _repeats,
    "no state": _no_state,
    "hidden labels": _hidden_labels,
    "order": _order,
}


def check(name: str, bench: Bench) -> Iterator[Finding]:
    """The contract suite for a registered strategy on one task, a finding at a time; the first failure is the last."""
    case = Case(bench, name)
    missing = case.cls.needs - bench.task.can
    if missing:
        text = f"not defined on task {bench.name}: needs {', '.join(sorted(missing))}"
        yield Finding(bench.name, "defined", None, text)
        return
    for check_name, function in CHECKS.items():
        finding = _finding(case, check_name, function)
        yield finding
        if finding.passed is False:
            return


def _finding(case: Case, name: str, function: Callable[[Case], str | None]) -> Finding:
    try:
        text = function(case)
    except Inapplicable as reason:
        return Finding(case.bench.name, name, None, str(reason))
    except AlbenchError as error:
        text = str(error)
    except Exception as error:  # a check that trips over what a strategy answered has found something, too
        text = f"{type(error).__name__}: {error}"
    return Finding(case.bench.name, name, text is None, text or "")


def check_everywhere(name: str) -> Iterator[Finding]:
    """The contract suite on the miniature of every registered task.

    Raises:
        AlbenchError: unknown name, or a strategy that cannot be made without parameters.
    """
    cls = registry.strategies.get(name)
    required = [field for field, info in cls.model_fields.items() if info.is_required()]
    if required:
        raise AlbenchError(
            f"strategy {name!r} has no default for {', '.join(required)}, so it cannot be tried as it is"
        )
    for task in registry.tasks.names():
        with tempfile.TemporaryDirectory() as folder:
            yield from check(name, Bench(task, Path(folder)))
