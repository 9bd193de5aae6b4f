"""Training is a function of (data, recipe, labelled set, axes), and nothing else."""

import pytest
import torch

from albench.errors import AlbenchError
from albench.evaluation import evaluate
from albench.recipe import Recipe
from albench.step import optimiser
from albench.strategy import Companion
from albench.tasks.classification.digits import Digits
from albench.training import Numerics, Setup, build, fit, load_state, state_dict

TASK = Digits(samples=120, width=4, blocks=(1, 1))
DATA = TASK.load(None)
ROWS = torch.arange(0, 40, 3)


def setup(companion=None, params=None, axes=(0, 1, "digits"), **recipe):
    recipe = Recipe(**({"updates": 5, "batch": 8} | recipe))
    return Setup(TASK, DATA, recipe, Numerics(), torch.device("cpu"), axes, companion, params or {})


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def model_state(fitted):
    return fitted.model.state_dict()


class Quiet(Companion):
    """Draws weights of its own and adds nothing."""

    def __init__(self, example):
        super().__init__()
        self.layer = torch.nn.Linear(example.embedding.shape[1], 1)
        self.seen = 0

    def loss(self, outputs, losses, progress):
        assert losses.requires_grad is False
        assert 0 <= progress < 1
        return None

    def step(self, labelled, unlabelled, rng):
        assert set(unlabelled) == {"image"}
        assert "label" in labelled
        self.seen += len(unlabelled["image"])


def test_the_same_setup_trains_the_same_weights():
    torch.manual_seed(1)
    first, objective = fit(setup(), 0, ROWS)
    torch.manual_seed(2)
    second, again = fit(setup(), 0, ROWS)
    assert equal(model_state(first), model_state(second))
    assert objective == again
    assert evaluate(setup(), first.model)[0] == evaluate(setup(), second.model)[0]


@pytest.mark.parametrize("other", [{"axes": (0, 2, "digits")}, {"axes": (1, 1, "digits")}])
def test_another_seed_trains_other_weights(other):
    assert not equal(model_state(build(setup(), 0)), model_state(build(setup(**other), 0)))


def test_stages_start_from_fresh_weights_of_their_own():
    assert not equal(model_state(build(setup(), 0)), model_state(build(setup(), 1)))


def test_a_companion_changes_no_weight_and_no_batch_of_the_model():
    alone, _ = fit(setup(), 0, ROWS)
    beside, _ = fit(setup(Quiet), 0, ROWS)
    assert equal(model_state(alone), model_state(beside))
    assert beside.companion.seen == 5 * 8


def test_companion_parameters_reach_it_and_unknown_ones_are_named():
    with pytest.raises(AlbenchError, match="companion Quiet: .*'depth'"):
        build(setup(Quiet, {"depth": 3}), 0)


def test_a_state_comes_back():
    first, _ = fit(setup(Quiet), 0, ROWS)
    second = build(setup(Quiet), 1)
    load_state(second, state_dict(first))
    assert equal(state_dict(first), state_dict(second))


def test_continuing_starts_from_the_state():
    first, _ = fit(setup(), 0, ROWS)
    slow = setup(learning_rate=1e-12, weight_decay=0.0)
    second, _ = fit(slow, 1, ROWS, start=state_dict(first))
    weight = "head.weight"
    assert torch.allclose(model_state(first)[weight], model_state(second)[weight], atol=1e-6)


def test_a_loss_that_is_not_finite_stops_with_the_update():
    with pytest.raises(AlbenchError, match="not finite at update [1-5]; lower recipe.learning_rate"):
        fit(setup(learning_rate=1e30), 0, ROWS)


@pytest.mark.parametrize("labelled", [1, 3, 8, 80])
def test_every_batch_is_full_whatever_is_labelled(labelled):
    sizes = []

    class Count(Quiet):
        def loss(self, outputs, losses, progress):
            sizes.append(len(losses))

    fit(setup(Count), 0, torch.arange(labelled))
    assert sizes == [8] * 5


def test_epochs_show_every_sample_equally_often():
    seen = torch.zeros(120)

    class Record(Quiet):
        def step(self, labelled, unlabelled, rng):
            pass

    shown = setup(epochs=4, updates=None, batch=4)
    from albench.training import _orders

    for rows in _orders(shown, 0, ROWS, shown.recipe.length(len(ROWS)))[0]:
        seen += torch.bincount(rows, minlength=120)
    assert seen[ROWS].unique().tolist() == [4.0]
    assert seen.sum() == 4 * len(ROWS)


def test_rates_follow_the_schedule():
    step = Recipe(epochs=200, learning_rate=0.1, milestones=(0.8,))
    assert [step.rate(e / 200) for e in (0, 159, 160)] == pytest.approx([0.1, 0.1, 0.01])
    cosine = Recipe(epochs=1, schedule="cosine", learning_rate=1.0, warmup=0.1)
    assert cosine.rate(0.0) < 1e-6 < cosine.rate(0.05) < cosine.rate(0.1) > cosine.rate(0.9)
    assert Recipe(epochs=200, batch=128).length(1000) == 1563


@pytest.mark.parametrize("fast", [False, True])
def test_nesterov_takes_the_gradient_where_the_momentum_leads(fast):
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    recipe = Recipe(updates=2, learning_rate=0.1, momentum=0.9, weight_decay=0, nesterov=True)
    sgd, value, velocity = optimiser(recipe, [parameter], fast, torch.device("cpu")), 1.0, 0.0
    for gradient in (1.0, -3.0):
        parameter.grad = torch.tensor([gradient])
        sgd.step()
        velocity = 0.9 * velocity + gradient
        value -= 0.1 * (gradient + 0.9 * velocity)
        assert parameter.item() == pytest.approx(value)
    with pytest.raises(ValueError, match="nesterov needs optimiser sgd"):
        Recipe(updates=2, optimiser="adam", nesterov=True)


def test_bf16_trains_too_and_differs_little():
    numerics = Numerics(precision="bf16")
    base = setup()
    reduced = Setup(TASK, DATA, base.recipe, numerics, base.device, base.axes)
    a, b = fit(base, 0, ROWS)[1], fit(reduced, 0, ROWS)[1]
    assert a == pytest.approx(b, rel=0.05)


@pytest.mark.gpu
def test_training_on_the_gpu_is_near_the_cpu():
    base = setup()
    device = torch.device("cuda")
    there = Setup(
        TASK, type(DATA)(DATA.pool.to(device), DATA.test.to(device), DATA.classes), base.recipe, Numerics(), device,
        base.axes,
    )  # fmt: skip
    assert fit(there, 0, ROWS)[1] == pytest.approx(fit(base, 0, ROWS)[1], rel=0.2)
