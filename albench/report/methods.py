"""What a run did, as an author would write it and as a reviewer would ask: the methods paragraph and the checklist."""

from typing import Literal

import numpy as np
import pandas as pd

from albench.analysis.curves import not_finite
from albench.analysis.selections import companion_pairs
from albench.report.beside import plain
from albench.report.blocks import Checklist, Item
from albench.report.runs import Run
from albench.report.words import count, listed, metric_name

FEW = 5  # seeds below which a paired test decides only what is very large
LISTED = 4


def methods(run: Run) -> str:
    """The methods paragraph of a run, from its manifest."""
    suite, last = run.suite, run.sessions[-1] if run.sessions else {}
    start = "continuing from the stage before" if suite.get("warm_start") else "from fresh weights at each stage"
    tasks = "; ".join(f"{label}: {_protocol(run, label)}" for label in run.tasks)
    primary = suite.get("primary", {})
    device = last.get("gpu") or last.get("cpu") or "an unknown processor"
    return (
        f"Strategies ({listed(list(run.strategies))}) were compared with albench {last.get('albench', '?')} (torch "
        f"{last.get('torch', '?')}, {device}) over {count(suite['seeds'], 'seed')} and "
        f"{count(suite['stages'], 'stage')}, training {start}. {tasks}. {_shared(run)}"
        "The confirmatory comparison is the area under the budget curve (AUBC, trapezoids with the true label spacing) "
        f"of each strategy against {run.reference}, by two-sided paired t-tests over seeds, corrected by Holm's method "
        f"at α = {primary.get('alpha', 0.05):g} within a task; differences are called equivalent where two one-sided "
        f"tests place them within ±{primary.get('effect', 0.005):g}.{_over_tasks(run)} All other tests are exploratory."
    )


def _shared(run: Run) -> str:
    if _pairing(run).state == "attention":
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


def checklist(run: Run, missing: list[str], saturated: list[str], title: str = "Reviewer's checklist") -> Checklist:
    """What a reviewer asks of a comparison, answered from the manifest and the results.

    missing: `run.shortfall()`; saturated: one sentence per curve that has reached its task's ceiling.
    """
    items = [
        _kind(run),
        _primary(run),
        _seeds(run),
        _complete(run, missing),
        _pairing(run),
        Item(
            "stated",
            "Test set",
            "The engine measures on it after each training and shows it to no strategy. That recipes and parameters "
            "were not chosen on it is the suite's to say (see Tuning); a report cannot check it.",
        ),
        _tuning(run),
        _controls(run),
        _cheats(run),
        _ceiling(run, saturated),
        _finite(run),
        _data(run),
        _devices(run),
        _code(run),
    ]
    return Checklist(title, [item for item in items if item is not None])


def _kind(run: Run) -> Item | None:
    if not run.suite.get("demonstration"):
        return None
    return Item("attention", "Purpose", "A demonstration of the machinery: too small to be evidence for a strategy.")


def _over_tasks(run: Run) -> str:
    """What the family-wise error rate does not cover; '' for a single task."""
    if len(run.tasks) < 2:
        return ""
    return (
        f" The error rate is controlled within each task; over the {len(run.tasks)} tasks together it is not, so the "
        "chance of some false positive grows with their number."
    )


def _primary(run: Run) -> Item:
    primary = run.suite.get("primary", {})
    text = (
        f"AUBC against {run.reference}, paired t, Holm over {count(len(run.compared), 'comparison')} a task, "
        f"α = {primary.get('alpha', 0.05):g}, smallest effect of interest {primary.get('effect', 0.005):g}: kept in "
        f"the manifest since the first trial; a run with another setting is refused.{_over_tasks(run)}"
    )
    if run.reference not in run.strategies:
        return Item("missing", "Primary test", f"The reference {run.reference} is not among the strategies. {text}")
    return Item("ok", "Primary test", text)


def _seeds(run: Run) -> Item:
    seeds, planned = run.suite["seeds"], run.suite.get("planned_seeds", run.suite["seeds"])
    text = f"{count(planned, 'seed')} planned"
    if seeds > planned:
        return Item(
            "attention",
            "Seeds",
            f"{text}, {seeds - planned} added later: looking before adding raises the rate of false positives, so "
            "p-values over all seeds are not at their nominal level.",
        )
    if seeds == 1:
        return Item("attention", "Seeds", f"{text}: nothing can be told from chance.")
    if seeds < FEW:
        return Item("attention", "Seeds", f"{text}: few. Only very large differences can be told from chance.")
    return Item("ok", "Seeds", f"{text}, none added.")


def _complete(run: Run, missing: list[str]) -> Item:
    failed = f"{count(len(run.failures), 'trial')} failed" if run.failures else ""
    open_ = f"{count(len(missing), 'trial')} not finished" if missing else ""
    if failed or open_:
        return Item("attention", "Trials", f"{listed([x for x in (failed, open_) if x])} of {run.trials:,}: see below.")
    return Item("ok", "Trials", f"All {run.trials:,} finished, none failed.")


def _pairing(run: Run) -> Item:
    """Strategies that train alike must have equal first stages: read off the results, not taken on trust."""
    first = run.primary()
    first = first[first["stage"] == 0]
    trained = first["strategy"].map({label: training(run, label) for label in run.strategies})
    values = first.groupby([first["task"], trained, first["seed"]])["value"]
    groups = values.agg(strategies="size", finite="count", different=lambda values: values.nunique(dropna=False))
    groups = groups[(groups["strategies"] > 1) & (groups["finite"] > 0)]
    if groups.empty:
        return Item(
            "stated",
            "Pairing",
            "The engine gives all strategies of a seed the same first labels and weights; no two strategies that train "
            "alike have results at stage 0 by which that could be checked.",
        )
    wrong = int((groups["different"] > 1).sum())
    if wrong:
        return Item(
            "attention",
            "Pairing",
            f"Strategies that train alike differ at stage 0 for {wrong} of {len(groups)} tasks and seeds: these are "
            "not paired.",
        )
    return Item(
        "ok",
        "Pairing",
        f"Checked: strategies that train alike have equal results at stage 0, for {count(len(groups), 'group')} of "
        "task, companion and seed.",
    )


def training(run: Run, label: str) -> str:
    """What beside the seed decides a strategy's first stage: its companion, and that one's parameters."""
    entry = run.suite.get("strategies", {}).get(plain(label), {})
    return f"{run.strategies[label].get('companion')} {entry.get('companion_params') or ''}"


def _tuning(run: Run) -> Item:
    text = run.suite.get("tuning")
    if text:
        return Item("stated", "Tuning", f"{text.rstrip('.')}. (Stated by the suite, not checked.)")
    return Item("missing", "Tuning", "The suite does not say how its settings were chosen (its key “tuning”).")


def _controls(run: Run) -> Item | None:
    helped = {facts["companion"] for facts in run.strategies.values() if facts.get("companion")}
    if not helped:
        return None
    pairs = companion_pairs(run.strategies)
    controlled = {run.strategies[ours]["companion"] for ours, _ in pairs}
    if helped - controlled:
        return Item(
            "missing",
            "Controls",
            f"Trained with a companion ({listed(sorted(helped - controlled))}), but no selection was run with and "
            "without it: beyond the first stage, what training it costs or brings cannot be told from what the "
            "selection does. "
            f'Add a strategy such as {{ strategy = "random", companion = "{min(helped - controlled)}" }}.',
        )
    named = listed([f"{ours} against {plain}" for ours, plain in pairs])
    return Item("ok", "Controls", f"The same selection with and without a companion: {named}.")


def _cheats(run: Run) -> Item | None:
    cheats = [label for label, facts in run.strategies.items() if facts.get("cheats")]
    if not cheats:
        return None
    return Item(
        "attention",
        "Hidden labels",
        f"{listed(cheats)} ⚠ {'selects' if len(cheats) == 1 else 'select'} by labels that nobody has; outside all "
        "corrected tests.",
    )


def _ceiling(run: Run, saturated: list[str]) -> Item:
    lacking = [task for task in run.tasks if not np.isfinite(run.ceiling_of(task))]
    if len(lacking) == len(run.tasks):
        return Item(
            "missing", "Ceiling", "The tasks were not trained on their whole pools (the suite's key “ceiling”), so it "
            "cannot be seen whether curves have saturated."
        )  # fmt: skip
    without = f" Without a ceiling: {listed(lacking)}." if lacking else ""
    if saturated:
        return Item("attention", "Ceiling", " ".join(saturated) + without)
    state: Literal["ok", "missing"] = "missing" if lacking else "ok"
    return Item(state, "Ceiling", f"No mean curve has reached what training on the whole pool reaches.{without}")


def _finite(run: Run) -> Item | None:
    broken = pd.concat([not_finite(run.primary(task)) for task in run.tasks])
    if broken.empty:
        return None
    rows = [f"{r.task}, {r.strategy}, seed {r.seed}, stage {r.stage}" for r in broken.head(LISTED).itertuples()]
    more = f" and {len(broken) - LISTED} more" if len(broken) > LISTED else ""
    return Item("attention", "Finite", f"Not a number: {'; '.join(rows)}{more}; these curves are not counted.")


def _data(run: Run) -> Item:
    notes = sum(len(facts.get("notes", [])) for facts in run.tasks.values())
    small = [f"{label} ({facts['test']:,})" for label, facts in run.tasks.items() if facts["test"] < 200]
    unnamed = [label for label, facts in run.tasks.items() if not facts.get("fingerprint")]
    text = "Fingerprints of all pixels and annotations are in the manifest."
    if unnamed:
        text = (
            f"The manifest has no fingerprint of the data of {listed(unnamed)}: which data these were is not certain."
        )
    if notes:
        text += f" {count(notes, 'note')} on flaws of the data: see the tasks."
    if small:
        return Item("attention", "Data", f"{text} Small test sets: {listed(small)}; another one could turn the order.")
    return Item("attention" if unnamed else "ok", "Data", text)


def _devices(run: Run) -> Item:
    devices = run.devices()
    versions = {(s.get("torch"), s.get("torchvision")) for s in run.sessions}
    if len(devices) > 1:
        return Item("attention", "Device", f"Trained on {listed(devices)}: the model alone can change a ranking.")
    if len(versions) > 1:
        return Item("attention", "Device", f"One device, but several versions of torch: {sorted(versions, key=str)}.")
    return Item("ok", "Device", f"Trained on one kind of device ({listed(devices)}) with one version of torch.")


def _code(run: Run) -> Item:
    commits = {
        (g["commit"][:12], bool(g.get("changed"))) for s in run.sessions if (g := s.get("git") or {}).get("commit")
    }
    plugins = f" Plug-ins: {listed(run.plugins)}." if run.plugins else ""
    if not commits:
        released = dict.fromkeys(str(s.get("albench")) for s in run.sessions)
        return Item("ok", "Code", f"albench {listed(list(released))} as installed.{plugins}")
    named = listed([f"{commit}{' with local changes' if changed else ''}" for commit, changed in sorted(commits)])
    doubtful = len(commits) > 1 or any(changed for _, changed in commits)
    return Item("attention" if doubtful else "ok", "Code", f"albench at commit {named}.{plugins}")


def saturation(run: Run, task: str) -> list[str]:
    """A sentence on strategies whose mean final value is within the effect of interest of the ceiling, or above it."""
    top = run.ceiling_of(task)
    if not np.isfinite(top):
        return []
    rows = run.primary(task)
    begin, end = rows["labelled"].min(), rows["labelled"].max()
    if not begin < end or end < run.planned(task):
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
            f"On {task}, {_they(last[near & ~flat], 'ends', 'end')} at the full-data ceiling: with this recipe labels "
            "beyond cannot help."
        )
    return found


def _they(values: pd.Series, one: str, many: str) -> str:
    """The strategies that are the index of `values`, and a verb in their number."""
    return f"{listed([str(name) for name in values.index])} {one if len(values) == 1 else many}"
