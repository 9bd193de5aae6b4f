"""What changed between two runs of one suite, and whether it is more than seed noise."""

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from albench.analysis.curves import seed_scores
from albench.analysis.significance import differences, holm, paired_t

CHANGES = [
    *("task", "metric", "strategy", "of", "labelled", "test", "seeds_a", "seeds_b", "mean_a", "mean_b"),
    *("difference", "low", "high", "p", "p_holm", "verdict"),
]
IDENTICAL, MORE, NOT_TOLD = "identical to the bit", "more than seed noise", "not told from seed noise"
UNDECIDED = "undecided: fewer than two seeds"


def changes(
    a: pd.DataFrame, b: pd.DataFrame, metrics: dict[str, str], paired: bool = True, alpha: float = 0.05
) -> pd.DataFrame:
    """B − A for every task and strategy that both have, over the numbers of labels that both measured.

    metrics: task → its metric. paired: seed s of one run is seed s of the other (equal suite seeds); then seeds are
    matched and a paired t-test is made. Otherwise, or where no seed is in both, Welch's t-test of all seeds.

    Columns: task, metric, strategy, of ("aubc" or "final"), labelled (the last number of labels in both), test
    ("paired" or "Welch"), seeds_a, seeds_b (complete ones that count), mean_a, mean_b, difference, low, high (t
    interval at 1 − alpha, not adjusted), p, p_holm (over all rows), verdict: "identical to the bit" where paired
    curves agree in every value, "more than seed noise" where p_holm < alpha, else "not told from seed noise"; with
    fewer than two seeds "undecided".
    """
    rows = []
    for task, metric in metrics.items():
        parts = [run[(run["task"] == task) & (run["metric"] == metric)] for run in (a, b)]
        for strategy in parts[0]["strategy"].unique():
            ours, theirs = (part[part["strategy"] == strategy] for part in parts)
            if len(theirs):
                head = {"task": task, "metric": metric, "strategy": strategy}
                rows += [head | row for row in _pair(ours, theirs, metric, paired, alpha)]
    table = pd.DataFrame(rows, columns=[name for name in CHANGES if name not in ("p_holm", "verdict")] + ["same"])
    table["p_holm"] = holm(table["p"].to_numpy(float))
    decided = np.where(table["p_holm"] < alpha, MORE, np.where(table["p_holm"].notna(), NOT_TOLD, UNDECIDED))
    table["verdict"] = np.where(table["same"].astype(bool), IDENTICAL, decided)
    return table[CHANGES]


def _pair(a: pd.DataFrame, b: pd.DataFrame, metric: str, paired: bool, alpha: float) -> list[dict]:
    """The rows of one task and strategy: AUBC and final value, up to the last number of labels in both."""
    shared = sorted(set(a["labelled"]) & set(b["labelled"]))
    if not shared:
        return []
    a, b = a[a["labelled"].isin(shared)], b[b["labelled"].isin(shared)]
    seeds = sorted(set(a["seed"]) & set(b["seed"])) if paired else []
    rows = []
    for of in ("aubc", "final") if len(shared) > 1 else ("final",):
        x, y = (seed_scores(part, metric, of).iloc[:, 0].dropna() for part in (a, b))
        row = {"of": of, "labelled": shared[-1], "test": "paired" if seeds else "Welch"}
        if seeds:
            both = [seed for seed in seeds if seed in x.index and seed in y.index]
            x, y = x[both], y[both]
            test = paired_t(differences(y.to_numpy(), x.to_numpy()), 1 - alpha)
            low, high, p = test.low, test.high, test.p
        else:
            low, high, p = welch(y.to_numpy(), x.to_numpy(), 1 - alpha)
        row |= {"seeds_a": len(x), "seeds_b": len(y), "mean_a": x.mean(), "mean_b": y.mean()}
        row |= {"difference": y.mean() - x.mean(), "low": low, "high": high, "p": p}
        rows.append(row | {"same": bool(seeds) and len(x) > 0 and _identical(a, b, x.index)})
    return rows


def _identical(a: pd.DataFrame, b: pd.DataFrame, seeds: pd.Index) -> bool:
    """Whether the two curves of each of these seeds agree in every value, bit for bit."""
    curves = [part[part["seed"].isin(seeds)].set_index(["seed", "labelled"])["value"].sort_index() for part in (a, b)]
    return curves[0].equals(curves[1])


def welch(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Low, high and p of mean(x) − mean(y) for independent samples of unequal variance; NaN below two values each.

    Without any spread p is 1 where the means are equal, else 0.
    """
    if min(len(x), len(y)) < 2:
        return float("nan"), float("nan"), float("nan")
    parts = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    mean, variance = float(x.mean() - y.mean()), parts.sum()
    if variance == 0:
        return mean, mean, 0.0 if mean else 1.0
    degrees = variance**2 / (parts**2 / (len(x) - 1, len(y) - 1)).sum()
    error = np.sqrt(variance)
    half = stdtrit(degrees, (1 + level) / 2) * error
    return float(mean - half), float(mean + half), float(2 * stdtr(degrees, -abs(mean) / error))
