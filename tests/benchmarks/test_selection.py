"""k-center greedy and BADGE's k-means++ at three sizes, each beside the obvious way of doing it.

`pytest tests/benchmarks/test_selection.py --benchmark-enable`; without it each runs once, at the smallest size.
"""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from albench.numeric.k_center import k_center
from albench.numeric.k_means_pp import k_means_pp

D, CLASSES = 512, 100


def measured(benchmark, function, *args):
    """One timed round (they take seconds), with as many threads for numpy and scikit-learn as for torch."""
    with threadpool_limits(torch.get_num_threads()):
        return benchmark.pedantic(function, args=args, rounds=1, iterations=1, warmup_rounds=0)


def size(benchmark, *wanted):
    """The wanted size, or a small one when benchmarks are disabled and this is just a test."""
    return wanted if benchmark.enabled else [min(n, 200 // (i + 1)) for i, n in enumerate(wanted)]


def sklearn_k_center(candidates, centres, k):
    """Incremental, as most public code does it: one pairwise_distances per pick."""
    from sklearn.metrics import pairwise_distances

    nearest = pairwise_distances(candidates, centres).min(1)
    picks = []
    for _ in range(k):
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, pairwise_distances(candidates, candidates[picks[-1] :][:1])[:, 0])
    return picks


def materialised_k_means_pp(g, h, k, rng):
    """The outer products themselves, M × (C·d), one pass over them per pick; the same draws as ours."""
    vectors = (g[:, :, None] * h[:, None, :]).flatten(1)
    draws = torch.rand(k, generator=rng, dtype=torch.float64)
    picks = [int(vectors.square().sum(1).argmax())]
    nearest = torch.full((len(g),), float("inf"))
    norms = vectors.square().sum(1)
    for draw in draws[1:]:
        squared = norms + norms[picks[-1]] - 2 * torch.mv(vectors, vectors[picks[-1]])
        nearest = torch.minimum(nearest, squared.clamp_min(0))
        nearest[picks] = 0
        ladder = nearest.double().cumsum(0)
        picks.append(int(torch.searchsorted(ladder, draw * ladder[-1], right=True)))
    return picks


SIZES = [(5_000, 500, 200), (10_000, 1_000, 500), (20_000, 1_000, 1_000)]


@pytest.mark.parametrize("wanted", SIZES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("way", ["albench", "sklearn"])
def test_k_center(benchmark, way, wanted):
    benchmark.group = f"k-center {wanted}"
    pool, labelled, k = size(benchmark, *wanted)
    points = torch.randn(pool + labelled, D, generator=torch.Generator().manual_seed(0))
    candidates, centres = points[:pool], points[pool:]
    if way == "albench":
        picks = measured(benchmark, k_center, candidates, centres, k).tolist()
    else:
        picks = measured(benchmark, sklearn_k_center, candidates.numpy(), centres.numpy(), k)
    assert len(set(picks)) == k
    if not benchmark.enabled:
        assert picks == k_center(candidates, centres, k).tolist()


@pytest.mark.parametrize("wanted", [(2_500, 50), (5_000, 50), (10_000, 50)], ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("way", ["albench", "materialised"])
def test_badge(benchmark, way, wanted):
    benchmark.group = f"k-means++ {wanted} of {CLASSES} ⊗ {D}"
    pool, k = size(benchmark, *wanted)
    rng = torch.Generator().manual_seed(0)
    g = torch.randn(pool, CLASSES, generator=rng).softmax(1)
    g, h = g - torch.nn.functional.one_hot(g.argmax(1), CLASSES), torch.rand(pool, D, generator=rng)
    function = k_means_pp if way == "albench" else materialised_k_means_pp
    picks = torch.as_tensor(measured(benchmark, function, g, h, k, torch.Generator().manual_seed(1)))
    assert len(picks.unique()) == k
    if not benchmark.enabled:
        assert torch.equal(picks, k_means_pp(g, h, k, torch.Generator().manual_seed(1)))


@pytest.mark.gpu
def test_k_center_on_a_gpu(benchmark):
    pool, k = (50_000, 1_000) if benchmark.enabled else (500, 50)
    points = torch.randn(pool + 1000, D, device="cuda")

    def run():
        picks = k_center(points[:pool], points[pool:], k)
        torch.cuda.synchronize()
        return picks

    assert len(benchmark.pedantic(run, rounds=3, warmup_rounds=1).unique()) == k
