"""Images per second of training and scoring, per task; beside training, the straightforward way of doing it.

    pytest tests/benchmarks --benchmark-enable --benchmark-group-by=group

The straightforward way: a DataLoader whose dataset transforms one PIL image after another, contiguous fp32.
"""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from albench import registry
from albench.samples import Data
from albench.seeds import isolated
from albench.strategy import Outputs
from albench.tasks.classification.cifar10 import Cifar10
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


# CIFAR-10 sized joint training: the paper's network where --benchmark-enable is given, a narrow one as a test.


class OneByOne(Dataset):
    """Images transformed by PIL one at a time."""

    def __init__(self, data: Data) -> None:
        from PIL import Image
        from torchvision import transforms

        self.images = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in data.pool.images]
        self.labels = data.pool.targets["label"].tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, 4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(Cifar10.mean, Cifar10.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int):
        return self.transform(self.images[row]), self.labels[row]


@pytest.fixture
def cifar(tmp_path, benchmark):
    task = Cifar10() if not benchmark.disabled else Cifar10(network="compact", width=4, blocks=(1, 1))
    small = Cifar10.miniature(tmp_path).load(tmp_path)
    rng = np.random.default_rng(0)
    small.pool.images = torch.from_numpy(rng.integers(0, 256, small.pool.images.shape, dtype=np.uint8))
    benchmark.group = "joint training, CIFAR-10 sized, ResNet-18 and module, batch 128"
    return task, small


def straightforward(task, data, companion):
    chosen = setup(task, data, batch=128, companion=companion)
    with isolated("straightforward"):
        fitted = build(chosen, 0)
        model, module = fitted.model.to(memory_format=torch.contiguous_format).train(), fitted.companion
        optimiser = torch.optim.SGD([*model.parameters(), *module.parameters()], 0.1, momentum=0.9)
        dataset = OneByOne(data)
        order = [row % len(dataset) for row in range(UPDATES * 128)]
        for image, label in DataLoader(dataset, 128, sampler=order):
            batch = {"image": image, "label": label}
            raw = model(image)
            losses = task.losses(raw, batch)
            extra = module.loss(Outputs(task, model, batch, module, raw), losses.detach(), 0.0)
            optimiser.zero_grad()
            (losses.mean() + extra).backward()
            optimiser.step()


@pytest.mark.parametrize("way", ["straightforward", "albench-fp32", "albench-bf16"])
def test_joint_training(benchmark, cifar, way):
    task, data = cifar
    companion = registry.companions.get("loss-prediction")
    if way == "straightforward":
        benchmark.pedantic(straightforward, (task, data, companion), rounds=2)
        return
    chosen = setup(task, data, way.removeprefix("albench-"), 128, companion)
    benchmark.pedantic(fit, (chosen, 0, torch.arange(len(data.pool))), rounds=2)
