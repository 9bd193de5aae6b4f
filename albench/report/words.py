"""What a report says in sentences; verdicts are those of the primary test and of nothing else."""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from albench.report.numbers import metric_name, number, p_value, percent
from albench.report.runs import Run
from albench.report.tables import NO_RESULT, higher, leader, matched, shown_to_learn

MANY = 10  # seeds, from which their standard error is known well
SMALL = 0.1  # of the seeds' standard error: what is below it does not widen an interval
NAMED = 5  # strategies that a sentence names at most
CHEATS = (
    "⚠ sees hidden labels: it selects by annotations that nobody would have before labelling. It shows what such "
    "knowledge would bring, is left out when a leader is named, and is not an upper bound."
)
CLOSING = (
    "AUBC is the mean height of a learning curve over its range of labels (see How to read this). Verdicts are those "
    "of the primary test, set before the run: better or worse than the reference; equivalent, where the difference is "
    "certainly smaller than what is of interest; undecided, where these seeds cannot tell, which does not mean equal."
)
HOW_TO_READ = (
    (
        "Learning curve",
        "The metric on the test set, which no strategy sees, against the number of labels that were bought. "
        "A strategy is better where its curve is higher at the same number of labels. The band is ± one standard "
        "deviation over seeds: how much single trials differ, not how well the mean is known.",
    ),
    (
        "AUBC",
        "Area under the budget curve: the mean height of the curve over its range of labels (trapezoids with the true "
        "spacing). It rewards being better early as well as late.",
    ),
    (
        "Paired difference",
        "Trials of one seed share the initial labelled set, the initial weights and the order of batches, whatever "
        "the strategy, so differences are taken seed by seed. The interval is the t interval of their mean; "
        "with few seeds it is wide, and it speaks of other seeds on this very test set. It is of one comparison alone, "
        "while verdicts are corrected for their number: the thin interval in the figure of the primary test is.",
    ),
    (
        "Another test set, too",
        "Where the outcomes of single test samples are stored, every trial is measured again on draws of the test "
        "samples with replacement, and a second interval counts that variance beside the seeds'. Where it is much "
        "wider, the test set is too small to tell. It holds for samples drawn from where these came from.",
    ),
    (
        "Ranking accuracy",
        "The share of pairs of samples that a score orders as their true losses do; one half is chance. It stands "
        "beside entropy, the margin of the two likeliest outcomes and a trivial predictor (mean intensity, or the "
        "number of objects) on the same model. Of a strategy that does not score, it is what the companion predicts.",
    ),
)


def listed(names: list[str]) -> str:
    """'a, b and c'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def some(names: list[str]) -> str:
    """Names in a sentence, the first few of many and how many more.

    >>> some(list("abcdefg"))
    'a, b, c, d, e and 2 more'
    """
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return listed([*names[:NAMED], *more])


def count(number_of: int, noun: str) -> str:
    """'1 seed', '3 seeds', '4 strategies'."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number_of:,} {noun if number_of == 1 else plural}"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending whole numbers: '0–2, 5'."""
    spans: list[list[int]] = []
    for whole in numbers:
        if spans and whole == spans[-1][-1] + 1:
            spans[-1][1:] = [whole]
        else:
            spans.append([whole])
    return ", ".join("–".join(map(str, span)) for span in spans)


def what_was_run(run: Run, missing: int) -> str:
    """One sentence on what a run is and how much of it is there."""
    done = run.trials - missing
    state = "all complete" if not missing else f"{done:,} of them complete, so this is a partial report"
    return (
        f"The run {run.name} compares {count(len(run.strategies), 'strategy')} ({listed(list(run.strategies))}) on "
        f"{count(len(run.tasks), 'task')} ({listed(list(run.tasks))}), with {count(run.suite['seeds'], 'seed')} and "
        f"{count(run.suite['stages'], 'stage')} each: {count(run.trials, 'trial')}, {state}."
    )


def finding(rows: pd.DataFrame, metric: str, alpha: float) -> str:
    """Who leads on a task of a run and by how much, at 1 − alpha; rows: of `tables.summaries`, one run's."""
    best = leader(rows)
    if best is None and rows["aubc_mean"].isna().all():
        return "no strategy has a complete curve of two stages or more yet."
    if best is None:
        return (
            f"no leader can be named: {rows['reference'].iloc[0]} has no complete curve to compare with seed by seed, "
            "and means over other seeds do not compare."
        )
    top = rows.loc[best].to_dict()
    if _flat(top):
        return f"all values of {metric_name(metric)} are {number(top['highest'])}, so no strategy leads."
    most, exceeds = ("highest", "exceeds") if higher(rows) else ("lowest", "is below")
    start = f"{top['strategy']} has the {most} mean AUBC of {metric_name(metric)}, {number(top['aubc_mean'])}"
    others = rows[~rows["cheats"] & rows["aubc_mean"].notna() & (rows.index != best)]
    if not matched(rows):
        return _seed_by_seed(top, others[others["difference"].notna()], metric, alpha)
    if top["strategy"] != top["reference"]:
        if not pd.notna(top["difference"]):
            return f"{start}; there is no reference with the same seeds to compare it with."
        return f"{start}, which is {_apart(top, alpha)}."
    if others.empty:
        return f"{start}; nothing else has a complete curve."
    second = others.sort_values("aubc_mean", ascending=higher(rows)).iloc[-1].to_dict()
    nearest = f"the nearest is {second['strategy']}, {_apart(second, alpha)}"
    return f"{start}; no other strategy {exceeds} this reference, {nearest}."


def _seed_by_seed(top: dict[Hashable, Any], others: pd.DataFrame, metric: str, alpha: float) -> str:
    """Who leads where strategies have not all the same seeds: their paired differences compare, their means do not."""
    why = "the strategies have not all the same seeds, so their mean AUBCs do not compare"
    of_metric = f"in the AUBC of {metric_name(metric)}"
    if top["strategy"] != top["reference"]:
        return f"seed by seed, {top['strategy']} leads {of_metric}, {_apart(top, alpha)}; {why}."
    if others.empty:
        return f"no other strategy has a complete curve of the same seed as {top['strategy']} yet."
    up = bool(top["higher_is_better"])
    second = others.sort_values("difference", ascending=up).iloc[-1].to_dict()
    return (
        f"seed by seed, no strategy {'exceeds' if up else 'is below'} {top['strategy']} {of_metric}, the nearest is "
        f"{second['strategy']}, {_apart(second, alpha)}; {why}."
    )


def _apart(row: dict[Hashable, Any], alpha: float) -> str:
    """How far a strategy is from its reference, paired by seed, and how certain that is."""
    seeds = count(int(row["pairs"]), "paired seed")
    certainty = f"({seeds}, so there is no interval)"
    if pd.notna(row["low"]):
        low, high = (number(row[side], 4, True) for side in ("low", "high"))
        certainty = f"({percent(1 - alpha)} interval {low} to {high}, {seeds}, p {p_value(row['p_holm'])} after Holm)"
        if row["verdict"] == "undecided" and row["low"] * row["high"] > 0:
            low, high = (number(row[f"verdict_{side}"], 4, True) for side in ("low", "high"))
            certainty += f"; corrected for the number of comparisons the interval is {low} to {high}"
    side = "above" if row["difference"] >= 0 else "below"
    return f"{number(abs(row['difference']))} {side} {row['reference']} {certainty}"


def lower_is_better(metric: str) -> str:
    """What a section says of an error or a loss before anything else."""
    return (
        f"Lower is better: {metric_name(metric)} is an error or a loss. A strategy is better where its curve is lower "
        "and its difference to the reference below 0; the reference's rise is how far its error fell."
    )


def so_far(rows: pd.DataFrame, planned: int) -> str:
    """Up to which number of labels strategies are compared, where that is not all; rows: `tables.summaries`."""
    reached = rows.loc[rows["seeds"] > 0, "labelled"].max() if len(rows) else planned
    if not reached < planned:
        return ""
    return f"Compared up to {reached:,.0f} of {planned:,} labels: not enough trials go further."


def over_seeds(table: pd.DataFrame) -> str:
    """What curves with bands show; table: `analysis.curves.curves`."""
    return "Mean ± one standard deviation over seeds." if table["n"].max() > 1 else "One seed."


def leading_verdict(rows: pd.DataFrame) -> str:
    """The primary test's word on the strategy with the best mean AUBC; '' where there is none.

    "equivalent" is no word for strategies of which none is shown to have learned anything after its first labels.
    """
    best = leader(rows)
    if best is None:
        return ""
    top = rows.loc[best].to_dict()
    word = str(top["verdict"]) if isinstance(top["verdict"], str) else ""
    if top["strategy"] == top["reference"]:
        others = set(rows["verdict"].dropna()) - {""}
        if others == {NO_RESULT}:
            return ""
        if others & {"undecided", NO_RESULT}:  # "not shown to be better" is no "not better"
            return "undecided"
        word = "none better" if others and "better" not in others else ""
        if others == {"equivalent"} and not shown_to_learn(top):
            word = "equivalent"
    if word == "equivalent" and not shown_to_learn(top):
        return "nothing learned" if _flat(top) else "no rise shown"
    return word


def verdicts(rows: pd.DataFrame, alpha: float) -> str:
    """What the primary test says of every strategy, in a sentence; '' where nothing was tested."""
    judged = rows[rows["verdict"].isin(("better", "worse", "equivalent", "undecided"))]
    if judged.empty:
        return ""
    parts = []
    judged = rows[rows["verdict"].isin((*judged["verdict"], NO_RESULT))]
    for word in ("better", "worse", "equivalent", "undecided", NO_RESULT):
        names = list(judged.loc[judged["verdict"] == word, "strategy"])
        if names:
            parts.append(f"{word}: {listed(names)}")
    references = " and ".join(dict.fromkeys(judged["reference"]))
    but = unlearned(rows) if judged["verdict"].eq("equivalent").any() else ""
    return f"Against {references} (paired t on AUBC, Holm at {alpha:g}), {'; '.join(parts)}.{' ' * bool(but)}{but}"


def unmeasured(run: Run, rows: pd.DataFrame) -> str:
    """Which planned strategies have no value on a task; '' where all have some."""
    missing = [label for label in run.strategies if label not in set(rows["strategy"])]
    return f"Nothing was measured yet of {listed(missing)}." if missing else ""


def unlearned(rows: pd.DataFrame) -> str:
    """Why it is not shown that there was anything for strategies to differ in; '' where it is, and for one seed."""
    said = []
    for r in rows.drop_duplicates("run").to_dict("records"):
        if _flat(r):
            said.append(f"All values are {number(r['highest'])}: nothing was learned that strategies could differ in.")
        elif pd.notna(r["rise_low"]) and not shown_to_learn(r):
            low, high = (number(r[end], 4, True) for end in ("rise_low", "rise_high"))
            said.append(
                f"But {r['reference']}'s own rise from its first to its last labels, {number(r['rise'], 4, True)} "
                f"({percent(0.95)} interval {low} to {high}), may be chance: it is not shown that anything was learned "
                "that strategies could differ in."
            )
    return " ".join(said)


def _flat(row: Mapping[Hashable, Any]) -> bool:
    """Whether all values of a task are one and the same."""
    return bool(row["lowest"] == row["highest"])


def another_test_set(rows: pd.DataFrame, alpha: float) -> str:
    """The intervals over seeds and test samples of what was judged, else of the leader or all; '' without any."""
    there = rows[rows["sampled_low"].notna() & ~rows["cheats"]]
    judged = there[there["verdict"].isin(("better", "worse"))]
    best = leader(rows)
    shown = next((rows for rows in (judged, there[there.index == best], there) if len(rows)), there)
    if shown.empty:
        return ""
    said = []
    for r in shown.head(NAMED).to_dict("records"):
        zero = ", which includes 0" if r["sampled_low"] <= 0 <= r["sampled_high"] else ""
        low, high = (number(r[side], 4, True) for side in ("sampled_low", "sampled_high"))
        said.append(f"{r['strategy']} {low} to {high}{zero}")
    draws = f"{shown['replicates'].min():.0f}"
    return (
        f"Had the test set been another one, too ({draws} draws of its samples), the {percent(1 - alpha)} interval of "
        f"the difference, unadjusted: {'; '.join(said)}"
        + (f"; {len(shown) - NAMED} more are in the table." if len(shown) > NAMED else ".")
        + _parts(shown)
    )


def _parts(rows: pd.DataFrame) -> str:
    """What the seeds and the test samples move the mean by, where one is plainly more; rows: with both's errors."""
    if (rows["sd_samples"] < SMALL * rows["sd_seeds"]).all():
        return " The test samples move the mean far less than the seeds do (standard errors in the table)."
    more = rows[rows["sd_samples"] > rows["sd_seeds"]]
    if more.empty:
        return ""
    errors = more[["strategy", "sd_samples", "sd_seeds"]].head(NAMED).itertuples(index=False)
    said = listed([f"{name} {number(samples)} against {number(seeds)}" for name, samples, seeds in errors])
    badly = "; from so few seeds theirs is badly known" * bool((more["sampled_pairs"] < MANY).any())
    return f" The test samples move the mean more than these seeds do (standard errors: {said}){badly}."


def joint_training(effects: pd.DataFrame, metric: str, alpha: float) -> str:
    """What training a companion does at the first stage; effects: `character.first_stage_effects`."""
    said = []
    for r in effects.to_dict("records"):
        between = f" ({count(int(r['seeds']), 'seed')}, so there is no interval)"
        if pd.notna(r["low"]):
            low, high = (number(r[end], 4, True) for end in ("low", "high"))
            zero = ", which includes 0" if r["low"] <= 0 <= r["high"] else ""
            between = f" ({percent(1 - alpha)} interval {low} to {high}{zero})"
        amount = f"changes {metric_name(metric)} by {number(r['mean'], 4, True)}"
        said.append(f"training {r['companion']} beside the model {amount}{between}")
    return f"Before anything is selected, {listed(said)}." if said else ""


def banner(runs: list[Run]) -> str | None:
    """The warning above a report of demonstrations."""
    shown = [run.name for run in runs if run.suite.get("demonstration")]
    if not shown:
        return None
    what = "" if len(shown) == len(runs) else f" ({listed(shown)})"
    return (
        f"A demonstration, not evidence{what}: this suite is sized to show the machinery in minutes. With its small "
        "tasks, few seeds and short training, the order of strategies says nothing about how they do elsewhere."
    )


def machine(run: Run) -> list[tuple[str, str]]:
    """Versions, devices and circumstances of a run's sessions; what differed between them is listed."""

    def values(key: str) -> str:
        found = [session.get(key) for session in run.sessions]
        return "; ".join(dict.fromkeys(str(value) for value in found if value is not None)) or "–"

    commits = dict.fromkeys(
        f"{git['commit'][:12]}{' with local changes' if git.get('changed') else ''}"
        for session in run.sessions
        if (git := session.get("git")) and git.get("commit")
    )
    rows = [
        ("started", values("started")),
        ("command", "; ".join(dict.fromkeys(" ".join(s.get("command", [])) for s in run.sessions)) or "–"),
        ("albench", values("albench") + (f" ({', '.join(commits)})" if commits else "")),
        ("Python, torch, torchvision", ", ".join(values(key) for key in ("python", "torch", "torchvision"))),
        ("device", values("device") + (f": {values('gpu')}" if values("gpu") != "–" else "")),
        ("processor", f"{values('cpu')}, {values('cores')} cores"),
        ("platform", values("platform")),
        ("plug-ins", ", ".join(run.plugins) or "none"),
    ]
    if len({(s.get("device"), s.get("gpu")) for s in run.sessions}) > 1:
        rows.append(("note", "sessions ran on different devices, which alone can change a ranking"))
    return rows


def switches(run: Run) -> list[tuple[str, str]]:
    """What the suite set, beside its tasks and strategies."""
    suite = run.suite
    more = {key: suite[key] - run.planned.get(key, suite[key]) for key in ("seeds", "stages")}
    later = {key: f", {number} of them added later" if number > 0 else "" for key, number in more.items()}
    rows = [
        ("suite", f"{suite['name']}: {suite['description']}" if suite.get("description") else suite["name"]),
        ("seeds", f"{suite['seeds']}{later['seeds']} (suite seed {suite.get('seed', 0)})"),
        ("stages", f"{suite['stages']}{later['stages']}"),
        ("training", "continues from the stage before" if suite.get("warm_start") else "from fresh weights each stage"),
        ("candidates", _candidates(run)),
        ("precision", suite.get("numerics", {}).get("precision", "–")),
        ("reference", f"{run.reference}, smallest effect of interest {suite.get('primary', {}).get('effect', '–')}"),
    ]
    return rows


def _candidates(run: Run) -> str:
    """What strategies choose from; task by task where they differ."""
    of_task = {task: facts["entry"].get("subset") for task, facts in run.tasks.items()}
    subsets = {task: run.suite.get("subset") if own is None else own for task, own in of_task.items()}
    said = {task: f"{n:,} drawn per stage" if n else "the whole unlabelled pool" for task, n in subsets.items()}
    if len(set(said.values())) <= 1:
        return next(iter(said.values()), "–")
    return "; ".join(f"{task}: {text}" for task, text in said.items())


def task_facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Data, model and protocol of a task."""
    entry = facts["entry"]
    names = facts.get("classes", [])
    initial, budget, subset = entry.get("initial"), entry.get("budget"), entry.get("subset")
    rows = [
        ("data", f"{facts['pool']:,} in the pool, {facts['test']:,} in the test set; {facts.get('source', '')}"),
        ("classes", f"{len(names)}: {', '.join(map(str, names))}"),
        ("metric", metric_name(facts["metric"])),
    ]
    if budget:
        candidates = f", from {subset:,} candidates" if subset else ""
        rows.append(("labels", f"{initial or budget:,} at first, then {budget:,} a stage{candidates}"))
    if facts.get("parameters"):
        rows.append(("model", f"{facts['parameters']:,} weights"))
    if entry.get("recipe"):
        rows.append(("recipe", compact(entry["recipe"])))
    if entry.get("params"):
        rows.append(("parameters", compact(entry["params"])))
    rows += [(f"companion {name}", compact(values)) for name, values in entry.get("companions", {}).items()]
    if facts.get("fingerprint"):
        rows.append(("fingerprint", facts["fingerprint"]))
    return rows


def compact(settings: dict[str, Any]) -> str:
    """'key value, key value', without what is not set."""
    return ", ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in settings.items()
        if value is not None and value != {} and value != []
    )
