"""What a summary says beside its verdicts: the selection's own part, what trials cost, what a decision needs."""

import numpy as np
import pandas as pd

from albench.analysis.curves import seed_scores
from albench.analysis.power import plan
from albench.analysis.selections import companion_pairs
from albench.analysis.significance import paired_t
from albench.report.checklist import training
from albench.report.numbers import interval, number, percent
from albench.report.runs import Run
from albench.report.tables import OWN
from albench.report.words import NAMED, count, some, unlearned

BASELINES = {"entropy": "entropy", "margin": "the margin", "trivial": "the trivial predictor"}
NO_STRATEGYS = ("seconds/diagnose", "seconds/compile")  # spent for the report, and once a process
ALIKE = 1.1  # trials that do the same work take no more than this times one another's seconds on a machine of their own
POWER = 0.8
SMALL = 0.001  # of a trial's training: what costs less is not told apart


def selection_effects(run: Run, task: str) -> pd.DataFrame:
    """What selecting brings where a companion is trained: a strategy's AUBC minus that of the reference's selection
    with the very same companion, paired by seed.

    Columns: strategy, control, mean, low, high (t interval at 1 − alpha), seeds; no rows without such a control.
    """
    scores = seed_scores(run.primary(task), run.tasks[task]["metric"])
    rows = []
    for control, plain in companion_pairs(run.strategies):
        for label in run.compared:
            alike = label != control and training(run, label) == training(run, control)
            if plain == run.reference and alike and {label, control} <= set(scores):
                test = paired_t((scores[label] - scores[control]).to_numpy(), 1 - run.alpha)
                rows.append((label, control, test.mean, test.low, test.high, test.n))
    table = pd.DataFrame(rows, columns=["strategy", "control", "mean", "low", "high", "seeds"])
    return table[table["seeds"] > 0]


def selection(effects: pd.DataFrame, alpha: float) -> str:
    """The part of the selection in a sentence; effects: of `selection_effects`, '' without any."""
    said = []
    for r in effects.to_dict("records"):
        between = f" ({count(int(r['seeds']), 'paired seed')}, so there is no interval)"
        if np.isfinite(r["low"]):
            zero = ", which includes 0" if r["low"] <= 0 <= r["high"] else ""
            between = interval(r["low"], r["high"]) + zero
        said.append(f"{r['strategy']} − {r['control']} is {number(r['mean'], 4, True)}{between}")
    if not said:
        return ""
    seeds = effects.loc[effects["low"].notna(), "seeds"]
    how = (
        f" ({percent(1 - alpha)} intervals, unadjusted, {count(int(seeds.min()), 'paired seed')})" if len(seeds) else ""
    )
    return (
        f"With the same companion trained beside the model, the AUBC of {'; '.join(said)}{how}: that is the part of "
        "the selection."
    )


def beaten_scores(results: pd.DataFrame) -> str:
    """Where a baseline orders the test losses better than a strategy's own score, paired by seed, at the last stage.

    results: tidy rows of one task; '' where no baseline's mean is above the score's.
    """
    rows = results[results["metric"].str.startswith("ranking-accuracy/test/")]
    better, untold = [], []
    for strategy, own in rows.groupby("strategy", sort=False):
        own = own[own["labelled"] == own["labelled"].max()]
        values = own.pivot_table(index="seed", columns=own["metric"].str.rpartition("/")[2], values="value")
        what = next((name for name in OWN if name in values), None)
        for name in BASELINES if what else ():
            if name not in values:
                continue
            test = paired_t((values[name] - values[what]).to_numpy())
            if not test.mean > 1e-9:
                continue
            amount = f"{number(test.mean, 3, True)}{interval(test.low, test.high, 3)}"
            if test.low > 0:
                better.append(f"by {BASELINES[name]} than by the {what} of {strategy} ({amount})")
            else:
                untold.append(f"{BASELINES[name]} from the {what} of {strategy} ({amount})")
    said = []
    if better:
        said.append(f"Where it was last measured, the test losses were ordered better {'; '.join(better)}.")
    if untold:
        said.append(f"Not told apart, though higher in the mean: {'; '.join(untold)}.")
    if said:
        said.append(f"In brackets: the paired difference of ranking accuracies, {percent(0.95)} interval over seeds.")
    return " ".join(said)


def cost(costs: pd.DataFrame, alike: dict[str, str]) -> str:
    """What a trial of each strategy took; '' where nothing was recorded.

    Only where the machine was not shared, which trials that do the same work show by like seconds: else their order
    is that of the load, and what is said is how the seconds within a trial divide. alike: strategy → a name of its
    training's work; costs: of whole trials.
    """
    seconds = costs[costs["metric"].str.startswith("seconds/") & ~costs["metric"].isin(NO_STRATEGYS)]
    if seconds.empty:
        return ""
    trials = seconds.pivot_table(index=["strategy", "seed"], columns="metric", values="value", aggfunc="sum")
    trials = trials.reindex(columns=["seconds/train", "seconds/observe", "seconds/select"]).join(
        trials.sum(axis=1).rename("all")
    )
    train = trials["seconds/train"]
    work = trials.index.get_level_values("strategy").map(alike)
    spread = train.groupby(work).agg(["min", "max", "size"])
    apart = spread[spread["max"] > ALIKE * spread["min"]]
    if apart.empty and (spread["size"] > 1).all():
        each = trials["all"].groupby("strategy").mean().sort_values()
        shown = each if len(each) <= NAMED else each.iloc[[0, -1]]
        between = ", " if len(shown) == len(each) else " to "
        return (
            f"A trial took (mean, training included): {between.join(f'{n} {_seconds(v)}' for n, v in shown.items())}."
        )
    choosing = trials[["seconds/observe", "seconds/select"]].sum(axis=1) / train
    parts = choosing.groupby("strategy").mean().dropna().sort_values()
    why = "A trial alone does not show whether the machine was shared, so seconds are not compared between strategies"
    if len(apart):
        least, most = apart.to_numpy()[(apart["max"] / apart["min"]).to_numpy().argmax(), :2]
        why = (
            f"Trials that do the same work trained for {_seconds(least)} to {_seconds(most)}: so seconds here tell the "
            "machine's load, too, and are not compared between strategies"
        )
    if parts.empty:
        return f"{why}."
    least, most = _share(parts.iloc[0]), _share(parts.iloc[-1])
    span = least if least == most else f"{least} ({parts.index[0]}) to {most} ({parts.index[-1]})"
    return f"{why}. Observing candidates and selecting took {span} of the seconds that the same trial trained."


def _share(part: float) -> str:
    return f"{100 * part:.1f}\u202f%" if part >= SMALL else "less than 0.1\u202f%"


def _seconds(value: float) -> str:
    return (
        f"{value:.1f}\u202fs"
        if value < 60
        else f"{value / 60:.1f}\u202fmin"
        if value < 3600
        else f"{value / 3600:.1f}\u202fh"
    )


def next_step(run: Run, task: str, rows: pd.DataFrame) -> str:
    """How many seeds would decide what is undecided; rows: `tables.summaries`. '' where all is decided.

    Planned for the smallest effect of interest, never for what was observed (see `analysis.power`).
    """
    rows = rows[rows["run"] == run.name]
    undecided = set(rows.loc[rows["verdict"] == "undecided", "strategy"])
    if not undecided or unlearned(rows):
        return ""
    metric, results = run.tasks[task]["metric"], run.primary(task)
    whole = plan(results, metric, run.reference, run.effect, run.alpha, POWER, run.cheats, run.compared)
    table = whole[whole["strategy"].isin(undecided) & (whole["pairs"] > 1)]
    if table.empty:
        return _no_spread(run, [name for name in whole["strategy"] if name in undecided])
    unknown = list(whole.loc[whole["pairs"] < 2, "strategy"])
    rest = f" Of {some(unknown)} no spread is known yet." if unknown else ""
    needed, found = table["seeds_needed"].max(), table["detectable"].max()
    aim = f"To tell a difference of {run.effect:g} in {percent(POWER)} of cases"
    if unknown:
        aim += f", by what is known of {some(list(table['strategy']))}"
    elif len(undecided) < len(whole):  # albench power plans for what is decided, too
        aim += f" for what is undecided ({some(list(table['strategy']))})"
    now = f"these find one of {found:.2g}"
    if needed <= table["pairs"].min():
        said = "these seeds are enough (albench power RUN_DIR): what is undecided is near that, or below it."
    elif np.isinf(needed):
        said = f"more than 1,000 seeds are needed ({now}): albench power RUN_DIR plans for other differences."
    else:
        said = f"plan {count(int(needed), 'seed')} ({now}): albench power RUN_DIR."
    return f"{aim}, {said}{rest}"


def _no_spread(run: Run, undecided: list[str]) -> str:
    """What to do where no undecided strategy has two seeds in common with the reference."""
    if (seeds := run.suite["seeds"]) < 2:
        return "One seed shows no spread to plan from: run three or more, then ask albench power RUN_DIR."
    have = "has" if len(undecided) == 1 else "have"
    return (
        f"Of the {seeds} seeds planned, {some(undecided)} {have} one in common with {run.reference} yet, which shows "
        "no spread to plan from: carry the run on, then ask albench power RUN_DIR."
    )
