"""The VOC loader: what it reads, what dirt it survives, and what it says of what it cannot read."""

import math
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from albench.errors import AlbenchError
from albench.tasks.detection.annotations import VOC_CLASSES
from albench.tasks.detection.miniature import annotation
from albench.tasks.detection.voc import PascalVoc

BARE = "1 image of the pool without an object; kept"  # the miniature's third


@pytest.fixture
def home(tmp_path):
    """A miniature set in a folder of its own."""
    PascalVoc.miniature(tmp_path)
    return tmp_path


def rewrite(home, name, *objects, size="<size><width>96</width><height>72</height></size>", head=""):
    text = f"{head}<annotation>{size}{''.join(objects)}</annotation>"
    (home / "Annotations" / f"{name}.xml").write_text(text)


def load(home, **fields):
    return PascalVoc(**{"folder": ".", "size": 48, "width": 8} | fields).load(home)


def test_what_is_read(home):
    data = load(home)
    assert data.classes == ("brick", "leaf", "water")
    assert (len(data.pool), len(data.test), data.notes) == (24, 8, [BARE])
    assert data.pool.images.shape[1:] == (3, math.ceil(1.15 * 48), math.ceil(1.15 * 48))
    targets = data.pool.targets
    assert (targets["labels"][2] == -1).all()  # an image without objects
    assert targets["difficult"].nonzero().tolist() == [[3, 1]]
    assert (targets["size"] == torch.tensor([72, 96])).all()
    boxes = targets["boxes"][targets["labels"] >= 0]
    assert (boxes >= 1).all()
    assert (boxes[:, 2] <= 96).all()
    assert data.pool.names[0] == "000001.jpg"


def test_a_second_load_comes_from_the_cache_until_a_file_changes(home):
    before = load(home)
    assert load(home).fingerprint() == before.fingerprint()
    rewrite(home, "000001", annotation("leaf", (1, 1, 20, 20)))
    assert load(home).fingerprint() != before.fingerprint()


def test_a_changed_split_is_read_again(home):
    """The files are the same ones, in the other set or in another order."""
    lists = home / "ImageSets" / "Main"
    before = load(home)
    train, val = (lists / f"{split}.txt" for split in ("train", "val"))
    first, last = train.read_text().split(), val.read_text().split()
    train.write_text("\n".join(last + first[8:]))
    val.write_text("\n".join(first[:8]))
    swapped = load(home)
    assert swapped.test.names == before.pool.names[:8]
    assert swapped.pool.names == before.test.names + before.pool.names[8:]
    train.write_text("\n".join(first[:7:-1] + last))
    assert load(home).pool.names == before.pool.names[:7:-1] + before.test.names


def test_several_splits_columns_and_folders(home):
    main = home / "ImageSets" / "Main"
    (main / "few.txt").write_text("000001  1\n000002 -1\n\n")
    (main / "more.txt").write_text("000002\n000003\n")
    assert load(home, pool_split="few+more").pool.names == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert len(load(home.parent, folder=".", pool_split=f"{home.name}/few", test_split=f"{home.name}/val").pool) == 2


def test_dirty_boxes_are_left_out_or_cut_with_a_note(home):
    rewrite(
        home,
        "000001",
        annotation("leaf", (30, 20, 30, 20)),
        annotation("leaf", (20, 20, 10, 30)),
        annotation("leaf", (200, 20, 210, 30)),
        annotation("brick", (0, 5, 120, 40)),
        size="<size><width>72</width><height>96</height></size>",
    )
    data = load(home)
    assert data.pool.targets["boxes"][0, 0].tolist() == [1, 5, 96, 40]
    assert (data.pool.targets["labels"][0, 1:] == -1).all()
    told = "\n".join(data.notes)
    assert len(data.notes) == 6
    assert told.count("000001.jpg") == 5
    assert told.count("degenerate") == 2
    assert "(200, 20, 210, 30) is outside" in told
    assert "reaches beyond" in told
    assert "annotation says 72 × 96, the image is 96 × 72" in told


def test_a_box_one_pixel_wide_is_a_box(home):
    """Corners are pixels that belong to it: the official evaluation gives it a width of one."""
    rewrite(home, "000001", annotation("leaf", (10, 10, 10, 30)), annotation("brick", (96, 40, 130, 72)))
    data = load(home)
    assert data.pool.targets["boxes"][0, :2].tolist() == [[10, 10, 10, 30], [96, 40, 96, 72]]
    assert (data.pool.targets["labels"][0, :2] >= 0).all()
    assert [note for note in data.notes if "reaches beyond" not in note] == [BARE]
    assert PascalVoc(size=48).prepare(data.pool.batch(torch.tensor([0])))["offsets"].isfinite().all()


def test_official_order_of_voc_classes(home):
    rewrite(home, "000001", *(annotation(name, (1, 1, 20, 20)) for name in VOC_CLASSES))
    for number in range(2, 32):
        rewrite(home, f"{number:06d}")
    rewrite(home, "000032", annotation("bird", (1, 1, 20, 20)))  # of the test set
    assert load(home).classes == VOC_CLASSES
    assert len(VOC_CLASSES) == 20


def truncate(home):
    path = home / "JPEGImages" / "000004.jpg"
    path.write_bytes(path.read_bytes()[:400])


def relinked(link, home):
    """Let an image of the test set be one of the pool."""
    name = (home / "ImageSets/Main/val.txt").read_text().split()[0]
    file = home / "JPEGImages" / f"{name}.jpg"
    file.unlink()
    link(home / "JPEGImages" / "000001.jpg", file)


BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>'
ERRORS = {
    "truncated image": (truncate, "cannot read image .*000004.jpg"),
    "no image": (lambda h: (h / "JPEGImages" / "000004.jpg").write_text("x"), "cannot read image .*000004.jpg"),
    "missing image": (lambda h: (h / "JPEGImages" / "000004.jpg").unlink(), "no image .*000004.jpg"),
    "missing annotation": (lambda h: (h / "Annotations" / "000004.xml").unlink(), "no annotation .*000004.xml"),
    "missing split": (lambda h: (h / "ImageSets/Main/train.txt").rename(h / "ImageSets/Main/trai.txt"), "mean 'trai'"),
    "empty split": (lambda h: (h / "ImageSets/Main/train.txt").write_text("\n"), "names no image"),
    "malformed": (lambda h: rewrite(h, "000004", "<object>"), "000004.xml is not well-formed"),
    "document type": (lambda h: rewrite(h, "000004", head=BOMB), "000004.xml has a document type"),
    "no corner": (lambda h: rewrite(h, "000004", "<object><name>leaf</name></object>"), "000004.xml: an object lacks"),
    "not finite": (lambda h: rewrite(h, "000004", annotation("leaf", (1, 1, float("nan"), 9))), "lacks"),
    "leak by a link": (partial(relinked, os.symlink), "1 image is in pool and test both, .*000001.jpg"),
    "leak by a hard link": (partial(relinked, os.link), "1 image is in pool and test both, .*000001.jpg"),
    "leak": (lambda h: (h / "ImageSets/Main/val.txt").write_text("000001\n"), "pool and test both"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_file(home, case):
    spoil, message = ERRORS[case]
    spoil(home)
    with pytest.raises(AlbenchError, match=message) as caught:
        load(home)
    assert "\n" not in str(caught.value)


def test_other_errors(home, tmp_path):
    with pytest.raises(AlbenchError, match="data-root"):
        PascalVoc().load(None)
    with pytest.raises(AlbenchError, match="no folder .*VOC2012"):
        PascalVoc().load(home / "Annotations")
    with pytest.raises(AlbenchError, match=r"class 'brick' is not among .* Did you mean 'bricks'"):
        load(home, classes=("bricks", "leaf", "water"))
    with pytest.raises(AlbenchError, match="put the data by hand"):
        PascalVoc(folder="elsewhere").fetch(tmp_path / "nothing")
    PascalVoc(folder=".").fetch(home)  # all there: nothing to do


def test_what_is_odd_about_splits_objects_and_classes_is_noted(home):
    for name, things in {
        "000001": [annotation("leaf", (1, 1, 20, 20))] * 2,
        "000002": [annotation("Leaf", (1, 1, 20, 20))],
        "000025": [annotation("snow", (1, 1, 20, 20))],  # of the test set
    }.items():
        rewrite(home, name, *things)
    train = home / "ImageSets" / "Main" / "train.txt"
    train.write_text(train.read_text() + "000002\n000001\n")
    data = load(home)
    assert len(data.pool) == 24
    assert data.notes == [
        f"split {home.name}/train names 2 images twice, 000001.jpg the first; each counts once",
        "classes Leaf and leaf differ in case only",
        "class snow: no object in the pool",
        "class Leaf: no object in the test set",
        BARE,
        "000001.jpg: leaf box (1, 1, 20, 20) is there twice; kept",
    ]
    assert [note for note in load(home, classes=data.classes).notes if "no object" in note] == []
    train.write_text("\n".join(dict.fromkeys(train.read_text().split())))
    assert len(load(home).notes) == 5  # those of the split file are the cache's, too


def test_a_photograph_is_turned_as_its_annotation_saw_it(home):
    file = home / "JPEGImages" / "000001.jpg"
    with Image.open(file) as opened:  # 96 × 72
        upright, exif = opened.convert("RGB"), opened.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    upright.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif, quality=95)  # 72 × 96 in the file
    things = [annotation("leaf", (60, 10, 90, 20))]
    rewrite(home, "000001", *things)
    turned = load(home)
    assert turned.notes == [BARE]
    assert turned.pool.targets["size"][0].tolist() == [72, 96]
    upright.save(file, quality=95)
    assert (turned.pool.images[0].int() - load(home).pool.images[0].int()).abs().float().mean() < 4
    upright.transpose(Image.Transpose.ROTATE_90).save(file, quality=95)  # nothing says that it is turned
    assert "its annotation says 96 × 72, the image is 72 × 96" in load(home).notes[-1]


def test_a_test_set_without_an_object_that_counts_is_said_before_anything_is_trained(home):
    names = (home / "ImageSets" / "Main" / "val.txt").read_text().split()
    for name in names:
        rewrite(home, name, annotation("leaf", (1, 1, 20, 20), difficult=True))
    with pytest.raises(AlbenchError, match="no object in the test set counts: all are difficult"):
        load(home)
    (line,) = PascalVoc(folder=".", size=48).problems(home)
    assert "no object in the test set counts" in line


def test_names_of_a_split_may_hold_spaces_and_a_byte_order_mark(home):
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        shutil.copy(home / folder / f"000001.{suffix}", home / folder / f"my pic.{suffix}")
    (home / "ImageSets" / "Main" / "mine.txt").write_text("000002  1\nmy pic -1\n", encoding="utf-8-sig")
    assert load(home, pool_split="mine").pool.names == ["000002.jpg", "my pic.jpg"]


def test_what_could_be_read_in_two_ways_is_refused(home):
    rewrite(home, "000001", annotation("leaf", (1, 1, 20, 20)).replace("<difficult>0<", "<difficult>True<"))
    assert load(home).pool.targets["difficult"][0, 0]
    rewrite(home, "000001", annotation("leaf", (1, 1, 20, 20)).replace("<difficult>0<", "<difficult>maybe<"))
    with pytest.raises(AlbenchError, match=r"000001.xml: an object's `difficult` is 'maybe'; it is 0 or 1"):
        load(home)
    Image.new("RGB", (96, 72)).save(home / "JPEGImages" / "000003.png")
    with pytest.raises(AlbenchError, match=r"000003.jpg and 000003.png: which is the image\?"):
        load(home)
    with pytest.raises(ValidationError, match="a class is named twice"):
        PascalVoc(classes=("brick", "leaf", "brick"))


def test_every_problem_is_a_line(home):
    task = PascalVoc(folder=".", size=48, width=8, classes=("brick", "leaf", "water"))
    assert list(task.problems(home)) == []
    load(home)  # the cache would still hold what is damaged now, had its files not changed
    truncate(home)
    (home / "JPEGImages" / "000030.jpg").write_bytes(b"x")
    rewrite(home, "000011", "<object>")
    lines = list(task.problems(home))
    assert len(lines) == 3
    for part, line in zip(["000011.xml is not well-formed", "000004.jpg", "000030.jpg"], lines, strict=True):
        assert part in line
    rewrite(home, "000012", annotation("glass", (1, 1, 20, 20)))
    (home / "Annotations" / "000013.xml").unlink()
    (home / "JPEGImages" / "000013.jpg").unlink()
    (home / "ImageSets" / "Main" / "val.txt").write_text("000025\n000001\n")
    lines = list(task.problems(home))
    for part in ["class 'glass'", "no annotation", "no image", "pool and test both"]:
        assert sum(part in line for line in lines) == 1
    assert next(task.model_copy(update={"test_split": "vall"}).problems(home)).endswith("Did you mean 'val'?")


def test_impossible_boxes_are_problems_beside_what_cannot_be_read(home):
    boxes = {
        "000001": (1, 1, 99999, 20),
        "000002": (-97, 1, 20, 20),  # an image's width out of the image of 96 × 72
        "000003": (30, 1, 20, 20),
        "000004": (97, 1, 120, 20),
        "000005": (5, 5, 5, 5),  # a single pixel: a slip of the hand, as BCCD has it
        "000006": (1, 1, 98, 74),
        "000007": (-95, 1, 20, 20),  # cut off by the edge
    }
    for name, box in boxes.items():
        rewrite(home, name, annotation("leaf", box))
    rewrite(home, "000011", "<object>")
    said = [
        "000011.xml is not well-formed",
        "000001.jpg: leaf box (1, 1, 99999, 20) reaches beyond the image of 96 × 72; cut",
        "000002.jpg: leaf box (-97, 1, 20, 20) reaches beyond the image of 96 × 72; cut",
        "000003.jpg: leaf box (30, 1, 20, 20) is degenerate; left out",
        "000004.jpg: leaf box (97, 1, 120, 20) is outside the image of 96 × 72; left out",
    ]
    for part, line in zip(said, PascalVoc(folder=".", size=48).problems(home), strict=True):
        assert part in line


def test_a_png_of_another_mode_is_read(home):
    (home / "JPEGImages" / "000001.jpg").unlink()
    Image.new("L", (96, 72), 200).save(home / "JPEGImages" / "000001.png")
    assert load(home).pool.images[0].float().mean() == 200
    Image.fromarray(np.full((72, 96), 100 << 8, np.uint16)).save(home / "JPEGImages" / "000001.png")
    assert load(home).pool.images[0].float().mean() == 100


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "ssd300-vgg16", "size": 160},
        {"weights": "imagenet"},
        {"network": "ssd300-vgg16", "width": 8, "weights": "imagenet"},
        {"size": 100},
    ],
)
def test_fields_that_contradict_each_other(fields):
    with pytest.raises(ValueError, match=r"300|weights|multiple of 8"):
        PascalVoc(**fields)


@pytest.mark.parametrize("fields", [{"size": "abc"}, {"network": "ssd300-vgg16", "width": []}, {"weights": 3}])
def test_values_of_a_wrong_type_are_told_as_such(fields):
    with pytest.raises(ValidationError, match="valid"):
        PascalVoc(**fields)
    with pytest.raises(ValidationError):
        PascalVoc.model_validate("abc")


@pytest.mark.data
def test_degenerate_boxes_of_bccd_are_reported(data_root):
    data = PascalVoc(folder="BCCD", pool_split="train+val", test_split="test").load(data_root)
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert (len(data.pool), len(data.test)) == (292, 72)
    assert sum("degenerate" in note for note in data.notes) == len(data.notes) == 2
    assert any(note.startswith("BloodImage_00338.jpg") for note in data.notes)
    count = sum(int((part.targets["labels"] >= 0).sum()) for part in (data.pool, data.test))
    assert count == 4888 - 2


@pytest.mark.data
@pytest.mark.slow
def test_the_real_sets_have_no_problem(data_root):
    assert list(PascalVoc(folder="BCCD", pool_split="train+val", test_split="test").problems(data_root)) == []
    assert list(PascalVoc().problems(data_root)) == [
        "split VOC2012/train names 1,100 images; the official one has 5,717",
        "split VOC2012/val names 400 images; the official one has 5,823",
    ]


def test_images_are_kept_as_large_as_is_said(home):
    data = load(home, stored=90)
    assert data.pool.images.shape[1:] == (3, 90, 90)
    task = PascalVoc(folder=".", size=48, width=8, stored=90)
    batch = data.pool.batch(torch.arange(3))
    assert task.prepare(batch)["image"].shape == task.augment(batch, torch.Generator().manual_seed(0))["image"].shape
    assert torch.equal(task.prepare(batch)["matched"], PascalVoc(size=48).prepare(batch)["matched"])
    still = PascalVoc(folder=".", size=48, width=8, stored=90, expand=1, crop=1, mirror=False, photometric=0)
    seen = still.augment(batch, torch.Generator().manual_seed(0))["image"]  # the model is tested on what it is taught
    torch.testing.assert_close(task.prepare(batch)["image"], seen, atol=1e-4, rtol=0)


@pytest.mark.data
def test_voc_2012_equals_torchvisions_reading(data_root):
    from torchvision.datasets import VOCDetection

    data = PascalVoc(size=48).load(data_root)
    assert data.classes == VOC_CLASSES
    theirs = VOCDetection(str(data_root), year="2012", image_set="val")
    for row in (0, 57, 399):
        image, told = theirs[row]
        objects = told["annotation"]["object"]
        assert data.test.targets["size"][row].tolist() == [image.height, image.width]
        for place, thing in enumerate(objects):
            box = [float(thing["bndbox"][k]) for k in ("xmin", "ymin", "xmax", "ymax")]
            assert data.test.targets["boxes"][row, place].tolist() == box
            assert data.classes[data.test.targets["labels"][row, place]] == thing["name"]
        assert (data.test.targets["labels"][row] >= 0).sum() == len(objects)
