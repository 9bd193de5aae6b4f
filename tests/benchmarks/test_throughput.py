"""Images per second of training and scoring, per task.

pytest tests/benchmarks/test_throughput.py --benchmark-enable --benchmark-group-by=group
"""

import pytest
import torch

from albench import registry
from albench.strategy import Outputs
from albench.training import Numerics, Setup, build, fit

TASKS = ["digits", "figures", "digit-scenes"]
UPDATES = 5


def setup(task, data, precision="fp32", batch=16, companion=None):
    recipe = task.recipe.merged({"updates": UPDATES, "batch": batch})
    return Setup(task, data, recipe, Numerics(precision=precision), torch.device("cpu"), (0, 0, "x"), companion)


@pytest.fixture(params=TASKS)
def embedded(request):
    task = registry.tasks.get(request.param)()
    return request.param, task, task.load(None)


def test_training(benchmark, embedded):
    name, task, data = embedded
    benchmark.group = f"train {name}, {UPDATES} updates of 16"
    benchmark(fit, setup(task, data), 0, torch.arange(64))


def test_scoring(benchmark, embedded):
    name, task, data = embedded
    benchmark.group = f"score 512 of {name}: entropy"
    chosen = setup(task, data)
    model = build(chosen, 0).model

    def score():
        with torch.inference_mode():
            for rows in torch.arange(512).split(256):
                Outputs(task, model, task.prepare(data.pool.batch(rows, hidden=True))).prediction.entropy()

    benchmark(score)
