"""Nearest-neighbour distances against a slow reference."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from albench.numeric import nearest
from albench.numeric.nearest import nearest_distance


def slow(points):
    rows = points.tolist()
    return sum(min(math.dist(a, b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)) / len(rows)


@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=2, max_size=12))
def test_equals_the_slow_way(rows):
    points = torch.tensor(rows)
    assert nearest_distance(points) == pytest.approx(slow(points), rel=1e-5, abs=1e-5)


def test_chunks_do_not_matter(monkeypatch):
    points = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    whole = nearest_distance(points)
    monkeypatch.setattr(nearest, "ROWS", 7)
    assert nearest_distance(points) == pytest.approx(whole, rel=1e-6)


def test_equal_points_have_distance_0_and_one_point_none():
    assert nearest_distance(torch.full((3, 5), 1e4)) == 0
    assert math.isnan(nearest_distance(torch.zeros(1, 2)))
