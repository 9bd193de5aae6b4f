"""The cycle runner: one trial, stage by stage: train → evaluate → observe candidates → select → label.

A stage appends two records: *trained* as soon as training and evaluation end, *selected* after the selection, so that
a strategy that crashes loses no training. The last stage selects nothing; it ends with *finished*. A trial that is
run again goes through the same loop and finds its records.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from albench import training
from albench.errors import AlbenchError
from albench.memory import peak_memory, reset_peak_memory
from albench.numeric.ranking import ranking_accuracy, spearman
from albench.observing import Diagnosis, character, contents, observe, select
from albench.seeds import generator
from albench.store import Record, Store, Trial
from albench.strategy import PoolView, Strategy
from albench.training import Fitted, Setup

SCATTER = 200  # pairs of predicted and true loss kept per stage, for the report

Progress = Callable[[int, str, float], None]  # stage, what is being done, fraction of it


@dataclass(frozen=True)
class Plan:
    """How many labels when: `initial` at stage 0, then `budget` per stage, from `subset` candidates (0: the pool)."""

    stages: int
    initial: int
    budget: int
    subset: int
    warm_start: bool = False  # continue from the last stage's weights instead of fresh ones

    def labelled(self, stage: int) -> int:
        """How many samples are labelled when a stage trains."""
        return self.initial + stage * self.budget


def initial_set(setup: Setup, plan: Plan) -> Tensor:
    """The first labelled rows: the same for every strategy of a (task, seed)."""
    rng = generator(*setup.axes, "initial")
    return torch.randperm(len(setup.data.pool), generator=rng)[: plan.initial]


def candidates(setup: Setup, plan: Plan, stage: int, labelled: Tensor, whole_pool: bool = False) -> Tensor:
    """The rows a strategy may choose from, in seeded random order.

    One permutation per (task, seed, stage), the same for all strategies: skip the labelled, take the first M.
    """
    order = torch.randperm(len(setup.data.pool), generator=generator(*setup.axes, stage, "candidates"))
    free = order[~torch.isin(order, labelled)]
    return free if whole_pool or plan.subset == 0 else free[: plan.subset]


def identity(setup: Setup, stage: int, labelled: Tensor, facts: Record, previous: str | None) -> str:
    """What makes a training the same: task, data, recipe, numerics, companion, labelled set, seeds, and its start."""
    what = {
        "facts": facts,
        "recipe": setup.recipe.model_dump(mode="json"),
        "numerics": setup.numerics.model_dump(mode="json"),
        "device": setup.device.type,
        "companion": [f"{setup.companion.__module__}:{setup.companion.__qualname__}", setup.companion_params]
        if setup.companion
        else None,
        "axes": [*setup.axes, stage],
        "labelled": labelled.sort().values.tolist(),
        "previous": previous,
    }
    return hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=16).hexdigest()


class Stage:
    """One stage's training, found by its identity: on disk already, or trained now. The weights come when asked."""

    def __init__(self, trial: "TrialRun", number: int, labelled: Tensor, previous: "Stage | None") -> None:
        self.trial, self.number, self.labelled = trial, number, labelled.sort().values
        self.previous = previous if trial.plan.warm_start else None
        start = self.previous.identity if self.previous else None
        self.identity: str = identity(trial.setup, number, labelled, trial.facts, start)
        self._fitted: Fitted | None = None

    def record(self) -> Record:
        """The metrics of this training; it is trained and evaluated if nobody has done so."""
        store = self.trial.store
        with store.lock(self.identity):
            record = store.trained(self.identity)
            if record is None:
                record, outcomes = self._train()
                assert self._fitted is not None
                store.save_trained(self.identity, record, outcomes, training.state_dict(self._fitted))
        return record

    def fitted(self) -> Fitted:
        """The trained model: from this process, from disk, or trained again where its weights were dropped."""
        if self._fitted is None:
            setup, state = self.trial.setup, self.trial.store.weights(self.identity)
            if state is None:
                self._train()
            else:
                self._fitted = training.build(setup, self.number)
                training.load_state(self._fitted, state)
        assert self._fitted is not None
        return self._fitted

    def release(self) -> None:
        """The trial has gone on: forget the model; on disk only the shared stage 0 and the latest stage stay."""
        self._fitted = None
        if self.number > 0:
            self.trial.store.drop_weights(self.identity)

    def _train(self) -> tuple[Record, dict[str, np.ndarray]]:
        setup, progress, seconds = self.trial.setup, self.trial.progress, {}
        start = training.state_dict(self.previous.fitted()) if self.previous else None
        reset_peak_memory(setup.device)
        clock = time.perf_counter()
        self._fitted, objective = training.fit(
            setup, self.number, self.labelled, start, lambda u, n: progress(self.number, "training", u / n)
        )
        seconds["train"], clock = time.perf_counter() - clock, time.perf_counter()
        memory = peak_memory(setup.device)
        progress(self.number, "evaluating", 0.0)
        metrics, outcomes = training.evaluate(setup, self._fitted.model)
        seconds["evaluate"] = time.perf_counter() - clock
        return {
            "stage": self.number,
            "labelled": len(self.labelled),
            "metrics": metrics,
            "objective": objective,
            "seconds": seconds,
            "peak_memory": memory,
            "updates": setup.recipe.length(len(self.labelled)),
            "device": str(torch.cuda.get_device_name(setup.device) if setup.device.type == "cuda" else "cpu"),
        }, outcomes


@dataclass
class TrialRun:
    """Everything one trial needs. `facts` (task, parameters, data fingerprint) belong to every training's identity."""

    trial: Trial
    setup: Setup
    plan: Plan
    strategy: Callable[[], Strategy]  # a fresh one per stage: no state is carried
    strategy_name: str  # as registered
    facts: Record
    store: Store
    progress: Progress = lambda stage, what, fraction: None

    def run(self) -> None:
        """Take the trial through its stages, from wherever its records end.

        Raises:
            AlbenchError: training or the strategy failed; what was recorded stays.
        """
        records = {(r["kind"], r["stage"]): r for r in self.store.records(self.trial)}
        labelled, previous = initial_set(self.setup, self.plan), None
        for number in range(self.plan.stages):
            stage = Stage(self, number, labelled, previous)
            if ("trained", number) not in records:
                record = {"kind": "trained", "identity": stage.identity, **stage.record()}
                if number == 0:
                    record["initial"] = labelled.tolist()
                self._append(record | {"contents": contents(self.setup, labelled)})
            elif records["trained", number]["identity"] != stage.identity:
                raise AlbenchError(f"{self.trial}: stage {number} was trained from something else; use another --out")
            if previous is not None:
                previous.release()
            if number + 1 == self.plan.stages:
                if ("finished", number) not in records and ("selected", number) not in records:
                    self._append({"kind": "finished", "stage": number, "diagnosis": self._diagnose(stage)})
                return
            if ("selected", number) not in records:
                records["selected", number] = self._select(stage, labelled)
                self._append(records["selected", number])
            labelled = torch.cat([labelled, torch.tensor(records["selected", number]["indices"], dtype=torch.long)])
            previous = stage

    def _append(self, record: Record) -> None:
        self.store.append(self.trial, record)

    def _select(self, stage: Stage, labelled: Tensor) -> Record:
        """Observe the candidates, select, and say what the selection's predictor was worth."""
        strategy, number, setup = self.strategy(), stage.number, self.setup
        rows = candidates(setup, self.plan, number, labelled, strategy.whole_pool)
        self.progress(number, "observing", 0.0)
        clock = time.perf_counter()
        kept: dict[str, Tensor] = {}
        kept_labelled: dict[str, Tensor] = {}
        diagnosis = None
        if strategy.observes():
            pool, fitted = setup.data.pool, stage.fitted()
            kept, diagnosis = observe(setup, strategy, fitted, pool, rows, number, diagnose=True)
            if strategy.sees_labelled:
                kept_labelled, _ = observe(setup, strategy, fitted, pool, labelled, number)
        seconds = {"observe": time.perf_counter() - clock}
        self.progress(number, "selecting", 0.0)
        clock = time.perf_counter()
        targets = setup.data.pool.batch(labelled)
        del targets["image"]
        view = PoolView(self.trial.task, self.trial.seed, number, rows, labelled, kept, kept_labelled, targets)
        positions = select(setup, strategy, self.strategy_name, view, self.plan.budget)
        seconds["select"] = time.perf_counter() - clock
        record = {"kind": "selected", "stage": number, "indices": rows[positions].tolist(), "seconds": seconds}
        clock = time.perf_counter()
        record["character"] = character(setup, stage.fitted().model, rows, positions, number)
        seconds["diagnose"] = time.perf_counter() - clock
        if diagnosis is not None:
            clock = time.perf_counter()
            record["diagnosis"] = {"candidates": self._worth(diagnosis, number)} | self._diagnose(stage)
            seconds["diagnose"] += time.perf_counter() - clock
        return record

    def _diagnose(self, stage: Stage) -> Record:
        """What the strategy's score is worth as a predictor of the loss on the test set; {} where it has none."""
        strategy, test = self.strategy(), self.setup.data.test
        if not strategy.observes():
            return {}
        self.progress(stage.number, "diagnosing", 0.0)
        diagnosis = None
        for rows in (torch.arange(min(2, len(test))), torch.arange(len(test))):  # two rows tell whether it scores
            _, diagnosis = observe(self.setup, strategy, stage.fitted(), test, rows, stage.number, diagnose=True)
            if diagnosis is None:
                return {}
        assert diagnosis is not None
        return {"test": self._worth(diagnosis, stage.number)}

    def _worth(self, diagnosis: Diagnosis, stage: int) -> Record:
        """Ranking accuracy and Spearman ρ per predictor, and a sample of (predicted, true) pairs."""
        worth: dict[str, Any] = {}
        for name, predicted in diagnosis.predicted.items():
            rng = generator(*self.setup.axes, stage, "pairs")
            accuracy = ranking_accuracy(predicted, diagnosis.true, rng)
            rho = spearman(predicted, diagnosis.true)
            if name == "trivial":  # it has no direction of its own: give it the better one
                accuracy, rho = max(accuracy, 1 - accuracy), abs(rho)
            worth[name] = {"ranking-accuracy": accuracy, "spearman": rho}
        keep = torch.randperm(len(diagnosis.true), generator=generator(*self.setup.axes, stage, "scatter"))[:SCATTER]
        pairs = torch.stack([diagnosis.predicted["score"][keep], diagnosis.true[keep]], 1)
        return {"predictors": worth, "scatter": [[float(f"{x:.4g}") for x in pair] for pair in pairs.tolist()]}
