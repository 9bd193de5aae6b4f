"""Every registered task keeps the contract of albench/task.py, at miniature size."""

import copy
import json
import pickle
import re

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

from albench import registry
from albench.errors import AlbenchError
from albench.samples import Samples
from albench.strategy import Outputs

matplotlib.use("Agg")


class Mini:
    """A task's miniature, its data, and an untrained model in evaluation mode."""

    def __init__(self, name, folder):
        self.task = registry.tasks.get(name).miniature(folder)
        self.folder = folder
        self.data = self.task.load(folder)
        self.model = self.fresh()

    def fresh(self, seed=0):
        torch.manual_seed(seed)
        return self.task.build(self.data.classes).eval()

    def batch(self, rows, hidden=False):
        return self.task.prepare(self.data.pool.batch(torch.as_tensor(rows), hidden))

    def raw(self, batch):
        with torch.no_grad():
            return self.model(batch["image"])


@pytest.fixture(scope="module", params=registry.tasks.names())
def mini(request, tmp_path_factory):
    return Mini(request.param, tmp_path_factory.mktemp(request.param))


ROWS = [5, 0, 9, 3, 7, 1]


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def without_objects(samples):
    """The same images with nothing to find: masks and flags of presence off, everything else zero."""
    return Samples(samples.images, {n: torch.zeros_like(t) for n, t in samples.targets.items()}, samples.names)


def test_data_is_whole_and_the_same_every_time(mini):
    assert len(mini.data.pool) >= 18  # the strategies' suite labels 12 and chooses 4 of the rest
    assert len(mini.data.test) >= 6
    assert mini.data.classes
    assert all(isinstance(name, str) for name in [*mini.data.classes, *mini.data.notes, *mini.data.pool.names])
    assert mini.data.pool.targets.keys() == mini.data.test.targets.keys()
    assert mini.task.load(mini.folder).fingerprint() == mini.data.fingerprint()


def test_parameters_are_frozen_and_unknown_ones_refused(mini):
    assert type(mini.task).model_validate(mini.task.model_dump(mode="json")) == mini.task
    with pytest.raises(ValueError, match="no_such_parameter"):
        type(mini.task)(no_such_parameter=1)


def test_task_keeps_no_data_and_travels_to_workers(mini):
    again = pickle.loads(pickle.dumps(mini.task))
    assert again == mini.task
    assert copy.deepcopy(mini.task) == mini.task
    assert len(pickle.dumps(mini.task)) < 10_000  # no images in it, so no hidden label either
    assert again.load(mini.folder).fingerprint() == mini.data.fingerprint()


def test_building_is_deterministic_and_draws_from_the_global_generator(mini):
    first, second, other = mini.fresh(1).state_dict(), mini.fresh(1).state_dict(), mini.fresh(2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_preparing_needs_no_targets_and_does_not_touch_its_input(mini):
    batch = mini.data.pool.batch(torch.tensor(ROWS))
    before = {name: tensor.clone() for name, tensor in batch.items()}
    prepared = mini.task.prepare(batch)
    hidden = mini.task.prepare(mini.data.pool.batch(torch.tensor(ROWS), hidden=True))
    assert set(hidden) == {"image"} or not set(hidden) & set(mini.data.pool.targets)
    assert torch.equal(hidden["image"], prepared["image"])
    assert prepared["image"].dtype == torch.float32
    assert prepared["image"].ndim == 4
    assert all(torch.equal(batch[name], before[name]) for name in before)


def test_augmentation_is_deterministic_under_its_generator_and_does_not_touch_its_input(mini):
    batch = mini.data.pool.batch(torch.tensor(ROWS))
    before = {name: tensor.clone() for name, tensor in batch.items()}
    outer = torch.get_rng_state()

    def augmented(seed, samples=batch):
        return mini.task.augment(dict(samples), torch.Generator().manual_seed(seed))

    first, second = augmented(1), augmented(1)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first["image"], augmented(seed)["image"]) for seed in (2, 3, 4))
    assert first["image"].shape == mini.task.prepare(batch)["image"].shape
    assert all(torch.equal(batch[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), outer)
    hidden = mini.data.pool.batch(torch.tensor(ROWS), hidden=True)
    assert augmented(1, hidden)["image"].isfinite().all()  # an unlabelled batch, for a companion's own steps


def test_each_loss_is_its_samples_own(mini):
    batch = mini.batch(ROWS)
    losses = mini.task.losses(mini.raw(batch), batch)
    assert losses.shape == (len(ROWS),)
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    assert (losses >= 0).all()
    turned = mini.batch(ROWS[::-1])
    assert close(mini.task.losses(mini.raw(turned), turned).flip(0), losses)
    for position, row in enumerate(ROWS[:3]):
        alone = mini.batch([row])
        assert close(mini.task.losses(mini.raw(alone), alone), losses[position : position + 1])


def test_the_objective_reaches_the_whole_model(mini):
    model = mini.fresh().train()
    batch = mini.task.augment(mini.data.pool.batch(torch.tensor(ROWS)), torch.Generator().manual_seed(0))
    objective = (mini.task.losses(model(batch["image"]), batch) * mini.task.scale(batch)).mean()
    objective.backward()
    assert objective.isfinite()
    lacking = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert lacking == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_a_prediction_is_distributions(mini):
    batch = mini.batch(ROWS, hidden=True)
    prediction = mini.task.predict(mini.raw(batch))
    count, distributions, outcomes = prediction.logp.shape
    assert count == len(ROWS)
    assert outcomes >= 2
    for logp in (prediction.logp, prediction.softmax_logp):
        if logp is not None:
            assert logp.dtype == (torch.float32 if logp is prediction.logp else torch.float64)
            assert logp.shape == prediction.logp.shape
            assert not logp.isnan().any()
            assert close(logp.logsumexp(2).float(), torch.zeros(count, distributions))
    if prediction.weight is not None:
        assert prediction.weight.shape == (count, distributions)
        assert (prediction.weight >= 0).all()
    if prediction.grid is not None:
        assert prediction.grid[0] * prediction.grid[1] == outcomes
    for score in (prediction.entropy(), prediction.entropy(raw=True), prediction.margin(), prediction.confidence()):
        assert score.shape == (count,)
        assert score.isfinite().all()


def test_features_and_embedding_have_their_shapes(mini):
    raw = mini.raw(mini.batch(ROWS, hidden=True))
    features, embedding = mini.task.features(raw), mini.task.embedding(raw)
    assert features
    assert all(feature.ndim == 4 and len(feature) == len(ROWS) for feature in features)
    assert embedding.ndim == 2
    assert len(embedding) == len(ROWS)
    assert embedding.dtype == torch.float32
    assert embedding.isfinite().all()
    assert mini.task.trivial(mini.batch(ROWS)).shape == (len(ROWS),)


def test_can_is_what_it_can(mini):
    assert mini.task.can <= {"dropout", "gradient"}
    dropouts = [m for m in mini.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    assert ("dropout" in mini.task.can) == bool(dropouts)
    if dropouts:
        outputs = Outputs(mini.task, mini.model, mini.batch(ROWS, hidden=True))
        with torch.no_grad():
            first, second = [prediction.logp for prediction in outputs.samples(2)]
        assert not torch.equal(first, second)
    raw = mini.raw(mini.batch(ROWS, hidden=True))
    if "gradient" in mini.task.can:
        g, h = mini.task.gradient(raw)
        assert g.ndim == h.ndim == 2
        assert len(g) == len(h) == len(ROWS)
        assert g.isfinite().all()
        assert h.isfinite().all()
    else:
        with pytest.raises(NotImplementedError):
            mini.task.gradient(raw)


def measured(mini, samples, size=7):
    with torch.inference_mode():
        batches = [mini.task.prepare(samples.batch(rows)) for rows in torch.arange(len(samples)).split(size)]
        return mini.task.measure(((mini.model(b["image"]), b) for b in batches), mini.data.classes)


def test_measuring_gives_the_metric_and_an_outcome_per_sample(mini):
    metrics, outcomes = measured(mini, mini.data.test)
    assert 0 <= metrics[mini.task.metric] <= 1
    assert all(isinstance(value, float) for value in metrics.values())
    assert outcomes
    rows = len(mini.data.test)
    for name, values in outcomes.items():
        assert isinstance(values, np.ndarray)
        assert values.dtype != object
        if "sample" in outcomes and len(values) == len(outcomes["sample"]):
            continue
        assert len(values) == rows, name
    if "sample" in outcomes and len(outcomes["sample"]):
        assert outcomes["sample"].min() >= 0
        assert outcomes["sample"].max() < rows
    again, _ = measured(mini, mini.data.test, size=3)
    assert again == pytest.approx(metrics, abs=1e-6, nan_ok=True)  # whatever the batches


def taken(samples, rows):
    """The samples at these rows, which may repeat."""
    rows = torch.as_tensor(rows)
    targets = {name: target[rows] for name, target in samples.targets.items()}
    return Samples(samples.images[rows], targets, [samples.names[row] for row in rows])


def test_stored_outcomes_give_the_metric_again_to_the_bit_and_that_of_resampled_test_sets(mini):
    test, metric = mini.data.test, mini.task.metric
    metrics, outcomes = measured(mini, test)
    n = len(test)
    draws = np.random.default_rng(0).integers(0, n, (3, n))
    subset = np.arange(n) % 2 == 0
    counts = np.stack([np.ones(n, int), subset, *(np.bincount(draw, minlength=n) for draw in draws)])
    again = mini.task.remeasure(outcomes, counts)
    assert again.shape == (5,)
    assert again[0] == metrics[metric]
    rows = [np.flatnonzero(subset), *(np.sort(draw) for draw in draws)]
    expected = [measured(mini, taken(test, row), size=len(row))[0][metric] for row in rows]
    assert again[1:] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(mini.task.remeasure(outcomes, np.zeros((1, n), int))).all()
    with pytest.raises(AlbenchError, match="older albench"):
        mini.task.remeasure({}, counts)


def test_the_metric_does_not_hang_on_the_order_of_samples(mini):
    test, order = mini.data.test, torch.arange(len(mini.data.test)).flip(0)
    names = [test.names[row] for row in order]
    turned = Samples(test.images[order], {name: target[order] for name, target in test.targets.items()}, names)
    assert measured(mini, turned)[0][mini.task.metric] == pytest.approx(measured(mini, test)[0][mini.task.metric])


def test_samples_with_nothing_in_them_survive(mini):
    empty = without_objects(mini.data.pool)
    batch = mini.task.prepare(empty.batch(torch.tensor(ROWS)))
    assert mini.task.losses(mini.raw(batch), batch).isfinite().all()
    augmented = mini.task.augment(empty.batch(torch.tensor(ROWS)), torch.Generator().manual_seed(0))
    model = mini.fresh().train()
    objective = (mini.task.losses(model(augmented["image"]), augmented) * mini.task.scale(augmented)).mean()
    objective.backward()
    assert objective.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_one_sample_without_objects_among_others_is_measured(mini):
    test = mini.data.test
    targets = {name: target.clone() for name, target in test.targets.items()}
    for target in targets.values():
        target[0] = 0
    metrics, _ = measured(mini, Samples(test.images, targets, test.names))
    assert 0 <= metrics[mini.task.metric] <= 1


def test_samples_can_be_drawn(mini):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    _, outcomes = measured(mini, mini.data.test)
    for row in range(3):
        answer = json.loads(json.dumps(mini.task.answer(outcomes, row)))  # it is kept in a record
        mini.task.draw(axes, mini.data.test, row, mini.data.classes)
        mini.task.draw(axes, mini.data.test, row, mini.data.classes, answer)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in mini.task.legend(mini.data.classes).values())
    figure.canvas.draw()
    assert axes.images or axes.has_data()
    pyplot.close(figure)


def test_contents_count_what_the_annotations_hold(mini):
    counts = mini.task.contents(mini.data.pool.targets, mini.data.classes)
    assert counts.dtype == torch.int64
    assert counts.shape == (len(mini.data.pool), len(mini.data.classes))
    assert (counts >= 0).all()
    assert (counts.sum(0) > 0).any()
    rows = torch.tensor(ROWS)
    chosen = {name: column[rows] for name, column in mini.data.pool.targets.items()}
    assert torch.equal(mini.task.contents(chosen, mini.data.classes), counts[rows])
