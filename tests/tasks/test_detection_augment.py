"""Augmentation keeps boxes on their objects."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from albench.tasks.detection.augment import Policy, augment, colour, crop, distort, draw, look, move

MEAN = torch.tensor([0.482, 0.459, 0.408])

BOXES = torch.tensor([[[0.1, 0.2, 0.4, 0.5], [0.6, 0.5, 0.9, 0.9]]])


def painted(count=64, side=100):
    """Black images with a rectangle of value 1 and one of value 2; boxes and labels 0 and 1."""
    image = torch.zeros(count, 3, side, side)
    for value, (x1, y1, x2, y2) in enumerate(BOXES[0].tolist(), start=1):
        image[:, :, round(y1 * side) : round(y2 * side), round(x1 * side) : round(x2 * side)] = value
    return image, BOXES.repeat(count, 1, 1), torch.tensor([[0, 1]]).repeat(count, 1)


def extent(mask):
    """(x1, y1, x2, y2) of the true cells of a map [H, W], in pixels."""
    columns, rows = mask.any(0).nonzero()[:, 0], mask.any(1).nonzero()[:, 0]
    return torch.stack((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)).float()


@pytest.mark.parametrize("policy", [Policy(photometric=0), Policy(1, 1, True, 0), Policy(1.5, 0.6, False, 0)])
def test_boxes_stay_on_the_painted_objects(policy):
    image, boxes, labels = painted()
    drawn = draw(64, policy, torch.Generator().manual_seed(3))
    seen, moved, kept = augment(image, boxes, labels, 80, policy, drawn, MEAN)
    assert seen.shape == (64, 3, 80, 80)
    assert (kept >= 0).any(1).all()  # no crop loses every object
    assert (moved - BOXES).abs().amax((1, 2)).gt(0.01).sum() > 10
    for row in range(64):
        # The second object's value is 2, so that what is above 1.5 is the second object and nothing else.
        paint = seen[row, 0] > 1.5
        if kept[row, 1] >= 0:
            torch.testing.assert_close(extent(paint), moved[row, 1] * 80, atol=1.5, rtol=0)
        x1, y1, x2, y2 = (moved[row, 0] * 80).round().int().tolist()
        if kept[row, 0] >= 0 and x2 - x1 > 10 and y2 - y1 > 10:
            inside = seen[row, 0, y1 + 4 : y2 - 4, x1 + 4 : x2 - 4]
            torch.testing.assert_close(inside, torch.ones_like(inside), atol=1e-3, rtol=0)


def test_mirror_alone():
    image, boxes, labels = painted(2)
    region, flip = torch.tensor([[0.0, 0, 1, 1]] * 2), torch.tensor([True, False])
    seen = look(image, region, flip, 100)
    torch.testing.assert_close(seen[0], image[0].flip(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[1], image[1], atol=1e-4, rtol=0)
    moved, kept = move(boxes, labels, region, flip)
    torch.testing.assert_close(moved[0, 0], torch.tensor([0.6, 0.2, 0.9, 0.5]))
    torch.testing.assert_close(moved[1], BOXES[0])
    assert torch.equal(kept, labels)


def test_expanding_fills_with_the_mean_and_crops_keep_an_overlap():
    rng = torch.Generator().manual_seed(0)
    drawn = draw(500, Policy(), rng)
    canvas = drawn.canvas
    side = canvas[:, 2] - canvas[:, 0]
    assert ((canvas[:, :2] <= 0) & (canvas[:, 2:] >= 1 - 1e-6)).all()
    assert 0.4 < (side > 1).float().mean() < 0.6
    assert side.max() <= 4
    boxes, labels = BOXES.repeat(500, 1, 1), torch.tensor([[0, -1]]).repeat(500, 1)
    region = crop(canvas, boxes, labels, drawn.share, drawn.corner, drawn.lot)
    centre = (BOXES[0, 0, :2] + BOXES[0, 0, 2:]) / 2  # the second box is padding: it holds no crop
    assert ((region[:, :2] < centre) & (region[:, 2:] > centre)).all()
    seen = look(torch.ones(500, 1, 8, 8), canvas, torch.zeros(500, dtype=torch.bool), 32)
    share = (seen > 0.5).float().mean((1, 2, 3))
    torch.testing.assert_close(share, 1 / side**2, atol=0.08, rtol=0)


def slow_sampler(canvas, boxes, labels, share, corner, lot):
    """SSD's batch sampler: for each minimum the first crop that reaches it, and the whole; one of those found."""
    found = []
    for minimum in (0, 0.1, 0.3, 0.5, 0.7, 0.9):
        for (wide, high), low in zip(share, corner, strict=True):
            side = canvas[2:] - canvas[:2]
            start = canvas[:2] + low * side
            tried = torch.cat((start, start + torch.stack((wide, high)) * side))
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2
            own = boxes[(labels >= 0) & (middle > tried[:2]).all(1) & (middle < tried[2:]).all(1)]
            if 0.5 < wide / high < 2 and (box_iou(tried[None], own) >= minimum).any():
                found.append((lot[len(found)], tried))
                break
        else:
            lot = torch.cat((lot[: len(found)], lot[len(found) + 1 :]))
    return max([*found, (lot[len(found)], canvas)], key=lambda kind: kind[0])[1]


def test_crops_are_those_of_ssds_batch_sampler():
    """A minimum that no crop reaches must not count as the whole canvas: half of the images would keep it."""
    count, rng = 60, torch.Generator().manual_seed(0)
    drawn = draw(count, Policy(), rng)
    low = torch.rand(count, 2, 2, generator=rng) * 0.6
    boxes = torch.cat((low, low + 0.05 + 0.35 * torch.rand(count, 2, 2, generator=rng)), 2)
    labels = torch.tensor([[0, 1], [2, -1]]).repeat(count // 2, 1)
    seen = crop(drawn.canvas, boxes, labels, drawn.share, drawn.corner, drawn.lot)
    each = zip(drawn.canvas, boxes, labels, drawn.share, drawn.corner, drawn.lot, strict=True)
    torch.testing.assert_close(seen, torch.stack([slow_sampler(*one) for one in each]))
    assert 0 < (seen == drawn.canvas).all(1).sum() < count / 2


def test_without_objects_the_canvas_stays_whole():
    rng = torch.Generator().manual_seed(0)
    drawn = draw(20, Policy(), rng)
    nothing = torch.zeros(20, 1, 4), torch.full((20, 1), -1)
    region = crop(drawn.canvas, *nothing, drawn.share, drawn.corner, drawn.lot)
    assert torch.equal(region, drawn.canvas)


def test_colours_turn_about_grey():
    rng = torch.Generator().manual_seed(0)
    grey = torch.full((200, 3, 1, 1), 0.5) - MEAN[:, None, None]
    changed = (colour(grey, draw(200, Policy(), rng).amount, MEAN) + MEAN[:, None, None])[:, :, 0, 0]
    torch.testing.assert_close(changed, changed[:, :1].expand(-1, 3))  # grey stays grey under hue and saturation
    assert 0.1 < changed.std() < 0.3
    assert changed.min() >= (0.5 - 32 / 255) * 0.5 - 1e-6
    assert torch.allclose(colour(grey, torch.zeros(4, 200), MEAN), grey)
    assert colour(torch.rand(4, 1, 5, 5), torch.rand(4, 4), torch.zeros(1)).shape == (4, 1, 5, 5)


def slow_distortion(pixel, bright, contrast, hue, saturation):
    """The distortion of one pixel in fractions of white, step by step: hue through HSV, as in SSD.

    Saturation is about the mean of the channels, where SSD scales HSV's.
    """
    pixel = [(value + bright) * contrast for value in pixel]
    h, s, v = colorsys.rgb_to_hsv(*pixel)
    pixel = colorsys.hsv_to_rgb((h + hue / (2 * math.pi)) % 1, s, v)
    grey = sum(pixel) / 3
    return [min(max(grey + saturation * (value - grey), 0), 1) for value in pixel]


@pytest.mark.parametrize(
    ("bright", "contrast", "hue", "saturation", "tolerance"),
    [
        (0.1, 1.0, 0.0, 1.0, 1e-5),
        (-0.12, 1.0, 0.0, 1.0, 1e-5),
        (0.0, 1.5, 0.0, 1.0, 1e-5),
        (0.0, 0.5, 0.0, 1.0, 1e-5),
        (0.1, 0.6, 0.0, 1.4, 1e-5),
        (0.0, 1.0, math.pi / 10, 1.0, 0.06),  # a rotation about grey is not quite one in HSV: of 255, at most 15
        (-0.05, 1.3, -math.pi / 10, 0.7, 0.06),
    ],
)
def test_colours_equal_the_slow_distortion_of_each_pixel(bright, contrast, hue, saturation, tolerance):
    """Contrast scales about black, not about the mean colour; saturation and hue tint nothing that is grey."""
    image = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2
    base = MEAN[:, None, None]
    amounts = [torch.tensor([value]) for value in (bright, contrast, hue, saturation)]
    seen = distort(image - base, *amounts, MEAN) + base
    slow = [slow_distortion(pixel, bright, contrast, hue, saturation) for pixel in image[0].flatten(1).T.tolist()]
    torch.testing.assert_close(seen[0].flatten(1).T, torch.tensor(slow), atol=tolerance, rtol=0)


def test_a_crop_shows_the_detail_that_is_stored():
    """A crop of .3 of a fine pattern, against the same crop of the original by Pillow; 104 px blur what 154 show."""
    side = 500
    y, x = np.mgrid[:side, :side]
    original = Image.fromarray((127 + 120 * np.sin(x / 2.2) * np.cos(y / 2.9)).astype(np.uint8))
    low = 0.35
    box = (low * side, low * side, (low + 0.3) * side, (low + 0.3) * side)
    wanted = torch.from_numpy(np.array(original.resize((300, 300), Image.Resampling.BILINEAR, box=box))).float()
    region = torch.tensor([[low, low, low + 0.3, low + 0.3]])
    error = {}
    for stored in (345, 512):
        kept = torch.from_numpy(np.array(original.resize((stored, stored), Image.Resampling.BILINEAR))).float()
        seen = look(kept[None, None], region, torch.tensor([False]), 300)
        error[stored] = (seen[0, 0] - wanted).abs().mean()
    assert error[512] < 0.4 * error[345]
    assert error[512] < 12
