"""Boxes, default boxes, matching and the loss, against slow references and torchvision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from albench.tasks.detection.boxes import centres, corners, decode, default_boxes, encode, iou, match
from albench.tasks.detection.loss import multibox_loss, scale
from albench.tasks.detection.network import SSD300, compact_grids


def random_boxes(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(*shape, 2, generator=rng) * 0.7
    return torch.cat((low, low + 0.05 + torch.rand(*shape, 2, generator=rng) * 0.25), -1)


def test_ssd300_has_8732_default_boxes_as_torchvision_lays_them():
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.image_list import ImageList

    boxes = default_boxes(SSD300)
    assert boxes.shape == (8732, 4)
    theirs = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[s / 300 for s in (30, 60, 111, 162, 213, 264, 315)],
        steps=[8, 16, 32, 64, 100, 300],
    )
    maps = [torch.zeros(1, 1, g.cells, g.cells) for g in SSD300]
    pixels = theirs(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), maps)[0]
    torch.testing.assert_close(corners(boxes), pixels / 300, atol=1e-5, rtol=0)


def test_compact_maps_halve_until_three():
    assert [g.cells for g in compact_grids(48)] == [6, 3]
    assert [g.cells for g in compact_grids(160)] == [20, 10, 5, 3]
    assert len(default_boxes(compact_grids(48))) == (36 + 9) * 4


def test_round_trips():
    boxes, defaults = random_boxes(50), default_boxes(compact_grids(48))[:50]
    torch.testing.assert_close(corners(centres(boxes)), boxes)
    torch.testing.assert_close(decode(encode(boxes, defaults), defaults), boxes)


def test_iou_equals_torchvision_and_survives_empty_boxes():
    from torchvision.ops import box_iou

    a, b = random_boxes(2, 7), random_boxes(2, 5, seed=1)
    for row in range(2):
        torch.testing.assert_close(iou(a, b)[row], box_iou(a[row], b[row]))
    assert iou(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [[0]]


def slow_match(boxes, labels, defaults):
    """One image: every default box by the rule's words."""
    found, offsets = torch.zeros(len(defaults), dtype=torch.int64), torch.zeros(len(defaults), 4)
    real = [g for g in range(len(labels)) if labels[g] >= 0]
    overlap = iou(boxes, corners(defaults))
    claims = {}
    for g in real:
        d = int(overlap[g].argmax())
        if d not in claims or overlap[g, d] > overlap[claims[d], d]:
            claims[d] = g
    for d in range(len(defaults)):
        g = claims.get(d)
        if g is None and real:
            best = max(real, key=lambda g: float(overlap[g, d]))
            g = best if overlap[best, d] > 0.5 else None
        if g is not None:
            found[d], offsets[d] = labels[g] + 1, encode(boxes[g], defaults[d])
    return found, offsets


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), padding=st.integers(0, 5))
def test_matching_equals_the_slow_reference(seed, padding):
    defaults, boxes = default_boxes(compact_grids(48)), random_boxes(2, 5, seed=seed)
    labels = torch.randint(3, (2, 5), generator=torch.Generator().manual_seed(seed))
    labels[0, 5 - padding :] = -1
    found, offsets = match(boxes, labels, defaults)
    for row in range(2):
        slow = slow_match(boxes[row], labels[row], defaults)
        assert torch.equal(found[row], slow[0])
        torch.testing.assert_close(offsets[row], slow[1])


def test_padding_matches_nothing():
    found, offsets = match(torch.zeros(1, 2, 4), torch.full((1, 2), -1), default_boxes(compact_grids(48)))
    assert not found.any()
    assert not offsets.any()


def batch(seed=0, images=4, boxes=40, classes=3):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, boxes, classes + 1, generator=rng)
    matched = torch.randint(-8, classes + 1, (images, boxes), generator=rng).clamp(min=0)
    matched[1] = 0
    return logits, torch.randn(images, boxes, 4, generator=rng), matched, torch.randn(images, boxes, 4, generator=rng)


def slow_loss(logits, offsets, matched, targets):
    """One image, box by box."""
    total, negatives = 0.0, []
    for d in range(len(matched)):
        entropy = F.cross_entropy(logits[d], matched[d])
        if matched[d]:
            total = total + entropy + F.smooth_l1_loss(offsets[d], targets[d], reduction="sum")
        else:
            negatives.append(entropy)
    count = 3 * int((matched > 0).sum())
    return total + sum(sorted(negatives, reverse=True)[:count])


@pytest.mark.parametrize("training", [False, True])  # the hardest negatives are found in another way
def test_loss_equals_the_slow_reference_image_by_image(training):
    logits, *others = batch()
    parts = (logits.requires_grad_(training), *others)
    fast = multibox_loss(*parts)
    assert fast[1] == 0  # no object: no loss, and no NaN
    for row in range(4):
        torch.testing.assert_close(fast[row], torch.as_tensor(slow_loss(*(p[row] for p in parts))))
        torch.testing.assert_close(multibox_loss(*(p[row : row + 1] for p in parts))[0], fast[row])


def test_scaled_mean_is_ssds_objective():
    parts = batch()
    objective = multibox_loss(*parts).sum() / (parts[2] > 0).sum()
    torch.testing.assert_close((multibox_loss(*parts) * scale(parts[2])).mean(), objective)
    assert scale(torch.zeros(4, 9)) == 4


def test_objective_equals_torchvisions():
    """Its SSD mines image by image too, and divides by the batch's matches."""
    from types import SimpleNamespace

    from torchvision.models.detection.ssd import SSD

    logits, offsets, _, _ = batch()
    defaults = default_boxes(compact_grids(48))[:40]
    truth, labels = random_boxes(4, 3), torch.zeros(4, 3, dtype=torch.int64)
    matched, targets = match(truth, labels, defaults)
    rows = [torch.where(m > 0, iou(t, corners(defaults)).argmax(0), -1) for m, t in zip(matched, truth, strict=True)]
    for row, chosen in enumerate(rows):  # their coder takes the matched box's number: find it from the offsets
        for d in (chosen >= 0).nonzero()[:, 0].tolist():
            chosen[d] = min(
                range(3), key=lambda g: float((encode(truth[row, g], defaults[d]) - targets[row, d]).abs().sum())
            )
    from torchvision.models.detection._utils import BoxCoder

    ssd = SimpleNamespace(box_coder=BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3)
    anchors = [corners(defaults)] * 4
    told = [{"boxes": t, "labels": n + 1} for t, n in zip(truth, labels, strict=True)]
    theirs = SSD.compute_loss(ssd, told, {"bbox_regression": offsets, "cls_logits": logits}, anchors, rows)
    ours = (multibox_loss(logits, offsets, matched, targets) * scale(matched)).mean()
    torch.testing.assert_close(ours, sum(theirs.values()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_is_fp32_and_has_a_gradient(dtype):
    logits, offsets, matched, targets = batch()
    logits = logits.to(dtype).requires_grad_()
    loss = multibox_loss(logits, offsets.to(dtype), matched, targets)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[1].any()
