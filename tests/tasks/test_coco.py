"""COCO's format: what is read, and what is said of a stranger's JSON."""

import json

import pytest
import torch
from PIL import Image

from albench.errors import AlbenchError
from albench.tasks.detection.coco import Coco
from albench.tasks.detection.voc import PascalVoc


@pytest.fixture
def home(tmp_path):
    """A miniature set below a data root."""
    Coco.miniature(tmp_path)
    return tmp_path / "coco"


def task(**fields):
    return Coco(**{"size": 48, "width": 8} | fields)


def wrong(home, **fields):
    """Every problem but that these are fewer images than COCO 2017 has."""
    return [line for line in task(**fields).problems(home.parent) if "the official one" not in line]


def change(home, section, row, split="train2017", **values):
    """Change an entry of a section; `None` takes a key away."""
    file = home / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    entry = content[section][row] if row < len(content[section]) else {}
    content[section][row : row + 1] = [{k: v for k, v in {**entry, **values}.items() if v is not None}]
    file.write_text(json.dumps(content))


def test_the_same_pictures_are_the_same_data_in_either_format(home, tmp_path):
    PascalVoc.miniature(tmp_path / "voc")
    voc = PascalVoc(folder="voc", size=48, width=8).load(tmp_path)
    coco = task().load(tmp_path)
    assert coco.classes == ("brick", "leaf", "water")  # by id: 3, 17, 90
    assert coco.notes == ["1 crowd (iscrowd) taken as difficult: neither hit nor miss", *voc.notes]
    assert voc.notes == ["1 image of the pool without an object; kept"]
    assert coco.fingerprint() == voc.fingerprint()  # boxes, labels, crowd and difficult, sizes, pixels
    assert coco.pool.targets["difficult"].nonzero().tolist() == [[3, 1]]


def test_crowds_are_not_learnt_from_unless_that_is_asked_for(home):
    data = task().load(home.parent)
    batch = data.pool.batch(torch.tensor([3]))
    assert (task().prepare(batch)["matched"] > 0).sum() < (
        task(train_difficult=True).prepare(batch)["matched"] > 0
    ).sum()


def test_a_pool_of_crowds_alone_is_refused(home):
    file = home / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    for row in content["annotations"]:
        row["iscrowd"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(
        AlbenchError,
        match="every object of the pool is difficult .*: set `train_difficult`",
    ):
        task().load(home.parent)
    assert task(train_difficult=True).load(home.parent)


def test_metrics_are_vocs_and_cocos(home):
    data = task().load(home.parent)
    batch = task().prepare(data.test.batch(torch.arange(8)))
    logits = torch.nn.functional.one_hot(batch["matched"], 4) * 20.0
    numbers, _ = task().measure([({"logits": logits, "offsets": batch["offsets"]}, batch)], data.classes)
    assert numbers["map"] == numbers["map@11pt"] == 1
    assert numbers["coco-map@0.5"] == pytest.approx(1, abs=1e-5)
    assert numbers["coco-map"] > 0.95


def test_boxes_beyond_the_image_and_sizes_that_differ_are_noted(home):
    change(home, "annotations", 0, bbox=[80, 10, 40, 20])
    change(home, "annotations", 1, bbox=[10, 10, 0, 20])
    change(home, "images", 5, width=72, height=96)
    data = task().load(home.parent)
    assert data.pool.targets["boxes"][0, 0].tolist() == [81, 11, 96, 30]
    told = "\n".join(data.notes)
    assert len(data.notes) == 5  # the crowd, and the image without an object
    for part in ("reaches beyond", "degenerate", "000006.jpg: its annotation says 72 × 96"):
        assert part in told


DAMAGE = {
    "outside": (("images", 3), {"file_name": "../val2017/000025.jpg"}, r"image 28 names .*outside"),
    "absolute": (("images", 3), {"file_name": "/etc/passwd"}, r"image 28 names .*outside"),
    "not there": (("images", 3), {"file_name": "999.jpg"}, r"image 28 names '999.jpg'.*no such file"),
    "no name": (("images", 3), {"file_name": None}, r"image 28 names no file"),
    "huge": (("images", 3), {"width": 10**9}, r"image 28: .*width 1000000000"),
    "sizeless": (("images", 3), {"height": "72"}, r"image 28: height 72"),
    "twice": (("images", 3), {"id": 7}, r"image 7: .*twice"),
    "list for an id": (("images", 3), {"id": [1]}, r"image \[1\]: "),
    "bbox": (("annotations", 4), {"bbox": [1, 2, 3]}, r"annotation 5: its bbox is \[1, 2, 3\]"),
    "infinite": (("annotations", 4), {"bbox": [1, 2, 3, float("inf")]}, r"annotation 5: its bbox"),
    "NaN": (("annotations", 4), {"bbox": [1, float("nan"), 3, 4]}, r"annotation 5: its bbox"),
    "file of another": (
        ("images", 3),
        {"file_name": "./000001.jpg"},
        r"image 28: its file './000001.jpg' is image 7",
    ),
    "annotation twice": (("annotations", 4), {"id": 1}, r"annotation 1: its id is no whole number, or there twice"),
    "category": (("annotations", 4), {"category_id": 4}, r"annotation 5 has category 4"),
    "image": (("annotations", 4), {"image_id": {}}, r"annotation 5 is of image \{\}"),
    "other name": (("categories", 1), {"name": "twig"}, r"category 17 is there twice, as 'twig' and 'leaf'"),
    "same name": (("categories", 1), {"name": "brick"}, r"category 17: another one is called 'brick'"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_errors_name_the_file_and_the_entry(home, case):
    (section, row), values, message = DAMAGE[case]
    change(home, section, row, **values)
    with pytest.raises(AlbenchError, match=rf"instances_(train|val)2017\.json.*{message}") as caught:
        task().load(home.parent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"images": 3}', '{"images": [], "annotations": [], "categories": []}', "[" * 9999]
)
def test_another_file_is_one_line(home, content):
    (home / "annotations" / "instances_train2017.json").write_text(content)
    with pytest.raises(AlbenchError, match=r"instances_train2017\.json"):
        task().load(home.parent)


def test_every_problem_is_a_line(home):
    assert wrong(home) == []
    change(home, "annotations", 0, category_id=5)
    change(home, "annotations", 9, bbox="x")
    change(home, "images", 8, file_name="lost.jpg")  # its annotations are no problems of their own
    (home / "val2017" / "000030.jpg").write_bytes(b"x")
    lines = wrong(home)
    assert len(lines) == 4
    for part in ("annotation 1 has category 5", "annotation 10: its bbox", "lost.jpg", "000030.jpg: it is no JPEG"):
        assert sum(part in line for line in lines) == 1


@pytest.mark.parametrize("content", ['{"images": [', '{"images": [], "annotations": []}'])
def test_a_file_that_cannot_be_read_does_not_hide_what_is_wrong_with_the_other_one(home, content):
    change(home, "annotations", 0, "val2017", category_id=5)
    (home / "val2017" / "000030.jpg").write_bytes(b"x")
    (home / "annotations" / "instances_train2017.json").write_text(content)
    for part, line in zip(["train2017.json", "annotation 1 has category 5", "000030.jpg"], wrong(home), strict=True):
        assert part in line
    change(home, "annotations", 0, "val2017", category_id=3)
    (home / "annotations" / "instances_val2017.json").write_text(content)
    assert ["2017.json" in line for line in wrong(home)] == [True, True]


def test_impossible_boxes_are_problems_beside_what_cannot_be_read(home):
    change(home, "annotations", 0, category_id=5)
    change(home, "annotations", 1, bbox=[20, 20, -5, 10])
    change(home, "annotations", 9, bbox=[20, 20, 1e6, 10])
    change(home, "annotations", 10, bbox=[20, 20, 0, 10])  # empty: left out, and noted
    lines = wrong(home)
    assert len(lines) == 3
    for part in ("annotation 1 has category 5", "box (21, 21, 15, 30) is degenerate", "box (21, 21, 1.00002e+06, 30)"):
        assert sum(part in line for line in lines) == 1


def test_coco_2017_has_an_official_size(home):
    first, second = task().problems(home.parent)
    assert first.endswith("instances_train2017.json has 24 images; the official one has 118,287")
    assert second.endswith("instances_val2017.json has 8 images; the official one has 5,000")
    for split in ("train", "val"):
        (home / f"annotations/instances_{split}2017.json").rename(home / f"{split}.json")
    assert list(task(pool="train.json", test="val.json").problems(home.parent)) == []


def test_an_object_that_is_there_twice_and_classes_that_differ_in_case_are_noted(home):
    file = home / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"].append(content["annotations"][0] | {"id": 999})
    content["categories"].append({"id": 91, "name": "Leaf"})
    file.write_text(json.dumps(content))
    data = task().load(home.parent)
    assert (data.pool.targets["labels"][0] >= 0).sum() == 2
    _, first, absent, _, second = data.notes
    assert absent == "class Leaf: no object at all, but a class of the network"
    assert first == "classes leaf and Leaf differ in case only"
    assert second.startswith("000001.jpg: ")
    assert second.endswith(" is there twice; kept")


def test_the_data_root_may_be_the_folder_and_images_may_lie_in_images(home):
    data = task().load(home.parent)
    assert task().load(home).fingerprint() == data.fingerprint()
    (home / "images").mkdir()
    for split in ("train2017", "val2017"):
        (home / split).rename(home / "images" / split)
    assert task().load(home).fingerprint() == data.fingerprint()
    assert task().load(home.parent).fingerprint() == data.fingerprint()
    with pytest.raises(AlbenchError, match=rf"^no {home}/elsewhere \(`pool_images`\); `folder`, `pool`, .* say where"):
        task(pool_images="elsewhere").load(home.parent)


def test_pool_and_test_must_be_apart_and_missing_data_say_what_to_fetch(home):
    same = {"test": "annotations/instances_train2017.json", "test_images": "train2017"}
    with pytest.raises(AlbenchError, match="pool and test both"):
        task(**same).load(home.parent)
    assert len(wrong(home, **same)) == 1
    linked = home / "linked"
    linked.symlink_to(home / "train2017")  # another way to the same images
    with pytest.raises(AlbenchError, match="pool and test both"):
        task(**same | {"test_images": "linked"}).load(home.parent)
    linked.unlink()
    task().fetch(home.parent)
    with pytest.raises(AlbenchError, match=r"no .*nowhere/coco/annotations.*train2017\.zip.*by hand.*`pool_images`"):
        task().fetch(home.parent / "nowhere")
    with pytest.raises(AlbenchError) as caught:
        task(folder="cells", pool="a.json").fetch(home.parent)
    said = str(caught.value)
    assert "train2017.zip" not in said  # of a user's own set, nothing is to be fetched
    for part in ("cells/a.json (`pool`)", "train2017 (`pool_images`)", "val2017.json (`test`)", "(`test_images`);"):
        assert part in said
    with pytest.raises(AlbenchError, match="leaves the data root"):
        task(pool_images="../..").load(home.parent)


def test_a_link_does_not_lead_out(home, tmp_path):
    outside = tmp_path / "secret.jpg"
    Image.new("RGB", (96, 72)).save(outside)
    (home / "train2017" / "000004.jpg").unlink()
    (home / "train2017" / "000004.jpg").symlink_to(outside)
    with pytest.raises(AlbenchError, match=r"000004.jpg is a link"):
        task().load(home.parent)
    (home / "train2017" / "000004.jpg").unlink()
    Image.new("RGB", (96, 72)).save(home / "train2017" / "000004.jpg")
    task().load(home.parent)
    file = home / "annotations" / "instances_val2017.json"
    file.rename(tmp_path / "secret.json")
    file.symlink_to(tmp_path / "secret.json")
    with pytest.raises(AlbenchError, match=r"instances_val2017.json is a link"):
        task().load(home.parent)


def test_a_set_of_ones_own_is_not_called_coco_2017():
    assert Coco().data_source == "COCO 2017 (cocodataset.org)"
    assert Coco(folder="cells", pool="a.json", test="b.json").data_source == "the folder cells, in COCO's format"
