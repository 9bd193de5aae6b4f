"""MPII's metrics: PCKh beside a slow loop over the original pixels, and the number that training codes log."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from albench.tasks.pose import metric
from albench.tasks.pose.mpii import MAT, Mpii
from albench.tasks.pose.skeleton import MPII


def slow_pckh(people, annolist, predicted, joint):
    """Hits and joints of one joint's PCKh@0.5, person by person, in original pixels."""
    hits = count = 0
    for one, found in zip(people, predicted, strict=True):
        if not one["joints_vis"][joint]:
            continue
        (box,) = [b for b in annolist[one["image"]] if b["at"] == tuple(one["center"])]
        head = 0.6 * math.hypot(box["x2"] - box["x1"], box["y2"] - box["y1"])
        count += 1
        hits += math.dist(found[joint], one["joints"][joint]) <= 0.5 * head
    return hits, count


def test_pckh_is_the_slow_one_on_the_original_files(tmp_path):
    task = Mpii.miniature(tmp_path)
    data = task.load(tmp_path)
    people = json.loads((tmp_path / "mpii/annot/train.json").read_text())
    annolist = {}
    for image in loadmat(tmp_path / "mpii" / MAT, squeeze_me=True, simplify_cells=True)["RELEASE"]["annolist"]:
        boxes = [b | {"at": (b["objpos"]["x"], b["objpos"]["y"])} for b in image["annorect"]]
        annolist[image["image"]["name"]] = boxes
    batch = task.prepare(data.pool.batch(torch.arange(24)))
    rng = torch.Generator().manual_seed(0)
    at = batch["joints"] + 3 * torch.randn(batch["joints"].shape, generator=rng)
    cells = torch.arange(16) * 2 + 1.0
    maps = -((cells - at[..., :1]).square()[:, :, None] + (cells - at[..., 1:]).square()[..., None])
    values, outcomes = task.measure([({"maps": maps.unsqueeze(1)}, batch)], data.classes)

    square = np.array([200 * one["scale"] * 1.25 for one in people])[:, None, None]
    middle = np.array([one["center"] for one in people])[:, None]
    predicted = (outcomes["predicted"] - task.stored / 2) * square / 32 + middle
    each = {j: slow_pckh(people, annolist, predicted, j) for j in range(16) if j not in (6, 7)}
    hits, count = np.sum(list(each.values()), 0)
    assert 0.2 < hits / count < 0.8
    assert values["pckh@0.5"] == pytest.approx(hits / count)
    for group, pair in {"head": (8, 9), "shoulder": (12, 13), "elbow": (11, 14), "wrist": (10, 15)}.items():
        assert values[f"pckh@0.5/{group}"] == pytest.approx(np.mean([each[j][0] / each[j][1] for j in pair]))
    for group, pair in {"hip": (2, 3), "knee": (1, 4), "ankle": (0, 5)}.items():
        assert values[f"pckh@0.5/{group}"] == pytest.approx(np.mean([each[j][0] / each[j][1] for j in pair]))
    assert "pckh@0.5/pelvis" not in values
    assert 0 < values["pckh-auc@0.5"] < values["pckh@0.5"]


def test_pckh_worked_by_hand():
    joints = np.zeros((1, 16, 2))
    predicted = joints.copy()
    head = np.array([0.6 * math.hypot(30, 40)])  # 30 pixels: within 15
    predicted[0, 0] = [9, 12]  # right ankle, 15 away: a hit
    predicted[0, 5] = [15.01, 0]  # left ankle: a miss
    predicted[0, 6] = [99, 99]  # pelvis: does not count
    (pck,) = Mpii.pcks
    visible = np.ones((1, 16), bool) & ~np.isin(np.arange(16), pck.left_out)
    errors = metric.relative_errors(predicted, joints, visible, head)
    values = metric.scores(pck.name, errors, pck.threshold, MPII.names, pck.groups)
    assert values["pckh@0.5"] == pytest.approx(13 / 14)
    assert values["pckh@0.5/ankle"] == 0.5
    assert values["pckh@0.5/right ankle"] == values["pckh@0.5/knee"] == 1
    assert values["pckh-auc@0.5"] == pytest.approx(12 / 14)  # 12 at distance 0, one at the very threshold, one beyond
    assert np.isnan(metric.relative_errors(predicted, joints, visible, np.array([0.0]))).all()  # no head box


def slow_tenth(predicted, joints, counted, which):
    values = []
    for j in which:
        hits = count = 0
        for n in range(len(joints)):
            if counted[n, j]:
                at, to = ([math.floor(v / 4) for v in p[n, j]] for p in (predicted, joints))
                count += 1
                hits += math.dist(at, to) <= 3.2  # cells: half a tenth of 64
        if count:
            values.append(hits / count)
    return sum(values) / len(values)


def test_the_number_that_training_codes_log_is_another_one():
    rng = np.random.default_rng(0)
    joints = rng.uniform(0, 256, (20, 16, 2))
    predicted = joints + rng.normal(0, 10, joints.shape)
    counted = rng.random((20, 16)) < 0.7
    counted[:, 3] = False
    which = (0, 1, 2, 3, 4, 5, 10, 11, 14, 15)
    found = metric.tenth_accuracy(predicted, joints, counted, 4, 64, which)
    assert found == pytest.approx(slow_tenth(predicted, joints, counted, which))
    assert 0.3 < found < 0.9
    at = np.full((1, 16, 2), 100.0)  # cell 25
    one = np.ones((1, 16), bool)
    near, far = at + np.array([15.9, 0]), at + np.array([16, 0])  # cells 28 and 29
    assert metric.tenth_accuracy(near, at, one, 4, 64, which) == 1
    assert metric.tenth_accuracy(far, at, one, 4, 64, which) == 0
    assert math.isnan(metric.tenth_accuracy(near, at, ~one, 4, 64, which))
