"""Runs of one suite with different suite seeds as one run: more seeds, when a user says so."""

from dataclasses import replace
from typing import Any

import pandas as pd

from albench.errors import AlbenchError
from albench.report.runs import Run, joined
from albench.tables import TABLES

FREE = ("name", "description", "tuning", "seed", "seeds")  # what pooled suites may differ in
SHOWN = 5  # differences that a refusal names


def pool(runs: list[Run]) -> Run:
    """One run with the seeds of all, numbered on: seed s of a later run becomes s + the seeds before it.

    Pairing stays within a run, since all strategies of a seed are numbered alike. Seeds beyond those that the first
    run had planned count as added later.

    Raises:
        AlbenchError: the runs differ in their suite, data, metric or device, or have a suite seed in common, so that
            their seeds are the same trials.
    """
    first, parts, before = runs[0], [], 0
    for place, run in enumerate(runs):
        for earlier in runs[:place]:
            if lines := differences(earlier, run):
                more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
                raise AlbenchError(
                    f"{earlier.folder} and {run.folder} cannot be pooled, since they differ: "
                    f"{'; '.join(lines[:SHOWN])}{more}; without --pool they are shown side by side"
                )
            if earlier.suite.get("seed", 0) == run.suite.get("seed", 0):
                raise AlbenchError(
                    f"{earlier.folder} and {run.folder} cannot be pooled: both have the suite seed "
                    f"{run.suite.get('seed', 0)}, so their seeds are the same trials; run one with --set seed=1"
                )
        parts.append(_renumbered(run, before))
        before += run.suite["seeds"]
    tables: dict[str, Any] = {name: joined([part[name] for part in parts]) for name in TABLES}
    return replace(
        first,
        name=" + ".join(run.name for run in runs),
        suite=first.suite | {"seeds": before, "seed": " and ".join(str(run.suite.get("seed", 0)) for run in runs)},
        sessions=[session for run in runs for session in run.sessions],
        failures=[failure for run in runs for failure in run.failures],
        **tables,
    )


def _renumbered(run: Run, before: int) -> dict[str, pd.DataFrame]:
    tables = {name: getattr(run, name) for name in TABLES}
    return {name: table.assign(seed=table["seed"] + before) for name, table in tables.items()}


def differences(a: Run, b: Run) -> list[str]:
    """Where two runs of one suite are not repetitions of one another, one line each."""
    before, after = ({k: v for k, v in run.suite.items() if k not in FREE} for run in (a, b))
    lines = _changes(before, after, "")
    for task in a.tasks.keys() & b.tasks.keys():
        for key in ("fingerprint", "metric"):
            old, new = (run.tasks[task].get(key) for run in (a, b))
            if old != new:
                lines.append(f"{key} of {task}: {old!r} → {new!r}")
    return lines


def _changes(before: dict[str, Any], after: dict[str, Any], path: str) -> list[str]:
    found = []
    for key in sorted({*before, *after}):
        old, new = before.get(key, "absent"), after.get(key, "absent")
        if isinstance(old, dict) and isinstance(new, dict):
            found += _changes(old, new, f"{path}{key}.")
        elif old != new:
            found.append(f"{path}{key}: {old!r} → {new!r}")
    return found


def settings(runs: list[Run], task: str) -> list[str]:
    """What the first run of a task and each later one set otherwise for it: their curves may differ by that alone."""
    found = []
    for other in runs[1:]:
        sides = []
        for run in (runs[0], other):
            told = ("source", "price", "published")  # change no curve
            entry = {key: value for key, value in run.tasks[task]["entry"].items() if key not in told}
            switches = {key: run.suite.get(key) for key in ("stages", "warm_start", "subset", "numerics")}
            sides.append(entry | {key: value for key, value in switches.items() if key not in entry})
        lines = _changes(sides[0], sides[1], "")
        if lines:
            found.append(f"{runs[0].name} → {other.name}: {'; '.join(lines)}")
    return found
