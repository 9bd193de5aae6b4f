"""The networks at the paper's size: the maps that the loss prediction module reads, parameters, and that they learn."""

import hashlib
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms.functional import normalize

from albench.errors import AlbenchError
from albench.evaluation import evaluate
from albench.recipe import Recipe
from albench.samples import Data, Samples
from albench.strategies.learning_loss import LossPrediction
from albench.strategy import Outputs
from albench.tasks.classification.cifar10 import CLASSES, Cifar10
from albench.tasks.detection.network import SSD300, Norm, Vgg
from albench.tasks.detection.voc import PascalVoc
from albench.tasks.pose.figures import Figures
from albench.tasks.pose.hourglass import StackedHourglass
from albench.tasks.pose.skeleton import LSP
from albench.training import Numerics, Setup, fit

VOC = tuple(str(number) for number in range(20))
SIZES = {"size": 256, "stride": 4, "stacks": 2, "depth": 4, "width": 256, "heatmap_loss": "mse"}


@pytest.mark.parametrize(
    ("task", "classes", "side", "maps"),
    [
        (Cifar10(), CLASSES, 32, [(64, 32), (128, 16), (256, 8), (512, 4)]),
        (
            PascalVoc(network="ssd300-vgg16"),
            VOC,
            300,
            [(512, 38), (1024, 19), (512, 10), (256, 5), (256, 3), (256, 1)],
        ),
        (Figures(**SIZES), LSP.names, 256, [(256, 64), (256, 64)]),
    ],
    ids=["resnet18", "ssd300", "hourglass"],
)
def test_the_loss_prediction_module_reads_the_maps_that_the_paper_names(task, classes, side, maps):
    model = task.build(classes).eval()
    with torch.no_grad():
        outputs = Outputs(task, model, {"image": torch.randn(1, 3, side, side)})
        assert [tuple(f.shape[1:]) for f in outputs.features] == [(c, cells, cells) for c, cells in maps]
        module = LossPrediction(outputs)
        assert [(b.in_features, b.out_features) for b in module.branches] == [(c, 128) for c, _ in maps]
        assert (module.head.in_features, module.head.out_features) == (128 * len(maps), 1)
        assert module(outputs).shape == (1,)


def test_resnet18_has_the_parameters_of_torchvisions_less_stem_and_head():
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=10)
    ours = Cifar10().build(CLASSES)
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(ours) - count(theirs) == 64 * 3 * (3 * 3 - 7 * 7)
    assert count(ours) == 11_173_962


def residual(inputs, outputs):
    """Parameters of a pre-activated bottleneck, counted by hand: three norms, three convolutions, a skip."""
    half = outputs // 2
    body = 2 * (inputs + half + half) + (inputs + 1) * half + (9 * half + 1) * half + (half + 1) * outputs
    return body + ((inputs + 1) * outputs if inputs != outputs else 0)


@pytest.mark.parametrize(("stacks", "joints", "parameters"), [(2, 16, 6_570_400), (8, 16, 25_434_112)])
def test_hourglasses_in_a_row(stacks, joints, parameters):
    """Newell et al. 2016: depth 4 has thirteen residuals; one more, a 1×1 and its norm, and heat maps end a stack."""
    model = StackedHourglass(joints, stacks, depth=4, width=256, stride=4).eval()
    stem = (3 * 7 * 7 + 1) * 64 + 2 * 64 + residual(64, 128) + residual(128, 128) + residual(128, 256)
    stack = (13 + 1) * residual(256, 256) + 257 * 256 + 2 * 256 + 257 * joints
    between = 257 * 256 + (joints + 1) * 256
    assert sum(p.numel() for p in model.parameters()) == stem + stacks * stack + (stacks - 1) * between == parameters
    with torch.no_grad():
        raw = model(torch.zeros(1, 3, 64, 64))
    assert raw["maps"].shape == (1, stacks, joints, 16, 16)
    assert [tuple(f.shape[1:]) for f in raw["features"]] == [(256, 16, 16)] * stacks


def test_conv4_3_has_norm_20_at_every_place_as_torchvisions_ssd():
    from torchvision.models.detection import ssd300_vgg16

    theirs = ssd300_vgg16(weights=None, weights_backbone=None).backbone
    x = torch.rand(2, 512, 5, 5)
    ours = Norm(512)(x)
    torch.testing.assert_close(ours.norm(dim=1), torch.full((2, 5, 5), 20.0))
    torch.testing.assert_close(ours, theirs.scale_weight.view(1, -1, 1, 1) * torch.nn.functional.normalize(x))


def test_boxes_are_coded_with_the_variances_of_torchvisions_ssd():
    from torchvision.models.detection._utils import BoxCoder

    from albench.tasks.detection.boxes import corners, decode, default_boxes, encode

    defaults = default_boxes(SSD300)[4000:4050]
    low = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 0.6
    boxes = torch.cat([low, low + 0.1 + low / 3], 1)
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(
        encode(boxes, defaults), coder.encode_single(boxes, corners(defaults)), rtol=1e-4, atol=1e-4
    )
    offsets = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)) * 0.5
    torch.testing.assert_close(decode(offsets, defaults), coder.decode_single(offsets, corners(defaults)))


def test_weights_that_cannot_be_had_are_said_in_one_line(tmp_path, monkeypatch):
    from urllib.error import URLError

    def offline(*arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr("albench.download.urlopen", offline)
    monkeypatch.setattr("albench.download.PAUSE", 0)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    task = PascalVoc(network="ssd300-vgg16", weights="imagenet")
    with pytest.raises(AlbenchError, match=r"no route to host.*https://.*\.pth .*by hand and put it at .*checkpoints"):
        task.build(VOC)
    for content, message in [(b"", "EOFError|cannot read"), (b"not weights", "cannot read VGG-16 weights")]:
        (tmp_path / "vgg.pt").write_bytes(content)
        with pytest.raises(AlbenchError, match=message) as raised:
            PascalVoc(network="ssd300-vgg16", weights=str(tmp_path / "vgg.pt")).build(VOC)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValidationError, match="need network = 'ssd300-vgg16'"):
        PascalVoc(weights="imagenet")
    with pytest.raises(ValidationError, match="fit width = 64 alone"):
        PascalVoc(network="ssd300-vgg16", width=8, weights="imagenet")


def vgg_file(file, value=0.5):
    """A file with the state dict of torchvision's vgg16, its convolutions alone, all of one value."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in vgg16().state_dict().items() if name.startswith("features.")}
    torch.save({name: torch.full(shape, value) for name, shape in shapes.items()}, file)
    return str(file)


def test_weights_from_a_file_are_loaded_and_the_file_must_stay_as_it_is(tmp_path):
    file = vgg_file(tmp_path / "vgg.pt")
    task = PascalVoc(network="ssd300-vgg16", weights=file)
    model = task.build(VOC)
    assert all((weight == 0.5).all() for weight in model.backbone.features.parameters())
    assert not any((weight == 0.5).all() for weight in model.backbone.fc.parameters())
    assert task.deviation == 1 / 255
    vgg_file(tmp_path / "vgg.pt", 0.25)
    with pytest.raises(AlbenchError, match=r"vgg\.pt are no longer those that the run began with"):
        task.build(VOC)


def test_ssds_own_weights_have_fc6_and_fc7(tmp_path):
    donor = Vgg(64)
    own = {"1": "31", "3": "33"}
    state = donor.features.state_dict()
    state |= {f"{own[name[0]]}{name[1:]}": weight for name, weight in donor.fc.state_dict().items()}
    torch.save(state, tmp_path / "vgg16_reducedfc.pth")
    model = PascalVoc(network="ssd300-vgg16", weights=str(tmp_path / "vgg16_reducedfc.pth")).build(VOC).backbone
    for part in ("features", "fc"):
        pairs = zip(getattr(donor, part).parameters(), getattr(model, part).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_classifiers_weights_see_images_of_the_scale_that_they_know(tmp_path):
    """vgg16 as torchvision publishes it divides by the deviation; its file must not get inputs 57 times too large."""
    from torchvision.models import vgg16

    theirs = vgg16(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "vgg16.pth")
    task = PascalVoc(network="ssd300-vgg16", weights=str(tmp_path / "vgg16.pth"))
    ours = task.build(VOC).backbone.features
    pixels = torch.randint(0, 256, (1, 3, 300, 300), dtype=torch.uint8)
    image = normalize(pixels / 255, task.mean, [0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = theirs.features[:5](image)
        torch.testing.assert_close(ours[:5](task.prepare({"image": pixels})["image"]), wanted, rtol=1e-3, atol=1e-4)


def test_a_result_hangs_on_what_a_weights_file_holds_and_not_on_its_path(tmp_path, monkeypatch):
    from albench.analysis.published import protocol_differences
    from albench.download import Source
    from albench.suite import differences, read, resolve
    from albench.tasks.detection import pictures

    def resolved(file):
        suite = read("ll4al-voc", (f"tasks.voc.params.weights={file}", "strategies={random={}}"))
        return resolve(suite).model_dump(mode="json")

    for name, content in {"a.pt": b"one", "b.pt": b"one", "c.pt": b"two"}.items():
        (tmp_path / name).write_bytes(content)
    digest = hashlib.sha256(b"one").hexdigest()
    before = resolved(tmp_path / "a.pt")
    assert before["tasks"]["voc"]["params"]["weights"] == f"sha256:{digest}"
    (tmp_path / "a.pt").write_bytes(b"two, longer")
    changed = differences(before, resolved(tmp_path / "a.pt"))
    assert [line.partition(":")[0] for line in changed] == ["tasks.voc.params.weights"]
    paper = resolved("imagenet")
    assert [
        line.partition(":")[0] for line in protocol_differences(resolved(tmp_path / "c.pt"), "voc", paper, "voc")
    ] == ["params.weights"]
    monkeypatch.setattr(pictures, "IMAGENET", Source("https://example.org/vgg.pth", f"sha256:{digest[:8]}"))
    copy = resolved(tmp_path / "b.pt")
    assert copy["tasks"]["voc"]["params"]["weights"] == "imagenet"
    assert protocol_differences(copy, "voc", paper, "voc") == []
    (tmp_path / "b.pt").unlink()
    assert PascalVoc.model_validate(copy["tasks"]["voc"]["params"]).weights_file == str(tmp_path / "b.pt")  # a report
    with pytest.raises(AlbenchError, match=r"b\.pt' cannot be read: No such file"):
        resolved(tmp_path / "b.pt")


def test_heads_maps_and_parameters_are_torchvisions_ssd300():
    from torchvision.models.detection import ssd300_vgg16

    task = PascalVoc(network="ssd300-vgg16")
    with torch.device("meta"):
        theirs = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=21)
        ours = task.build(VOC).eval()
        raw = ours(torch.empty(2, 3, 300, 300))
        maps = list(theirs.backbone(torch.empty(2, 3, 300, 300)).values())
        outputs = theirs.head(maps)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert [f.shape for f in raw["features"]] == [m.shape for m in maps]
    assert raw["logits"].shape == outputs["cls_logits"].shape == (2, 8732, 21)
    assert raw["offsets"].shape == outputs["bbox_regression"].shape


def test_detections_are_those_of_torchvisions_ssd():
    """Score threshold, boxes per class, non-maximum suppression, boxes per image."""
    from types import SimpleNamespace

    from torchvision.models.detection._utils import BoxCoder
    from torchvision.models.detection.ssd import SSD as Theirs

    from albench.tasks.detection.boxes import corners, default_boxes
    from albench.tasks.detection.suppression import LOW_SCORE, OVERLAP, PER_CLASS, PER_IMAGE

    rng = torch.Generator().manual_seed(0)
    logits, offsets = torch.randn(2, 8732, 6, generator=rng) * 2, torch.randn(2, 8732, 4, generator=rng)
    logits[..., 0] += 4
    logits[1, :, 0] += 10  # the second image has few
    task = PascalVoc(network="ssd300-vgg16")
    row, label, score, box = task.detect({"logits": logits, "offsets": offsets})
    theirs = SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), score_thresh=LOW_SCORE, nms_thresh=OVERLAP)
    theirs.topk_candidates, theirs.detections_per_img = PER_CLASS, PER_IMAGE
    anchors = [corners(default_boxes(SSD300)) * 300] * 2
    outputs = {"cls_logits": logits, "bbox_regression": offsets}
    expected = Theirs.postprocess_detections(theirs, outputs, anchors, [(300, 300)] * 2)
    assert (row == 0).sum() == 200 > (row == 1).sum() > 0
    for image, found in enumerate(expected):
        torch.testing.assert_close(score[row == image], found["scores"])
        assert torch.equal(label[row == image] + 1, found["labels"])
        torch.testing.assert_close(box[row == image] * 300, found["boxes"], rtol=1e-4, atol=1e-2)


def test_only_pretrained_weights_change_what_the_network_reads():
    """They read pixels from 0 to 255 less the mean; from scratch the input has unit variance."""
    assert PascalVoc(network="ssd300-vgg16", weights="imagenet").deviation == 1 / 255
    assert PascalVoc(network="ssd300-vgg16").deviation == PascalVoc().deviation > 0.2


# Sixteen images by heart: what cannot be learned in full is wired wrongly somewhere.
STILL = {"scaling": 0.0, "rotation": 0.0, "flip": False}
PLAIN = {"expand": 1.0, "crop": 1.0, "mirror": False, "photometric": 0.0}


def learned(task, data, recipe, companion=None, weight=1.0, numerics=Numerics(scoring_batch=16)):  # noqa: B008 - frozen
    """The metric on the sixteen samples that a task has been trained on."""
    rows = torch.arange(16)
    pool = data.pool
    part = Samples(pool.images[rows], {name: column[rows] for name, column in pool.targets.items()}, pool.names[:16])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = part.to(device)
    setup = Setup(task, Data(here, here, data.classes), recipe, numerics, device, (0, 0, "t"), companion)
    if companion is not None:
        setup = replace(setup, companion_params={"weight": weight})
    fitted, _ = fit(setup, 0, rows)
    return evaluate(setup, fitted.model)[0][task.metric]


def figures(**sizes):
    task = Figures(pool=16, test=1, **STILL, **sizes)
    return task, task.load(None)


def shapes(folder, **sizes):
    PascalVoc.miniature(folder)
    task = PascalVoc(folder=".", **PLAIN, **sizes)
    return task, task.load(folder)


FAST = Recipe(updates=60, batch=16, optimiser="adam", learning_rate=0.005, weight_decay=0.0, schedule="cosine")
SLOW = Recipe(updates=160, batch=16, optimiser="adam", learning_rate=0.001, weight_decay=0.0, schedule="cosine")
MAPS = Recipe(updates=400, batch=16, optimiser="rmsprop", learning_rate=0.0025, weight_decay=0.0, schedule="cosine")
NARROW = {"size": 64, "stride": 4, "stacks": 2, "depth": 4, "width": 32}


@pytest.mark.parametrize(
    ("loss", "recipe"), [("cross-entropy", FAST), pytest.param("mse", MAPS, marks=pytest.mark.slow)]
)
def test_a_narrow_hourglass_learns_sixteen_figures(loss, recipe):
    assert learned(*figures(heatmap_loss=loss, **NARROW), recipe) > 0.95


@pytest.mark.parametrize(
    ("network", "recipe"),
    [
        ({"size": 48, "width": 8}, FAST.merged({"updates": 200, "learning_rate": 0.01})),
        ({"network": "ssd300-vgg16", "width": 4}, SLOW.merged({"updates": 130, "learning_rate": 0.003})),
    ],
    ids=["compact", "ssd300"],
)
def test_a_narrow_ssd_learns_sixteen_scenes(tmp_path, network, recipe):
    assert learned(*shapes(tmp_path, **network), recipe) > 0.95


# As a GPU computes, but for the compiler, which takes longer than these trainings.
CAPTURED = Numerics(precision="bf16", compile="eager-graphs", scoring_batch=16)


@pytest.mark.gpu
@pytest.mark.parametrize("companion", [None, LossPrediction])
def test_the_paper_s_hourglass_learns_sixteen_figures(companion):
    """With the paper's λ: at 1 the module's loss drowns the squared errors, and the network learns nothing."""
    recipe = MAPS.merged({"updates": 1500, "learning_rate": 2.5e-4})
    assert learned(*figures(**SIZES), recipe, companion, 1e-4, CAPTURED) > 0.95


@pytest.mark.gpu
@pytest.mark.parametrize("companion", [None, LossPrediction])
def test_the_paper_s_ssd_learns_sixteen_scenes(tmp_path, companion):
    recipe = SLOW.merged({"updates": 600, "learning_rate": 1e-4})
    assert learned(*shapes(tmp_path, network="ssd300-vgg16"), recipe, companion, numerics=CAPTURED) > 0.95
