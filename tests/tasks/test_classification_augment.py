"""Augmentation of batches beside torchvision's, image by image with the same drawn numbers."""

import pytest
import torch
from torchvision.transforms import functional as slow

from albench.tasks.classification.augment import colour, crop, cut_out
from albench.tasks.classification.cifar10 import Cifar10
from albench.tasks.classification.fashion_mnist import FashionMnist
from albench.tasks.classification.svhn import Svhn


def images(count, channels=3, height=8, width=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), generator=rng, dtype=torch.uint8)


def drawn_by(task, batch, seed=0):
    return task.draw_augmentation(batch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_every_crop_and_flip_is_torchvisions(pad):
    """All places and both sides, not a sample of them: `RandomCrop(side, padding=pad)` takes one of just these."""
    places = range(2 * pad + 1)
    every = [(top, left, flip) for top in places for left in places for flip in (False, True)]
    batch = images(len(every))
    found = crop(batch, pad, torch.tensor(every)[:, :2].T, torch.tensor([flip for *_, flip in every]))
    for image, (top, left, flip), ours in zip(batch, every, found, strict=True):
        right = slow.crop(slow.pad(image, [pad] * 4), top, left, 8, 6)
        assert torch.equal(ours, slow.hflip(right) if flip else right)


def test_crops_and_flips_are_drawn_evenly_and_each_by_itself():
    task = Cifar10(pad=1)
    drawn = drawn_by(task, {"image": images(18_000, 1, 1, 1)})
    cells = drawn["shift"][0] * 6 + drawn["shift"][1] * 2 + drawn["flip"]
    counts = torch.bincount(cells, minlength=18).float()
    assert len(counts) == 18  # 3 × 3 places, two sides
    assert ((counts - 1000) ** 2 / 1000).sum() < 40.8  # χ² of 17 degrees of freedom beyond .001
    assert "flip" not in drawn_by(Svhn(), {"image": images(4)})


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_torchvisions(channels):
    batch = images(6, channels).float() / 255
    factor = torch.tensor([[0.6, 1.4, 1, 0.7, 1.3, 0], [1, 0.6, 1.4, 1.2, 0.8, 1], [1, 1, 0.6, 1.4, 1.1, 0]])
    for image, (brightness, contrast, saturation), ours in zip(batch, factor.T, colour(batch, factor), strict=True):
        right = slow.adjust_contrast(slow.adjust_brightness(image, brightness), contrast)
        right = slow.adjust_saturation(right, saturation) if channels == 3 else right
        assert torch.allclose(ours, right, atol=1e-6)


def test_a_hole_is_a_clipped_square():
    batch = torch.ones(48, 3, 8, 6)
    centre = torch.cartesian_prod(torch.arange(8), torch.arange(6)).T
    for (row, column), ours in zip(centre.T.tolist(), cut_out(batch, centre), strict=True):
        top, left = max(0, row - 2), max(0, column - 1)
        right = slow.erase(torch.ones(3, 8, 6), top, left, min(8, row + 2) - top, min(6, column + 1) - left, 0)
        assert torch.equal(ours, right)


@pytest.mark.parametrize("task", [Cifar10, Svhn, FashionMnist])
def test_the_strong_augmentation_is_crop_flip_colour_and_hole_in_this_order(task):
    task = task(augmentation="crop-flip-colour-cutout", pad=2)
    batch = {"image": images(5, len(task.mean), 8, 8), "label": torch.arange(5)}
    drawn = drawn_by(task, batch)
    assert drawn["colour"].shape == (3, 5)
    assert 0.6 <= drawn["colour"].min() < 0.9 < 1.1 < drawn["colour"].max() <= 1.4
    found = task.apply_augmentation(batch, drawn)
    assert torch.equal(found["label"], batch["label"])
    for n, image in enumerate(batch["image"]):
        top, left = drawn["shift"][:, n].tolist()
        right = slow.crop(slow.pad(image, [2] * 4), top, left, 8, 8)
        right = slow.hflip(right) if task.flips and drawn["flip"][n] else right
        right = right.float() / 255
        brightness, contrast, saturation = drawn["colour"][:, n]
        right = slow.adjust_contrast(slow.adjust_brightness(right, brightness), contrast)
        right = slow.adjust_saturation(right, saturation) if len(task.mean) == 3 else right
        right = slow.normalize(right, task.mean, task.std)
        row, column = drawn["centre"][:, n].tolist()
        top, left = max(0, row - 2), max(0, column - 2)
        right = slow.erase(right, top, left, min(8, row + 2) - top, min(8, column + 2) - left, 0)
        assert torch.allclose(found["image"][n], right, atol=1e-5)


def test_the_plain_augmentation_draws_what_it_always_drew():
    """The numbers of crop and flip come first, so that the stronger one begins with the same crops."""
    batch = {"image": images(7)}
    plain, strong = drawn_by(Cifar10(), batch), drawn_by(Cifar10(augmentation="crop-flip-colour-cutout"), batch)
    assert plain.keys() == {"shift", "flip"}
    assert all(torch.equal(plain[name], strong[name]) for name in plain)
