from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from albench import AlbenchError
from albench.numeric import k_center as module
from albench.numeric.k_center import k_center


def reference(candidates, centres, k):
    """The definition, one pick at a time, in fp64 and from scratch."""
    points, taken, picks = candidates.double(), [] if centres is None else list(centres.double()), []
    for _ in range(k):
        best, farthest = None, -1.0
        for position, point in enumerate(points):
            nearest = min((float((point - c).square().sum()) for c in taken), default=float("inf"))
            if position not in picks and nearest > farthest:
                best, farthest = position, nearest
        picks.append(best)
        taken.append(points[best])
    return picks


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_the_reference_pick_by_pick_with_ties_and_duplicates(data):
    # Few small whole numbers: many exact ties and duplicates, and every distance exact in fp32.
    m, d = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    centres = data.draw(st.integers(0, 4))
    numbers = st.integers(-2, 2).map(float)
    rows = data.draw(st.lists(st.lists(numbers, min_size=d, max_size=d), min_size=m + centres, max_size=m + centres))
    points = torch.tensor(rows)
    k = data.draw(st.integers(0, m))
    given_centres = points[m:] if centres else data.draw(st.sampled_from([None, points[m:]]))
    wanted = reference(points[:m], given_centres, k)
    with patch.object(module, "LEADERS", data.draw(st.sampled_from([1, 2, 5, 512]))):
        assert k_center(points[:m], given_centres, k).tolist() == wanted
    with patch.object(module, "_leaders_first", module._all_at_once):  # as on a GPU
        assert k_center(points[:m], given_centres, k).tolist() == wanted


@pytest.mark.parametrize("offset", [0.0, 1000.0])  # far from the origin |a|² + |b|² − 2ab would cancel
def test_equals_the_reference_on_embeddings(offset):
    points = torch.randn(130, 24, generator=torch.Generator().manual_seed(0)) + offset
    assert k_center(points[:100], points[100:], 30).tolist() == reference(points[:100], points[100:], 30)


def every_difference(points, k):
    """All candidates against each pick in fp32, none left out."""
    distance, picks = torch.full((len(points),), torch.inf), []
    for _ in range(k):
        picks.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[picks[-1]]).square().sum(1))
        distance[picks] = -1.0
    return picks


@pytest.mark.parametrize("leaders", [3, 512])
@pytest.mark.parametrize("d", [1, 7, 300])
@pytest.mark.parametrize("offset", [0.0, 3.0, 1e4])
@pytest.mark.parametrize("scale", [1e-23, 1e-19, 1.0, 1e17, 1e19])  # squares underflow, … overflow
def test_no_candidate_that_a_pick_is_nearer_to_is_left_out(d, offset, scale, leaders, monkeypatch):
    """Also where the expansion is nothing but rounding: points that lie closer together than its error."""
    monkeypatch.setattr(module, "LEADERS", leaders)
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(800, d, generator=rng) + offset
    points[400:] = points[:400] + 1e-5 * torch.randn(400, d, generator=rng)
    points *= scale
    assert k_center(points, None, 600).tolist() == every_difference(points, 600)


def test_few_differences_are_formed(monkeypatch):
    """What makes it fast: a pick is held against the leaders, and against whatever else it may be nearer to."""
    formed = []
    plain = module._squared
    monkeypatch.setattr(
        module, "_squared", lambda points, centres: formed.append(len(points)) or plain(points, centres)
    )
    monkeypatch.setattr(module, "LEADERS", 20)
    points = torch.randn(600, 64, generator=torch.Generator().manual_seed(0))
    k_center(points[:500], points[500:], 100)
    assert sum(formed) - 500 < 100 * (20 + 20)  # of 100 × 500


def test_chunks_change_nothing(monkeypatch):
    points = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(module, "LEADERS", 4)
    whole = k_center(points[:40], points[40:], 40)
    monkeypatch.setattr(module, "_CPU_ROWS", 7)
    monkeypatch.setattr(module, "_PRODUCT", 30)
    assert torch.equal(k_center(points[:40], points[40:], 40), whole)


def test_duplicates_of_centres_come_last_lowest_position_first():
    points = torch.tensor([[0.1, 0.7], [3.3, 0.2], [0.1, 0.7], [0.1, 0.7]])
    assert k_center(points, points[:1], 4).tolist() == [1, 0, 2, 3]


def test_memory_is_that_of_the_pool_and_never_pool_times_centres(monkeypatch):
    class Largest(TorchDispatchMode):
        """Numbers in the largest tensor that any operation makes."""

        numbers = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            self.numbers = max(self.numbers, made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    monkeypatch.setattr(module, "_PRODUCT", 3000)
    monkeypatch.setattr(module, "LEADERS", 10)
    points = torch.randn(1500, 4)
    with Largest() as seen:
        k_center(points[:1000], points[1000:], 20)
    assert seen.numbers == 1000 * 4  # 500 000 would be every candidate beside every centre


def test_on_a_gpu_no_pick_is_read_back(readbacks, monkeypatch):
    monkeypatch.setattr(module, "_leaders_first", module._all_at_once)  # as it is there
    points = torch.randn(40, 3)
    few, many = (readbacks(lambda k=k: k_center(points[:30], points[30:], k)) for k in (2, 9))
    assert few == many


def test_does_not_change_its_input():
    points = torch.randn(20, 3)
    before = points.clone()
    k_center(points, points[:2], 5)
    assert torch.equal(points, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_what_is_not_finite(bad):
    points = torch.zeros(4, 2)
    points[2, 1] = bad
    with pytest.raises(AlbenchError, match="candidates' embeddings"):
        k_center(points, None, 2)
    with pytest.raises(AlbenchError, match="centres' embeddings"):
        k_center(torch.zeros(4, 2), points, 2)


def test_refuses_more_picks_than_candidates():
    with pytest.raises(AlbenchError, match="5 picks were asked of 4"):
        k_center(torch.zeros(4, 2), None, 5)


@pytest.mark.gpu
def test_gpu_picks_as_the_cpu_does():
    points = torch.randn(3000, 64, generator=torch.Generator().manual_seed(0))
    assert (
        k_center(points[200:].cuda(), points[:200].cuda(), 200).tolist()
        == k_center(points[200:], points[:200], 200).tolist()
    )
