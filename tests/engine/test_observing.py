"""A pass over samples: of what the model says of default boxes, one batch is held, however many samples there are."""

import gc
from dataclasses import replace

import pytest
import torch

import albench
from albench import checking, registry
from albench.observing import observe
from albench.training import Numerics

BATCH = 4


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return checking.Bench("digit-scenes", tmp_path_factory.mktemp("digit-scenes"))


class KeepsAView(albench.Strategy):
    """What it keeps is a part of a tensor of the whole batch."""

    def observe(self, outputs):
        return {"score": outputs.prediction.logp[:, 0, 0]}


@pytest.fixture
def frozen():
    """What is alive before the test is left out of gc.get_objects(), so that a look at what is held is quick."""
    gc.freeze()
    yield
    gc.unfreeze()


def held():
    """Bytes of the tensors that are alive and were made in the test, each storage once."""
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return sum({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}.values())


@pytest.mark.parametrize("diagnose", [False, True])
@pytest.mark.parametrize("name", ["entropy", "core-set", "learning-loss", KeepsAView])
def test_eight_times_the_samples_hold_less_than_a_batch_more(bench, frozen, name, diagnose):
    kind = registry.strategies.get(name) if isinstance(name, str) else name
    companion = kind.companion and registry.companions.get(kind.companion)
    fitted = bench.fitted(0, companion)
    setup = replace(bench.setup(companion), numerics=Numerics(scoring_batch=BATCH))
    seen = []

    class Watched(kind):
        def observe(self, outputs):
            kept, logp = super().observe(outputs), outputs.prediction.logp
            seen.append((held(), logp.nbytes))
            return kept

    def most(count):
        seen.clear()
        observe(setup, Watched(), fitted, bench.data.pool, torch.arange(count) % len(bench.data.pool), 0, diagnose)
        assert len(seen) == count // BATCH
        return max(seen)

    few, batch = most(2 * BATCH)
    assert most(16 * BATCH)[0] - few < batch
