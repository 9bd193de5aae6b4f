"""What a run did, as an author would write it: the methods paragraph, and what its curves come to."""

import numpy as np
import pandas as pd

from albench.report.checklist import pairing
from albench.report.runs import Run
from albench.report.words import count, listed, metric_name


def methods(run: Run) -> str:
    """The methods paragraph of a run, from its manifest."""
    suite, last = run.suite, run.sessions[-1] if run.sessions else {}
    start = "continuing from the stage before" if suite.get("warm_start") else "from fresh weights at each stage"
    tasks = "; ".join(f"{label}: {_protocol(run, label)}" for label in run.tasks)
    device = last.get("gpu") or last.get("cpu") or "an unknown processor"
    return (
        f"Strategies ({listed(list(run.strategies))}) were compared with albench {last.get('albench', '?')} (torch "
        f"{last.get('torch', '?')}, {device}) over {count(suite['seeds'], 'seed')} and "
        f"{count(suite['stages'], 'stage')}, training {start}. {tasks}. {_shared(run)}"
        "The confirmatory comparison is the area under the budget curve (AUBC, trapezoids with the true label spacing) "
        f"of each strategy against {run.reference}, by two-sided paired t-tests over seeds, corrected by Holm's method "
        f"at α = {run.alpha:g} within a task; differences are called equivalent where two one-sided tests place them "
        f"within ±{run.effect:g}.{_over_tasks(run)} All other tests are exploratory."
    )


def _shared(run: Run) -> str:
    if pairing(run).state == "attention":
        return "Not all strategies of a task and seed began alike (see the checklist: Pairing). "
    return (
        "For one task and seed all strategies share the first labelled set, the initial weights, the order of batches "
        "and that of the candidates. "
    )


def _protocol(run: Run, label: str) -> str:
    facts = run.tasks[label]
    entry, recipe = facts["entry"], facts["entry"].get("recipe") or {}
    budget, initial, subset = entry.get("budget"), entry.get("initial"), entry.get("subset")
    parts = [f"{metric_name(facts['metric'])} on {facts['test']:,} test samples, a pool of {facts['pool']:,}"]
    if budget:
        chosen = f" from {subset:,} random candidates" if subset else " from the whole unlabelled pool"
        parts.append(f"{initial or budget:,} random labels at first, then {budget:,} per stage{chosen}")
    length = f"{recipe['updates']:,} updates" if recipe.get("updates") else None
    length = length or (f"{recipe['epochs']:g} epochs" if recipe.get("epochs") else None)
    if length:
        rate = recipe.get("learning_rate")
        optimiser = f" of {recipe['optimiser']}" if recipe.get("optimiser") else ""
        batch = f", batch {recipe['batch']}" if recipe.get("batch") else ""
        parts.append(f"{length} per stage{optimiser}{batch}" + (f", learning rate {rate:g}" if rate else ""))
    return ", ".join(parts)


def _over_tasks(run: Run) -> str:
    """What the family-wise error rate does not cover; '' for a single task."""
    if len(run.tasks) < 2:
        return ""
    return (
        f" The error rate is controlled within each task; over the {len(run.tasks)} tasks together it is not, so the "
        "chance of some false positive grows with their number."
    )


def saturation(run: Run, task: str) -> list[str]:
    """A sentence on strategies whose mean final value is within the effect of interest of the ceiling, or above it."""
    top = run.ceiling_of(task)
    if not np.isfinite(top):
        return []
    rows = run.primary(task)
    begin, end = rows["labelled"].min(), rows["labelled"].max()
    if not begin < end or end < run.labels_planned(task):
        return []
    if abs(top) <= run.effect:
        return [
            f"On {task} training on the whole pool reaches {top:.2g}, which is below the smallest effect of interest: "
            "nothing was learned in which strategies could differ."
        ]
    first, last = (rows[rows["labelled"] == at].groupby("strategy", sort=False)["value"].mean() for at in (begin, end))
    above = last > top + run.effect
    if above.any():
        return [
            f"On {task}, {_they(last[above], 'ends', 'end')} above what the whole pool reached ({top:.4g}), which is "
            "no ceiling then: the recipe is too short for so many labels, or chance has its part."
        ]
    near = (last - top).abs() <= run.effect
    flat = near & ((first.reindex(last.index) - top).abs() <= run.effect)
    found = []
    if flat.any():
        found.append(
            f"On {task}, {_they(last[flat], 'is', 'are')} at the full-data ceiling with the first labels and with the "
            "last: this recipe makes no use of more."
        )
    if (near & ~flat).any():
        found.append(
            f"On {task}, {_they(last[near & ~flat], 'ends', 'end')} within {run.effect:g} of the full-data ceiling "
            f"({count(run.ceiling_seeds(task), 'training')}): with this recipe more labels are not likely to help."
        )
    return found


def _they(values: pd.Series, one: str, many: str) -> str:
    """The strategies that are the index of `values`, and a verb in their number."""
    return f"{listed([str(name) for name in values.index])} {one if len(values) == 1 else many}"
