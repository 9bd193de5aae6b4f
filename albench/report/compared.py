"""Two run folders side by side: what differs in how they were made, and what only one of them has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from albench.analysis.changes import changes
from albench.analysis.curves import per_seed
from albench.errors import AlbenchError
from albench.report.runs import Run, read, refuse_mixed

MADE_WITH = (
    *("albench", "python", "torch", "torchvision", "numpy", "pandas", "scipy", "scikit-learn"),
    *("platform", "cpu", "device", "gpu", "deterministic", "tf32"),
)


def compare(
    folder_a: Path, folder_b: Path, alpha: float = 0.05, mixed_devices: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """The table of `albench.analysis.changes.changes` for B − A, and what else is to be known, one line each.

    Raises:
        AlbenchError: a folder holds no run, both are the same, they have no task and strategy in common, or one's
            trials ran on different devices (`mixed_devices` allows it).
    """
    if folder_a.resolve() == folder_b.resolve():
        raise AlbenchError(f"{folder_a} is compared with itself; name two run folders")
    a, b = (read(folder, folder.resolve().name) for folder in (folder_a, folder_b))
    for run in (a, b):
        refuse_mixed(run, mixed_devices)
    metrics = {
        task: facts["metric"]
        for task, facts in a.tasks.items()
        if b.tasks.get(task, {}).get("metric") == facts["metric"]
    }
    paired = a.suite.get("seed", 0) == b.suite.get("seed", 0)
    table = changes(a.primary(*metrics), b.primary(*metrics), metrics, paired, alpha)
    if table.empty:
        raise AlbenchError(
            f"{folder_a} and {folder_b} have no task and strategy in common, measured at the same labels"
        )
    lines = [*_settings(a, b), *_circumstances(a, b), *_only(a, b, metrics, paired)]
    return table, lines


def _settings(a: Run, b: Run) -> Iterator[str]:
    """Where the suites differ, growth included."""
    from albench.suite import differences

    before, after = _known(a.suite), _known(b.suite)
    yield from (f"suite: {line}" for line in differences(before, after))
    for key in ("seeds", "stages"):
        if before.get(key) != after.get(key):
            yield f"suite: {key}: {before.get(key)} → {after.get(key)}"


def _known(suite: dict[str, Any]) -> dict[str, Any]:
    """A suite with the defaults of what an older version did not know yet; as it is where it is no suite of ours."""
    from pydantic import ValidationError

    from albench.suite import Suite

    try:
        return Suite.model_validate(suite).model_dump(mode="json")
    except ValidationError:
        return suite


def _circumstances(a: Run, b: Run) -> Iterator[str]:
    """Data, versions and machine of the last session of each."""
    for task in a.tasks.keys() & b.tasks.keys():
        if a.tasks[task].get("fingerprint") != b.tasks[task].get("fingerprint"):
            yield f"data of {task}: not the same (other fingerprints)"
    before, after = (run.sessions[-1] if run.sessions else {} for run in (a, b))
    for key in MADE_WITH:
        if before.get(key) != after.get(key):
            yield f"{key}: {before.get(key)} → {after.get(key)}"
    commits = [_commit(session) for session in (before, after)]
    if commits[0] != commits[1]:
        yield f"albench's commit: {commits[0]} → {commits[1]}"


def _commit(session: dict[str, Any]) -> str:
    git = session.get("git") or {}
    return git.get("commit", "none")[:10] + (" with changes" if git.get("changed") else "")


def _only(a: Run, b: Run, metrics: dict[str, str], paired: bool) -> Iterator[str]:
    """Tasks, strategies and seeds that only one run has, or that have no complete curve."""
    if not paired:
        yield "the suite seeds differ, so nothing is paired: Welch's t-test of all seeds"
    for one, other in ((a, b), (b, a)):
        for task in one.tasks:
            if task not in other.tasks:
                yield f"only {one.name} has task {task}"
            elif task not in metrics:
                yield f"task {task}: measured by another metric in {other.name}; not compared"
    scored = [_seeds(run) for run in (a, b)]
    for task in metrics:
        for own, others, name in ((scored[0], scored[1], a.name), (scored[1], scored[0], b.name)):
            for strategy, seeds in own.get(task, {}).items():
                theirs = others.get(task, {}).get(strategy)
                if theirs is None:
                    yield f"only {name} has {strategy} on {task}"
                elif paired and seeds - theirs:
                    listed = ", ".join(str(seed) for seed in sorted(seeds - theirs))
                    yield f"only {name} has seed {listed} of {strategy} on {task}, complete"


def _seeds(run: Run) -> dict[str, dict[str, set[int]]]:
    """Task → strategy → the seeds with a complete curve."""
    found: dict[str, dict[str, set[int]]] = {}
    for task in run.tasks:
        rows = run.primary(task)
        found[task] = {strategy: set() for strategy in rows["strategy"].unique()}
        whole = per_seed(rows).query("complete")
        for strategy, seed in zip(whole["strategy"], whole["seed"], strict=True):
            found[task][strategy].add(int(seed))
    return found
