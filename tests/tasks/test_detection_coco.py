"""COCO's mean average precision on cases worked by hand, in albench's pixel convention."""

import numpy as np
import pytest
import torch

from albench.tasks.detection.coco_map import coco_map
from albench.tasks.detection.metric import Boxes
from albench.tasks.detection.scenes import DigitScenes


def boxes(rows):
    """(sample, label, box, weight) rows → flat arrays."""
    sample, label, box, weight = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Boxes(
        np.array(sample, int), np.array(label, int), np.array(box, float).reshape(-1, 4), np.array(weight, float)
    )


A, FAR = (1, 1, 100, 100), (301, 301, 400, 400)
SIXTY = (1, 1, 100, 60)
HALF = (1, 1, 100, 74)  # 7,400 of 10,000 inclusive pixels: IoU .74


@pytest.mark.parametrize(
    ("found", "truth", "overall", "at_50", "at_75"),
    [
        ([(0, 0, A, 0.9)], [(0, 0, A, 0)], 1, 1, 1),
        ([(0, 0, HALF, 0.9)], [(0, 0, A, 0)], 0.5, 1, 0),  # .5, .55, .6, .65, .7 of ten thresholds
        ([(0, 0, SIXTY, 0.9)], [(0, 0, A, 0)], 0.3, 1, 0),  # exactly .6 reaches .6, which 32 bits would make .60000002
        ([(0, 0, A, 0.9), (0, 0, A, 0.8)], [(0, 0, A, 0)], 1, 1, 1),  # a duplicate behind the hit costs nothing
        ([(0, 0, FAR, 0.9), (0, 0, A, 0.8)], [(0, 0, A, 0)], 0.5, 0.5, 0.5),
        ([], [(0, 0, A, 0)], 0, 0, 0),
        ([(1, 0, FAR, 0.9), (1, 0, FAR, 0.8), (0, 0, A, 0.5)], [(0, 0, A, 0), (1, 0, FAR, 1)], 1, 1, 1),  # difficult
        ([(0, 1, A, 0.9), (0, 0, A, 0.8)], [(0, 0, A, 0)], 1, 1, 1),  # a class without objects is left out
        ([(2, 0, A, 0.9)], [(0, 0, A, 0), (2, 1, A, 0)], 0, 0, 0),
    ],
)
def test_cases(found, truth, overall, at_50, at_75):
    numbers = coco_map(boxes(found), boxes(truth), images=3)
    values = [numbers[name] for name in ("coco-map", "coco-map@0.5", "coco-map@0.75")]
    assert values == pytest.approx([overall, at_50, at_75], abs=0.006)  # 101 recall points


def test_nothing_that_counts_has_no_number():
    assert coco_map(boxes([(0, 0, A, 0.9)]), boxes([(0, 0, A, 1)]), 1) == {}


def test_a_task_measures_it_where_it_is_asked_to():
    plain = DigitScenes(pool=1, test=4)
    data = plain.load(None)
    batch = plain.prepare(data.test.batch(torch.arange(4)))
    logits = torch.nn.functional.one_hot(batch["matched"], len(data.classes) + 1) * 20.0
    raw = {"logits": logits, "offsets": batch["offsets"]}
    assert not any("coco" in name for name in plain.measure([(raw, batch)], data.classes)[0])
    numbers, _ = plain.model_copy(update={"coco_metrics": True}).measure([(raw, batch)], data.classes)
    assert 0.8 < numbers["coco-map"] <= numbers["coco-map@0.5"] <= 1
