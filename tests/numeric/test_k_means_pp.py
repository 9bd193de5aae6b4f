import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from albench import AlbenchError
from albench.numeric.k_means_pp import k_means_pp


def reference(g, h, k, rng):
    """The outer products themselves, in fp64; the same draws, walked along one candidate at a time."""
    vectors = (g.double()[:, :, None] * h.double()[:, None, :]).flatten(1)
    draws = torch.rand(k, generator=rng, dtype=torch.float64).tolist()
    picks = []
    for draw in draws:
        if not picks:
            picks.append(int(vectors.square().sum(1).argmax()))
            continue
        weights = torch.stack([(vectors - vectors[p]).square().sum(1) for p in picks]).amin(0).tolist()
        if sum(weights) == 0:
            weights = [float(i not in picks) for i in range(len(g))]
        mark, total = draw * sum(weights), 0.0
        for position, weight in enumerate(weights):
            total += weight
            if total > mark:
                picks.append(position)
                break
    return picks


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_pick_is_read_back(readbacks):
    points = torch.randn(40, 3, generator=seeded())
    few, many = (readbacks(lambda k=k: k_means_pp(points, points, k, seeded())) for k in (2, 9))
    assert few == many


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_materialised_way_pick_by_pick(seed):
    rng = seeded(seed)
    g, h = torch.randn(80, 6, generator=rng), torch.rand(80, 10, generator=rng)
    assert k_means_pp(g, h, 25, seeded(seed)).tolist() == reference(g, h, 25, seeded(seed))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_the_reference_with_duplicates_and_zeros(data):
    m = data.draw(st.integers(1, 10))
    row = st.lists(st.integers(-1, 1).map(float), min_size=2, max_size=2)
    rows = data.draw(st.lists(row, min_size=2 * m, max_size=2 * m))
    g, h = torch.tensor(rows[:m]), torch.tensor(rows[m:])
    k, seed = data.draw(st.integers(0, m)), data.draw(st.integers(0, 99))
    picks = k_means_pp(g, h, k, seeded(seed)).tolist()
    assert picks == reference(g, h, k, seeded(seed))
    assert len(set(picks)) == k


@pytest.mark.parametrize("rows", [torch.zeros(1, 7), torch.randn(1, 7, generator=seeded(3))])
def test_picks_are_distinct_when_all_are_the_same(rows):
    same = rows.expand(50, 7)
    picks = k_means_pp(same, same, 50, seeded())
    assert picks[0] == 0  # ties of the longest go to the lowest position
    assert sorted(picks.tolist()) == list(range(50))
    assert picks.tolist() != list(range(50))  # drawn, not counted off


def test_draws_in_proportion_to_the_squared_distance():
    g, h = torch.tensor([[3.0], [2.0], [0.0]]), torch.ones(3, 1)  # squared distances to the first pick: 1 and 9
    second = [int(k_means_pp(g, h, 2, seeded(s))[1]) for s in range(600)]
    assert second.count(2) / 600 == pytest.approx(0.9, abs=0.04)


def test_draws_do_not_depend_on_the_data():
    rng = seeded()
    k_means_pp(torch.zeros(9, 2), torch.zeros(9, 2), 5, rng)
    other = seeded()
    k_means_pp(torch.randn(30, 2, generator=seeded(1)), torch.ones(30, 2), 5, other)
    assert torch.equal(rng.get_state(), other.get_state())


def test_refuses_nan_and_too_many():
    with pytest.raises(AlbenchError, match="NaN"):
        k_means_pp(torch.full((3, 1), float("nan")), torch.ones(3, 1), 1, seeded())
    with pytest.raises(AlbenchError, match="4 picks were asked of 3"):
        k_means_pp(torch.ones(3, 1), torch.ones(3, 1), 4, seeded())


@pytest.mark.gpu
def test_gpu_picks_as_the_cpu_does():
    g, h = torch.randn(500, 10, generator=seeded(1)), torch.rand(500, 32, generator=seeded(2))
    cpu, gpu = k_means_pp(g, h, 40, seeded()), k_means_pp(g.cuda(), h.cuda(), 40, seeded())
    assert gpu.tolist() == cpu.tolist()
