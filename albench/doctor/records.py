"""One trial's records: each whole and of a known kind, and all of them as the plan and the seeds want them."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from albench.doctor.expected import Expected, order, ranks
from albench.doctor.findings import Health
from albench.doctor.trainings import Trainings
from albench.seeds import Axis
from albench.store import Record, Store, Trial

Natural = Annotated[int, Field(ge=0)]
Key = tuple[str, int]  # kind and stage


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    stage: Natural


class Trained(_Strict):
    """After training and evaluation."""

    kind: Literal["trained"]
    identity: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    labelled: Natural
    metrics: dict[str, float]
    objective: float
    device: str = "cpu"
    initial: list[Natural] | None = None


class Selected(_Strict):
    """After a selection."""

    kind: Literal["selected"]
    indices: list[Natural]


class Finished(_Strict):
    """The last stage's end."""

    kind: Literal["finished"]


_RECORD: TypeAdapter[Any] = TypeAdapter(Annotated[Trained | Selected | Finished, Field(discriminator="kind")])


class TrialExamination:
    """Reads a trial's lines, drops the bad ones, and cuts the trial where its selections can no longer be trusted.

    A bad training is dropped alone: it is repeated from the same labels. Behind a bad selection everything goes.
    """

    def __init__(self, store: Store, trial: Trial, trainings: Trainings, health: Health) -> None:
        self.store, self.trial, self.trainings, self.health = store, trial, trainings, health
        self.name = f"trials/{trial}.jsonl"
        self.lines: dict[Key, bytes] = {}
        self.records: dict[Key, Any] = {}
        self.raw: dict[Key, Record] = {}
        self.cut = False  # whether a line goes

    def examine(self, expected: Expected | None, axes: tuple[Axis, ...], test: int | None, working: bool) -> None:
        """Add what is wrong to the findings, and what stays to the repair. `working`: a run is writing here."""
        self._read(working)
        if expected is not None:
            self._walk(expected, axes, test)
        if self.cut:
            self.health.keep[self.trial] = list(self.lines.values())

    def _read(self, working: bool) -> None:
        lines, torn = self.store.lines(self.trial)
        for number, (line, record) in enumerate(lines, 1):
            self._add(number, line, record)
        if torn:
            self.cut = True
            if not working:
                self._say("ends in a torn record (a kill while it was written): its stage goes on from there", "")

    def _add(self, number: int, line: bytes, record: Record | None) -> None:
        where = f", line {number}"
        if record is None:
            self._drop(None, "a damaged record: it is not what its checksum says", where)
            return
        try:
            parsed = _RECORD.validate_python(record)
        except ValidationError as error:
            first = error.errors()[0]
            self._drop(None, f"no record of albench ({'.'.join(map(str, first['loc']))}: {first['msg']})", where)
            return
        key = (parsed.kind, parsed.stage)
        if key in self.records:
            same = self.lines[key] == line
            self._drop(None, f"stage {parsed.stage} is {parsed.kind} twice{'' if same else ', differently'}", where)
            if not same:  # nobody knows which of them is right
                self._forget(key)
            return
        self.records[key], self.lines[key], self.raw[key] = parsed, line, record

    def _walk(self, expected: Expected, axes: tuple[Axis, ...], test: int | None) -> None:
        before: str | None = None
        labelled: list[int] = order(expected.pool, *axes, "initial")[: expected.plan.initial].tolist()
        last = max((stage for _, stage in self.records), default=-1)
        device = next((r.device for r in self.records.values() if r.kind == "trained"), "cpu")
        for stage in range(last + 1):
            trained = self.records.get(("trained", stage))
            identity = expected.identity(axes, stage, labelled, trained.device if trained else device, before)
            before = identity if expected.plan.warm_start else None
            if trained is None:
                self._say(f"stage {stage} has no training; the next run makes it again", "")
            elif problem := self._wrong_training(trained, identity, labelled, expected.known):
                self._say(problem, f", stage {stage}")
                self._keep_until(stage - 1)
                return
            else:
                self._compare(trained, expected.metric, test)
            selected = self.records.get(("selected", stage))
            if selected is None:
                if stage < last:
                    self._say(f"stage {stage} has no selection, though later stages are there; they are made again", "")
                    self._keep_until(stage)
                return
            if problem := _wrong_selection(selected.indices, expected, axes, stage, labelled):
                self._say(f"selected {problem}; the trial goes on from before it", f", stage {stage}")
                self._keep_until(stage)
                return
            labelled = labelled + selected.indices

    def _wrong_training(self, trained: Trained, identity: str, labelled: list[int], known: bool) -> str | None:
        """What tells, in words, that it is no training on these labels; the identity says it of everything else."""
        if trained.stage == 0 and sorted(trained.initial or []) != sorted(labelled):
            return "the initial set is not the one that the seeds give"
        if trained.labelled != len(labelled):
            return f"trained on {trained.labelled} labels; the plan says {len(labelled)}"
        if not known:
            self.health.note(self.name, "its companion is a plug-in's: trainings are not held against their labels")
        elif trained.identity != identity:
            return "trained from something else than these settings, seeds and labels"
        return None

    def _compare(self, trained: Trained, metric: str, test: int | None) -> None:
        """A trial's training beside the files of that training."""
        key, where = ("trained", trained.stage), f", stage {trained.stage}"
        values = {**trained.metrics, "objective": trained.objective}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if metric not in values or {metric, "objective"} & {*bad}:
            self._drop(key, f"{', '.join(bad) or metric} is not finite; the stage is trained again", where)
            self.trainings.set_aside(trained.identity)
        elif self.trainings.kept:
            record = self.trainings.record(trained.identity, test)
            if record is None:
                self._say("its training is damaged or lost (see there); it is made again", where)
                self._forget(key)
            elif any(self.raw[key].get(name) != value for name, value in record.items()):
                self._drop(key, f"differs from trained/{trained.identity}.json; the stage is trained again", where)
                self.trainings.set_aside(trained.identity)

    def _keep_until(self, stage: int) -> None:
        """Keep the trainings up to a stage and the selections before it: what the run needs to select there."""
        for key in list(self.records):
            if key[1] > stage or (key[1] == stage and key[0] != "trained"):
                self._forget(key)

    def _drop(self, key: Key | None, meaning: str, where: str) -> None:
        self._say(meaning, where)
        self.cut = True
        if key is not None:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        self.cut = True
        self.records.pop(key, None)
        self.lines.pop(key, None)

    def _say(self, meaning: str, where: str) -> None:
        self.health.problem(f"{self.name}{where}", meaning)


def _wrong_selection(
    indices: list[int], expected: Expected, axes: tuple[Axis, ...], stage: int, labelled: list[int]
) -> str | None:
    """What is wrong with a selection, in words."""
    plan, pool = expected.plan, expected.pool
    if len(indices) != plan.budget:
        return f"{len(indices)} samples, not K = {plan.budget}"
    if len(set(indices)) < len(indices):
        return f"sample {next(i for n, i in enumerate(indices) if i in indices[:n])} twice"
    if max(indices) >= pool:
        return f"sample {max(indices)}, and the pool has {pool}"
    if again := set(indices) & set(labelled):
        return f"sample {min(again)}, which is labelled already"
    if plan.subset and not expected.whole_pool:
        rank = ranks(pool, *axes, stage, "candidates")
        worst = int(rank[torch.tensor(indices)].max())
        free = worst - int((rank[torch.tensor(labelled)] < worst).sum())  # unlabelled rows before the worst
        if free >= plan.subset:
            return "a sample that is none of the stage's candidates"
    return None
