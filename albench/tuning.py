"""Tuning that a comparison can bear: on random selection alone, at the start budget, its validation labels counted.

Candidates are compared on the first K labels that random selection gives (those of stage 0): a part of them is held
out to measure on, so that nothing beyond the start budget is ever looked at, neither the test set nor another label.
Seeds are the trials' from 100 on, which no suite uses.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import pandas as pd
import torch

from albench import training
from albench.analysis.curves import t_interval
from albench.cycle import initial_set
from albench.devices import pick_device
from albench.errors import AlbenchError
from albench.evaluation import measured
from albench.seeds import generator
from albench.store import CEILING, Trial
from albench.suite import resolve
from albench.suite_file import parse_setting
from albench.worker import Run, trial_run

FIRST_SEED = 100


def combinations(tries: list[str]) -> Iterator[tuple[str, ...]]:
    """Every combination of settings from lists of values.

    >>> list(combinations(["recipe.learning_rate=[0.1, 0.3]", "recipe.schedule=['cosine']"]))
    [('recipe.learning_rate=0.1', 'recipe.schedule="cosine"'), ('recipe.learning_rate=0.3', 'recipe.schedule="cosine"')]

    Raises:
        AlbenchError: a setting whose value is no list.
    """
    choices = []
    for setting in tries:
        key, values = parse_setting(setting)
        if not isinstance(values, list) or not values:
            raise AlbenchError(f"--try {setting!r}: give a list of values, for example recipe.learning_rate=[0.03,0.1]")
        choices.append([f"{'.'.join(key)}={json.dumps(value)}" for value in values])
    return product(*choices)


def tune(
    planned: Callable[[tuple[str, ...]], Run],
    task: str,
    tries: list[str],
    seeds: int = 3,
    holdout: float = 0.2,
    so_far: Callable[[pd.DataFrame], None] = lambda table: None,
) -> pd.DataFrame:
    """Train every combination on the first labels less the held-out share, and measure it on that share.

    planned: settings → the run with them (its strategies play no part). Returns one row a combination and seed, in
    order: settings (text), seed, labels (those that were looked at), held (of them, to measure on), value (of the
    task's metric), higher_is_better (of that metric);
    `so_far` is given the rows after every training, so that none is lost to what comes after it.

    Raises:
        AlbenchError: a wrong setting, no such task in the suite, or a share that leaves nothing to train or measure on.
    """
    if not 0 < holdout < 1:
        raise AlbenchError(f"--holdout {holdout}: give a share between 0 and 1, such as 0.2")
    rows = []
    for settings in combinations(tries):
        run = planned(settings)
        device = pick_device(run.device)
        run = replace(run, suite=resolve(run.suite, device), device=device)
        if task not in run.suite.tasks:
            raise AlbenchError(f"the suite has no task {task!r}; it has: {', '.join(run.suite.tasks)}")
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            rows.append((", ".join(settings), seed, *_measured(run, task, seed, holdout)))
            so_far(_table(rows))
    return _table(rows)


def _table(rows: list[tuple[str, int, int, int, float, bool]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["settings", "seed", "labels", "held", "value", "higher_is_better"])


def _measured(run: Run, task: str, seed: int, holdout: float) -> tuple[int, int, float, bool]:
    setup = trial_run(run, Trial(task, CEILING, seed), "").setup  # plainly trained, without any companion
    first = initial_set(setup, run.plan(task))
    first = first[torch.randperm(len(first), generator=generator(*setup.axes, "tuning"))]
    held = round(holdout * len(first))
    if not 0 < held < len(first) - 1:
        raise AlbenchError(f"--holdout {holdout}: of {len(first)} labels it leaves nothing to measure or to train on")
    with run.suite.numerics.in_force():
        fitted, _ = training.fit(setup, 0, first[held:])
        metrics, _ = measured(setup, fitted.model, setup.data.pool, first[:held])
    return len(first), held, metrics[setup.task.metric], setup.task.higher_is_better


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """A row a combination, best mean first; of equal means the one that was named first.

    Columns: settings, mean, std (over seeds), seeds, held (samples that a seed was measured on); difference (to the
    best, paired by seed), low, high (its 95 % t interval, of this comparison alone; NaN for one seed), tied: it cannot
    be told from the best, as the interval holds 0, or there is none, or it has no breadth (few samples, few values).
    """
    seeds = table.groupby("settings", sort=False)
    rows = seeds.agg(mean=("value", "mean"), std=("value", "std"), seeds=("value", "count"), held=("held", "min"))
    higher = bool(table["higher_is_better"].all())
    rows = rows.sort_values("mean", ascending=not higher, kind="stable").reset_index()
    values = table.pivot(index="seed", columns="settings", values="value")
    for place, settings in enumerate(rows["settings"]):
        difference = (values[settings] - values[rows["settings"].iloc[0]]).to_numpy()
        low, high = t_interval(difference) if place else (float("nan"), float("nan"))
        rows.loc[place, ["difference", "low", "high"]] = difference.mean(), low, high
    behind = rows["high"] < 0 if higher else rows["low"] > 0
    rows["tied"] = (rows.index > 0) & ~(behind & (rows["low"] < rows["high"]))
    return rows


def verdict(table: pd.DataFrame) -> str:
    """Whether the best combination can be told from the others, in a sentence; '' where there is only one."""
    rows = ranked(table)
    tied = list(rows.loc[rows["tied"], "settings"])
    if len(rows) < 2:
        return ""
    seeds, held = int(rows["seeds"].min()), int(rows["held"].iloc[0])
    measured = f"{seeds} {'seed' if seeds == 1 else 'seeds'} of {held} held-out samples"
    if not tied:
        return f"With {measured} the best is told from all others (paired t, 95% each, unadjusted)."
    first = next(s for s in table["settings"] if s in (rows["settings"].iloc[0], *tied))
    return (
        f"With {measured} the best cannot be told from {'; '.join(tied)}: the first that was tried, {first}, will do."
    )


def sentence(table: pd.DataFrame, holdout: float) -> str:
    """What a suite's `tuning` key should say of it."""
    rows, labels, held = ranked(table), table["labels"].iloc[0], table["held"].iloc[0]
    first, last = table["seed"].min(), table["seed"].max()
    seeds = f"seed {first}" if first == last else f"seeds {first}-{last}"
    tied = list(rows.loc[rows["tied"], "settings"])
    others = f", not told from {'; '.join(tied)}" if tied else ", told from all others" if len(rows) > 1 else ""
    return (
        f"{rows['settings'].iloc[0]}: best of {len(rows)} combinations on random's first {labels} labels, "
        f"{holdout:.0%} of them ({held}) held out to measure on, {seeds}{others}."
    ).replace('"', "'")  # it stands in a TOML string
