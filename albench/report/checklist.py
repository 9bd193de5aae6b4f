"""What a reviewer asks of a comparison, answered from the manifest and the results."""

from typing import Literal

import numpy as np
import pandas as pd

from albench.analysis.curves import not_finite
from albench.analysis.selections import companion_pairs
from albench.errors import AlbenchError
from albench.report import beside
from albench.report.beside import plain
from albench.report.blocks import Checklist, Item
from albench.report.runs import Run, Unfinished
from albench.report.words import count, listed

FEW = 5  # seeds below which a paired test decides only what is very large
LISTED = 4


def checklist(
    run: Run, missing: list[Unfinished], saturated: list[str], title: str = "Reviewer's checklist"
) -> Checklist:
    """What a reviewer asks of a comparison, answered from the manifest and the results.

    missing: `run.shortfall()`; saturated: one sentence per curve that has reached its task's ceiling.
    """
    items = [
        _kind(run),
        _primary(run),
        _seeds(run),
        _growth(run),
        _complete(run, missing),
        pairing(run),
        Item(
            "stated",
            "Test set",
            "The engine measures on it after each training and shows it to no strategy. That recipes and parameters "
            "were not chosen on it is the suite's to say (see Tuning); a report cannot check it.",
        ),
        _protocol(run),
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


def _primary(run: Run) -> Item:
    text = (
        f"AUBC against {run.reference}, paired t, Holm over {count(len(run.compared), 'comparison')} a task, "
        f"α = {run.alpha:g}, smallest effect of interest {run.effect:g}: kept in the manifest since the first trial; a "
        "run with another setting is refused."
    )
    if run.reference not in run.strategies:
        return Item("missing", "Primary test", f"The reference {run.reference} is not among the strategies. {text}")
    return Item("ok", "Primary test", text)


def _seeds(run: Run) -> Item:
    seeds, planned = run.suite["seeds"], run.planned["seeds"]
    text = f"{count(planned, 'seed')} planned"
    if seeds > planned:
        return Item(
            "attention",
            "Seeds",
            f"{text}, {seeds - planned} added later: looking before adding raises the rate of false positives, so "
            "p-values over all seeds are not at their nominal level.",
        )
    few = few_seeds(seeds)
    return Item("attention", "Seeds", f"{text}: {few}") if few else Item("ok", "Seeds", f"{text}, none added.")


def few_seeds(seeds: int) -> str:
    """What so few seeds cannot tell; '' for enough of them."""
    if seeds == 1:
        return "nothing can be told from chance."
    return "few. Only very large differences can be told from chance." if seeds < FEW else ""


def _growth(run: Run) -> Item:
    """Stages and strategies that came after the first session."""
    if "strategies" not in run.planned:
        return Item("missing", "Plan", "An older albench: whether stages or strategies were added later was not kept.")
    stages = run.suite["stages"] - run.planned["stages"]
    added = [label for label in run.strategies if plain(label) not in run.planned["strategies"]]
    parts = [count(stages, "stage")] * (stages > 0) + [listed(added)] * bool(added)
    if not parts:
        return Item("ok", "Plan", "No stage and no strategy came after the first session.")
    return Item(
        "attention",
        "Plan",
        f"Added after the first session: {listed(parts)}. Whoever looks before adding may stop where chance is kind, "
        "and no corrected p-value allows for that.",
    )


def _complete(run: Run, missing: list[Unfinished]) -> Item:
    failed = f", {len(run.failures):,} failed" if run.failures else ""
    if missing or failed:
        return Item("attention", "Trials", f"{len(missing):,} of {run.trials:,} not finished{failed}: see below.")
    return Item("ok", "Trials", f"All {run.trials:,} finished, none failed.")


def pairing(run: Run) -> Item:
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


def _protocol(run: Run) -> Item | None:
    """Whether tasks that name published curves keep to their protocol."""
    said, otherwise = [], False
    for task in run.tasks:
        found = beside.publication(run, task)
        if not isinstance(found, beside.Publication) or not found.source.protocol:
            continue
        try:
            _, lines = beside.protocol(found, task)
        except AlbenchError:  # the task's section says why
            continue
        otherwise = otherwise or bool(lines)
        how = f"differs from {found.source.protocol} in {count(len(lines), 'setting')}"
        said.append(f"{task} {how if lines else f'keeps to {found.source.protocol}'}")
    if not said:
        return None
    where = " They are listed beside the published curves." if otherwise else ""
    return Item("attention" if otherwise else "ok", "Protocol", f"{'; '.join(said)}.{where}")


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
    there = set(run.primary()["strategy"])
    named = listed([f"{ours} against {plain}" for ours, plain in pairs])
    lacking = sorted({label for pair in pairs for label in pair} - there)
    text = f"The same selection with and without a companion: {named}"
    if lacking:
        return Item("missing", "Controls", f"{text}. Nothing was measured yet of {listed(lacking)}.")
    return Item("ok", "Controls", f"{text}.")


def _cheats(run: Run) -> Item | None:
    if not run.cheats:
        return None
    return Item(
        "attention",
        "Hidden labels",
        f"{listed(run.cheats)} ⚠ {'selects' if len(run.cheats) == 1 else 'select'} by labels that nobody has; outside "
        "all corrected tests.",
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
    so_far = " that was measured so far" * bool(run.shortfall())
    return Item(state, "Ceiling", f"No mean curve comes to what the whole pool reaches, at any stage{so_far}.{without}")


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
        text += f" {count(notes, 'note')} on the data: see the tasks."
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
    doubts = []
    if len(commits) > 1:
        doubts.append("sessions ran different code, and whether that changed a number is not checked")
    if any(changed for _, changed in commits):
        doubts.append("local changes are in no commit, so nobody else has that code")
    why = f": {'; '.join(doubts)}" if doubts else ""
    return Item("attention" if doubts else "ok", "Code", f"albench at commit {named}{why}.{plugins}")
