"""PCK against the obvious loop, and heat maps there and back."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from albench.tasks.pose import heatmaps, metric
from albench.tasks.pose.skeleton import LSP, LSP_HEAD, LSP_TORSO


def slow_pck(predicted, joints, visible, segment, threshold):
    hits = count = 0
    for person in range(len(joints)):
        a, b = segment
        if not (visible[person, a] and visible[person, b]):
            continue
        length = math.dist(joints[person, a], joints[person, b])
        if length == 0:
            continue
        for joint in range(joints.shape[1]):
            if visible[person, joint]:
                count += 1
                hits += math.dist(predicted[person, joint], joints[person, joint]) / length <= threshold
    return hits / count if count else math.nan


def segment_errors(predicted, joints, visible, segment):
    return metric.relative_errors(predicted, joints, visible, metric.segment_lengths(joints, visible, segment))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    people=st.integers(1, 5),
    share=st.floats(0, 1),
    threshold=st.sampled_from([0.1, 0.2, 0.5, 1.0]),
    segment=st.sampled_from([LSP_TORSO, LSP_HEAD]),
)
def test_pck_is_the_slow_one(seed, people, share, threshold, segment):
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(people, 14, 2))
    joints[rng.random(people) < 0.2] = 1.0  # bodies without any extent
    predicted = joints + rng.normal(size=joints.shape) * 0.3
    visible = rng.random((people, 14)) < share
    errors = segment_errors(predicted, joints, visible, segment)
    assert metric.pck(errors, threshold) == pytest.approx(
        slow_pck(predicted, joints, visible, segment, threshold), nan_ok=True
    )


@given(scale=st.floats(0.01, 100), x=st.floats(-500, 500), y=st.floats(-500, 500))
def test_errors_do_not_depend_on_the_unit(scale, x, y):
    rng = np.random.default_rng(0)
    joints, visible = rng.normal(size=(3, 14, 2)), np.ones((3, 14), bool)
    predicted = joints + 0.1
    moved = [points * scale + [x, y] for points in (predicted, joints)]
    expected = segment_errors(predicted, joints, visible, LSP_TORSO)
    assert np.allclose(segment_errors(*moved, visible, LSP_TORSO), expected, rtol=1e-6)


def test_the_torso_is_left_shoulder_to_right_hip_and_the_threshold_is_inclusive():
    joints = np.zeros((1, 14, 2))
    joints[0, LSP.names.index("left shoulder")] = [0, 10]
    predicted = joints.copy()
    predicted[0, LSP.names.index("left knee")] = [2, 0]
    predicted[0, LSP.names.index("right knee")] = [2.1, 0]
    values = metric.scores(
        "pck@0.2", segment_errors(predicted, joints, np.ones((1, 14), bool), LSP_TORSO), 0.2, LSP.names
    )
    assert values["pck@0.2/left knee"] == 1
    assert values["pck@0.2/right knee"] == 0
    assert values["pck@0.2"] == pytest.approx(13 / 14)


def test_joints_that_are_not_annotated_do_not_count():
    joints = np.random.default_rng(0).normal(size=(2, 14, 2))
    visible = np.ones((2, 14), bool)
    visible[:, 5] = False
    visible[1, 9] = False  # the second body has no torso
    errors = segment_errors(joints, joints, visible, LSP_TORSO)
    assert np.isnan(errors[:, 5]).all()
    assert np.isnan(errors[1]).all()
    assert "pck/left ankle" not in metric.scores("pck", errors, 0.2, LSP.names)


def test_sides_mirror_each_other():
    mirrored = LSP.mirrored
    assert [LSP.names[i] for i in mirrored][:3] == ["left ankle", "left knee", "left hip"]
    assert [mirrored[i] for i in mirrored] == list(range(14))
    assert [name for i, name in enumerate(LSP.names) if mirrored[i] == i] == ["neck", "head top"]


def test_gaussian_maps_decode_to_the_joint():
    rng = torch.Generator().manual_seed(0)
    joints = 1 + 14 * torch.rand(64, 3, 2, generator=rng)
    found = heatmaps.decode(heatmaps.gaussians(joints, 16, 16, 1.0))
    assert (found - joints).abs().max() <= 0.26  # within a quarter of a cell, where argmax alone is half a cell off
    corner = heatmaps.decode(heatmaps.gaussians(torch.tensor([[[0.1, 15.9]]]), 16, 16, 1.0))
    assert corner.tolist() == [[[0.5, 15.5]]]


def test_decoding_is_the_slow_one_on_maps_that_are_not_square():
    maps = torch.randn(5, 2, 6, 9, generator=torch.Generator().manual_seed(1))
    found = heatmaps.decode(maps)
    for b in range(5):
        for j in range(2):
            m = maps[b, j]
            y, x = divmod(int(m.argmax()), 9)
            dx = 0.25 * np.sign(float(m[y, x + 1] - m[y, x - 1])) if 0 < x < 8 else 0
            dy = 0.25 * np.sign(float(m[y + 1, x] - m[y - 1, x])) if 0 < y < 5 else 0
            assert found[b, j].tolist() == [x + 0.5 + dx, y + 0.5 + dy]


def test_gaussians_and_cells_are_the_slow_ones():
    joints = torch.tensor([[[2.3, 4.8], [0.0, 0.0]]])
    maps = heatmaps.gaussians(joints, 6, 9, 1.5)
    for j, (x, y) in enumerate(joints[0].tolist()):
        for row in range(6):
            for column in range(9):
                squared = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
                assert float(maps[0, j, row, column]) == pytest.approx(math.exp(-squared / (2 * 1.5**2)), abs=1e-6)
    assert heatmaps.cells(joints, 6, 9).tolist() == [[4 * 9 + 2, 0]]
    off = torch.tensor([[[-0.1, 3.0], [9.0, 3.0], [8.9, 5.9]]])
    assert heatmaps.inside(off, 6, 9).tolist() == [[False, False, True]]


def test_clipped_maps_are_distributions_even_where_nothing_is_positive():
    maps = torch.tensor([[[[1.0, -3.0], [3.0, 0.0]], [[-1.0, -1.0], [0.0, -2.0]]]])
    probability = heatmaps.clipped_logp(maps).exp()
    assert probability[0, 0].tolist() == pytest.approx([0.25, 0, 0.75, 0])
    assert probability[0, 1].tolist() == pytest.approx([0.25] * 4)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.2, 0.5, 1.0]))
def test_the_area_under_pck_is_the_mean_over_fine_thresholds(seed, threshold):
    rng = np.random.default_rng(seed)
    errors = np.where(rng.random((5, 14)) < 0.2, np.nan, rng.exponential(threshold, (5, 14)))
    steps = (np.arange(2000) + 0.5) / 2000 * threshold
    assert metric.pck_area(errors, threshold) == pytest.approx(
        np.mean([metric.pck(errors, step) for step in steps]), abs=1e-3
    )


def test_the_area_comes_under_its_name_beside_pck():
    numbers = metric.scores("pck@0.2", np.array([[0.1, np.nan], [0.3, np.nan]]), 0.2, ("a", "b"))
    assert numbers == {"pck@0.2": 0.5, "pck@0.2/a": 0.5, "pck-auc@0.2": 0.25}
    assert math.isnan(metric.pck_area(np.full((1, 2), np.nan), 0.2))
