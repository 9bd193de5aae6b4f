"""Does a run repeat? Finished stages are trained and selected again from their recorded labels, and compared.

The run folder stays as it is: what is trained here goes to a temporary one.
"""

import math
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from albench import manifest, registry
from albench.cycle import Progress, Stage, TrialRun, initial_set
from albench.doctor.expected import Expectations
from albench.errors import AlbenchError
from albench.samples import Data
from albench.store import CEILING, Record, Store, Trial
from albench.worker import Run, trial_run

# What may change the last bits of a training, and with them all that follows.
CIRCUMSTANCES = ("cpu", "device", "gpu", "albench", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
WIDE = 3 * math.sqrt(2)  # three standard deviations of the difference of two trainings


@dataclass(frozen=True)
class Repeated:
    """One stage that was repeated: what differs from its record, and what is worth saying of it; no line breaks."""

    trial: Trial
    stage: int
    differences: list[str]
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        name = f"{self.trial.task} · {self.trial.strategy} · seed {self.trial.seed} · stage {self.stage}"
        verdict = f"DIFFERS: {'; '.join(self.differences)}" if self.differences else "same"
        return f"{name}: {verdict}" + (f" ({'; '.join(self.remarks)})" if self.remarks else "")


class Verification:
    """A random sample of a run's finished stages, ready to be repeated."""

    def __init__(self, folder: Path, stages: int, seed: int, data_root: Path | None, device: str | None) -> None:
        """`device` None: that of the run.

        Raises:
            AlbenchError: no run, nothing finished, or what repeating it needs is not there.
        """
        self.store = Store(folder)
        found = self.store.manifest()
        if found is None:
            raise AlbenchError(f"{folder}: no manifest.json; is it a folder that `albench run` wrote?")
        self.manifest: Record = found
        try:
            self.expected, sessions = Expectations(found), found["sessions"]
            recorded = sessions[-1]["device"]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise AlbenchError(f"{folder / 'manifest.json'}: is none of albench's; see `albench doctor`") from error
        self.device = device or recorded
        if self.device != "cpu" and not torch.cuda.is_available():
            raise AlbenchError(f"the run is of {recorded}, which this machine has not; verify it with --device cpu")
        root = data_root or (Path(found["data_root"]) if found.get("data_root") else None)
        self.run = Run(suite=self.expected.suite, folder=folder, data_root=root, device=self.device)
        self.records = dict(self._records())
        finished = [
            (trial, s) for trial, found in sorted(self.records.items()) for kind, s in found if kind == "trained"
        ]
        if not finished:
            raise AlbenchError(f"{folder}: no finished stage is recorded yet")
        self.chosen = sorted(random.Random(seed).sample(finished, min(stages, len(finished))))
        self._require_names()
        self.differing = _differing([*sessions, manifest.session(self.device, [])])
        self._checked: set[str] = set()

    def basis(self) -> str:
        """What the comparison rests on, in words."""
        if not self.differing:
            return "the same CPU, versions and settings as in the run: every number must be the same, to the bit"
        tolerances = [
            f"{self.tolerance(task):.4g} in {facts['metric']} on {task}"
            for task, facts in self.manifest["tasks"].items()
            if any(trial.task == task for trial, _ in self.chosen)
        ]
        return (
            f"not as in the run: {'; '.join(self.differing)}. Rounding then differs, and training makes it grow, at "
            f"most like another seed: the tolerance is 3√2 times the usual standard deviation over the run's seeds: "
            f"{', '.join(tolerances)}. Selections of strategies that look at the model are shown, not judged"
        )

    def repeat(self, progress: Progress) -> Iterator[Repeated]:
        """Repeat the chosen stages one by one."""
        with self.run.suite.numerics.in_force():
            for trial, stage in self.chosen:
                with tempfile.TemporaryDirectory(prefix="albench-verify-") as place:
                    try:
                        yield self._repeated(trial, stage, Store(Path(place)), progress)
                    except AlbenchError as error:
                        yield Repeated(trial, stage, [f"it cannot be repeated: {error}"])

    def tolerance(self, task: str) -> float:
        """How far a task's metric may be off elsewhere; with one seed alone, from the size of the test set.

        The median over strategies and stages, so that a wrong record does not widen the bound that it is held to.
        """
        metric = self.manifest["tasks"][task]["metric"]
        groups: dict[tuple[str, int], list[float]] = {}
        for trial, records in self.records.items():
            for (kind, stage), record in records.items():
                if trial.task == task and kind == "trained" and metric in record["metrics"]:
                    groups.setdefault((trial.strategy, stage), []).append(record["metrics"][metric])
        spreads = [np.std(values, ddof=1) for values in groups.values() if len(values) > 1]
        usual = float(np.median(spreads)) if spreads else 0.0
        return WIDE * (usual or math.sqrt(0.25 / max(1, self.manifest["tasks"][task]["test"])))

    def _records(self) -> Iterator[tuple[Trial, dict[tuple[str, int], Record]]]:
        for trial in self.store.trials():
            if self.expected.has(trial):
                yield trial, {(r["kind"], r["stage"]): r for r in self.store.records(trial)}

    def _require_names(self) -> None:
        """Tasks, strategies and companions of plug-ins are run only where the user names the file."""
        suite = self.run.suite
        for trial, _ in self.chosen:
            try:
                registry.tasks.get(suite.tasks[trial.task].task or trial.task)
                if trial.strategy == CEILING:
                    continue
                entry = suite.strategies[trial.strategy]
                registry.strategies.get(entry.strategy or trial.strategy)
                if entry.companion is not None:
                    registry.companions.get(entry.companion)
            except AlbenchError as error:
                plugins = ", ".join(self.manifest.get("plugins", {}))
                tip = (
                    f" The run had the plug-ins {plugins}: name one with --plugin, if you trust it." if plugins else ""
                )
                raise AlbenchError(f"{str(error).partition(' There are:')[0]}{tip}") from error

    def _repeated(self, trial: Trial, stage: int, store: Store, progress: Progress) -> Repeated:
        records, differing = self.records[trial], list(self.differing)
        run = Run(suite=self.run.suite, folder=store.folder, data_root=self.run.data_root, device=self.device)
        fingerprint = self.manifest["tasks"][trial.task]["fingerprint"]
        again = trial_run(run, trial, fingerprint, progress)
        self._check_data(trial.task, again.setup.data, fingerprint)
        self._lend(trial, again, store)
        current, labelled = _stage(again, records, stage)
        recorded = records["trained", stage]
        here = recorded["device"] == "cpu" and self.device == "cpu"
        if here and not differing and current.identity != recorded["identity"]:
            return Repeated(trial, stage, ["the record is of a training on something else; see `albench doctor`"])
        new = {"identity": current.identity, **current.record()}
        if new.get("scoring_batch") != recorded.get("scoring_batch", new.get("scoring_batch")):
            differing.append("another scoring batch, for want of GPU memory")
        exact = not differing
        found = Repeated(trial, stage, [], [])
        metric = again.setup.task.metric
        if exact:
            _compare_exactly(recorded, new, ("metrics", "objective", "descent", "updates"), found)
            if lost := sorted(recorded["metrics"].keys() - new["metrics"].keys()):
                found.remarks.append(f"{', '.join(lost)}: recorded, and not measured by this albench")
            self._compare_outcomes(recorded["identity"], store.outcomes(current.identity), found)
        else:
            self._compare_metric(trial.task, recorded["metrics"][metric], new["metrics"][metric], found)
        found.remarks.append(f"{metric} {new['metrics'][metric]:.4f}")
        self._compare_selection(again, current, labelled, exact, found)
        return found

    def _check_data(self, task: str, data: Data, fingerprint: str) -> None:
        if task not in self._checked:
            if data.fingerprint() != fingerprint:
                raise AlbenchError(f"the data of task {task!r} are not those of the run; see --data-root")
            self._checked.add(task)

    def _lend(self, trial: Trial, again: TrialRun, store: Store) -> None:
        """The records of the trial that this one's strategy follows."""
        leader = again.strategy().follows()
        if leader is not None:
            name = Path("trials") / f"{Trial(trial.task, leader, trial.seed)}.jsonl"
            if (self.store.folder / name).is_file():
                (store.folder / "trials").mkdir()
                shutil.copy2(self.store.folder / name, store.folder / name)

    def _compare_metric(self, task: str, old: float, new: float, found: Repeated) -> None:
        if not abs(new - old) <= self.tolerance(task):
            found.differences.append(f"{old:.4f} was recorded, {new:.4f} now, which is beyond the tolerance")
        else:
            found.remarks.append(f"off by {abs(new - old):.2g}, within the tolerance")

    def _compare_outcomes(self, identity: str, new: dict[str, np.ndarray], found: Repeated) -> None:
        if not (self.store.folder / "trained").is_dir():
            return
        old = self.store.outcomes(identity)
        for name in sorted(old):  # a newer version may keep more
            if name not in new or not _equal(old[name], new[name]):
                found.differences.append(f"outcomes {name!r} per test sample differ")

    def _compare_selection(
        self, again: TrialRun, current: Stage, labelled: torch.Tensor, exact: bool, found: Repeated
    ) -> None:
        records = self.records[again.trial]
        old = records.get(("selected", current.number))
        if old is None:
            if exact and (end := records.get(("finished", current.number))) is not None:
                _compare_exactly(end, {"diagnosis": again.diagnose(current)}, ("diagnosis",), found)
            return
        new = again.select(current, labelled)
        common = len({*old["indices"]} & {*new["indices"]})
        said = f"{common} of {len(old['indices'])} selected samples are the same"
        if (exact or not again.strategy().observes()) and new["indices"] != old["indices"]:
            found.differences.append(said if common < len(old["indices"]) else "the selection's order differs")
        found.remarks.append(said)
        if exact:
            _compare_exactly(old, new, ("diagnosis", "character"), found)


def _stage(again: TrialRun, records: dict[tuple[str, int], Record], stage: int) -> tuple[Stage, torch.Tensor]:
    """The stage as it was recorded, not trained yet, and its labels in the order in which they were selected."""
    labelled, current = initial_set(again.setup, again.plan), None
    for number in range(stage + 1):
        current = Stage(again, number, labelled, current)
        if number < stage:
            try:
                indices = records["selected", number]["indices"]
            except KeyError:
                raise AlbenchError(f"its stage {number} has no selection; see `albench doctor`") from None
            labelled = torch.cat([labelled, torch.tensor(indices, dtype=torch.long)])
    assert current is not None
    return current, labelled


def _compare_exactly(old: Record, new: Record, names: tuple[str, ...], found: Repeated) -> None:
    """Where two records have other numbers; what the older one did not keep yet is not compared."""
    for name in names:
        for path, (one, other) in _leaves(old.get(name), new.get(name), name) if name in old else []:
            if one != other and not (one != one and other != other):
                found.differences.append(f"{path}: {one!r} was recorded, {other!r} now")
                return


def _leaves(old: Any, new: Any, path: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() & new.keys()):
            yield from _leaves(old[key], new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from _leaves(*pair, f"{path}[{number}]")
    else:
        yield path, (old, new)


def _equal(old: np.ndarray, new: np.ndarray) -> bool:
    return np.array_equal(old, new, equal_nan=old.dtype.kind == "f" and new.dtype.kind == "f")


def _differing(sessions: list[Record]) -> list[str]:
    """What was not the same in all sessions and now: 'torch 2.11.0, 2.15.0'."""
    found = []
    for name in CIRCUMSTANCES:
        values = list(dict.fromkeys(str(session.get(name)) for session in sessions))
        if name == "device":
            values = list(dict.fromkeys(value.partition(":")[0] for value in values))
        if len(values) > 1:
            found.append(f"{name} {', '.join(values)}")
    if any(s.get("device", "cpu") != "cpu" and not s.get("deterministic") for s in sessions):
        found.append("a GPU without deterministic algorithms")
    return found
