"""A task's stored outcomes, measured again on resampled test sets: the basis of "another test set, too"."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from albench import registry
from albench.analysis.resampling import Values, another_test_set, sample_counts
from albench.errors import AlbenchError
from albench.report.runs import Run
from albench.report.words import count
from albench.store import Store
from albench.task import Task

REPLICATES = 200
FEWEST = 50  # draws below which an interval would say little
WORK = 10**9  # numbers of outcomes × draws that a report counts for a task: seconds
TRAININGS = 2_000  # files of outcomes that it reads for one
IDENTITY = re.compile(r"[0-9a-f]{32}")  # a stranger's table must not name files elsewhere


@dataclass
class Remeasured:
    """values: (strategy, seed) → metric [1 + replicates, stages] at the label counts `labelled`, whole curves only.

    notes: a sentence for everything that was left out, and why.
    """

    labelled: np.ndarray
    values: Values = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def other_test_sets(
    run: Run, task: str, replicates: int = REPLICATES, bounded: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """The table of `another_test_set` for one task (empty where outcomes are missing), and what was left out.

    bounded: make fewer draws, or none and say so, where that many would take longer than a report should.
    """
    if bounded and (reduced := affordable(run, task, replicates)) < replicates:
        if reduced < FEWEST:
            text = (
                f"{task}: the intervals for another test set would take longer than a report should (more than "
                f"{WORK:.0e} outcomes or {TRAININGS:,} files to read); "
                "albench.report.outcomes.other_test_sets computes them"
            )
            return another_test_set({}, np.array([]), run.reference), [text]
        replicates = reduced
    found = remeasured(run, task, replicates)
    return another_test_set(found.values, found.labelled, run.reference, 1 - run.alpha), found.notes


def affordable(run: Run, task: str, replicates: int) -> int:
    """How many draws WORK allows, from how many trainings there are and how long the outcomes of the first are."""
    places = _places(run.rows("trainings", task))
    if len(places) > TRAININGS:
        return 0
    for identity, folder in places.items():
        if IDENTITY.fullmatch(identity) and (folder / "trained" / f"{identity}.npz").is_file():
            try:
                longest = max(value.size for value in Store(folder).outcomes(identity).values())
            except (AlbenchError, ValueError):
                continue
            return min(replicates, WORK // max(1, longest * len(places)))
    return replicates  # nothing to read, and nothing to wait for


def _places(trainings: pd.DataFrame) -> dict[str, Path]:
    """Identity → the run folder that holds its outcomes; strategies that train alike share one."""
    folders = {folder: Path(folder) for folder in trainings["folder"].unique()}
    return dict(zip(trainings["identity"].astype(str), trainings["folder"].map(folders), strict=True))


def remeasured(run: Run, task: str, replicates: int = REPLICATES, seed: int = 0) -> Remeasured:
    """Read each training of a task once, and measure it on the same draws of test samples.

    What cannot be read or measured again is left out with a sentence; nothing here stops a report.
    """
    trainings = run.rows("trainings", task)
    found = Remeasured(np.sort(trainings["labelled"].unique()))
    if trainings.empty:
        found.notes.append(f"{task}: no trainings.csv says where outcomes lie; the run is of an older albench")
        return found
    try:
        rule = _task(run, task)
    except AlbenchError as error:
        found.notes.append(f"{task}: {error}")
        return found
    counts = sample_counts(int(run.tasks[task]["test"]), replicates, seed)
    reasons: list[str] = []
    measured: dict[str, np.ndarray] = {}
    for identity, folder in _places(trainings).items():
        try:
            measured[identity] = _measured(Store(folder), identity, rule, counts)
        except AlbenchError as error:
            reasons.append(str(error).replace(str(folder), folder.name))
    if reasons:
        every, lost = trainings["identity"].nunique(), len(reasons)
        which = "no training could be measured again" if lost == every else f"{lost} of {every} trainings left out"
        found.notes.append(f"{task}: {which}; the first: {reasons[0]}")
    _curves(run, task, trainings, measured, found)
    return found


def _task(run: Run, task: str) -> Task:
    facts = run.tasks[task]
    try:
        return registry.tasks.get(facts["task"])(**facts["entry"].get("params", {}))
    except AlbenchError:
        raise
    except Exception as error:  # whatever a third party's task does, the report has everything else to show
        raise AlbenchError(f"the task cannot be built ({type(error).__name__}: {error})") from error


def _measured(store: Store, identity: str, rule: Task, counts: np.ndarray) -> np.ndarray:
    if not IDENTITY.fullmatch(identity):
        raise AlbenchError(f"{identity!r} is no identity of a training")
    if not (store.folder / "trained" / f"{identity}.npz").is_file():
        raise AlbenchError(f"{store.folder} has no trained/{identity}.npz (outcomes are large, and often not copied)")
    outcomes = store.outcomes(identity)
    try:
        return np.asarray(rule.remeasure(outcomes, counts), float)
    except AlbenchError:
        raise
    except Exception as error:  # outcomes of another test set, or a third party's task
        raise AlbenchError(f"training {identity} cannot be measured again ({type(error).__name__}: {error})") from error


def _curves(run: Run, task: str, trainings: pd.DataFrame, measured: dict[str, np.ndarray], found: Remeasured) -> None:
    """Join the stages of each trial whose every stage was measured, and agrees with what the results say."""
    primary = run.primary(task).set_index(["strategy", "seed", "labelled"])["value"]
    differing = 0
    for _, rows in trainings.sort_values("labelled").groupby(["strategy", "seed"], sort=False):
        strategy, seed = str(rows["strategy"].iloc[0]), int(rows["seed"].iloc[0])
        if len(rows) < len(found.labelled) or not all(identity in measured for identity in rows["identity"]):
            continue
        values = np.stack([measured[identity] for identity in rows["identity"]], axis=1)
        recorded = [primary.get((strategy, seed, labelled), np.nan) for labelled in rows["labelled"]]
        if not np.allclose(values[0], recorded, atol=1e-6):
            differing += 1
            continue
        found.values[strategy, seed] = values
    if differing:
        left = f"{task}: {count(differing, 'trial')} left out"
        found.notes.append(f"{left}: outcomes that are not those of the results")
