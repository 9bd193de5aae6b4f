"""What a run did, as an author would write it: the methods paragraph, and what its curves come to."""

import numpy as np
import pandas as pd

from albench.analysis.curves import upright
from albench.report.checklist import pairing
from albench.report.numbers import metric_name, number
from albench.report.runs import Run
from albench.report.words import count, listed

CLOSE = 0.02  # of the reference's rise: a curve that near the ceiling has come to it


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
    if length := _length(run, label):
        rate = recipe.get("learning_rate")
        optimiser = f" of {recipe['optimiser']}" if recipe.get("optimiser") else ""
        batch = f", batch {recipe['batch']}" if recipe.get("batch") else ""
        parts.append(f"{length} per stage{optimiser}{batch}" + (f", learning rate {rate:g}" if rate else ""))
    return ", ".join(parts)


def _length(run: Run, label: str) -> str:
    """How long a stage trains: '140 updates', '20 epochs', or '' where the suite does not say."""
    recipe = run.tasks[label]["entry"].get("recipe") or {}
    if recipe.get("updates"):
        return f"{recipe['updates']:,} updates"
    return f"{recipe['epochs']:g} epochs" if recipe.get("epochs") else ""


def _over_tasks(run: Run) -> str:
    """What the family-wise error rate does not cover; '' for a single task."""
    if len(run.tasks) < 2:
        return ""
    return (
        f" The error rate is controlled within each task; over the {len(run.tasks)} tasks together it is not, so the "
        "chance of some false positive grows with their number."
    )


def saturation(run: Run, task: str) -> list[str]:
    """Sentences on strategies whose mean curve comes to the ceiling at any stage, or rises above it.

    To it: no further below than the smallest effect of interest, or than CLOSE of the reference's own rise.
    """
    sign = 1 if run.higher(task) else -1  # errors times −1, so that the best is the highest
    top, rows = sign * run.ceiling_of(task), upright(run.primary(task), run.higher(task))
    means = rows.groupby(["strategy", "labelled"], sort=False)["value"].mean().unstack("labelled").sort_index(axis=1)
    means = means.reindex([s for s in run.strategies if s in means.index]).dropna(how="all")
    if not np.isfinite(top) or means.shape[1] < 2 or means.empty:
        return []
    if sign > 0 and abs(top) <= run.effect:
        return [
            f"On {task} training on the whole pool reaches {top:.2g}, which is below the smallest effect of interest: "
            "nothing was learned in which strategies could differ."
        ]
    margin = max(run.effect, CLOSE * _rise(means, run.reference))
    best = means.max(axis=1)
    above, near = best > top + run.effect, best >= top - margin
    whole = rows["labelled"].max() >= run.labels_planned(task)
    flat = whole & ((means.iloc[:, [0, -1]] - top).abs() <= run.effect).all(axis=1) & ~above
    close = near & ~flat & ~above
    ceiling = f"({number(sign * top)}, {count(run.ceiling_seeds(task), 'training')})"
    recipe = f"the recipe ({length})" if (length := _length(run, task)) else "the recipe"
    shown, beyond = sign * means, "above" if sign > 0 else "below"
    found = []
    if above.any():
        found.append(
            f"On {task}, {_curves(shown[above], 'is', 'are', sign)} {beyond} what the whole pool reaches {ceiling}, "
            f"which is no ceiling then: {recipe} is too short for so many labels, or chance has its part."
        )
    if flat.any():
        found.append(
            f"On {task}, {_they(best[flat], 'is', 'are')} at the full-data ceiling with the first labels and with the "
            "last: this recipe makes no use of more."
        )
    if close.any():
        found.append(
            f"On {task}, {_curves(shown[close], 'has', 'have', sign)} come to what the whole pool reaches {ceiling}: "
            f"{recipe} bounds what labels can bring; more labels cannot be told from fewer there."
        )
    return found


def _rise(means: pd.DataFrame, reference: str) -> float:
    """How far the reference's mean curve rises above its first point; 0 where it does not."""
    curve = means.reindex([reference]).to_numpy(float)[0]
    curve = curve[np.isfinite(curve)]
    return float(curve.max() - curve[0]) if len(curve) else 0.0


def _curves(means: pd.DataFrame, one: str, many: str, sign: int) -> str:
    """'the mean curves of random (0.4988 at 2,000 labels) and entropy (…) have', with a verb in their number."""
    best = []
    for name, curve in means.iterrows():
        at = int(np.nanargmax(sign * curve.to_numpy(float)))
        best.append(f"{name} ({number(curve.iloc[at])} at {means.columns[at]:,} labels)")
    return f"the mean curve of {best[0]} {one}" if len(best) == 1 else f"the mean curves of {listed(best)} {many}"


def _they(values: pd.Series, one: str, many: str) -> str:
    """The strategies that are the index of `values`, and a verb in their number."""
    return f"{listed([str(name) for name in values.index])} {one if len(values) == 1 else many}"
