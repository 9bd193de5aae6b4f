"""What manifest and seeds say that a trial's records must hold. Nothing of it needs the data."""

import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from albench import cycle, registry
from albench.cycle import Plan
from albench.errors import AlbenchError
from albench.facts import facts_in
from albench.recipe import Recipe
from albench.seeds import Axis, generator
from albench.store import CEILING, Record, Trial
from albench.suite import Suite, TaskEntry

FACTS = {"pool": int, "test": int, "metric": str, "fingerprint": str}  # what the manifest must say of a task


@dataclass(frozen=True)
class Expected:
    """One task with one strategy."""

    pool: int  # samples
    metric: str
    plan: Plan
    whole_pool: bool
    recipe: Recipe
    numerics: Any
    companion: Any  # the class, None, or unknown: registered by a plug-in that the doctor does not load
    companion_params: dict[str, Any]
    facts: Record
    known: bool = True  # whether `companion` is known

    def identity(self, axes: tuple[Axis, ...], stage: int, labelled: list[int], device: str, before: str | None) -> str:
        """The identity that a training on these labels has; `before`: the stage before it, of a warm start."""
        setup: Any = SimpleNamespace(
            recipe=self.recipe,
            numerics=self.numerics,
            device=SimpleNamespace(type="cpu" if device == "cpu" else "cuda"),
            companion=self.companion,
            companion_params=self.companion_params,
            axes=axes,
        )
        return cycle.identity(setup, stage, torch.tensor(labelled), self.facts, before)


@functools.lru_cache(maxsize=64)
def order(pool: int, *axes: Axis) -> torch.Tensor:
    """A seeded permutation of the pool: the initial set's, or a stage's candidates'. Shared by all strategies."""
    return torch.randperm(pool, generator=generator(*axes))


@functools.lru_cache(maxsize=64)
def ranks(pool: int, *axes: Axis) -> torch.Tensor:
    """Where each row stands in that permutation."""
    return order(pool, *axes).argsort()


class Expectations:
    """Expected, by task and strategy of one manifest."""

    def __init__(self, manifest: Record) -> None:
        """Raises: ValidationError, KeyError or TypeError where the manifest is not one of albench."""
        self.suite, self.tasks = Suite.model_validate(manifest["suite"]), manifest["tasks"]
        for label in self.suite.tasks:
            for key, kind in FACTS.items():
                if not isinstance(self.tasks[label][key], kind):
                    raise TypeError(f"tasks.{label}.{key} is {self.tasks[label][key]!r}")
        self._found: dict[tuple[str, str], Expected] = {}

    def has(self, trial: Trial) -> bool:
        """Whether the suite plans this trial."""
        whole = trial.strategy == CEILING
        seeds = self.suite.ceiling if whole else self.suite.seeds
        return (
            trial.task in self.suite.tasks and (whole or trial.strategy in self.suite.strategies) and trial.seed < seeds
        )

    def axes(self, trial: Trial) -> tuple[Axis, ...]:
        """With what every seed of the trial begins."""
        return (self.suite.seed, trial.seed, trial.task)

    def of(self, trial: Trial) -> Expected:
        """What is expected of a planned trial."""
        key = (trial.task, trial.strategy)
        if key not in self._found:
            self._found[key] = self._expected(*key)
        return self._found[key]

    def _expected(self, task: str, strategy: str) -> Expected:
        suite, facts, entry = self.suite, self.tasks[task], self.suite.tasks[task]
        plan = Plan(suite.stages, entry.initial or 0, entry.budget or 0, entry.subset or 0, suite.warm_start)
        companion: Any = None
        params: dict[str, Any] = {}
        whole_pool, known = True, True
        if strategy == CEILING:
            plan = Plan(1, facts["pool"], 0, 0)
        else:
            chosen = suite.strategies[strategy]
            whole_pool = bool(chosen.params.get("whole_pool", False))
            if chosen.companion is not None:
                params = {**entry.companions.get(chosen.companion, {}), **chosen.companion_params}
                try:
                    companion = registry.companions.get(chosen.companion)
                except AlbenchError:
                    known = False
        return Expected(
            pool=facts["pool"],
            metric=facts["metric"],
            plan=plan,
            whole_pool=whole_pool,
            recipe=Recipe.model_validate(entry.recipe),
            numerics=suite.numerics,
            companion=companion,
            companion_params=params,
            facts={"task": entry.task, "params": _params(entry), "data": facts["fingerprint"]},
            known=known,
        )


def _params(entry: TaskEntry) -> dict[str, Any]:
    """A task's parameters as its trainings' identities hold them."""
    try:
        return facts_in(registry.tasks.get(str(entry.task)), entry.params)
    except AlbenchError:  # a plug-in's task, which the doctor does not load
        return entry.params
