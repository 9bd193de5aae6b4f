"""Figures from their seed; LSP and LSPET from their official layouts, with all the dirt that files can hold."""

import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from albench.errors import AlbenchError
from albench.recipe import Recipe
from albench.tasks.pose.coco import CocoKeypoints
from albench.tasks.pose.figures import Figures
from albench.tasks.pose.lsp import LeedsSports, read_joints
from albench.tasks.pose.mpii import Mpii
from albench.tasks.pose.skeleton import LSP


def test_figures_come_from_their_seed():
    one, two, other = (Figures(pool=20, test=5, seed=seed).load(None) for seed in (3, 3, 4))
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()
    assert one.classes == LSP.names
    assert not torch.equal(one.pool.images[:5], one.test.images)
    more = Figures(pool=20, test=9, seed=3).load(None)
    assert torch.equal(more.pool.images, one.pool.images)  # the test set's size does not touch the pool


def test_figures_lie_in_the_network_s_image_and_vary():
    task = Figures(pool=300, test=2)
    data = task.load(None)
    joints = data.pool.targets["joints"] - (task.stored - task.size) / 2
    assert joints.min() >= 0
    assert joints.max() <= task.size
    torso = (joints[:, 9] - joints[:, 2]).norm(dim=1)
    assert torso.min() > 3
    left, right = joints[:, 9, 0], joints[:, 8, 0]
    assert 0.2 < (left > right).float().mean() < 0.8  # seen from the front and from behind


def test_left_and_right_limbs_can_be_told_apart_by_colour():
    data = Figures(pool=400, test=2).load(None)
    images = data.pool.images.float()
    joints = data.pool.targets["joints"]

    def warmth(a, b):  # red minus blue in the middle of a limb
        x, y = ((joints[:, a] + joints[:, b]) / 2).long().unbind(-1)
        rows = torch.arange(len(images))
        return images[rows, 0, y, x] - images[rows, 2, y, x]

    assert (warmth(4, 5) > warmth(0, 1)).float().mean() > 0.8


def test_all_figures_are_generated_fast():
    started = time.process_time()
    Figures().load(None)
    assert time.process_time() - started < 4  # about 0.8 s on an idle core


def written(folder, table, images=None, size=(90, 70), digits=5):
    """A set in official layout: `table` as joints.mat, one plain image a row."""
    count = table.shape[2] if images is None else images
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"im{i + 1:0{digits}d}.jpg")
    savemat(folder / "joints.mat", {"joints": table})
    return folder


def lspet(count=8, seed=0):
    """Joints in LSPET's layout [14, 3, count]: positions inside 90 × 70, every joint labelled."""
    table = np.random.default_rng(seed).uniform(10, 60, (14, 3, count))
    table[:, 2] = 1
    return table


def test_lspet_s_third_column_says_what_is_labelled(tmp_path):
    table = lspet()
    table[4, :, 2] = 0
    data = LeedsSports(test=2).load(written(tmp_path, table))
    assert (len(data.pool), len(data.test)) == (6, 2)
    assert data.pool.targets["visible"].sum(1).tolist() == [14, 14, 13, 14, 14, 14]
    assert not data.pool.targets["visible"][2, 4]
    assert data.pool.names[0] == "im00001.jpg"


def test_lsp_s_third_row_flags_joints_that_are_occluded_and_annotated(tmp_path):
    table = lspet().transpose(1, 0, 2).copy()
    table[2] = np.random.default_rng(1).integers(0, 2, (14, 8))
    folder = written(tmp_path, table, digits=4)
    data = LeedsSports(test=2).load(folder)
    assert data.pool.targets["visible"].all()
    joints, _, official = read_joints(folder / "joints.mat")
    assert official
    assert np.allclose(joints[5, 3], table[:2, 3, 5])


def test_the_official_split_of_lsp_and_the_last_quarter_of_lspet():
    task = LeedsSports()
    assert task._test_count(2000, official=True) == 1000
    assert task._test_count(2000, official=False) == 500
    with pytest.raises(AlbenchError, match="leaves no image for the pool"):
        LeedsSports(test=8)._test_count(8, official=False)


def test_crops_keep_joints_on_painted_dots(tmp_path):
    table = lspet(4)
    folder = written(tmp_path, table, size=(120, 100))
    for i in range(4):
        pixels = np.full((100, 120, 3), 128, np.uint8)
        rows, columns = np.mgrid[:100, :120] + 0.5
        x, y = table[7, :2, i]
        pixels[np.hypot(columns - x, rows - y) < 4] = (255, 0, 0)
        Image.fromarray(pixels).save(folder / "images" / f"im{i + 1:05d}.jpg", quality=98, subsampling=0)
    task = LeedsSports(test=1)
    data = task.load(folder)
    for image, joints in zip(data.pool.images.float(), data.pool.targets["joints"], strict=True):
        red = (image[0] - image[1] > 100).nonzero().float()
        assert (red.mean(0).flip(0) + 0.5 - joints[7]).abs().max() < 0.7
    inner = data.pool.targets["joints"] - (task.stored - task.size) / 2
    assert inner.min() > 0  # all joints of the person lie in what the network sees
    assert inner.max() < task.size


def test_dirty_joints_are_survived_and_noted(tmp_path):
    table = lspet()
    table[0, 0, 0] = np.nan
    table[1, 0, 1] = 1e6
    table[2, 0, 2] = 100  # a little outside an image 90 wide
    table[:, 2, 3] = 0
    table[:1, 2, 3] = 1  # one joint is too few
    data = LeedsSports(test=2).load(written(tmp_path, table))
    assert len(data.pool) == 5
    assert "im00004.jpg" not in data.pool.names
    assert data.pool.targets["joints"].isfinite().all()
    assert data.pool.targets["visible"].sum(1).tolist() == [13, 13, 14, 14, 14]
    assert [note.split(";")[0] for note in data.notes] == [
        "im00001.jpg: 1 joint NaN or far outside the image",
        "im00002.jpg: 1 joint NaN or far outside the image",
        "im00003.jpg: 1 joint outside the image",
        "im00004.jpg: fewer than 2 annotated joints",
    ]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(AlbenchError, match="data root"):
        LeedsSports().load(None)
    with pytest.raises(AlbenchError, match=r"no folder .*lspet_dataset; fetch lspet_dataset.zip"):
        LeedsSports().load(tmp_path)
    with pytest.raises(AlbenchError, match=r"sam\.johnson\.io"):
        LeedsSports().fetch(tmp_path)
    folder = written(tmp_path / "lspet_dataset", lspet())
    LeedsSports().fetch(tmp_path)
    (folder / "images" / "im00003.jpg").unlink()
    with pytest.raises(AlbenchError, match=r"im00003.jpg is missing: joints.mat annotates 8 images, numbered from 1$"):
        LeedsSports().load(tmp_path)
    (folder / "joints.mat").unlink()
    with pytest.raises(AlbenchError, match=r"has no joints\.mat"):
        LeedsSports().load(tmp_path)


def test_16_bit_grey_is_grey(tmp_path):
    folder = written(tmp_path, lspet())
    (folder / "images" / "im00001.jpg").unlink()
    Image.fromarray(np.full((70, 90), 50 << 8, np.uint16)).save(folder / "images" / "im00001.png")
    image = LeedsSports(margin=1).load(folder).pool.images[0]
    assert image[:, 32, 32].tolist() == [50, 50, 50]


def test_an_image_belongs_to_the_annotation_of_its_number(tmp_path):
    table = lspet(12)
    padded = LeedsSports(test=2).load(written(tmp_path / "padded", table))
    plain = LeedsSports(test=2).load(written(tmp_path / "plain", table, digits=1))  # im1, im10, im11, im12, im2 …
    assert plain.pool.names == [f"im{i}.jpg" for i in range(1, 11)]
    assert plain.fingerprint() == padded.fingerprint()


def test_images_without_numbers_are_paired_by_name(tmp_path):
    table = lspet(4)
    numbered = LeedsSports(test=1).load(written(tmp_path / "numbered", table))
    folder = written(tmp_path / "named", table)
    for file, name in zip(sorted((folder / "images").iterdir()), ("anna", "bea", "carl", "dora"), strict=True):
        file.rename(file.with_stem(name))
    assert LeedsSports(test=1).load(folder).fingerprint() == numbered.fingerprint()
    for name, other in {"anna": "take 0", "bea": "take 2", "carl": "take 9", "dora": "take 10"}.items():
        (folder / "images" / f"{name}.jpg").rename(folder / "images" / f"{other}.jpg")
    assert LeedsSports(test=1).load(folder).fingerprint() == numbered.fingerprint()
    (folder / "images" / "take 2.jpg").unlink()
    with pytest.raises(AlbenchError, match="annotates 4 images, and images/ beside it has 3"):
        LeedsSports(test=1).load(folder)


def test_every_missing_and_surplus_image_is_named_also_where_the_counts_agree(tmp_path):
    folder = written(tmp_path, lspet())
    images = folder / "images"
    (images / "._im00008.jpg").write_bytes(b"\0\5\x16\7")  # of macOS: no image
    assert list(LeedsSports().problems(folder)) == []
    (images / "im00003.jpg").rename(images / "im00013.jpg")
    (images / "im00005.jpg").rename(images / "cover.jpg")
    (images / "im00006.jpg").rename(images / "im0007.jpg")
    parts = ["im00003.jpg is missing", "im00005.jpg is missing", "im00006.jpg is missing", "cover.jpg is none"]
    parts += ["im0007.jpg: another image has this number", "im00013.jpg is none"]
    for part, line in zip(parts, LeedsSports().problems(folder), strict=True):
        assert part in line
    with pytest.raises(AlbenchError, match=r"im00003.jpg is missing: .*; `albench data verify lsp` names 5 more$"):
        LeedsSports().load(folder)


def test_people_whom_the_metric_cannot_count_and_those_of_no_extent_are_counted_in_notes(tmp_path):
    table = lspet()
    table[9, 2, [2, 6, 7]] = 0  # no left shoulder, so no torso; the first is of the pool, where it does not matter
    table[:, :2, 4] = 30.0
    data = LeedsSports(test=3).load(written(tmp_path, table))
    assert (len(data.pool), len(data.test)) == (5, 3)
    assert data.notes == [
        "2 test people have no torso (left shoulder and right hip) and do not count in pck@0.2, im00007.jpg the first",
        "1 person has all joints on one point, im00005.jpg the first; kept",
    ]


def test_a_test_set_in_which_the_metric_can_count_nobody_is_refused(tmp_path):
    table = lspet()
    table[9, 2, [6, 7]] = 0
    with pytest.raises(AlbenchError, match="nobody in the test set has a torso .* so pck@0.2 would measure nobody"):
        LeedsSports(test=2).load(written(tmp_path, table))


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no image at all"])
def test_a_damaged_image_is_named(tmp_path, damage):
    folder = written(tmp_path, lspet())
    file = folder / "images" / "im00005.jpg"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(AlbenchError, match=r"cannot read image .*im00005\.jpg"):
        LeedsSports().load(folder)


def test_every_damaged_image_is_a_line(tmp_path):
    folder = written(tmp_path, lspet())
    assert list(LeedsSports().problems(folder)) == []
    for name in ("im00002", "im00005"):
        (folder / "images" / f"{name}.jpg").write_bytes(b"no image")
    (folder / "images" / "im00007.jpg").unlink()
    lines = list(LeedsSports().problems(folder))
    for part, line in zip(["im00007.jpg is missing", "im00002.jpg", "im00005.jpg"], lines, strict=True):
        assert part in line


def test_impossible_people_are_problems_beside_what_cannot_be_read(tmp_path):
    table = lspet()
    table[0, 0, 0] = np.nan
    table[1, 0, 1] = 1e6
    table[2, 0, 2] = 100  # a little outside an image 90 wide
    table[1:, 2, 3] = 0  # one joint is too few
    table[:, :2, 5] = 30.0
    folder = written(tmp_path, table)
    said = [
        "im00001.jpg: 1 joint NaN or far outside the image; taken as not annotated",
        "im00002.jpg: 1 joint NaN or far outside the image; taken as not annotated",
        "im00004.jpg: fewer than 2 annotated joints; left out",
        "im00006.jpg: all joints are on one point; kept",
    ]
    assert list(LeedsSports().problems(folder)) == [f"{folder}/images/{line}" for line in said]
    (folder / "images" / "im00001.jpg").unlink()  # the others are still paired by their numbers
    (folder / "images" / "im00008.jpg").write_bytes(b"no image")
    for line, part in zip(LeedsSports().problems(folder), ["missing", *said[1:], "im00008.jpg"], strict=True):
        assert part in line


@pytest.mark.parametrize("task", [Mpii, CocoKeypoints])
def test_every_damaged_image_of_a_miniature_is_a_line(tmp_path, task):
    mini = task.miniature(tmp_path)
    small = list(mini.problems(tmp_path))
    assert len(small) == 2
    assert all("official" in line for line in small)
    images = sorted(tmp_path.rglob("*.jpg"))
    for file in images[:2]:
        file.write_bytes(file.read_bytes()[:300])
    lines = list(mini.problems(tmp_path))[2:]
    assert [file.name in line for file, line in zip(images, lines, strict=False)] == [True] * 2


def test_a_damaged_joints_mat_is_named(tmp_path):
    folder = written(tmp_path, lspet())
    file = folder / "joints.mat"
    whole = file.read_bytes()
    for content in (whole[:100], whole[: len(whole) // 2], b"rubbish"):
        file.write_bytes(content)
        with pytest.raises(AlbenchError, match=r"joints\.mat cannot be read"):
            LeedsSports().load(folder)
    savemat(file, {"annotations": np.zeros(3)})
    with pytest.raises(AlbenchError, match="no array named 'joints'"):
        LeedsSports().load(folder)
    savemat(file, {"joints": np.zeros((16, 3, 8))})
    with pytest.raises(AlbenchError, match="'joints' is 16×3×8"):
        LeedsSports().load(folder)


@pytest.mark.parametrize("task_class", [Figures, LeedsSports])
def test_the_miniature_trains(task_class, tmp_path):
    task = task_class.miniature(tmp_path)
    data = task.load(tmp_path)
    model = task.build(data.classes)
    batch = task.augment(data.pool.batch(torch.arange(8)), torch.Generator().manual_seed(0))
    task.losses(model(batch["image"]), batch).mean().backward()
    model.eval()
    prepared = task.prepare(data.test.batch(torch.arange(len(data.test))))
    with torch.no_grad():
        values, outcomes = task.measure([(model(prepared["image"]), prepared)], data.classes)
    assert 0 <= values["pck@0.2"] <= 1
    assert len(outcomes["error"]) == len(data.test)
    assert "dropout" in task.can
    assert isinstance(task.recipe, Recipe)


def test_the_miniature_of_lsp_has_a_joint_that_is_not_labelled(tmp_path):
    task = LeedsSports.miniature(tmp_path)
    assert len(list((tmp_path / "lspet_dataset" / "images").iterdir())) == 24
    assert int((~task.load(tmp_path).pool.targets["visible"]).sum()) == 1


def test_a_sample_can_be_drawn(tmp_path):
    figure = pytest.importorskip("matplotlib.figure")
    task = LeedsSports.miniature(tmp_path)
    data = task.load(tmp_path)
    axes = figure.Figure().subplots()
    task.draw(axes, data.pool, 3, data.classes)
    assert len(axes.lines) == len(LSP.limbs)  # one limb less, as its ankle is not labelled, and the dots


@pytest.mark.data
def test_the_real_lspet(data_root):
    data = LeedsSports().load(data_root)
    assert (len(data.pool), len(data.test)) == (1500, 500)
    assert data.pool.images.shape[1:] == (3, 80, 80)
    assert all("outside the image; kept" in note for note in data.notes)
    table = loadmat(data_root / "lspet_dataset" / "joints.mat")["joints"]
    raw = table[:, :2, 0]
    placed = data.pool.targets["joints"][0].numpy()

    def shape(points):  # up to shift and scale
        centred = points - points.mean(0)
        return centred / np.linalg.norm(centred)

    assert np.allclose(shape(placed), shape(raw), atol=1e-4)
