"""What bf16 costs in accuracy: the same trainings in fp32 and in bf16, paired by seed.

python tests/benchmarks/precision.py DATA_ROOT    # writes results/reference/precision.md

DATA_ROOT holds cifar-10-batches-bin/; without it there are only the tasks that need no download. Both trainings of a
pair have the same initial weights, labelled samples, batches and augmentation.
"""

import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats

from albench import registry
from albench.analysis.significance import paired_t
from albench.evaluation import evaluate
from albench.manifest import _cpu
from albench.numerics import Numerics
from albench.seeds import generator
from albench.training import Setup, fit

KEPT = Path(__file__).parents[2] / "results" / "reference" / "precision.md"
CPU = torch.device("cpu")


class Case(NamedTuple):
    """A task, how it is trained, with how many labels, over how many seeds."""

    task: str
    params: dict
    recipe: dict
    labels: int
    seeds: int


# The last stage of `quick`; CIFAR-10 as the last stage of `real-small` trains it, but half as long
LIKE_REAL_SMALL = {"updates": 250, "batch": 64, "schedule": "cosine", "warmup": 0.1}
CASES = [
    Case("digits", {}, {}, 60, 60),
    Case("figures", {}, {}, 100, 60),
    Case("digit-scenes", {}, {}, 200, 60),
    Case("cifar10", {"network": "compact"}, LIKE_REAL_SMALL, 2500, 15),
]
EFFECT = 0.005  # the smallest effect of interest of the suites
HEAD = """| task | metric | labels | seeds | fp32 | spread | difference | within the spread | within ±0.005 |
|---|---|---|---|---|---|---|---|---|
"""


def metric(task, data, case, precision, seed):
    """The task's metric on its test set after one training."""
    numerics = Numerics(precision=precision)
    recipe = task.recipe.merged(case.recipe)
    chosen = Setup(task, data, recipe, numerics, CPU, (0, seed, case.task))
    labelled = torch.randperm(len(data.pool), generator=generator("labelled", seed))[: case.labels]
    with numerics.in_force():
        return evaluate(chosen, fit(chosen, 0, labelled)[0].model)[0][task.metric]


def within(mean, half, seeds, bound):
    """Whether two one-sided t-tests at 5 % place the mean difference within ±bound; half: of its 95 % t interval."""
    ninety = half * float(stats.t.ppf(0.95, seeds - 1) / stats.t.ppf(0.975, seeds - 1))
    if abs(mean) + ninety < bound:
        return "yes"
    return "no" if abs(mean) - ninety > bound else "undecided"


def line(name, case, fp32, bf16):
    """A row of the table, from the metrics [seeds] of both."""
    test = paired_t(np.subtract(bf16, fp32))
    half, spread = (test.high - test.low) / 2, statistics.stdev(fp32)
    verdicts = " | ".join(within(test.mean, half, len(fp32), bound) for bound in (spread, EFFECT))
    return (
        f"| {case.task} | {name} | {case.labels} | {len(fp32)} | {statistics.mean(fp32):.4f} | {spread:.4f} | "
        f"{test.mean:+.4f} ± {half:.4f} | {verdicts} |\n"
    )


def main(data_root):
    start, rows = time.process_time(), []
    for case in CASES:
        if case.task == "cifar10" and data_root is None:
            continue
        task = registry.tasks.get(case.task)(**case.params)
        data = task.load(data_root)
        pairs = [[metric(task, data, case, p, seed) for p in ("fp32", "bf16")] for seed in range(case.seeds)]
        rows.append(line(task.metric, case, *zip(*pairs, strict=True)))
        print(rows[-1], flush=True)
    taken = f"{_cpu()}, torch {torch.__version__}, one thread, {time.process_time() - start:.0f} s of a core"
    KEPT.write_text(
        "# bf16 beside fp32\n\n"
        f"`python tests/benchmarks/precision.py DATA_ROOT` on {taken}.\n"
        "Pairs share the seed: initial weights, labels, batches and augmentation. Spread: the standard deviation of\n"
        "fp32 from seed to seed. Difference: bf16 − fp32, with its 95 % t interval. Within: two one-sided t-tests at\n"
        "5 % place the difference within ± the spread (the noise of one seed), and within the suites' smallest\n"
        "effect of interest; undecided is not equal.\n\n" + HEAD + "".join(rows),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
