"""Many tasks at once: penalty matrix, win/tie/loss, probability of improvement, mean ranks with Friedman and Nemenyi.

No multiplicity control unless a function says so: these are shown beside the corrected tests of `comparison`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import betaincinv, stdtrit

from albench.analysis.curves import of_one_task, seed_scores, upright
from albench.analysis.resampling import FEWEST
from albench.analysis.significance import ROUNDING, differences
from albench.analysis.spans import shared
from albench.errors import AlbenchError

Direction = bool | Mapping[str, bool]  # whether a higher value is a better one: everywhere, or by task
VERDICTS = ["better", "equivalent", "undecided", "worse"]
SATURATED = 0.99  # of the reference's final value: budgets beyond it tell strategies apart no more


def penalty_matrix(
    results: pd.DataFrame,
    metrics: Mapping[str, str],
    reference: str = "random",
    alpha: float = 0.05,
    higher_is_better: Direction = True,
) -> pd.DataFrame:
    """How often each strategy (row) beats each other (column): the pairwise penalty matrix of Ash et al. (BADGE, 2020).

    Each task adds 1 / n for every one of its n budgets at which the row's paired t exceeds the 1 − alpha / 2 quantile
    (2.776 at 5 seeds); where all differences are equal, that is where they are above 0. Budgets: those of the
    reference, up to the first at which its mean is within 1 % of its final value, without the first one where all
    strategies share its values. Seeds: those with complete curves of both. A strategy that a task lacks gains and
    loses nothing there; tasks without rows are passed over.

    Args:
        metrics: task → metric. A task counts as one experiment.
        higher_is_better: False for errors and losses (a row beats a column by being below it); or task → which.

    Returns: matrix [k, k] of values from 0 to the number of tasks. How often a strategy is beaten is its column's mean,
    `matrix.mean()` (over all k rows; lower is better), also in `matrix.attrs["column_means"]`.

    Raises:
        AlbenchError: a task has no results of the reference.
    """
    rows = shared(upright(results[results["metric"] == results["task"].map(dict(metrics))], higher_is_better))
    names = list(rows["strategy"].unique())
    penalties = pd.DataFrame(0.0, index=names, columns=names)
    for task, own in rows.groupby("task", sort=False):
        cube, there = _complete_values(own, metrics[str(task)], reference)
        cube = cube[:, :, _informative(cube, there.index(reference))]
        if cube.shape[2]:
            beaten = np.stack([_beats(cube[i], cube, alpha).mean(1) for i in range(len(there))])
            penalties.loc[there, there] += beaten
    penalties.attrs["column_means"] = penalties.mean().to_dict()
    return penalties


def _complete_values(rows: pd.DataFrame, metric: str, reference: str) -> tuple[np.ndarray, list[str]]:
    """Values [k, seeds, budgets of the reference], NaN where a curve is not complete, and the names of the k."""
    scores = seed_scores(rows, metric)
    names = list(scores.columns)
    if reference not in names:
        raise AlbenchError(
            f"reference {reference!r}: no results on {rows['task'].iloc[0]}; there are {', '.join(names)}"
        )
    values = rows.pivot(index=["strategy", "seed"], columns="labelled", values="value")
    values = values[np.sort(rows.loc[(rows["strategy"] == reference) & rows["value"].notna(), "labelled"].unique())]
    stacked = values.reindex(pd.MultiIndex.from_product([names, scores.index])).to_numpy()
    cube = stacked.reshape(len(names), len(scores), -1)
    return np.where(scores.notna().to_numpy().T[:, :, None], cube, np.nan), names


def _informative(cube: np.ndarray, reference: int) -> slice:
    """The budgets of an experiment, see `penalty_matrix`."""
    complete = np.isfinite(cube[reference]).all(1)
    if not complete.any() or not cube.shape[2]:  # without a budget every seed passes for complete
        return slice(0, 0)
    mean = cube[reference][complete].mean(0)
    nearly = (SATURATED if mean[-1] >= 0 else 2 - SATURATED) * mean[-1]
    reached = int(np.argmax(np.append(mean >= nearly, True)))  # all, where no budget reaches it
    start = cube[:, :, 0]
    start = start[:, np.isfinite(start).any(0)]
    shared = np.nanmax(start, 0) - np.nanmin(start, 0) <= ROUNDING * np.nanmax(np.abs(start), 0)
    return slice(int(shared.all()), reached + 1)


def _beats(ours: np.ndarray, cube: np.ndarray, alpha: float) -> np.ndarray:
    """Whether values [R, B] are significantly above each of [k, R, B]: booleans [k, B]."""
    d = differences(ours, cube)
    valid = np.isfinite(d)
    n = valid.sum(1)
    d = np.where(valid, d, 0.0)
    mean = d.sum(1) / np.maximum(n, 1)
    squares = np.where(valid, (d - mean[:, None]) ** 2, 0.0).sum(1)
    sd = np.sqrt(squares / np.maximum(n - 1, 1))
    constant = sd <= ROUNDING * np.abs(d).max(1)
    critical = stdtrit(np.maximum(n - 1, 1), 1 - alpha / 2)
    return (n > 1) & (mean > 0) & (constant | (mean * np.sqrt(n) > critical * sd))


def win_tie_loss(table: pd.DataFrame) -> pd.DataFrame:
    """Verdicts counted over tasks, from rows of `against_reference` or `all_pairs` of several tasks put together.

    One row per strategy and reference (or a and b), in order of appearance, with the columns better, equivalent,
    undecided, worse. Strategies that were left out of the family (verdict "") count nowhere.
    """
    pair = ["strategy", "reference"] if "strategy" in table else ["a", "b"]
    counted = table.assign(count=1).pivot_table(
        index=pair, columns="verdict", values="count", aggfunc="sum", fill_value=0, sort=False
    )
    counted = counted.reindex(columns=VERDICTS, fill_value=0).astype(int)
    counted.columns.name = None
    return counted[counted.sum(axis=1) > 0].reset_index()


def probability_of_improvement(
    a: np.ndarray | Mapping[str, np.ndarray],
    b: np.ndarray | Mapping[str, np.ndarray],
    higher_is_better: Direction = True,
) -> float:
    """P(A > B) + P(A = B) / 2 over all pairs of a score of a and one of b (Agarwal et al. 2021); .5 is no difference.

    Given task → scores, pairs are made within each task that both have, and tasks weigh alike. Seeds are not matched
    here. Scores that are not finite are left out; NaN where nothing is left. higher_is_better: False for P(A < B); or
    task → which.
    """
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        a, b = {"": np.asarray(a)}, {"": np.asarray(b)}
    chances = []
    for task in [task for task in a if task in b]:
        ours, theirs = (np.asarray(side[task], float) for side in (a, b))
        above = ours[np.isfinite(ours), None] - theirs[np.isfinite(theirs)]
        if above.size:
            chances.append((_sign(higher_is_better, task) * np.sign(above).mean() + 1) / 2)
    return float(np.mean(chances)) if chances else np.nan


def improvement_interval(
    a: Mapping[str, pd.Series],
    b: Mapping[str, pd.Series],
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    higher_is_better: Direction = True,
) -> tuple[float, float]:
    """Percentile bootstrap (low, high) of `probability_of_improvement`, over the seeds within each task.

    a, b: task → scores indexed by seed; a draw takes the same seeds of both, since trials of one seed are paired.
    NaN where a task that both have holds fewer than ten common seeds: such a bootstrap covers 75 to 84 % at 3 to 5.
    """
    pairs = [
        _sign(higher_is_better, task) * pd.concat([a[task], b[task]], axis=1, join="inner").to_numpy(float)
        for task in a
        if task in b
    ]
    pairs = [both[np.isfinite(both).all(1)] for both in pairs]
    if not pairs or min(map(len, pairs)) < FEWEST:
        return np.nan, np.nan
    chances = []
    for both, weight in zip(pairs, _weights(tuple(map(len, pairs)), draws, seed), strict=True):
        above = (np.sign(both[:, :1] - both[:, 1]) + 1) / 2
        chances.append(((weight @ above) * weight).sum(1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.mean(chances, axis=0), [tail, 1 - tail])
    return float(low), float(high)


@lru_cache(maxsize=4)
def _weights(counts: tuple[int, ...], draws: int, seed: int) -> list[np.ndarray]:
    """For each of several samples, how much each of its values counts in each draw with replacement [draws, count]."""
    rng = np.random.default_rng(seed)
    return [rng.multinomial(count, np.full(count, 1 / count), draws) / count for count in counts]


def _sign(higher_is_better: Direction, task: str) -> int:
    return 1 if higher_is_better is True or (higher_is_better and higher_is_better.get(task, True)) else -1


def worse_than_reference(
    results: pd.DataFrame,
    metric: str,
    reference: str = "random",
    labelled: int | None = None,
    level: float = 0.95,
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """How often a strategy of one task is below the reference (of an error: above it) with the same seed at a number of
    labels (the last).

    Columns: strategy, labelled, pairs (seeds with finite values of both), worse (how many strictly are so), share,
    low, high (exact binomial interval, Clopper and Pearson 1934; NaN without pairs).

    Raises:
        AlbenchError: several tasks, or nothing of the reference was measured at that number of labels.
    """
    rows = upright(of_one_task(results, metric), higher_is_better)
    rows = shared(rows) if labelled is None else rows
    labelled = int(rows["labelled"].max()) if labelled is None and len(rows) else labelled
    values = rows[rows["labelled"] == labelled].pivot(index="seed", columns="strategy", values="value")
    if reference not in values:
        raise AlbenchError(f"reference {reference!r}: no results of {metric!r} at {labelled} labels")
    table = []
    for name in rows["strategy"].unique():
        if name != reference:
            ours = values[name] if name in values else values[reference] * np.nan
            d = differences(ours.to_numpy(), values[reference].to_numpy())
            pairs, worse = int(np.isfinite(d).sum()), int((d < 0).sum())
            share = worse / pairs if pairs else np.nan
            table.append((name, labelled, pairs, worse, share, *clopper_pearson(worse, pairs, level)))
    return pd.DataFrame(table, columns=["strategy", "labelled", "pairs", "worse", "share", "low", "high"])


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a share (Clopper and Pearson 1934); NaN without trials."""
    if not trials:
        return np.nan, np.nan
    tail = (1 - level) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)


def interquartile_mean(values: np.ndarray) -> float:
    """The mean of the middle half of the finite values of an array of any shape (Agarwal et al. 2021); NaN for none."""
    values = np.sort(np.asarray(values, float), axis=None)
    values = values[np.isfinite(values)]
    cut = len(values) // 4
    return float(values[cut : len(values) - cut].mean()) if len(values) else np.nan


def blocks_of_tasks(
    results: pd.DataFrame, metrics: Mapping[str, str], of: str = "aubc", higher_is_better: Direction = True
) -> pd.DataFrame:
    """Score table for `friedman`: tasks (rows) by strategies (columns), means over the seeds that all have completed.

    `metrics` maps tasks to metrics. NaN where a task lacks a strategy or a common seed. higher_is_better: False for
    errors and losses, or task → which; their scores are times −1, so that the highest of a row is the best.
    """
    results = upright(results, higher_is_better)
    blocks = {}
    for task, metric in metrics.items():
        scores = seed_scores(results[results["task"] == task], metric, of)
        if len(scores):
            blocks[task] = scores.dropna().mean()
    return pd.DataFrame(blocks).T.rename_axis(index="task", columns=None)


def blocks_of_seeds(
    results: pd.DataFrame, metric: str, of: str = "aubc", higher_is_better: bool = True
) -> pd.DataFrame:
    """Score table for `friedman`: the seeds of one task (rows) by strategies (columns).

    Scores of an error or a loss (higher_is_better: False) are times −1, so that the highest of a row is the best.

    Raises:
        AlbenchError: several tasks, whose seeds are no blocks of one another.
    """
    rows = upright(of_one_task(results, metric, "a ranking over seeds"), higher_is_better)
    return seed_scores(rows, metric, of).rename_axis(index="seed", columns=None)


def mean_ranks(scores: np.ndarray) -> np.ndarray:
    """Mean rank [k] of each column of scores [N blocks, k] within its rows: 1 is the highest score, ties share."""
    return pd.DataFrame(scores).rank(axis=1, ascending=False).mean().to_numpy()


@dataclass(frozen=True, eq=False)
class Friedman:
    """Friedman's test over N blocks, and Nemenyi's after it; see `friedman`."""

    blocks: int
    chi2: float
    p: float
    ranks: pd.Series  # mean rank by strategy
    critical_difference: float
    nemenyi: pd.DataFrame  # p-values, strategies by strategies
    decides: bool
    words: str  # why the blocks cannot decide; "" where they can


def friedman(scores: pd.DataFrame, alpha: float = 0.05) -> Friedman:
    """Friedman's test with Nemenyi's critical difference q √(k (k + 1) / (6 N)) (Demšar 2006), from scores [N, k].

    The highest score of a row is the best (`blocks_of_tasks` and `blocks_of_seeds` see to it for errors and losses).

    Rows are blocks: tasks (`blocks_of_tasks`), or seeds within one task (`blocks_of_seeds`); never stages, and never
    seeds of several tasks together. The name of the index ("task", "seed") is used in the words. Blocks with a score
    that is not finite are left out. Fewer than two blocks or three strategies, or nothing but ties: NaN, with words.
    """
    scores = scores.loc[np.isfinite(scores.to_numpy()).all(axis=1)]
    (count, k), names = scores.shape, scores.columns
    ranks = pd.Series(mean_ranks(scores.to_numpy()) if count else np.full(k, np.nan), index=names)
    block = f"{scores.index.name or 'block'}{'s' * (count != 1)}"
    who = f"{count} {block} and {k} strateg{'y' if k == 1 else 'ies'}"
    if count < 2 or k < 3 or (scores.nunique(axis=1) == 1).all():
        nothing = pd.DataFrame(np.nan, index=names, columns=names)
        words = f"{who}: a ranking needs two blocks, three strategies and scores that differ"
        return Friedman(count, np.nan, np.nan, ranks, np.nan, nothing, False, words)
    from scipy import stats  # a second, and only rankings need it

    chi2, p = stats.friedmanchisquare(*scores.to_numpy().T)
    quantile = stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2)
    critical = float(quantile * np.sqrt(k * (k + 1) / (6 * count)))
    apart = np.abs(np.subtract.outer(ranks.to_numpy(), ranks.to_numpy()))
    q = apart / np.sqrt(k * (k + 1) / (6 * count)) * np.sqrt(2)
    nemenyi = pd.DataFrame(stats.studentized_range.sf(q, k, np.inf), index=names, columns=names)
    words = _cannot_decide(who, critical, count, k, float(apart.max()))
    return Friedman(count, float(chi2), float(p), ranks, critical, nemenyi, not words, words)


def _cannot_decide(who: str, critical: float, count: int, k: int, found: float) -> str:
    """Why the blocks cannot decide: the largest difference of mean ranks is k − 1, and the next is 1 / N below it.

    found: the largest difference that there is; "" where it decides, as a unanimous order may.
    """
    if critical < k - 1 - 1 / count or found > critical:
        return ""
    so = "so only a unanimous order decides, which this is not" if critical < k - 1 else "so no order decides"
    return f"{who}: the critical difference is {critical:.2f} of a possible {k - 1}, {so}"
