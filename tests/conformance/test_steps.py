"""The training step of every registered task: no copy from or to the host, and no graph break when compiled."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from albench import registry, training
from albench import step as steps
from albench.training import Numerics, Setup, fit

HOST = {"tensor", "as_tensor", "new_tensor", "from_numpy", "cpu", "numpy", "tolist", "item", "nonzero", "unique"}
HOST |= {"masked_select", "__bool__", "__int__", "__float__", "__index__"}
OPERATIONS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::lift_fresh", "aten::masked_select", "aten::_unique2"}


def _by_list_or_mask(key):
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(p, list) or (isinstance(p, torch.Tensor) and p.dtype == torch.bool) for p in parts)


class Functions(TorchFunctionMode):
    """What is called from Python and would wait for a GPU."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in HOST or (name in ("__getitem__", "__setitem__") and _by_list_or_mask(args[1])):
            self.found.add(name)
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """What is called from inside of torch and would wait for a GPU."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name in OPERATIONS:
            self.found.add(function._schema.name)
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module", params=registry.tasks.names())
def mini(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    task = registry.tasks.get(request.param).miniature(folder)
    return task, task.load(folder)


def setup(mini, companion, compile="off", seed=0, **changes):
    recipe = mini[0].recipe.merged({"updates": 3, "batch": 4, "learning_rate": 1e-3, "optimiser": "sgd"} | changes)
    companion = registry.companions.get(companion) if companion else None
    return Setup(*mini, recipe, Numerics(compile=compile), torch.device("cpu"), (0, seed, "x"), companion)


def test_an_update_copies_nothing_from_or_to_the_host(mini, monkeypatch):
    update, found = training._update, []

    def watched(*arguments):
        seen = set()
        with Functions(seen), Operations(seen):
            update(*arguments)
        found.append(seen)

    monkeypatch.setattr(training, "_update", watched)
    fit(setup(mini, "loss-prediction"), 0, torch.arange(6))
    assert found[1:] == [set(), set()]  # the first makes the constants


def test_the_watch_sees(mini):
    seen, x = set(), torch.ones(3)
    with Functions(seen), Operations(seen):
        x[[0, 1]], x[x > 0], x.new_tensor([1.0]), bool(x.sum() > 0)
    assert {"__getitem__", "new_tensor", "__bool__", "aten::_local_scalar_dense"} <= seen


def _graphs():
    """Tasks and companions; slow but for the first task of those that share network, loss and augmentation."""
    met = set()
    for name in registry.tasks.names():
        task = registry.tasks.get(name)
        code = (task.build, task.losses, task.apply_augmentation)
        for companion in ("loss-prediction", None, "loss-prediction-mse"):
            slow = code in met or companion != "loss-prediction"
            yield pytest.param(name, companion, marks=pytest.mark.slow if slow else ())
        met.add(code)


@pytest.mark.parametrize(("mini", "companion"), list(_graphs()), indirect=["mini"])
def test_the_step_is_one_graph(mini, companion, monkeypatch):
    monkeypatch.setattr(steps, "BACKEND", "aot_eager")  # as inductor, but for the code that it writes
    torch._dynamo.reset()
    steps.forget()
    said = []
    plain, expected = fit(setup(mini, companion), 0, torch.arange(6))
    fitted, objective = fit(setup(mini, companion, "on"), 0, torch.arange(6), log=said.append)
    with torch.compiler.set_stance("fail_on_recompile"):  # a later stage, more labels, another seed and length
        later = setup(mini, companion, "on", seed=1, updates=4)
        fit(later, 1, torch.arange(8), log=said.append)
    steps.forget()
    assert (said, plain.step, fitted.step) == ([], "eager", "compiled")
    assert objective == pytest.approx(expected, rel=1e-3)
