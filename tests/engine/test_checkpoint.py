"""A training that is killed goes on from its checkpoint, to the same bits; a bad one costs nothing but itself."""

import errno
from dataclasses import replace

import pytest
import torch

from albench import checkpoint as module
from albench.checkpoint import Checkpoint, decode, encode, restore_optimiser
from albench.evaluation import evaluate
from albench.recipe import Recipe
from albench.strategies.learning_loss import LossPrediction
from albench.strategy import Companion
from albench.tasks.classification.digits import Digits
from albench.training import Numerics, Setup, fit, state_dict

UPDATES = 9
ROWS = torch.arange(0, 40, 3)
BELONGS = {"identity": "x", "torch": "1", "albench": "2"}
PLAIN = Digits(samples=120, width=4, blocks=(1, 1))
DROPOUT = Digits(samples=120, width=4, blocks=(1, 1), dropout=0.3)
WIDER = Digits(samples=120, width=6, blocks=(1, 1))
DATA = PLAIN.load(None)


class Killed(Exception):
    """In place of a SIGKILL: nothing of the training is left but its file."""


class Adversary(Companion):
    """Has an optimiser, a buffer and draws of its own: what a companion with steps of its own may hold."""

    def __init__(self, example):
        super().__init__()
        self.layer = torch.nn.Linear(example.embedding.shape[1], 1)
        self.other = torch.nn.Linear(64, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.optimiser = torch.optim.Adam(self.other.parameters(), lr=0.01)

    def loss(self, outputs, losses, progress):
        return (self.layer(torch.nn.functional.dropout(outputs.embedding)).squeeze(1) - losses).square().mean()

    def step(self, labelled, unlabelled, rng):
        image = unlabelled["image"].flatten(1)[:, :64]
        noise = torch.rand(image.shape, generator=rng, device=image.device) + torch.rand(())
        self.optimiser.zero_grad()
        self.other(image + noise).square().mean().backward()
        self.optimiser.step()
        self.seen += len(image)


def setup(task=PLAIN, companion=None, precision="fp32", **recipe):
    recipe = Recipe(**({"updates": UPDATES, "batch": 8} | recipe))
    numerics = Numerics(precision=precision)
    return Setup(task, DATA, recipe, numerics, torch.device("cpu"), (0, 1, "digits"), companion)


def at(path, seconds=1e-9, log=None, belongs=BELONGS):
    return Checkpoint(path, belongs, seconds, (log if log is not None else []).append)


def killed(chosen, path, after, start=None):
    """Train, and stop dead after so many updates."""

    def stop(update, updates):
        if update == after:
            raise Killed

    with pytest.raises(Killed):
        fit(chosen, 0, ROWS, start, stop, at(path))


def bits(fitted):
    return {name: tensor.clone() for name, tensor in state_dict(fitted).items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


CASES = {
    "sgd": {},
    "adam": {"optimiser": "adam", "learning_rate": 1e-3},
    "rmsprop": {"optimiser": "rmsprop", "learning_rate": 1e-3, "clip": 1.0},
    "cosine": {"schedule": "cosine", "warmup": 0.3},
    "dropout": {"task": DROPOUT},
    "bf16": {"precision": "bf16"},
    "learning loss": {"companion": LossPrediction},
    "a companion that steps": {"companion": Adversary, "task": DROPOUT},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("after", [1, 7])
def test_going_on_equals_never_having_stopped(case, after, tmp_path):
    chosen, path = setup(**CASES[case]), tmp_path / "x.checkpoint"
    whole, objective = fit(chosen, 0, ROWS)
    killed(chosen, path, after)
    updates, checkpoint = [], at(path)
    resumed, again = fit(chosen, 0, ROWS, None, lambda u, n: updates.append(u), checkpoint)
    assert updates == list(range(after + 1, UPDATES + 1))
    assert checkpoint.resumed == [after]
    assert checkpoint.spent > 0
    assert objective == again
    assert_equal(bits(whole), bits(resumed))
    assert evaluate(chosen, whole.model)[0] == evaluate(chosen, resumed.model)[0]


def test_a_training_killed_again_and_again_ends_at_the_same_bits(tmp_path):
    chosen, path = setup(companion=Adversary), tmp_path / "x.checkpoint"
    whole, objective = fit(chosen, 0, ROWS)
    for after in (2, 3, 7):
        killed(chosen, path, after)
    checkpoint = at(path)
    resumed, again = fit(chosen, 0, ROWS, checkpoint=checkpoint)
    assert checkpoint.resumed == [2, 3, 7]
    assert objective == again
    assert_equal(bits(whole), bits(resumed))


def test_continuing_from_an_earlier_stage_resumes_too(tmp_path):
    start = state_dict(fit(setup(), 0, ROWS)[0])
    whole, _ = fit(setup(), 0, ROWS, start)
    killed(setup(), tmp_path / "x.checkpoint", 4, start)
    resumed, _ = fit(setup(), 0, ROWS, start, checkpoint=at(tmp_path / "x.checkpoint"))
    assert_equal(bits(whole), bits(resumed))


def test_the_loss_that_was_not_finite_is_still_said_at_its_update(tmp_path):
    chosen = setup(learning_rate=1e30)
    with pytest.raises(Exception, match="not finite") as first:
        fit(chosen, 0, ROWS)
    killed(chosen, tmp_path / "x.checkpoint", 6)
    with pytest.raises(Exception, match="not finite") as second:
        fit(chosen, 0, ROWS, checkpoint=at(tmp_path / "x.checkpoint"))
    assert str(first.value) == str(second.value)


def spoil(path, how):
    content = path.read_bytes()
    if how == "torn":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a flipped bit":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


@pytest.mark.parametrize("how", ["torn", "empty", "a flipped bit", "another identity", "another version"])
def test_a_checkpoint_that_is_torn_or_foreign_is_set_aside(how, tmp_path):
    path, log = tmp_path / "x.checkpoint", []
    whole, _ = fit(setup(), 0, ROWS)
    killed(setup(), path, 5)
    spoil(path, how)
    belongs = BELONGS | {"another identity": {"identity": "y"}, "another version": {"torch": "9"}}.get(how, {})
    checkpoint = at(path, seconds=0, log=log, belongs=belongs)
    fitted, _ = fit(setup(), 0, ROWS, checkpoint=checkpoint)
    assert_equal(bits(whole), bits(fitted))
    assert checkpoint.resumed == []
    assert [p.name for p in tmp_path.iterdir()] == ["x.checkpoint.bad"]
    assert len(log) == 1
    assert "set aside" in log[0]
    assert ("of another training" if how.startswith("another") else "torn or damaged") in log[0]


@pytest.mark.parametrize("other", [{"companion": LossPrediction}, {"optimiser": "adam"}, {"task": WIDER}])
def test_a_checkpoint_of_changed_code_is_set_aside(other, tmp_path):
    """The identity and the version are the same, the network is not: somebody edits albench itself."""
    path, log = tmp_path / "x.checkpoint", []
    killed(setup(companion=Adversary), path, 5)
    changed = setup(**({"companion": Adversary} | other))
    whole, _ = fit(changed, 0, ROWS)
    fitted, _ = fit(changed, 0, ROWS, checkpoint=at(path, 0, log))
    assert "does not fit" in log[0]
    assert_equal(bits(whole), bits(fitted))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_checkpoint_that_cannot_be_written_stops_no_training_and_is_said_once(error, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(error, "No space left on device")

    whole, _ = fit(setup(), 0, ROWS)
    monkeypatch.setattr(module, "write_whole", full)
    log = []
    fitted, _ = fit(setup(), 0, ROWS, checkpoint=at(tmp_path / "x.checkpoint", log=log))
    assert_equal(bits(whole), bits(fitted))
    assert log == ["x.checkpoint: no checkpoint could be written (No space left on device); training goes on"]


def test_a_companion_that_cannot_be_kept_is_said_and_trained(tmp_path):
    class Secretive(Adversary):
        def get_extra_state(self):
            return object()

        def set_extra_state(self, state):
            raise AssertionError

    log = []
    fit(setup(companion=Secretive), 0, ROWS, checkpoint=at(tmp_path / "x.checkpoint", log=log))
    assert log == ["x.checkpoint: no checkpoints of this training (object is no tensor and no plain data); it goes on"]
    assert not list(tmp_path.iterdir())


def test_writing_checkpoints_changes_nothing_and_0_minutes_write_none(tmp_path):
    with_, objective = fit(setup(companion=Adversary), 0, ROWS, checkpoint=at(tmp_path / "a"))
    without, same = fit(setup(companion=Adversary), 0, ROWS, checkpoint=at(tmp_path / "b", seconds=0))
    assert objective == same
    assert_equal(bits(with_), bits(without))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_tree_comes_back():
    tree = {
        "a": [1, 2.5, float("inf"), None, True, "text"],
        3: (torch.arange(4), {"b": torch.zeros(2, 0)}),
        "c": torch.ones(2, 3, 4, 5, dtype=torch.bfloat16).to(memory_format=torch.channels_last),
    }
    tensors = {}
    again = decode(encode(tree, tensors), tensors, torch.device("cpu"))
    assert again["a"] == tree["a"]
    assert isinstance(again[3], tuple)
    assert torch.equal(again[3][0], tree[3][0])
    assert again[3][1]["b"].shape == (2, 0)
    assert torch.equal(again["c"], tree["c"])
    with pytest.raises(TypeError, match="set is no tensor"):
        encode({"x": set()}, {})


@pytest.mark.parametrize("kind", ["sgd", "adam", "rmsprop"])
def test_an_optimiser_keeps_its_buffers_and_their_memory_format(kind):
    def make():
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        kinds = {"sgd": (torch.optim.SGD, {"momentum": 0.9}), "adam": (torch.optim.Adam, {})}
        cls, more = kinds.get(kind, (torch.optim.RMSprop, {}))
        return layer, cls(layer.parameters(), lr=0.1, **more)

    def step(layer, optimiser):
        optimiser.zero_grad()
        image = torch.ones(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
        layer(image).square().mean().backward()
        optimiser.step()

    layer, optimiser = make()
    step(layer, optimiser)
    saved = decode(encode(optimiser.state_dict(), tensors := {}), tensors, torch.device("cpu"))
    buffers = [value for held in optimiser.state.values() for value in held.values() if isinstance(value, torch.Tensor)]
    step(layer, optimiser)
    restore_optimiser(optimiser, saved)
    after = [value for held in optimiser.state.values() for value in held.values() if isinstance(value, torch.Tensor)]
    assert [b.data_ptr() for b in buffers] == [a.data_ptr() for a in after]
    fresh_layer, fresh = make()
    restore_optimiser(fresh, saved)
    for old, new in zip(optimiser.state.values(), fresh.state.values(), strict=True):
        for name in old:
            assert torch.equal(torch.as_tensor(old[name]), torch.as_tensor(new[name]))
            if isinstance(old[name], torch.Tensor):
                assert old[name].stride() == new[name].stride()
    step(fresh_layer, fresh)  # and it works


@pytest.mark.gpu
def test_going_on_on_the_gpu(tmp_path):
    base, device = setup(companion=Adversary, task=DROPOUT), torch.device("cuda")
    data = type(DATA)(DATA.pool.to(device), DATA.test.to(device), DATA.classes)
    chosen = replace(base, data=data, device=device)
    whole, objective = fit(chosen, 0, ROWS)
    killed(chosen, tmp_path / "x.checkpoint", 5)
    resumed, again = fit(chosen, 0, ROWS, checkpoint=at(tmp_path / "x.checkpoint"))
    assert again == pytest.approx(objective, rel=1e-3)
    for name, tensor in bits(whole).items():
        assert torch.allclose(tensor.float(), bits(resumed)[name].float(), rtol=1e-2, atol=1e-3)
