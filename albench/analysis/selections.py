"""What strategies selected: how balanced, how much alike. Pure functions of a run's labels.csv and selections.csv."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd


def balance(labels: pd.DataFrame, pool: Mapping[str, int]) -> pd.DataFrame:
    """How often each class, object or joint was selected, relative to how often the pool holds it; one task.

    Args:
        labels: a run's labels.csv: cumulative counts per strategy, seed, stage and part (in the column `metric`).
        pool: part → how often the whole pool holds it.

    Returns: strategy, part, selected (mean count over seeds of what was bought after the first, random labels),
        share (of all parts selected), pool (its share there), ratio (share / pool; 1 is the pool's own balance).
        A trial that selected nothing yet is left out, and so is a part that the pool has not got.
    """
    keys = ["strategy", "seed"]
    ordered = labels.sort_values("stage", kind="stable")
    ends = ordered.groupby([*keys, "metric"], sort=False)["value"].agg(["first", "last"])
    bought = (ends["last"] - ends["first"]).rename("selected").reset_index()
    total = bought.groupby(keys)["selected"].transform("sum")
    bought = bought[total > 0].assign(share=(bought["selected"] / total)[total > 0])
    table = bought.groupby(["strategy", "metric"], sort=False)[["selected", "share"]].mean().reset_index()
    table = table.rename(columns={"metric": "part"})
    everything = sum(pool.values())
    table["pool"] = table["part"].map(lambda part: pool.get(part, 0) / everything if everything else 0.0)
    table = table[table["pool"] > 0].reset_index(drop=True)
    return table.assign(ratio=table["share"] / table["pool"])


def imbalance(table: pd.DataFrame) -> pd.Series:
    """Per strategy, the total variation distance (0 to 1) between the selected and the pool's shares of `balance`."""
    return (table["share"] - table["pool"]).abs().groupby(table["strategy"], sort=False).sum() / 2


def overlap(selections: pd.DataFrame, strategies: Sequence[str]) -> pd.DataFrame:
    """Jaccard index of what two strategies of one task had selected up to each stage, the first labels left out.

    Returns: a, b, stage, jaccard (|A ∩ B| / |A ∪ B|, mean over the seeds that both have), seeds. What chance alone
        would give, random against random shows.
    """
    chosen = selections[(selections["stage"] > 0) & selections["strategy"].isin(strategies)]
    stages = np.sort(chosen["stage"].unique())
    total = np.zeros((len(stages), len(strategies), len(strategies)))
    seeds = np.zeros(total.shape, int)
    for _, own in chosen.groupby("seed"):
        inter, there = _common(own, strategies, stages)
        size = np.diagonal(inter, axis1=1, axis2=2)
        union = size[:, :, None] + size[:, None] - inter
        both = there[:, :, None] & there[:, None]
        total += np.divide(inter, union, out=np.zeros(inter.shape), where=both)
        seeds += both
    rows = [
        (strategies[a], strategies[b], int(stages[s]), total[s, a, b] / seeds[s, a, b], int(seeds[s, a, b]))
        for a, b in combinations(range(len(strategies)), 2)
        for s in np.flatnonzero(seeds[:, a, b])
    ]
    return pd.DataFrame(rows, columns=["a", "b", "stage", "jaccard", "seeds"])


def _common(own: pd.DataFrame, strategies: Sequence[str], stages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of one seed: how many samples two strategies have in common [stages, k, k], and who selected at a stage."""
    k = pd.Index(strategies).get_indexer(pd.Index(own["strategy"]))
    at = np.searchsorted(stages, own["stage"])
    samples, sample = np.unique(own["index"], return_inverse=True)
    there = np.zeros((len(stages), len(strategies)), bool)
    there[at, k] = True
    since = np.full((len(strategies), len(samples)), len(stages))
    np.minimum.at(since, (k, sample), at)
    held = [(since <= stage).astype(np.float32) for stage in range(len(stages))]  # counts are exact up to 2^24
    return np.stack([have @ have.T for have in held]), there


def companion_pairs(strategies: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """(with, without): labels whose selection is the same and of which one has a companion trained beside the model.

    strategies: label → {"strategy": registered name, "companion": name or None, …}, as a run's manifest has them.
    """
    return [
        (ours, plain)
        for ours, facts in strategies.items()
        for plain, other in strategies.items()
        if facts.get("companion") and not other.get("companion") and facts.get("strategy") == other.get("strategy")
    ]
