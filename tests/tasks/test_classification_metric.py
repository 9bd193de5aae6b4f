"""Likelihood and calibration beside accuracy: worked by hand, and against torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from albench.tasks.classification.digits import Digits
from albench.tasks.classification.metric import calibration_error

CLASSES = ("a", "b", "c")


def slow_error(confidence, correct, bins=15):
    """The definition, bin by bin."""
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (number == 0 and c == 0)]
        if inside:
            gap = np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.one_of(st.floats(0, 1), st.integers(0, 4).map(lambda n: n / 4)), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_calibration_error_is_the_definition(rows):
    confidence, correct = (np.array(column) for column in zip(*rows, strict=True))
    # four bins: their edges are exact in binary, so that closed on the right means the same on both sides
    assert calibration_error(confidence, correct, 4) == pytest.approx(slow_error(confidence, correct, 4), abs=1e-12)


def test_calibration_at_its_extremes():
    sure = np.ones(10)
    assert calibration_error(sure, sure > 0) == 0
    assert calibration_error(sure, sure < 0) == 1
    assert np.isnan(calibration_error(np.empty(0), np.empty(0, bool)))


def measured(logits, label):
    return Digits().measure(
        [({"logits": logits[:3]}, {"label": label[:3]}), ({"logits": logits[3:]}, {"label": label[3:]})], CLASSES
    )


def test_likelihood_and_calibration_of_four_samples():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2]])
    numbers, _ = measured(p.log(), torch.tensor([0, 1, 2, 0]))
    assert numbers["accuracy"] == 0.75
    assert numbers["nll"] == pytest.approx(-np.log([0.7, 0.2, 0.8, 0.5]).mean())
    # .7 twice (one of two right), .8 right, .5 right, each confidence in a bin of its own
    assert numbers["ece"] == pytest.approx((2 * abs(0.5 - 0.7) + 0.2 + 0.5) / 4)


def test_as_torchmetrics_computes_them():
    from torchmetrics.classification import MulticlassCalibrationError

    rng = torch.Generator().manual_seed(0)
    logits, label = torch.randn(500, 3, generator=rng) * 2, torch.randint(3, (500,), generator=rng)
    numbers, outcomes = measured(logits, label)
    theirs = MulticlassCalibrationError(3, n_bins=15, norm="l1")(logits.softmax(1), label)
    assert numbers["ece"] == pytest.approx(float(theirs), abs=1e-6)
    assert numbers["nll"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, label)), abs=1e-6)
    assert numbers["accuracy"] == outcomes["correct"].mean()
