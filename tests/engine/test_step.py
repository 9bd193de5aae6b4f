"""A compiled training step: the same training as the plain one, compiled once, its weights reset in place."""

import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

from albench import step as steps
from albench import training
from albench.api import run
from albench.checkpoint import Checkpoint
from albench.recipe import Recipe
from albench.samples import Data
from albench.store import Store
from albench.strategies.learning_loss import LossPrediction
from albench.strategy import Companion
from albench.tasks.classification.digits import Digits
from albench.training import Numerics, Setup, fit, state_dict

DATA = Digits(samples=120, width=4, blocks=(1, 1)).load(None)
ROWS = torch.arange(0, 40, 3)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _cheap_and_fresh(monkeypatch):
    monkeypatch.setattr(steps, "BACKEND", "eager")  # graphs as always, without the compiler behind them
    torch._dynamo.reset()
    steps.forget()
    yield
    steps.forget()


def setup(
    compile="on", companion=LossPrediction, seed=1, device=CPU, data=DATA, task=Digits, precision="fp32", **recipe
):
    recipe = Recipe(**({"updates": 10, "batch": 8, "learning_rate": 0.02} | recipe))
    numerics = Numerics(compile=compile, precision=precision)
    task = task(samples=120, width=4, blocks=(1, 1))  # a new one each time, as every trial has
    return Setup(task, data, recipe, numerics, device, (0, seed, "digits"), companion)


def near(a, b, tolerance=1e-4):
    return all(torch.allclose(x.float(), y.float(), rtol=tolerance, atol=tolerance) for x, y in zip(a, b, strict=True))


def weights(fitted):
    return list(state_dict(fitted).values())


@pytest.mark.parametrize("companion", [None, LossPrediction])
@pytest.mark.parametrize("optimiser", ["sgd", "adam", "rmsprop"])
def test_it_trains_what_the_plain_step_trains(companion, optimiser):
    chosen = {"companion": companion, "optimiser": optimiser, "learning_rate": 1e-3, "clip": 1.0}
    plain, expected = fit(setup("off", **chosen), 0, ROWS)
    said = []
    compiled, objective = fit(setup("on", **chosen), 0, ROWS, log=said.append)
    assert (said, plain.step, compiled.step) == ([], "eager", "compiled")
    assert objective == pytest.approx(expected, rel=1e-4)
    assert near(weights(plain), weights(compiled))


def test_nothing_is_compiled_again_and_no_weight_is_left_over():
    fit(setup(), 0, ROWS)
    with torch.compiler.set_stance("fail_on_recompile"):
        again = [weights(fit(setup(seed=seed), stage, ROWS)[0]) for seed, stage in ((1, 0), (2, 0), (2, 1))]
        fit(setup(), 1, torch.arange(80))  # more labels, more epochs' worth of updates
        fit(setup(updates=15), 0, ROWS)
        with pytest.raises(RuntimeError, match="recompile"):
            torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))  # it would be seen
    steps.forget()
    fresh = [weights(fit(setup(seed=seed), stage, ROWS)[0]) for seed, stage in ((1, 0), (2, 0), (2, 1))]
    for a, b in zip(again, fresh, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_many_networks_have_their_own_graphs():
    for width in range(10):  # torch keeps eight graphs per code object
        said = []
        chosen = replace(setup(updates=2), companion_params={"width": 4 + width})
        assert fit(chosen, 0, ROWS, log=said.append)[0].step == "compiled"
        assert said == []
    assert len(steps._kept) == steps.KEPT


def test_who_holds_the_last_training_keeps_it():
    first, _ = fit(setup(), 0, ROWS)
    kept = weights(first)
    second, _ = fit(setup(seed=2), 0, ROWS)
    assert second.model is not first.model
    assert all(torch.equal(x, y) for x, y in zip(kept, weights(first), strict=True))
    assert not near(kept, weights(second))


def test_continuing_starts_from_the_state_of_the_same_model():
    first, _ = fit(setup(), 0, ROWS)
    start = state_dict(first)
    second, _ = fit(setup(learning_rate=1e-12, weight_decay=0.0), 1, ROWS, start=start)
    third, _ = fit(setup(), 1, ROWS, start=state_dict(first))
    assert near([start["model.head.weight"]], [second.model.state_dict()["head.weight"]])
    steps.forget()
    assert all(torch.equal(x, y) for x, y in zip(weights(third), weights(fit(setup(), 1, ROWS, start)[0]), strict=True))


class Branches(LossPrediction):
    """Its loss asks for the progress, which a compiled step does not know."""

    def loss(self, outputs, losses, progress):
        return super().loss(outputs, losses, progress) if progress < 0.5 else None


@pytest.mark.parametrize("nesterov", [False, True])
def test_weights_whose_first_gradient_comes_late_train_with_the_fused_optimiser(nesterov):
    class Late(Branches):
        def loss(self, outputs, losses, progress):
            return None if progress < 0.5 else LossPrediction.loss(self, outputs, losses, progress)

    plain, fused = (fit(setup(compile, Late, nesterov=nesterov), 0, ROWS)[0] for compile in ("off", "on"))
    assert fused.step == "eager"  # it branches; the optimiser stays the fused one
    assert near(weights(plain), weights(fused))


class Counts(LossPrediction):
    """It counts in Python, so each update would be compiled anew; the count begins at 0 in every stage."""

    def __init__(self, example):
        super().__init__(example)
        self.count = 0

    def loss(self, outputs, losses, progress):
        self.count += 1
        return super().loss(outputs, losses, progress) * self.count


class Both(Branches):
    """Its own optimiser has a state, which begins anew in every stage."""

    def __init__(self, example):
        super().__init__(example)
        self.optimiser = torch.optim.Adam(self.parameters(), 0.01)

    def step(self, labelled, unlabelled, rng):
        assert "label" in labelled
        self.optimiser.zero_grad()
        self.head(unlabelled["image"].flatten(1).repeat(1, 99)[:, : self.head.in_features]).square().mean().backward()
        self.optimiser.step()


class Steps(Companion):
    """An update of its own, and no part in the objective."""

    def __init__(self, example):
        super().__init__()
        self.layer = torch.nn.Linear(64, 1)
        self.optimiser = torch.optim.SGD(self.layer.parameters(), 0.1)

    def step(self, labelled, unlabelled, rng):
        self.optimiser.zero_grad()
        self.layer(unlabelled["image"].flatten(1)).square().mean().backward()
        self.optimiser.step()


@pytest.mark.parametrize(
    ("companion", "line"), [(Branches, "was not compiled"), (Counts, "was not compiled"), (Both, "steps of its own")]
)
def test_what_cannot_be_compiled_trains_eagerly_and_says_so(companion, line):
    said, chosen = [], {"companion": companion}
    for seed in (1, 2):
        plain = fit(setup("off", seed=seed, **chosen), 0, ROWS)[0]
        fitted = fit(setup(seed=seed, **chosen), 0, ROWS, log=said.append)[0]
        assert fitted.step == "eager"
        assert near(weights(plain), weights(fitted))
    assert len(said) == 1
    assert line in said[0]
    assert "\n" not in said[0]


def test_a_companion_with_steps_alone_is_a_fresh_one_each_time():
    plain = fit(setup("off", Steps, seed=2), 0, ROWS)[0]
    first, second = (fit(setup("on", Steps, seed=seed), 0, ROWS)[0] for seed in (1, 2))
    assert second.step == "compiled"
    assert first.companion is not second.companion
    assert near(weights(plain), weights(second))


class Whole(Digits):
    """Its augmentation has no two halves."""

    def augment(self, batch, rng):
        return super().augment(batch, rng)


def test_a_task_that_augments_in_one_piece_is_compiled_without_that():
    plain = fit(setup("off"), 0, ROWS)[0]
    fitted = fit(setup("on", task=Whole), 0, ROWS)[0]
    assert fitted.step == "compiled"
    assert near(weights(plain), weights(fitted))


def test_a_killed_training_goes_on_in_the_kept_step(tmp_path):
    class Kill(Exception):
        pass

    def killer(update, updates):
        if update == 6:
            raise Kill

    def checkpoint(seconds):
        return Checkpoint(tmp_path / "x.checkpoint", {}, seconds)

    whole = weights(fit(setup(), 0, ROWS)[0])
    with pytest.raises(Kill):
        fit(setup(), 0, ROWS, on_update=killer, checkpoint=checkpoint(1e-9))
    fit(setup(seed=2), 0, ROWS)
    with torch.compiler.set_stance("fail_on_recompile"):
        resumed = checkpoint(0.0)
        fitted, _ = fit(setup(), 0, ROWS, checkpoint=resumed)
    assert resumed.resumed == [6]
    assert all(torch.equal(x, y) for x, y in zip(whole, weights(fitted), strict=True))


def test_what_a_killed_training_s_compiler_took_is_no_training(tmp_path, monkeypatch):
    class Kill(Exception):
        pass

    def killer(update, updates):
        if update == 2:
            raise Kill

    def slowly(*arguments):
        time.sleep(1.5)
        compiling(*arguments)

    compiling = steps.Step.compile
    monkeypatch.setattr(steps, "_kept", {})
    monkeypatch.setattr(steps.Step, "compile", slowly)
    with pytest.raises(Kill):
        fit(setup(), 0, ROWS, on_update=killer, checkpoint=Checkpoint(tmp_path / "x.checkpoint", {}, 1e-9))
    resumed = Checkpoint(tmp_path / "x.checkpoint", {}, 0.0)
    fit(setup(), 0, ROWS, checkpoint=resumed)
    assert resumed.resumed == [2]
    assert 0 < resumed.spent < 1.5


def test_a_run_selects_the_same_and_compiles_at_its_first_stage_alone(tmp_path, monkeypatch):
    options = {"tasks": ["digits"], "strategies": ["random", "learning-loss"], "seeds": 2, "stages": 3}
    options |= {"jobs": 1, "device": "cpu"}
    options |= {"settings": ["tasks.digits.recipe.updates=6", "tasks.digits.params.samples=300", "ceiling=0"]}
    plain, failed = run("quick", **options, out=tmp_path / "plain")
    assert failed == []
    trained = []

    def watched(setup, *rest):
        compiled_before = setup.companion in trained
        trained.append(setup.companion)
        with torch.compiler.set_stance("fail_on_recompile" if compiled_before else "default"):
            return fit(setup, *rest)

    monkeypatch.setattr(training, "fit", watched)
    compiled, failed = run("quick", **options, out=tmp_path / "compiled", compile="on")
    assert failed == []
    assert len(trained) > 6
    one, two = ({r.name: r.read_text() for r in (f / "trials").rglob("*.jsonl")} for f in (plain, compiled))
    assert one.keys() == two.keys()
    for trial in Store(plain).trials():
        a, b = ([r for r in Store(f).records(trial) if r["kind"] == "selected"] for f in (plain, compiled))
        assert [r["indices"] for r in a] == [r["indices"] for r in b]
    assert Store(compiled).manifest()["suite"]["numerics"]["compile"] == "on"
    costs = pd.read_csv(compiled / "costs.csv")
    once = costs[costs.metric == "seconds/compile"]
    assert sorted(zip(once.strategy, once.seed, once.stage, strict=True)) == [("learning-loss", 0, 0), ("random", 0, 0)]
    assert (once.value > costs[costs.metric == "seconds/train"].value.max()).all()  # six updates
    assert "seconds/compile" not in set(pd.read_csv(plain / "costs.csv").metric)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_real_compiler_trains_what_the_plain_step_trains(monkeypatch, precision):
    monkeypatch.setattr(steps, "BACKEND", "inductor")
    plain, expected = fit(setup("off", precision=precision), 0, ROWS)
    said = []
    compiled, objective = fit(setup("on", precision=precision), 0, ROWS, log=said.append)
    assert (said, compiled.step) == ([], "compiled")
    assert objective == pytest.approx(expected, rel=1e-3 if precision == "fp32" else 0.05)
    if precision == "fp32":
        assert near(weights(plain), weights(compiled), 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("compile", ["on", "graphs", "eager-graphs"])
def test_on_a_gpu_it_trains_what_the_plain_step_trains(compile, monkeypatch):
    monkeypatch.setattr(steps, "BACKEND", "inductor")
    device = torch.device("cuda")
    there = Data(DATA.pool.to(device), DATA.test.to(device), DATA.classes)
    said = []
    with Numerics().in_force():
        for stage, seed in ((0, 1), (1, 1), (0, 2)):
            chosen = {"device": device, "data": there, "seed": seed}
            plain, expected = fit(setup("off", **chosen), stage, ROWS)
            fitted, objective = fit(setup(compile, **chosen), stage, ROWS, log=said.append)
            assert fitted.step == {"on": "compiled"}.get(compile, compile)
            assert objective == pytest.approx(expected, rel=1e-2)
            assert near(weights(plain), weights(fitted), 1e-2)
    assert said == []


@pytest.mark.gpu
def test_a_cuda_graph_survives_those_of_torch_compile():
    """They free the workspaces of matrix products, also of those that another graph reads."""
    device = torch.device("cuda")
    there = Data(DATA.pool.to(device), DATA.test.to(device), DATA.classes)
    chosen = setup("eager-graphs", LossPrediction, device=device, data=there)
    fitted, objective = fit(chosen, 0, ROWS)
    assert fitted.step == "eager-graphs"
    layer = torch.compile(torch.nn.Linear(512, 512, device=device), mode="reduce-overhead")
    with torch.no_grad():
        for _ in range(3):
            layer(torch.ones(512, 512, device=device))
    _ = torch.full((1 << 28,), float("nan"), device=device)  # over whatever is free now
    assert fit(chosen, 0, ROWS)[1] == pytest.approx(objective, rel=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("compile", ["off", "on", "graphs", "eager-graphs"])
def test_on_a_gpu_no_update_waits(compile, monkeypatch):
    monkeypatch.setattr(steps, "BACKEND", "inductor")
    device, update = torch.device("cuda"), training._update
    there = Data(DATA.pool.to(device), DATA.test.to(device), DATA.classes)

    def watched(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        try:
            update(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    fit(setup(compile, device=device, data=there), 0, ROWS)
    monkeypatch.setattr(training, "_update", watched)
    fit(setup(compile, device=device, data=there), 1, ROWS)
