"""Seeds depend on their named axes alone, and nothing inside `isolated` reaches the outside."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from albench.errors import AlbenchError
from albench.seeds import generator, isolated, seed

axes = st.lists(st.one_of(st.integers(-5, 5), st.text(max_size=4)), max_size=4)


@given(axes, axes)
def test_equal_axes_and_only_equal_axes_give_equal_seeds(a, b):
    assert (seed(*a) == seed(*b)) == (a == b)
    assert 0 <= seed(*a) < 2**63


def test_generators_repeat():
    draws = [torch.rand(3, generator=generator("x", 1)) for _ in range(2)]
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], torch.rand(3, generator=generator("x", 2)))


def test_isolated_restores_the_outer_state_and_repeats():
    before = torch.get_rng_state()
    inside = []
    for _ in range(2):
        with isolated("a"):
            inside.append(torch.rand(3))
    assert torch.equal(*inside)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "deed", [lambda: torch.manual_seed(0), lambda: np.random.seed(0), lambda: random.random(), lambda: np.random.rand()]
)
def test_isolated_names_who_touched_global_state_and_restores_it(deed):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with pytest.raises(AlbenchError, match="strategy 'x' .*global"), isolated("a", who="strategy 'x'"):
        deed()
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]
