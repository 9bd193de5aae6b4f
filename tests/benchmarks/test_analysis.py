"""What the analysis of a large run costs: 10,000 trials of 10 stages (20 tasks, 25 strategies, 20 seeds)."""

import numpy as np
import pandas as pd
import pytest

from albench.analysis.comparison import against_reference, all_pairs, budgets
from albench.analysis.curves import curves, difference_curve, summary
from albench.analysis.ranks import blocks_of_tasks, friedman, penalty_matrix
from albench.analysis.tidy import COLUMNS, validated


def run_of(tasks, strategies=25, seeds=20, stages=10):
    names = ["random", *(f"strategy-{i}" for i in range(1, strategies))]
    axes = ([f"task-{i}" for i in range(tasks)], names, range(seeds), range(stages))
    frame = pd.MultiIndex.from_product(axes, names=["task", "strategy", "seed", "stage"]).to_frame(index=False)
    noise = np.random.default_rng(0).normal(0, 0.01, len(frame))
    frame = frame.assign(
        labelled=(frame["stage"] + 1) * 100, metric="accuracy", value=0.5 + 0.03 * frame["stage"] + noise
    )
    return frame[list(COLUMNS)]


@pytest.mark.parametrize("function", [summary, against_reference, all_pairs, budgets, difference_curve])
def test_one_task_of_many_strategies(benchmark, function):
    results = run_of(tasks=1)
    assert len(benchmark(function, results, "accuracy"))


def test_ten_thousand_trials(benchmark):
    results = run_of(tasks=20)
    metrics = dict.fromkeys(results["task"].unique(), "accuracy")

    def analyse():
        curves(validated(results))
        friedman(blocks_of_tasks(results, metrics))
        return penalty_matrix(results, metrics)

    assert benchmark.pedantic(analyse, rounds=2).shape == (25, 25)
