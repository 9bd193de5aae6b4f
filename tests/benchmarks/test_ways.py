"""The ways that the benchmark compares do what they say."""

import gc
import types
import weakref

import torch

from . import ways


def test_a_captured_step_keeps_what_its_graph_writes(monkeypatch):
    """A replay writes the momenta where the warm-up made them; nobody else may get that memory."""
    optimisers, kinds = [], torch.optim.SGD

    def sgd(parameters, *arguments, fused, **options):
        optimiser = kinds(parameters, *arguments, **options)
        optimisers.append(weakref.ref(optimiser))
        return optimiser

    def captured(update, batch, drawn):
        update()
        return types.SimpleNamespace(graph=types.SimpleNamespace(replay=lambda: None))

    weight = torch.nn.Parameter(torch.ones(3))
    monkeypatch.setattr(torch.optim, "SGD", sgd)
    monkeypatch.setattr(ways, "Captured", captured)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "zeros", lambda *size, device: torch.ones(size))
        replay = ways._update(lambda: weight.square().sum(), [weight], torch.device("cuda"))
    gc.collect()
    assert optimisers[0]().state[weight]["momentum_buffer"].any()
    replay()
