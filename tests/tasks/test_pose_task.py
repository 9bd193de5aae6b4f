"""What every pose task shares: augmentation, losses, distributions, the network."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from albench.tasks.pose import augment, heatmaps
from albench.tasks.pose.figures import Figures
from albench.tasks.pose.hourglass import StackedHourglass
from albench.tasks.pose.skeleton import LSP

NAMES = LSP.names


def dots(task, count=6, seed=0):
    """Images with a coloured dot at each joint, the colour telling which joint; joints not too near the edge."""
    rng = torch.Generator().manual_seed(seed)
    side = task.stored
    joints = side * (0.3 + 0.4 * torch.rand(count, 14, 2, generator=rng))
    axis = torch.arange(side) + 0.5
    near = torch.exp(
        -((axis.view(1, 1, 1, -1) - joints[..., :1, None]) ** 2 + (axis.view(1, 1, -1, 1) - joints[..., 1:, None]) ** 2)
        / 18
    )
    return joints, (near * 255).to(torch.uint8)  # one channel a joint


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_keeps_joints_on_their_dots(flip):
    task = Figures(size=64, stride=2, depth=1)
    joints, maps = dots(task)
    flips = torch.full((6,), flip)
    scale = torch.tensor([1, 1, 0.8, 1.2, 0.75, 1.25])
    angle = torch.tensor([0, 0.5, 0, 0, -0.5, 0.3])
    matrix = augment.similarity(scale, angle, flips)
    image = augment.warp_images(maps.float(), matrix, task.size)
    moved = augment.warp_joints(joints, matrix, task.stored, task.size)
    found = heatmaps.decode(image)
    assert (found - moved).abs().max() < 1.0


def test_a_still_image_is_its_own_middle():
    images = torch.rand(2, 3, 40, 40)
    still = torch.ones(2), torch.zeros(2), torch.zeros(2, dtype=torch.bool)
    assert torch.allclose(
        augment.warp_images(images, augment.similarity(*still), 32), images[:, :, 4:36, 4:36], atol=1e-5
    )


def test_a_flip_mirrors_the_image_and_swaps_left_and_right():
    task = Figures(size=32, rotation=0, scaling=0, flip=True, seed=100, pool=64, test=2)
    batch = task.load(None).pool.batch(torch.arange(64))
    batch["visible"][:, NAMES.index("left wrist")] = False
    plain, other = task.prepare(batch), task.augment(batch, torch.Generator().manual_seed(0))
    flipped = (other["image"] - plain["image"]).abs().amax((1, 2, 3)) > 1e-3
    assert 16 < int(flipped.sum()) < 48
    assert torch.allclose(other["image"][flipped], plain["image"][flipped].flip(3), atol=1e-4)
    knee, mirror = NAMES.index("left knee"), NAMES.index("right knee")
    x, y = plain["joints"][flipped][:, mirror].unbind(-1)
    assert torch.allclose(other["joints"][flipped][:, knee], torch.stack([32 - x, y], -1), atol=1e-4)
    assert not other["visible"][flipped][:, NAMES.index("right wrist")].any()
    assert other["visible"][flipped][:, NAMES.index("left wrist")].all()
    assert torch.equal(other["joints"][~flipped], plain["joints"][~flipped])


def test_augmentation_comes_from_the_generator_alone():
    task = Figures(pool=8, test=2)
    batch = task.load(None).pool.batch(torch.arange(8))
    one, two = (task.augment(batch, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["image"], task.augment(batch, torch.Generator().manual_seed(4))["image"])


def test_candidates_without_labels_give_the_same_images():
    task = Figures(pool=8, test=2)
    pool, rows = task.load(None).pool, torch.arange(8)
    for make in (task.prepare, lambda batch: task.augment(batch, torch.Generator().manual_seed(1))):
        hidden, shown = make(pool.batch(rows, hidden=True)), make(pool.batch(rows))
        assert set(hidden) == {"image"}
        assert torch.equal(hidden["image"], shown["image"])


def slow_loss(task, maps, batch):
    losses = []
    for b in range(len(maps)):
        each = []
        for j in range(maps.shape[2]):
            x, y = (batch["joints"][b, j] / task.stride).tolist()
            if not batch["visible"][b, j] or not (0 <= x < task.cells and 0 <= y < task.cells):
                continue
            total = 0.0
            for stack in range(maps.shape[1]):
                m = maps[b, stack, j]
                if task.heatmap_loss == "cross-entropy":
                    total += float(torch.logsumexp(m.flatten(), 0) - m[int(y), int(x)])
                else:
                    for row in range(task.cells):
                        for column in range(task.cells):
                            squared = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
                            target = math.exp(-squared / (2 * task.sigma**2))
                            total += (float(m[row, column]) - target) ** 2 / task.cells**2
            each.append(total)
        losses.append(sum(each) / len(each) if each else 0.0)
    return losses


@pytest.mark.parametrize("kind", ["mse", "cross-entropy"])
def test_losses_are_the_slow_ones_and_each_sample_s_own(kind):
    task = Figures(heatmap_loss=kind, stacks=2, size=16, depth=1, pool=4, test=2)
    batch = task.load(None).pool.batch(torch.arange(4))
    batch["visible"][1, 3:9] = False
    batch["visible"][2] = False
    batch["joints"][3, 0] = -5.0  # off the map
    batch["joints"][0, 1] = torch.nan
    batch["visible"][0, 1] = False
    prepared = task.prepare(batch)
    maps = torch.randn(4, 2, 14, task.cells, task.cells, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = task.losses({"maps": maps}, prepared)
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx(slow_loss(task, maps.detach(), prepared), rel=1e-4)
    assert losses[2] == 0
    alone = task.losses({"maps": maps[1:2]}, {name: value[1:2] for name, value in prepared.items()})
    assert torch.allclose(alone, losses[1:2])
    losses.sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert maps.grad[2].abs().sum() == 0


@pytest.mark.parametrize("kind", ["mse", "cross-entropy"])
def test_two_peaks_and_a_blur_are_less_certain_than_one_sharp_peak(kind):
    task = Figures(heatmap_loss=kind)
    at = torch.full((1, 14, 2), 4.5)
    sharp, blurred = (heatmaps.gaussians(at, 16, 16, sigma) for sigma in (1.0, 2.5))
    other = heatmaps.gaussians(at + 7, 16, 16, 1.0)
    maps = torch.cat([sharp, torch.maximum(sharp, other), blurred])
    if kind == "cross-entropy":
        maps = maps * 12  # logits
    prediction = task.predict({"maps": maps.unsqueeze(1)})
    one, two, blur = prediction.entropy().tolist()
    assert one + 0.1 < two
    assert one + 0.1 < blur
    assert prediction.logp.shape == (3, 14, 256)
    assert prediction.grid == (16, 16)
    assert torch.allclose(prediction.logp.exp().sum(2), torch.ones(3, 14), atol=1e-5)
    assert prediction.confidence()[0] > prediction.confidence()[1:].max()


def test_the_softmax_of_regressed_maps_is_kept_beside_their_distribution():
    maps = torch.rand(2, 1, 14, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.3
    prediction = Figures(heatmap_loss="mse").predict({"maps": maps})
    assert prediction.softmax_logp is not None
    assert torch.allclose(prediction.softmax_logp, maps[:, 0].double().flatten(2).log_softmax(2))
    assert prediction.entropy().isfinite().all()
    assert prediction.entropy(raw=True).min() > prediction.entropy().max()


def test_entropies_of_nearly_uniform_maps_differ_by_more_than_rounding():
    """A regressed map is between 0 and 1 at one of 4,096 cells: in fp32 a tenth of the entropies would be apart."""
    peaks = torch.linspace(0.5, 0.9, 1000)
    maps = torch.zeros(1000, 1, 14, 64, 64)
    maps[..., 32, 32] = peaks[:, None, None]
    entropy = Figures(heatmap_loss="mse").predict({"maps": maps}).entropy(raw=True)
    assert (entropy.diff() < 0).all()


def test_the_paper_s_network_has_the_paper_s_shapes():
    model = StackedHourglass(14, stacks=2, depth=4, width=256, stride=4).eval()
    with torch.no_grad():
        raw = model(torch.zeros(1, 3, 256, 256))
    assert raw["maps"].shape == (1, 2, 14, 64, 64)
    assert [tuple(f.shape) for f in raw["features"]] == [(1, 256, 64, 64)] * 2
    assert 6e6 < sum(p.numel() for p in model.parameters()) < 7e6  # 6.7 million are reported of two stacks


def test_features_embedding_and_dropout():
    task = Figures.model_validate({"pool": 4, "test": 2, "stacks": 2, "width": 8, "dropout": 0.5})
    data = task.load(None)
    model = task.build(data.classes).eval()
    image = task.prepare(data.pool.batch(torch.arange(4)))["image"]
    raw = model(image)
    assert [tuple(f.shape) for f in task.features(raw)] == [(4, 8, 16, 16)] * 2
    assert torch.allclose(task.embedding(raw), raw["features"][1].mean((2, 3)))
    assert task.can == {"dropout"}
    assert Figures().can == frozenset()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.train()
    assert not torch.equal(model(image)["maps"], model(image)["maps"])


def test_sizes_that_do_not_halve_are_refused():
    with pytest.raises(ValidationError, match="no multiple of stride"):
        Figures(size=30)


@pytest.mark.parametrize(("kind", "rate", "updates"), [("cross-entropy", 0.01, 150), ("mse", 0.01, 400)])
def test_eight_figures_are_learned_by_heart(kind, rate, updates):
    torch.manual_seed(0)
    task = Figures(pool=8, test=8, heatmap_loss=kind, seed=100)
    data = task.load(None)
    batch = task.prepare(data.pool.batch(torch.arange(8)))
    model = task.build(data.classes)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    scale = 1 if kind == "cross-entropy" else 100
    for _ in range(updates):
        optimiser.zero_grad()
        (scale * task.losses(model(batch["image"]), batch).mean()).backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        values, outcomes = task.measure([(model(batch["image"]), batch)], data.classes)
    assert values["pck@0.2"] > 0.95
    assert values["pckh-neck@0.5"] > 0.95
    assert outcomes["loss"].shape == (8,)
    stored = data.pool.targets["joints"].numpy()
    assert np.median(np.abs(outcomes["predicted"] - stored)) < 1.0  # in pixels of the stored image


def test_a_flip_test_measures_on_both_images_and_nothing_else_sees_it():
    """A network that finds a joint only where it is bright: mirrored, the other side's joint is the one it finds."""
    task = Figures(pool=4, test=2, flip_test=True)
    batch = task.prepare(task.load(None).pool.batch(torch.arange(4)))
    left, right = LSP.names.index("left knee"), LSP.names.index("right knee")

    def forward(ready):
        maps = torch.zeros(len(ready["image"]), 1, 14, task.cells, task.cells)
        maps[:, 0, left] = torch.nn.functional.avg_pool2d(ready["image"].mean(1), task.stride)
        return {"maps": maps, "features": [maps[:, 0]]}

    plain = task.model_copy(update={"flip_test": False}).outputs(forward, batch)
    raw = task.outputs(forward, batch)
    assert torch.equal(raw["maps"], plain["maps"])
    assert torch.equal(task.losses(raw, batch), task.losses(plain, batch))
    # What the mirrored image shows at its left knee is the right knee of the image as it is.
    torch.testing.assert_close(raw["mirrored"][:, right], plain["maps"][:, 0, left])
    assert raw["mirrored"][:, left].abs().sum() == 0
    torch.testing.assert_close(task.joints(raw)[:, right], task.joints(plain)[:, left])
    assert "mirrored" not in plain


def test_a_network_that_mirrors_well_gains_nothing_from_a_flip_test():
    task = Figures(pool=4, test=2, flip_test=True)
    batch = task.prepare(task.load(None).pool.batch(torch.arange(4)))
    maps = torch.rand(4, 1, 14, task.cells, task.cells, generator=torch.Generator().manual_seed(0))

    def forward(ready):
        mirrored = not torch.equal(ready["image"], batch["image"])
        return {"maps": maps[:, :, list(LSP.mirrored)].flip(-1) if mirrored else maps}

    assert torch.equal(task.joints(task.outputs(forward, batch)), heatmaps.decode(maps[:, 0]) * task.stride)
