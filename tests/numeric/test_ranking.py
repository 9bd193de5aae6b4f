import math
from itertools import combinations

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from albench.numeric import ranking
from albench.numeric.ranking import ranking_accuracy, spearman

values = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=15)


def reference(predicted, actual):
    counted = []
    for i, j in combinations(range(len(actual)), 2):
        if actual[i] == actual[j]:
            continue
        product = (predicted[i] - predicted[j]) * (actual[i] - actual[j])
        counted.append(1.0 if product > 0 else 0.5 if product == 0 else 0.0)
    return sum(counted) / len(counted) if counted else math.nan


@settings(deadline=None)
@given(values)
def test_ranking_accuracy_counts_pairs(rows):
    predicted, actual = zip(*rows, strict=True)
    ours = ranking_accuracy(torch.tensor(predicted), torch.tensor(actual))
    assert ours == pytest.approx(reference(predicted, actual), nan_ok=True)


@settings(deadline=None)
@given(values)
def test_spearman_is_scipys_with_ties(rows):
    a, b = zip(*rows, strict=True)
    ours = spearman(torch.tensor(a), torch.tensor(b))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


def test_random_pairs_come_near_all_pairs(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    actual = torch.randn(1500, generator=rng)
    predicted = actual + torch.randn(1500, generator=rng)
    exact = ranking_accuracy(predicted, actual)
    monkeypatch.setattr(ranking, "EXACT", 100)
    drawn = ranking_accuracy(predicted, actual, torch.Generator().manual_seed(1))
    assert drawn == pytest.approx(exact, abs=0.003)
    assert drawn != exact
    assert drawn == ranking_accuracy(predicted, actual, torch.Generator().manual_seed(1))
    assert ranking_accuracy(actual, actual) == 1


def test_a_constant_predictor_gets_one_half_and_bad_shapes_are_refused():
    assert ranking_accuracy(torch.zeros(4), torch.arange(4)) == 0.5
    assert math.isnan(ranking_accuracy(torch.arange(4), torch.zeros(4)))
    with pytest.raises(ValueError, match="one length"):
        ranking_accuracy(torch.zeros(4), torch.zeros(5))
