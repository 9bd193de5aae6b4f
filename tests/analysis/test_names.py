"""Strategies may be called like a column of the tables."""

import numpy as np
import pandas as pd
import pytest

from albench import analysis
from albench.analysis.changes import changes
from albench.analysis.curves import curves, not_finite
from albench.analysis.label_efficiency import mean_curves
from albench.analysis.power import greatest
from albench.analysis.selections import balance, imbalance, overlap
from albench.analysis.spans import shared
from albench.analysis.tidy import COLUMNS

ODD = ("seed", "labelled", "value", "task", "metric", "strategy", "stage", "mean", "index", "level_0", "n", "share")
PLAIN = {name: f"s{place}" for place, name in enumerate(ODD)}
METRIC = {"t": "acc", "u": "acc"}


def tidy(names):
    rng = np.random.default_rng(0)
    rows = [
        (task, name, seed, stage, 10 * 2**stage, "acc", 0.4 + 0.1 * stage + place / 50 + rng.normal(0, 0.01))
        for task in METRIC
        for place, name in enumerate(["random", *names])
        for seed in range(4)
        for stage in range(3)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def one(results):
    return results[results["task"] == "t"]


def selections(results):
    rows = one(results)[["task", "strategy", "seed", "stage"]]
    return pd.concat([rows.assign(order=place, index=(rows.index + place) % 7) for place in range(3)])


def parts(results):
    """Labels by part, of which every third label is an a."""
    rows = one(results)
    return pd.concat([rows.assign(metric=p, value=rows["labelled"] / 3 * k) for p, k in (("a", 1), ("b", 2))])


EVERY = {
    "curves": curves,
    "shared": shared,
    "not_finite": lambda r: not_finite(r.assign(value=r["value"].where(r["seed"] > 0))),
    "per_seed": lambda r: analysis.per_seed(r).set_index(["strategy", "task", "seed"])["aubc"].sort_values(),
    "left_out": lambda r: analysis.left_out(one(r)),
    "summary": lambda r: analysis.summary(one(r), "acc"),
    "seed_scores": lambda r: analysis.seed_scores(one(r), "acc"),
    "difference_curve": lambda r: analysis.difference_curve(one(r), "acc"),
    "against_reference": lambda r: analysis.against_reference(one(r), "acc"),
    "all_pairs": lambda r: analysis.all_pairs(one(r), "acc"),
    "budgets": lambda r: analysis.budgets(one(r), "acc"),
    "win_tie_loss": lambda r: analysis.win_tie_loss(analysis.all_pairs(one(r), "acc")),
    "efficiency": lambda r: analysis.efficiency(one(r), "acc"),
    "efficiency at targets": lambda r: analysis.efficiency(one(r), "acc", target=[0.45, 0.55]),
    "costs_from": lambda r: analysis.costs_from(parts(r)),
    "mean_curves": lambda r: mean_curves(one(r), "acc"),
    "plan": lambda r: analysis.plan(one(r), "acc"),
    "greatest": lambda r: greatest(one(r), "acc"),
    "penalty_matrix": lambda r: analysis.penalty_matrix(r, METRIC),
    "worse_than_reference": lambda r: analysis.worse_than_reference(one(r), "acc"),
    "blocks_of_tasks": lambda r: analysis.blocks_of_tasks(r, METRIC),
    "friedman": lambda r: analysis.friedman(analysis.blocks_of_seeds(one(r), "acc")).ranks,
    "changes": lambda r: changes(r, r.assign(value=r["value"] + 0.01), METRIC),
    "balance": lambda r: balance(parts(r), {"a": 3, "b": 5}),
    "imbalance": lambda r: imbalance(balance(parts(r), {"a": 3, "b": 5})),
    "overlap": lambda r: overlap(selections(r), list(r["strategy"].unique())),
}


def renamed(found):
    """An answer, with the plain names in the place of the odd ones."""
    if isinstance(found, dict):
        return {PLAIN.get(name, name): value for name, value in found.items()}
    if isinstance(found, pd.DataFrame):
        by_name = set(PLAIN) <= set(found.columns)
        found = found.rename(columns=PLAIN) if by_name else found
        naming = [name for name in ("strategy", "a", "b") if name in found and not by_name]
        found = found.assign(**{name: found[name].replace(PLAIN) for name in naming})
    return found.rename(index=PLAIN) if isinstance(found, pd.DataFrame | pd.Series) else found


@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_may_be_called_like_a_column(name):
    function = EVERY[name]
    odd, plain = renamed(function(tidy(ODD))), function(tidy(PLAIN.values()))
    assert np.size(np.asarray(plain, object))
    if isinstance(plain, pd.DataFrame):
        odd.attrs, plain.attrs = {}, {}
        pd.testing.assert_frame_equal(odd, plain)
    elif isinstance(plain, pd.Series):
        pd.testing.assert_series_equal(odd, plain)
    else:
        assert str(odd) == str(plain)
