"""What each strategy selects, against its definition in numpy or by hand."""

import numpy as np
import pytest
import torch

from albench.errors import AlbenchError
from albench.numeric.k_center import k_center
from albench.strategies.badge import Badge
from albench.strategies.bald import Bald
from albench.strategies.core_set import CoreSet
from albench.strategies.random import Random, RandomB
from albench.strategies.true_loss import TrueLoss
from albench.strategies.uncertainty import Entropy, LeastConfidence, Margin
from albench.task import Prediction


class Seen:
    """Outputs with a prediction that the test wrote down."""

    def __init__(self, *predictions):
        self.prediction, self.passes = predictions[0], predictions

    def samples(self, passes):
        return iter(self.passes)


def belief(*rows):
    """Samples of one distribution each."""
    return Prediction(torch.tensor(rows).log()[:, None])


def test_random_draws_without_replacement_and_its_twin_is_the_same_code(view, rng):
    pool = view({}, index=range(50))
    picks = Random().select(pool, 20, rng)
    assert len(set(picks.tolist())) == 20
    assert RandomB.select is Random.select
    assert not Random.observes()


def test_uncertainties_are_their_formulas():
    p = np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [1.0, 0.0, 0.0]])
    seen = Seen(belief(*p.tolist()))
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    np.testing.assert_allclose(Entropy().observe(seen)["score"], entropy, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(Margin().observe(seen)["score"], [-0.2, -0.85, -1.0], rtol=1e-5)
    np.testing.assert_allclose(LeastConfidence().observe(seen)["score"], [0.5, 0.1, 0.0], rtol=1e-5, atol=1e-7)


def test_entropy_takes_the_raw_softmax_unless_told_otherwise():
    prediction = belief([0.5, 0.5], [1.0, 0.0])
    prediction.softmax_logp = belief([1.0, 0.0], [0.5, 0.5]).logp
    assert Entropy().observe(Seen(prediction))["score"].argmax() == 1
    assert Entropy(raw=False).observe(Seen(prediction))["score"].argmax() == 0


def test_bald_is_where_sure_passes_disagree():
    passes = [belief([1.0, 0.0], [0.5, 0.5], [1.0, 0.0]), belief([0.0, 1.0], [0.5, 0.5], [1.0, 0.0])]
    scores = Bald(passes=2).observe(Seen(*passes))["score"]
    np.testing.assert_allclose(scores, [np.log(2), 0, 0], atol=1e-6)  # sample 1 is unsure, yet nothing is to be learnt


def test_bald_passes_have_dropout_and_leave_the_model_as_it_was(outputs):
    seen = outputs()
    before = {name: buffer.clone() for name, buffer in seen._model.named_buffers()}
    assert (Bald(passes=4).observe(seen)["score"] > 0).all()
    assert not any(m.training for m in seen._model.modules())
    assert all(torch.equal(b, before[n]) for n, b in seen._model.named_buffers())


def test_core_set_covers_labelled_and_candidates(outputs, view, rng):
    kept, labelled = CoreSet().observe(outputs(8)), CoreSet().observe(outputs(3))
    picks = CoreSet().select(view(kept, labelled), 4, rng)
    assert picks.tolist() == k_center(kept["embedding"], labelled["embedding"], 4).tolist()
    assert CoreSet.sees_labelled


def test_badge_starts_with_the_longest_gradient(outputs, view, rng):
    kept = Badge().observe(outputs(8))
    picks = Badge().select(view(kept), 8, rng)
    assert picks[0] == (kept["g"].norm(dim=1) * kept["h"].norm(dim=1)).argmax()
    assert sorted(picks.tolist()) == list(range(8))


def test_true_loss_says_that_it_cheats_and_alone_may(outputs):
    assert TrueLoss.cheats
    seen = outputs(cheats=True)
    assert torch.equal(TrueLoss().observe(seen)["score"], seen.losses)
    with pytest.raises(AlbenchError, match="hidden"):
        TrueLoss().observe(outputs())


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="passes"):
        Bald(passes=1)
    with pytest.raises(ValueError, match="extra"):
        Entropy(temperature=2)
