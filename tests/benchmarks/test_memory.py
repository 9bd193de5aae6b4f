"""Peak memory of the paper-size networks: a training step with the module beside it, and scoring.

    pytest tests/benchmarks/test_memory.py --benchmark-enable -s

Generated images, so no data are needed. On a CPU two steps of each, at the paper's batch; the peak is the process's.
"""

import pytest
import torch

from albench.memory import peak_memory, reset_peak_memory
from albench.observing import observe
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.strategies.learning_loss import LossPrediction
from albench.strategies.uncertainty import Entropy
from albench.tasks.classification.cifar10 import CLASSES, Cifar10
from albench.tasks.detection.voc import PascalVoc
from albench.tasks.pose.figures import Figures
from albench.training import Numerics, Setup, build, fit

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
POSE = {"size": 256, "stride": 4, "stacks": 2, "depth": 4, "width": 256, "heatmap_loss": "mse"}


@pytest.fixture(autouse=True)
def _only_where_it_is_asked_for(request):
    if request.config.getoption("--benchmark-disable") and not request.config.getoption("--benchmark-enable"):
        pytest.skip("--benchmark-enable")


def images(count, side, **targets):
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return Samples(pixels, targets, [str(row) for row in range(count)])


def cifar(count):
    return Cifar10(), images(count, 32, label=torch.arange(count) % 10), CLASSES, 128


def voc(count):
    box = torch.tensor([[30.0, 40, 200, 220], [100, 100, 280, 290]]).expand(count, 2, 4)
    columns = {"boxes": box, "labels": torch.arange(2).expand(count, 2), "size": torch.full((count, 2), 345)}
    columns["difficult"] = torch.zeros(count, 2, dtype=torch.bool)
    return (
        PascalVoc(network="ssd300-vgg16", stored=512),
        images(count, 512, **columns),
        tuple("abcdefghijklmnopqrst"),
        32,
    )


def pose(count):
    task = Figures(**POSE)
    columns = {"joints": torch.rand(count, 14, 2) * 250 + 35, "visible": torch.ones(count, 14, dtype=torch.bool)}
    return task, images(count, task.stored, **columns), task.skeleton.names, 6


def setup(made, scoring_batch=16):
    task, samples, classes, batch = made
    samples = samples.to(DEVICE)
    recipe = Recipe(updates=2, batch=batch, learning_rate=1e-4)
    numerics = Numerics(scoring_batch=scoring_batch)
    return Setup(task, Data(samples, samples, classes), recipe, numerics, DEVICE, (0, 0, "m"), LossPrediction)


def shown(benchmark, what, work):
    """Run once and say the peak."""
    reset_peak_memory(DEVICE)
    benchmark.pedantic(work, rounds=1, iterations=1)
    peak = peak_memory(DEVICE) / 2**30
    benchmark.extra_info["peak_GiB"] = round(peak, 2)
    print(f"\n{what}: {peak:.2f} GiB on {DEVICE}")


@pytest.mark.parametrize("made", [cifar, voc, pose])
def test_training_step(benchmark, made):
    here = setup(made(128 if made is cifar else 32))
    rows = torch.arange(here.recipe.batch)
    shown(benchmark, f"training {made.__name__}, batch {here.recipe.batch}", lambda: fit(here, 0, rows))


@pytest.mark.parametrize("count", [16, 64])
@pytest.mark.parametrize("made", [cifar, voc, pose])
def test_scoring_a_pool(benchmark, made, count):
    """Four times the samples, the same peak but for the images themselves."""
    here = setup(made(count))
    fitted = build(here, 0)
    work = lambda: observe(here, Entropy(), fitted, here.data.pool, torch.arange(count), 0, diagnose=True)  # noqa: E731
    shown(benchmark, f"scoring {count} of {made.__name__}, 16 at a time", work)
