"""Ways of joint training at CIFAR-10's size: the straightforward one, a bare step on synthetic data, and albench's."""

import contextlib
import copy
import functools
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, replace_all_batch_norm_modules_, stack_module_state, vmap
from torch.utils.data import DataLoader, Dataset

from albench import registry
from albench.samples import Data, Samples
from albench.seeds import isolated
from albench.step import Captured
from albench.strategy import Outputs
from albench.tasks.classification.cifar10 import CLASSES, Cifar10
from albench.training import Numerics, Setup, build, fit

BATCH = 128


def random_images(count):
    """The cost of a step does not depend on what the images show."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8))
    samples = Samples(images, {"label": torch.arange(count) % 10}, [str(row) for row in range(count)])
    return Data(samples, samples, CLASSES)


def setup(task, data, updates, device, precision="fp32"):
    recipe = task.recipe.merged({"updates": updates, "batch": BATCH})
    companion = registry.companions.get("loss-prediction")
    return Setup(
        task,
        data.to(device),
        recipe,
        Numerics(precision=precision, compile="auto", threads=torch.get_num_threads()).resolved(device.type),
        device,
        (0, 0, "cifar10"),
        companion,
        {},
    )


def network(enabled):
    """The paper's, or a narrow one where this is just a test."""
    return Cifar10() if enabled else Cifar10(network="compact", width=4, blocks=(1, 1))


class OneByOne(Dataset):
    """Images transformed by PIL one at a time."""

    def __init__(self, data):
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

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.transform(self.images[row]), self.labels[row]


def straightforward(task, data, updates, device):
    """A DataLoader (two workers beside a GPU), contiguous fp32, the objective step by step."""
    chosen = setup(task, data, updates, device)
    with isolated("straightforward"):
        model, module, optimiser = _begin(chosen)
        dataset = OneByOne(data)
        order = [row % len(dataset) for row in range(updates * BATCH)]
        workers = 2 if device.type == "cuda" else 0
        for image, label in DataLoader(dataset, BATCH, sampler=order, num_workers=workers):
            _step(task, model, module, optimiser, {"image": image.to(device), "label": label.to(device)})


def bare(task, data, device):
    """A call that takes `updates` bf16 steps, compiled to CUDA graphs, on one synthetic batch on the device."""
    chosen = setup(task, data, 1, device)
    model, module, optimiser = _begin(chosen, fused=True)
    model = model.to(memory_format=torch.channels_last)
    image = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    batch = {"image": image, "label": torch.arange(BATCH, device=device) % 10}

    @torch.compile(mode="reduce-overhead")
    def objective():
        with torch.autocast(device.type, torch.bfloat16):
            raw = model(batch["image"])
        losses = task.losses(raw, batch)
        return losses.mean() + module.loss(
            Outputs(task, model, batch, module, raw), losses.detach(), losses.new_zeros(())
        )

    def run(updates):
        with chosen.numerics.in_force(), chosen.numerics.equal_shapes():  # kernels are chosen as albench's are
            for _ in range(updates):
                optimiser.zero_grad()
                objective().backward()
                optimiser.step()

    return run


def ours(task, data, updates, device, precision, compile=None):
    """What a trial's stage does, with the threads of the other ways."""
    chosen = setup(task, data, updates, device, precision)
    if compile:
        chosen = replace(chosen, numerics=chosen.numerics.model_copy(update={"compile": compile}))
    with chosen.numerics.in_force():
        return fit(chosen, 0, torch.arange(len(data.pool)))


class Trial(nn.Module):
    """The objective of a trial whose batches are prepared: model, companion, losses. Batch normalisation keeps no means
    of its own, and images are not channels last, since several trials as one model cannot have either."""

    def __init__(self, task, chosen, seed):
        super().__init__()
        self.task, self.bf16 = task, chosen.numerics.precision == "bf16"
        fitted = build(replace(chosen, axes=(0, seed, "cifar10")), 0)
        self.model, self.companion = fitted.model.train(), fitted.companion.train()
        for part in (self.model, self.companion):
            replace_all_batch_norm_modules_(part)

    def forward(self, image, label):
        batch = {"image": image, "label": label}
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.bf16):
            raw = self.model(image)
        losses = self.task.losses(raw, batch)
        outputs = Outputs(self.task, self.model, batch, self.companion, raw)
        return losses.mean() + self.companion.loss(outputs, losses.detach(), losses.new_zeros(()))


def trials_and_batches(task, data, count, device, precision):
    """`count` trials at their first update, and a batch for each: images [count, B, 3, 32, 32], labels [count, B]."""
    chosen = setup(task, data, 1, device, precision)
    trials = [Trial(task, chosen, seed) for seed in range(count)]
    size = (count, BATCH, *data.pool.images.shape[1:])
    images = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
    return trials, images, (torch.arange(count * BATCH, device=device) % 10).view(count, BATCH)


def vectorised(trials, images, labels):
    """A call that takes `updates` steps of all trials as one model, whose every weight has a dimension of trials."""
    parameters, buffers = stack_module_state(trials)
    empty = copy.deepcopy(trials[0]).to("meta")
    single = vmap(lambda p, b, image, label: functional_call(empty, (p, b), (image, label)), randomness="different")
    step = _update(lambda: single(parameters, buffers, images, labels).sum(), parameters.values(), images.device)

    def run(updates):
        for _ in range(updates):
            step()
        return parameters

    return run


def in_turn(trials, images, labels, streams=None):
    """A call that takes `updates` steps of each trial; on a stream of its own each, where there are streams."""
    steps = [
        _update(functools.partial(trial, image, label), list(trial.parameters()), images.device)
        for trial, image, label in zip(trials, images, labels, strict=True)
    ]
    contexts = [torch.cuda.stream(stream) for stream in streams or ()] or [contextlib.nullcontext()] * len(trials)

    def run(updates):
        for stream in streams or ():
            stream.wait_stream(torch.cuda.current_stream())
        for _ in range(updates):
            for step, context in zip(steps, contexts, strict=True):
                with context:
                    step()
        return [dict(trial.named_parameters()) for trial in trials]

    return run


def _update(objective, parameters, device):
    """A call that takes one step: on a GPU a CUDA graph, so that none waits for Python."""
    optimiser = torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=5e-4, fused=device.type == "cuda")

    def update(*_):
        optimiser.zero_grad()
        loss = objective()
        loss.backward()
        optimiser.step()
        return loss.detach()

    if device.type != "cuda":
        return update
    captured = Captured(update, {"image": torch.zeros(1, device=device)}, None)

    def replay():
        captured.graph.replay()
        return update  # which holds the momenta that the graph writes: they lie where the warm-up made them

    return replay


def _begin(chosen, fused=None):
    fitted = build(chosen, 0)
    model, module = fitted.model.to(memory_format=torch.contiguous_format).train(), fitted.companion.train()
    parameters = [*model.parameters(), *module.parameters()]
    return model, module, torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=5e-4, fused=fused)


def _step(task, model, module, optimiser, batch):
    raw = model(batch["image"])
    losses = task.losses(raw, batch)
    extra = module.loss(Outputs(task, model, batch, module, raw), losses.detach(), losses.new_zeros(()))
    optimiser.zero_grad()
    (losses.mean() + extra).backward()
    optimiser.step()
