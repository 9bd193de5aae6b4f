"""What learning curves allow to conclude: pure functions of tidy results, albench's own or any others.

Tidy results are a DataFrame of one row per measurement with the columns task, strategy, seed, stage, labelled, metric,
value; `read` takes one from a CSV file, `validated` checks one. The functions of most use can be had from here
(`from albench import analysis`); each module has more:

curves        learning curves, area under them (AUBC), their means (`curves.curves`) and paired differences
comparison    who beats whom on one task, with corrected tests; label_efficiency: labels saved
ranks         many tasks at once; power: how many seeds are needed; significance: the tests themselves
changes       two runs of one suite; resampling: another test set, too; selections; published: curves of papers
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from albench.analysis.comparison import against_reference, all_pairs, budgets
    from albench.analysis.curves import (
        at_budget,
        aubc,
        difference_curve,
        left_out,
        per_seed,
        seed_scores,
        summary,
    )
    from albench.analysis.label_efficiency import (
        costs_from,
        efficiency,
        labels_to_reach,
        rise,
        target_at,
        targets_within,
    )
    from albench.analysis.power import detectable, plan, seeds_needed
    from albench.analysis.ranks import (
        blocks_of_seeds,
        blocks_of_tasks,
        friedman,
        improvement_interval,
        interquartile_mean,
        mean_ranks,
        penalty_matrix,
        probability_of_improvement,
        win_tie_loss,
        worse_than_reference,
    )
    from albench.analysis.tidy import read, validated

# Loaded when first used, since pandas and scipy take half a second; a function named like its module stays in it.
_LAZY = {
    **dict.fromkeys(("against_reference", "all_pairs", "budgets"), "comparison"),
    **dict.fromkeys(
        ("at_budget", "aubc", "difference_curve", "left_out", "per_seed", "seed_scores", "summary"), "curves"
    ),
    **dict.fromkeys(("costs_from", "efficiency", "labels_to_reach", "rise"), "label_efficiency"),
    **dict.fromkeys(("target_at", "targets_within"), "label_efficiency"),
    **dict.fromkeys(("detectable", "plan", "seeds_needed"), "power"),
    **dict.fromkeys(("blocks_of_seeds", "blocks_of_tasks", "friedman", "improvement_interval"), "ranks"),
    **dict.fromkeys(("interquartile_mean", "mean_ranks", "penalty_matrix", "probability_of_improvement"), "ranks"),
    **dict.fromkeys(("win_tie_loss", "worse_than_reference"), "ranks"),
    **dict.fromkeys(("read", "validated"), "tidy"),
}

__all__ = [
    "against_reference",
    "all_pairs",
    "at_budget",
    "aubc",
    "blocks_of_seeds",
    "blocks_of_tasks",
    "budgets",
    "costs_from",
    "detectable",
    "difference_curve",
    "efficiency",
    "friedman",
    "improvement_interval",
    "interquartile_mean",
    "labels_to_reach",
    "left_out",
    "mean_ranks",
    "penalty_matrix",
    "per_seed",
    "plan",
    "probability_of_improvement",
    "read",
    "rise",
    "seed_scores",
    "seeds_needed",
    "summary",
    "target_at",
    "targets_within",
    "validated",
    "win_tie_loss",
    "worse_than_reference",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"albench.analysis.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'albench.analysis' has no attribute {name!r}")
