"""The peak memory of a paper-size training step or of scoring, in a process of its own.

    python tests/benchmarks/peak.py train|score cifar|voc|pose COUNT

Prints GiB. Generated images, so no data are needed. Other work in the same process would leave memory behind.
"""

import sys

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


def train(here):
    """A call that takes two joint steps at the paper's batch."""
    return lambda: fit(here, 0, torch.arange(here.recipe.batch))


def score(here):
    """A call that observes the whole pool, 16 images at a time."""
    fitted, pool = build(here, 0), here.data.pool
    return lambda: observe(here, Entropy(), fitted, pool, torch.arange(len(pool)), 0, diagnose=True)


if __name__ == "__main__":
    what, made, count = sys.argv[1:]
    work = {"train": train, "score": score}[what](setup({"cifar": cifar, "voc": voc, "pose": pose}[made](int(count))))
    reset_peak_memory(DEVICE)
    work()
    print(peak_memory(DEVICE) / 2**30)
