"""Detections from scores, beside the obvious loop over images and classes."""

import pytest
import torch

from albench.tasks.detection import suppression
from albench.tasks.detection.suppression import detections


def iou(a, b):
    inter = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod()
    return inter / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter)


def one_by_one(scores, boxes):
    found = []
    for row in range(len(scores)):
        of_image = []
        for label in range(scores.shape[2]):
            order = scores[row, :, label].argsort(descending=True)
            order = [i for i in order.tolist() if scores[row, i, label] > 0.01][: suppression.PER_CLASS]
            kept = []
            for i in order:
                if all(iou(boxes[row, i], boxes[row, j]) <= 0.45 for j in kept):
                    kept.append(i)
            of_image += [(float(scores[row, i, label]), label, boxes[row, i]) for i in kept]
        best = sorted(of_image, key=lambda one: -one[0])[: suppression.PER_IMAGE]
        found += [(row, label, score, box.tolist()) for score, label, box in best]
    return found


def made(images, count, classes, high, spread, device="cpu"):
    rng = torch.Generator().manual_seed(0)
    corner = torch.rand(images, count, 2, generator=rng) * spread
    boxes = torch.cat([corner, corner + 0.1 + 0.1 * torch.rand(images, count, 2, generator=rng)], 2)
    return (torch.rand(images, count, classes, generator=rng) * high).to(device), boxes.to(device)


def listed(found):
    row, label, score, box = (part.tolist() for part in found)
    return list(zip(row, label, score, box, strict=True))


@pytest.mark.parametrize(
    ("count", "high", "spread", "limits"),
    [
        (30, 0.02, 0.4, {}),  # half of the scores are too low
        (30, 0.5, 0.9, {"PER_IMAGE": 7, "FIRST": 20}),  # the first are enough
        (30, 0.5, 0.02, {"PER_IMAGE": 7, "FIRST": 20}),  # all in one heap: the first are not
        (30, 0.5, 0.9, {"PER_CLASS": 3}),
        (30, 0.5, 0.9, {"PER_CLASS": 5, "PER_IMAGE": 12, "FIRST": 13}),
        (30, 0.5, 0.4, {"CPU_TOGETHER": 1}),  # each class by itself
        (30, 0.5, 0.4, {"CPU_TOGETHER": 50}),  # two classes at once
        (30, 0.5, 0.4, {"CPU_TOGETHER": 1000}),  # all images at once
        (5, 0.009, 0.4, {}),  # nothing at all
    ],
)
@pytest.mark.parametrize("many", [0, 1])  # above one path is taken, below the other
def test_detections_are_those_of_the_obvious_way(monkeypatch, count, high, spread, limits, many):
    for name, value in (limits | {"MANY": many}).items():
        monkeypatch.setattr(suppression, name, value)
    scores, boxes = made(3, count, 4, high, spread)
    assert listed(detections(scores, boxes)) == one_by_one(scores, boxes)


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    scores, boxes = made(8, 2000, 20, 0.2, 0.8)
    order = torch.randperm(scores.numel(), generator=torch.Generator().manual_seed(1))
    scores = (0.2 * order.double() / scores.numel()).float().view_as(scores)  # no two are equal: ties have no order
    assert len(scores.unique()) == scores.numel()
    here, there = detections(scores, boxes), detections(scores.cuda(), boxes.cuda())
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))
