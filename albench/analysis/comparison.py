"""Who beats whom: tables of tests between the strategies of one task, paired by seed.

`against_reference` is the primary test of a suite: AUBC against one reference, paired t, Holm over those comparisons.
All else here is exploratory: taking whichever of several tests is significant gives far more than alpha false
positives. The tests themselves are in `significance`, and can be imported from here too.
"""

import warnings
from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from albench.analysis.curves import of_one_task, per_seed, seed_scores
from albench.analysis.significance import (
    attainable_p,
    differences,
    equivalence_p,
    holm,
    holm_levels,
    paired_t,
    sign_flip,
    sign_flip_max_t,
    sign_flip_max_ts,
    sign_flips,
    verdict,
    wilcoxon,
)
from albench.analysis.spans import shared
from albench.errors import AlbenchError

__all__ = [
    "against_reference",
    "all_pairs",
    "attainable_p",
    "budgets",
    "equivalence_p",
    "holm",
    "holm_levels",
    "paired_t",
    "sign_flip",
    "sign_flip_max_t",
    "verdict",
    "wilcoxon",
]

COMPARISON = [
    *("pairs", "dropped", "mean", "sd", "low", "high", "t", "p", "p_holm", "effect_size"),
    *("p_equivalence", "p_equivalence_holm", "verdict", "verdict_low", "verdict_high"),
    *("wilcoxon", "sign_flip", "attainable", "variance_ratio"),
]
EFFECT = 0.005  # the default smallest effect of interest: half a point of a share between 0 and 1
NOT_TESTED = "not tested"
BUDGETS = ["a", "b", "labelled", "pairs", "mean", "low", "high", "t", "p", "p_holm"]


def against_reference(
    results: pd.DataFrame,
    metric: str,
    reference: str = "random",
    effect: float | None = None,
    alpha: float = 0.05,
    of: str = "aubc",
    leave_out: Collection[str] = (),
    comparisons: int = 0,
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """The primary test: each other strategy of one task against the reference, over the seeds both have completed.

    Args:
        effect: the smallest effect of interest, in the metric's unit. Default: 0.005, which is half a point of a share
            between 0 and 1; where all values are above 1 a warning says so, since they may be in per cent.
        of: what a seed is scored by, "aubc" or "final".
        leave_out: strategies outside the family (those that cheat): they get p but no p_holm, and verdict "".
        comparisons: how many were planned; Holm counts those that cannot be made yet, so that no verdict of a partial
            run is milder than the whole one's. Default: all that are in the results.
        higher_is_better: False for an error or a loss: "better" is then a mean difference below 0. Only the verdict
            hangs on it; differences and intervals stay those of the values as they are.

    Returns: one row per other strategy, in order of appearance:
        strategy, reference, pairs, dropped (text: which seeds do not count and why, "" otherwise), mean, sd, low, high
        (t interval of the mean difference at 1 − alpha, not adjusted), t, p, p_holm, effect_size (Cohen's d_z),
        p_equivalence, p_equivalence_holm (TOST; Holm over the same family), verdict ("better",
        "worse", "equivalent", "undecided"; "not tested" without a pair of seeds); verdict_low, verdict_high (the
        interval that the verdict is read off, see `_deciding`; NaN where there is no verdict);
        exploratory: wilcoxon, sign_flip, attainable (the least p these two can reach), variance_ratio =
        var(differences) / (var(a) + var(b)): below 1 where pairing by seed paid.

    Raises:
        AlbenchError: several tasks, no such metric, or no strategy of the reference's name.
    """
    strategies = list(of_one_task(results, metric)["strategy"].unique())
    if reference not in strategies:
        there = ", ".join(strategies) or "none"
        raise AlbenchError(f"reference {reference!r}: no such strategy has results of {metric!r}; there are: {there}")
    pairs = [(name, reference) for name in strategies if name != reference]
    return _compared(
        results, metric, pairs, ("strategy", "reference"), effect, alpha, of, leave_out, higher_is_better, comparisons
    )


def all_pairs(
    results: pd.DataFrame,
    metric: str,
    effect: float | None = None,
    alpha: float = 0.05,
    of: str = "aubc",
    leave_out: Collection[str] = (),
    higher_is_better: bool = True,
) -> pd.DataFrame:
    """Exploratory: every two strategies of one task (a, b; the mean is of a − b), Holm over these pairs.

    The columns, arguments and errors of `against_reference`; a pair with a strategy of `leave_out` is outside the
    family.
    """
    pairs = list(combinations(of_one_task(results, metric)["strategy"].unique(), 2))
    return _compared(results, metric, pairs, ("a", "b"), effect, alpha, of, leave_out, higher_is_better)


def budgets(results: pd.DataFrame, metric: str, alpha: float = 0.05) -> pd.DataFrame:
    """Exploratory: every two strategies of one task at each number of labels.

    Seeds are those that both have completed; labels those that both measured in all of these. Columns: a, b,
    labelled, pairs, mean (of a − b), low, high (t interval at 1 − alpha, not adjusted), t, p (sign-flip max-T over
    the pair's budgets), p_holm (Holm over pairs on top: a pair counts until all its budgets are rejected; a budget
    where all differences are 0, such as a shared start, is no test).

    Raises:
        AlbenchError: several tasks.
    """
    rows = shared(of_one_task(results, metric))
    scores = seed_scores(rows, metric)
    values = rows.pivot(index="seed", columns=["strategy", "labelled"], values="value").reindex(scores.index)
    curves = {name: values[name].sort_index(axis=1) for name in scores}
    pairs = []
    for a, b in combinations(scores, 2):
        seeds = scores[a].notna().to_numpy() & scores[b].notna().to_numpy()
        labels = curves[a].columns.intersection(curves[b].columns)
        D = differences(curves[a][labels].to_numpy()[seeds], curves[b][labels].to_numpy()[seeds])
        finite = np.isfinite(D).all(0) & seeds.any()
        pairs.append((a, b, labels[finite], D[:, finite]))
    table: list[dict] = []
    for (a, b, labels, D), adjusted in zip(pairs, sign_flip_max_ts([D for *_, D in pairs]), strict=True):
        for labelled, d, p in zip(labels, D.T, adjusted, strict=True):
            test = paired_t(d, 1 - alpha)
            row = {"a": a, "b": b, "labelled": labelled, "pairs": test.n, "mean": test.mean, "low": test.low}
            table.append(row | {"high": test.high, "t": test.t, "p": p, "test": bool(d.any())})
    frame = pd.DataFrame(table, columns=[*BUDGETS[:-1], "test"])
    pair = frame.groupby(["a", "b"], sort=False).ngroup().to_numpy()
    p = frame["p"].where(frame["test"].astype(bool)).to_numpy(float)
    return frame.assign(p_holm=np.where(np.isnan(p), frame["p"], holm_in_groups(p, pair)))[BUDGETS]


def holm_in_groups(p: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Holm over groups of p-values [m] that are already adjusted within their group [m]; NaN as in `holm`.

    The factor of a p-value is the number of groups that still hold one as large or larger: a group with a hypothesis
    that is not yet rejected may hold a true one, so it goes on counting. With one p-value a group this is `holm`.
    """
    adjusted = np.full(len(p), np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    tests = tests[np.argsort(p[tests], kind="stable")]
    last = {name: position for position, name in enumerate(group[tests])}
    open_groups = len(last) - np.searchsorted(sorted(last.values()), np.arange(len(tests)))
    adjusted[tests] = np.minimum(np.maximum.accumulate(p[tests] * open_groups), 1)
    return adjusted


def _compared(
    results: pd.DataFrame,
    metric: str,
    pairs: Sequence[tuple[str, str]],
    names: tuple[str, str],
    effect: float | None,
    alpha: float,
    of: str,
    leave_out: Collection[str],
    higher_is_better: bool,
    planned: int = 0,
) -> pd.DataFrame:
    if effect is None:
        effect = EFFECT
        if note := unit_note(results, metric, effect):
            warnings.warn(note, stacklevel=3)  # whoever called the public function
    sign = 1 if higher_is_better else -1
    seeds = per_seed(of_one_task(results, metric))
    scores = seed_scores(results, metric, of, seeds)
    lacks = {str(name): own.set_index("seed")["lacks"] for name, own in seeds.groupby("strategy")}
    rows = [dict(zip(names, (a, b), strict=True)) | _pair(scores[a], scores[b], effect, alpha) for a, b in pairs]
    table = pd.DataFrame(rows, columns=[*names, *COMPARISON])
    apart = [differences(scores[a].to_numpy(), scores[b].to_numpy()) for a, b in pairs]
    table["sign_flip"] = sign_flips(np.stack(apart, 1)) if pairs else np.zeros(0)
    table["dropped"] = [_dropped(a, b, lacks) for a, b in pairs]
    family = ~(table[names[0]].isin(leave_out) | table[names[1]].isin(leave_out))
    size = max(planned, int(family.sum()))
    for p in ("p", "p_equivalence"):
        table[f"{p}_holm"] = holm(table[p].where(family).to_numpy(float), size)
    judged = zip(table["p_holm"], sign * table["mean"], table["p_equivalence_holm"], strict=True)
    table["verdict"] = [verdict(*tests, alpha) for tests in judged]
    table["verdict"] = table["verdict"].mask(table["pairs"] == 0, NOT_TESTED).where(family, "")
    table["verdict_low"], table["verdict_high"] = _deciding(table, family.to_numpy(), alpha, size)
    return table


def unit_note(results: pd.DataFrame, metric: str, effect: float) -> str:
    """A sentence where the default effect of interest is probably not in the metric's unit; '' elsewhere."""
    values = results.loc[results["metric"] == metric, "value"]
    values = values[np.isfinite(values)]
    if effect != EFFECT or values.empty or not (values > 1).all():
        return ""
    return (
        f"All values of {metric} are above 1, and the smallest effect of interest is the default, {EFFECT:g} in the "
        "metric's unit: where it is in per cent, half a point is an effect of 0.5."
    )


def _deciding(table: pd.DataFrame, family: np.ndarray, alpha: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The interval (low, high) of each mean that shows its verdict, at the levels a at which Holm tested it.

    Better, worse: 1 − a, which excludes 0. Equivalent: 1 − 2a of the two one-sided tests, which lies within ± the
    effect of interest. Undecided: the wider of the two, which does neither.
    """
    apart, same = (holm_levels(table[p].where(family).to_numpy(float), alpha, size) for p in ("p", "p_equivalence"))
    equivalent, undecided = (table["verdict"].eq(word).to_numpy() for word in ("equivalent", "undecided"))
    tail = np.where(equivalent, same, np.where(undecided, np.fmin(apart / 2, same), apart / 2))
    pairs = table["pairs"].to_numpy(float)
    with np.errstate(invalid="ignore"):  # one pair: no interval
        half = stdtrit(np.maximum(pairs - 1, 1), 1 - tail) * table["sd"].to_numpy(float) / np.sqrt(pairs)
    mean = table["mean"].to_numpy(float)
    return mean - half, mean + half


def _pair(a: pd.Series, b: pd.Series, effect: float, alpha: float) -> dict[str, float]:
    """The tests of one pair of strategies from their scores per seed (NaN where there is none)."""
    both = a.notna().to_numpy() & b.notna().to_numpy()
    ours, theirs = a.to_numpy()[both], b.to_numpy()[both]
    d = differences(ours, theirs)
    test = paired_t(d, 1 - alpha)
    apart = ours.var(ddof=1) + theirs.var(ddof=1) if test.n > 1 else 0.0
    return {
        **{"pairs": test.n, "mean": test.mean, "sd": test.sd, "low": test.low, "high": test.high},
        **{"t": test.t, "p": test.p, "effect_size": test.effect, "p_equivalence": equivalence_p(d, effect)},
        "wilcoxon": wilcoxon(d),
        "attainable": attainable_p(test.n) if test.n else np.nan,
        "variance_ratio": test.sd**2 / apart if apart > 0 else np.nan,
    }


def _dropped(a: str, b: str, lacks: dict[str, pd.Series]) -> str:
    """Which seeds of a pair do not count, by reason: one side lacks the seed, or has no complete curve of it.

    lacks: strategy → by seed, what its curve lacks ("" where it is complete).
    """
    parts = []
    for name, other in ((a, b), (b, a)):
        reasons: dict[str, list[int]] = {}
        for seed in sorted(set(lacks[other].index) - set(lacks[name].index)):
            reasons.setdefault(f"{name} has no such seed", []).append(seed)
        for seed, lack in sorted(zip(lacks[name].index, lacks[name], strict=True)):
            if not lack:
                continue
            reasons.setdefault(f"the curve of {name} is not whole, {lack}", []).append(seed)
        for reason, seeds in reasons.items():
            parts.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {reason}")
    return "; ".join(parts)
