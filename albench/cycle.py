"""The cycle runner: one trial, stage by stage: train → evaluate → observe candidates → select → label.

A stage appends two records: *trained* as soon as training and evaluation end, *selected* after the selection, so that
a strategy that crashes loses no training. The last stage selects nothing; it ends with *finished*. A trial that is
run again goes through the same loop and finds its records.
"""

import contextlib
import hashlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import albench
from albench import training
from albench.checkpoint import Checkpoint
from albench.errors import AlbenchError
from albench.evaluation import evaluate, halving
from albench.facts import facts as facts_of
from albench.memory import peak_memory, reset_peak_memory
from albench.numeric.ranking import ranking_accuracy, spearman
from albench.observing import Diagnosis, character, contents, observe, review, select
from albench.samples import Samples
from albench.seeds import generator
from albench.store import Record, Store, Trial
from albench.strategy import PoolView, Strategy
from albench.timelimit import time_limit
from albench.training import Fitted, Setup

SCATTER = 200  # pairs of predicted and true loss kept per stage, for the report

Progress = Callable[[int, str, float], None]  # stage, what is being done, fraction of it


def silent(stage: int, what: str, fraction: float) -> None:
    """Progress that nobody watches."""


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
        "recipe": facts_of(setup.recipe),
        "numerics": facts_of(setup.numerics),
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
            self.checkpoint().remove()  # also where a kill came between the record and this
        return record

    def fitted(self) -> Fitted:
        """The trained model: from this process, from disk, or trained again where its weights were dropped."""
        if self._fitted is None:
            setup, state = self.trial.setup, self.trial.store.weights(self.identity)
            if state is None:
                self._train()
                self.checkpoint().remove()
            else:
                self._fitted = training.build(setup, self.number)
                training.load_state(self._fitted, state)
        assert self._fitted is not None
        return self._fitted

    def release(self) -> None:
        """The trial has gone on: forget the model; on disk stay the latest stage and what other trials share."""
        self._fitted = None
        if self.number > 0 and not self.trial.expects_twin(self.number):
            self.trial.store.drop_weights(self.identity)

    def checkpoint(self) -> Checkpoint:
        """What a kill leaves of this training; good for this identity, versions and device alone."""
        store, setup = self.trial.store, self.trial.setup
        belongs = {
            "identity": self.identity,
            "albench": albench.__version__,
            "torch": torch.__version__,
            "device": device_name(setup.device),
        }
        seconds = 60 * self.trial.limits.checkpoint_minutes
        return Checkpoint(store.checkpoint(self.identity), belongs, seconds, store.log)

    def _train(self) -> tuple[Record, dict[str, np.ndarray]]:
        setup, progress, seconds = self.trial.setup, self.trial.progress, {}
        checkpoint = self.checkpoint()
        start = training.state_dict(self.previous.fitted()) if self.previous else None
        reset_peak_memory(setup.device)
        clock = time.perf_counter()
        self._fitted, objective = training.fit(
            setup,
            self.number,
            self.labelled,
            start,
            lambda u, n: progress(self.number, "training", u / n),
            checkpoint,
            self.trial.store.log,
        )
        seconds["train"] = checkpoint.spent + time.perf_counter() - clock - self._fitted.compiling
        if self._fitted.compiling:  # once a worker process: no strategy's cost
            seconds["compile"] = self._fitted.compiling
        clock = time.perf_counter()
        memory = max(peak_memory(setup.device), self._fitted.memory)
        progress(self.number, "evaluating", 0.0)
        model = self._fitted.model
        (metrics, outcomes), batch = halving(setup, lambda less: evaluate(less, model))
        seconds["evaluate"] = time.perf_counter() - clock
        return {
            "stage": self.number,
            "labelled": len(self.labelled),
            "metrics": metrics,
            "objective": objective,
            "descent": self._fitted.descent,
            "seconds": seconds,
            "peak_memory": memory,
            "updates": setup.recipe.length(len(self.labelled)),
            "step": self._fitted.step,
            "device": device_name(setup.device),
            "where": f"{socket.gethostname()}, {setup.device}",  # whose GPU of several, for who looks for a bad one
            "scoring_batch": batch,
            "resumed": checkpoint.resumed,  # the updates at which a killed training went on
        }, outcomes


def device_name(device: torch.device) -> str:
    """The GPU's model, or "cpu"."""
    return str(torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu")


@dataclass(frozen=True)
class Limits:
    """How a trial is run; no result depends on it."""

    checkpoint_minutes: float = 2.0  # between two checkpoints of a training; 0: none
    selection_minutes: float = 60.0  # that a strategy's observing and selecting may take; 0: no limit


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
    progress: Progress = silent
    limits: Limits = Limits()
    twins: tuple[Trial, ...] = ()  # trials that share every stage's training: a replay without another companion, say

    def run(self, one_stage: bool = False) -> None:
        """Take the trial through its stages, from wherever its records end; `one_stage`: no further than one more.

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
                    self._append({"kind": "finished", "stage": number, "diagnosis": self.diagnose(stage)})
                return
            if ("selected", number) not in records:
                records["selected", number] = self.select(stage, labelled)
                self._append(records["selected", number])
                if one_stage:
                    return
            labelled = torch.cat([labelled, torch.tensor(records["selected", number]["indices"], dtype=torch.long)])
            previous = stage

    def expects_twin(self, stage: int) -> bool:
        """Whether a trial that shares this one's trainings has not selected at a stage yet, and may need the model."""
        for twin in self.twins:
            try:
                if not any((r["kind"], r["stage"]) == ("selected", stage) for r in self.store.records(twin)):
                    return True
            except AlbenchError:  # damaged: the twin's own error, and it may be repaired
                return True
        return False

    def _append(self, record: Record) -> None:
        self.store.append(self.trial, record)

    def select(self, stage: Stage, labelled: Tensor) -> Record:
        """Observe the candidates, select, and say what the selection's predictor was worth."""
        strategy, number, setup = self.strategy(), stage.number, self.setup
        rows = candidates(setup, self.plan, number, labelled, strategy.whole_pool)
        if strategy.observes():
            self.progress(number, "observing", 0.0)
            stage.fitted()  # outside the limit: it may have to be trained again
        with self._time_limit():
            positions, diagnosis, seconds, batch = self._choose(strategy, stage, labelled, rows)
        record: Record = {"kind": "selected", "stage": number, "indices": rows[positions].tolist(), "seconds": seconds}
        record["scoring_batch"] = batch
        clock = time.perf_counter()
        record["character"] = {} if diagnosis is None else character(setup, diagnosis, positions, number)
        model = stage.fitted().model
        (known, record["answers"]), _ = halving(setup, lambda less: review(less, model, rows[positions]))
        record["character"] |= known
        if diagnosis is not None and diagnosis.predicted:
            record["diagnosis"] = {"candidates": self._worth(diagnosis, number), "test": self._on_test(stage)}
        elif not strategy.observes() and self._predicts(stage):  # random, with a module: what is it worth here?
            record["diagnosis"] = {"test": self._on_test(stage)}
        seconds["diagnose"] = time.perf_counter() - clock
        return record

    def _followed(self, strategy: Strategy, stage: int) -> Tensor | None:
        """What the strategy that this one follows selected at the same stage of the same task and seed."""
        leader = strategy.follows()
        if leader is None:
            return None
        for record in self.store.records(Trial(self.trial.task, leader, self.trial.seed)):
            if (record["kind"], record["stage"]) == ("selected", stage):
                return torch.tensor(record["indices"], dtype=torch.long)
        raise AlbenchError(f"it follows {leader!r}, which has selected nothing at stage {stage} yet; run it first")

    def _choose(
        self, strategy: Strategy, stage: Stage, labelled: Tensor, rows: Tensor
    ) -> tuple[Tensor, Diagnosis | None, dict[str, float], int]:
        """Positions among the rows; the diagnosis of their scores, seconds, and the batch with which they were seen."""
        setup, number = self.setup, stage.number
        clock = time.perf_counter()
        kept: dict[str, Tensor] = {}
        kept_labelled: dict[str, Tensor] = {}
        diagnosis, batch = None, setup.numerics.scoring_batch
        if strategy.observes():
            kept, diagnosis, batch = self._observe(strategy, stage, setup.data.pool, rows, diagnose=True)
            if strategy.sees_labelled:
                kept_labelled, _, again = self._observe(strategy, stage, setup.data.pool, labelled)
                batch = min(batch, again)
        seconds = {"observe": time.perf_counter() - clock}
        self.progress(number, "selecting", 0.0)
        clock = time.perf_counter()
        targets = setup.data.pool.annotations(labelled)
        history = labelled.split([self.plan.labelled(0)] + [self.plan.budget] * number)
        followed = self._followed(strategy, number)
        seen = (kept, kept_labelled, targets, history, followed)
        view = PoolView(self.trial.task, self.trial.seed, number, rows, labelled, *seen)
        positions = select(setup, strategy, self.strategy_name, view, self.plan.budget)
        seconds["select"] = time.perf_counter() - clock
        return positions, diagnosis, seconds, batch

    def _observe(
        self, strategy: Strategy, stage: Stage, samples: Samples, rows: Tensor, diagnose: bool = False
    ) -> tuple[dict[str, Tensor], Diagnosis | None, int]:
        """`observe`, and the scoring batch for which the GPU's memory was enough."""
        fitted, number = stage.fitted(), stage.number
        found, batch = halving(
            self.setup, lambda less: observe(less, strategy, fitted, samples, rows, number, diagnose)
        )
        return *found, batch

    def _time_limit(self) -> contextlib.AbstractContextManager[None]:
        minutes = self.limits.selection_minutes
        message = (
            f"strategy {self.strategy_name!r}: its selection took longer than {minutes:g} minutes; "
            "mend it, or set selection_minutes in the suite"
        )
        return time_limit(60 * minutes, message, self.store.last_words(self.trial))

    def diagnose(self, stage: Stage) -> Record:
        """What the score, or the companion, is worth as a predictor of the loss on the test set; {} without either."""
        return {"test": self._on_test(stage)} if self._predicts(stage) else {}

    def _predicts(self, stage: Stage) -> bool:
        """Whether there is a score, or a companion that says a number of each sample: two samples tell."""
        strategy, test = self.strategy(), self.setup.data.test
        companion = self.setup.companion
        if not strategy.observes() and (companion is None or not companion.predicts()):
            return False
        stage.fitted()
        with self._time_limit():
            _, diagnosis, _ = self._observe(strategy, stage, test, torch.arange(min(2, len(test))), diagnose=True)
        return diagnosis is not None and bool(diagnosis.predicted)

    def _on_test(self, stage: Stage) -> Record:
        """A pass of its own: evaluation's is shared by strategies, and a strategy that fails must not cost it."""
        test = self.setup.data.test
        self.progress(stage.number, "diagnosing", 0.0)
        with self._time_limit():
            _, diagnosis, _ = self._observe(self.strategy(), stage, test, torch.arange(len(test)), diagnose=True)
        assert diagnosis is not None
        return self._worth(diagnosis, stage.number)

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
        own = diagnosis.predicted.get("score", diagnosis.predicted.get("companion"))
        assert own is not None
        pairs = torch.stack([own[keep], diagnosis.true[keep]], 1)
        return {"predictors": worth, "scatter": [[float(f"{x:.4g}") for x in pair] for pair in pairs.tolist()]}
