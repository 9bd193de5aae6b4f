"""The detection tasks as the engine uses them: shapes, absent targets, overfitting, scenes, networks."""

import pytest
import torch

from albench.errors import AlbenchError
from albench.tasks.detection.network import Vgg, load_vgg
from albench.tasks.detection.scenes import DigitScenes
from albench.tasks.detection.voc import PascalVoc


@pytest.fixture(params=[DigitScenes, PascalVoc])
def mini(request, tmp_path):
    """A miniature task, its data and a model in evaluation mode."""
    task = request.param.miniature(tmp_path)
    data = task.load(tmp_path)
    torch.manual_seed(0)
    return task, data, task.build(data.classes).eval()


def forward(task, model, batch):
    with torch.inference_mode():
        return model(batch["image"])


def test_shapes(mini):
    task, data, model = mini
    batch = task.prepare(data.pool.batch(torch.arange(5)))
    raw = forward(task, model, batch)
    boxes = 4 * (36 + 9)
    assert batch["image"].shape == (5, task.channels, 48, 48)
    assert batch["matched"].shape == (5, boxes)
    logp = task.predict(raw).logp
    assert logp.shape == (5, boxes, len(data.classes) + 1)
    torch.testing.assert_close(logp.exp().sum(2), torch.ones(5, boxes))
    assert [f.shape[2] for f in task.features(raw)] == [6, 3]
    assert task.embedding(raw).shape == (5, task.features(raw)[-1].shape[1])
    assert task.losses(raw, batch).shape == (5,)
    assert task.can == {"dropout"}
    assert torch.equal(task.trivial(batch), (data.pool.targets["labels"][:5] >= 0).sum(1).float())


def test_candidates_come_without_targets(mini):
    task, data, _ = mini
    hidden = data.pool.batch(torch.arange(4), hidden=True)
    batch = task.prepare(hidden)
    assert set(batch) == {"image"}
    assert torch.equal(batch["image"], task.prepare(data.pool.batch(torch.arange(4)))["image"])
    assert task.trivial(batch).shape == (4,)
    assert set(task.augment(hidden, torch.Generator().manual_seed(0))) == {"image"}


def test_a_batch_without_a_single_object_trains_without_nan(mini):
    task, data, model = mini
    model.train()
    batch = data.pool.batch(torch.arange(4))
    batch["labels"] = torch.full_like(batch["labels"], -1)
    ready = task.augment(batch, torch.Generator().manual_seed(0))
    loss = (task.losses(model(ready["image"]), ready) * task.scale(ready)).mean()
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_losses_do_not_depend_on_the_rest_of_the_batch(mini):
    task, data, model = mini
    batch = task.prepare(data.pool.batch(torch.arange(6)))
    together = task.losses(forward(task, model, batch), batch)
    one = task.prepare(data.pool.batch(torch.arange(3, 4)))
    torch.testing.assert_close(task.losses(forward(task, model, one), one)[0], together[3])


def perfect(task, data, rows):
    """A raw output that says exactly what the annotation says."""
    batch = task.prepare(data.test.batch(rows))
    logits = torch.nn.functional.one_hot(batch["matched"], len(data.classes) + 1) * 20.0
    return {"logits": logits, "offsets": batch["offsets"]}, batch


def test_the_annotation_itself_scores_one(mini):
    task, data, _ = mini
    parts = [perfect(task, data, rows) for rows in torch.arange(len(data.test)).split(3)]
    numbers, outcomes = task.measure(iter(parts), data.classes)
    assert numbers["map"] > 0.85  # two digits of a scene may overlap beyond what non-maximum suppression lets through
    assert set(numbers) >= {"map", "map@11pt"}
    assert outcomes["loss"].shape == (len(data.test),)
    counting = (data.test.targets["labels"] >= 0) & ~data.test.targets["difficult"]
    assert outcomes["positives"].sum() == counting.sum()
    flat = [outcomes[k] for k in ("sample", "label", "score", "hit", "box")]
    assert len({len(column) for column in flat}) == 1
    hit = outcomes["hit"] == 1
    row = int(hit.nonzero()[0][0])
    truth = data.test.targets["boxes"][outcomes["sample"][row]]
    assert (truth - torch.from_numpy(outcomes["box"][row]).float()).abs().amax(1).min() < 0.1  # pixels


def test_an_untrained_model_that_finds_nothing_scores_zero(mini):
    task, data, _ = mini
    raw, batch = perfect(task, data, torch.arange(4))
    raw["logits"] = torch.zeros_like(raw["logits"])
    raw["logits"][..., 0] = 50
    numbers, outcomes = task.measure([(raw, batch)], data.classes)
    assert numbers["map"] == 0
    assert len(outcomes["score"]) == 0


def test_difficult_objects_are_learnt_from_by_choice(tmp_path):
    task = PascalVoc.miniature(tmp_path)
    data = task.load(tmp_path)
    with_them = task.prepare(data.pool.batch(torch.tensor([3])))["matched"]
    without = task.model_copy(update={"train_difficult": False}).prepare(data.pool.batch(torch.tensor([3])))["matched"]
    assert (with_them > 0).sum() > (without > 0).sum() > 0


def test_overfits_a_few_images(tmp_path):
    task = PascalVoc.miniature(tmp_path).model_copy(update={"expand": 1.0, "crop": 1.0, "dropout": 0.0})
    data = task.load(tmp_path)
    torch.manual_seed(0)
    rng, rows = torch.Generator().manual_seed(0), torch.arange(12)
    model = task.build(data.classes)
    optimiser = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(120):
        batch = task.augment(data.pool.batch(rows), rng)
        loss = (task.losses(model(batch["image"]), batch) * task.scale(batch)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    batch = task.prepare(data.pool.batch(rows))
    numbers, _ = task.measure([(forward(task, model, batch), batch)], data.classes)
    assert numbers["map"] > 0.95


def test_drawing(mini):
    from matplotlib.figure import Figure

    task, data, _ = mini
    axes = Figure().add_subplot()
    task.draw(axes, data.pool, 3, data.classes)
    assert len(axes.lines) == int((data.pool.targets["labels"][3] >= 0).sum())


def test_scenes_are_made_from_their_seed_and_share_no_digit():
    small = {"pool": 8, "test": 8}
    first = DigitScenes(**small).load(None)
    assert first.fingerprint() == DigitScenes(**small).load(None).fingerprint()
    assert first.fingerprint() != DigitScenes(**small, scene_seed=1).load(None).fingerprint()
    labels, boxes = first.pool.targets["labels"], first.pool.targets["boxes"]
    assert ((labels >= 0).sum(1) == 3).all()
    assert (boxes >= 1).all()
    assert (boxes <= 48).all()
    assert (boxes[..., 2:] - boxes[..., :2] > 3).all()


def test_boxes_of_scenes_fit_their_ink():
    task = DigitScenes(pool=20, test=1, objects=(1, 1), hardest=0)
    data = task.load(None)
    for image, box in zip(data.pool.images[:, 0].float(), data.pool.targets["boxes"][:, 0], strict=True):
        paper = image.median()
        ink = (image - paper).abs() > 0.35 * (image - paper).abs().max()
        rows, columns = ink.any(1).nonzero()[:, 0], ink.any(0).nonzero()[:, 0]
        found = torch.stack((columns[0], rows[0], columns[-1], rows[-1])) + 1
        assert (found - box).abs().max() <= 3


def test_vgg_has_the_parameters_and_maps_of_torchvisions_ssd300():
    from torchvision.models.detection import ssd300_vgg16

    theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
    task = PascalVoc(network="ssd300-vgg16", dropout=0.2)
    ours = task.build([str(i) for i in range(20)])
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    narrow = PascalVoc(network="ssd300-vgg16", width=4).build(["a", "b"]).eval()
    with torch.inference_mode():
        raw = narrow(torch.randn(1, 3, 300, 300))
    assert raw["logits"].shape == (1, 8732, 3)
    assert [f.shape[2] for f in raw["features"]] == [38, 19, 10, 5, 3, 1]
    assert [f.shape[1] for f in raw["features"]] == [32, 64, 32, 16, 16, 16]
    assert raw["embedding"].shape == (1, 64)
    assert all(1e-3 < f.std() < 1e3 for f in raw["features"])


def test_vgg_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    one, other = Vgg(4), Vgg(4)
    file = tmp_path / "vgg.pt"
    torch.save({f"features.{k}": v for k, v in one.features.state_dict().items()}, file)
    load_vgg(other, file)
    assert all(torch.equal(a, b) for a, b in zip(one.features.parameters(), other.features.parameters(), strict=True))
    with pytest.raises(AlbenchError, match="cannot read VGG-16 weights"):
        load_vgg(Vgg(8), file)
    with pytest.raises(AlbenchError, match="cannot read VGG-16 weights"):
        load_vgg(one, tmp_path / "absent.pt")


def test_vgg_layers_are_numbered_as_torchvisions():
    from torchvision.models import vgg16

    theirs = {k: v.shape for k, v in vgg16(weights=None).features.state_dict().items()}
    assert {k: v.shape for k, v in Vgg(64).features.state_dict().items()} == theirs


def test_the_divisor_of_an_image_s_loss_is_a_switch(mini):
    task, data, model = mini
    own = task.model_copy(update={"divisor": "image"})
    batch = task.prepare(data.pool.batch(torch.arange(6)))
    raw, matched = forward(task, model, batch), (batch["matched"] > 0).sum(1)
    assert (matched != matched[0]).any()
    torch.testing.assert_close(own.losses(raw, batch) * matched.clamp_min(1), task.losses(raw, batch))
    assert own.scale(batch) == 1
    # SSD's own objective: the batch's sum over the batch's matches.
    objective = (task.losses(raw, batch) * task.scale(batch)).mean()
    torch.testing.assert_close(objective, task.losses(raw, batch).sum() / matched.sum())


def test_the_rule_of_average_precision_is_a_switch_of_the_primary_metric(mini):
    task, data, _ = mini
    seven = task.model_copy(update={"rule": "11-point"})
    assert (task.metric, seven.metric) == ("map", "map@11pt")
    rng = torch.Generator().manual_seed(0)
    parts = []
    for rows in torch.arange(len(data.test)).split(3):
        raw, batch = perfect(task, data, rows)
        noise = 15 * torch.randn(raw["logits"].shape, generator=rng)
        parts.append((raw | {"logits": raw["logits"] + noise}, batch))
    numbers, outcomes = seven.measure(iter(parts), data.classes)
    area, _ = task.measure(iter(parts), data.classes)
    assert area["map"] == numbers["map"]
    assert 0.05 < numbers["map@11pt"] < 0.95
    assert numbers["map@11pt"] != numbers["map"]
    for one, found, name in ((task, area, "map"), (seven, numbers, "map@11pt")):
        parts_of = [found[f"ap/{c}"] for c in data.classes if f"ap/{c}" in found]
        assert sum(parts_of) / len(parts_of) == pytest.approx(found[name])
        assert one.remeasure(outcomes, torch.ones(1, len(data.test), dtype=int).numpy())[0] == found[name]
