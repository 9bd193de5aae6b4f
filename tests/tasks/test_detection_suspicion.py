"""Boxes that are not what they are read as: shares, corners, none at all; and what is said of many odd ones."""

import json
import re

import pytest
from click.testing import CliRunner
from PIL import Image

from albench.cli import main
from albench.errors import AlbenchError
from albench.oddities import Oddity, converted, grouped
from albench.tasks.detection.coco import Coco
from albench.tasks.detection.miniature import annotation
from albench.tasks.detection.voc import PascalVoc


@pytest.fixture
def home(tmp_path):
    """A miniature set in COCO's format with names of its own, so that no official size is asked for."""
    Coco.miniature(tmp_path)
    for split in ("train", "val"):
        (tmp_path / f"coco/annotations/instances_{split}2017.json").rename(tmp_path / f"coco/{split}.json")
    return tmp_path / "coco"


def task(**fields):
    return Coco(**{"size": 48, "width": 8, "pool": "train.json", "test": "val.json"} | fields)


def rebox(home, change, *splits):
    """Rewrite every bbox: `change` has x, y, width, height, of images of 96 × 72."""
    for split in splits or ("train", "val"):
        content = json.loads((home / f"{split}.json").read_text())
        for thing in content["annotations"]:
            thing["bbox"] = change(*thing["bbox"])
        (home / f"{split}.json").write_text(json.dumps(content))


def verify(home):
    settings = ["size=48", "width=8", "pool=train.json", "test=val.json"]
    words = ["data", "verify", "coco", "--data-root", str(home.parent)]
    return CliRunner().invoke(main, words + [word for setting in settings for word in ("--set", setting)])


def test_a_sound_set_is_not_suspected(home):
    assert list(task().problems(home.parent)) == []
    assert verify(home).exit_code == 0


def test_shares_of_the_sides_are_no_pixels(home):
    rebox(home, lambda x, y, w, h: [x / 96, y / 72, w / 96, h / 72])
    image = next((home / "train2017").iterdir())
    whole = image.read_bytes()
    image.write_bytes(whole[:99])  # the boxes are seen before any image is decoded
    with pytest.raises(AlbenchError, match=r"boxes of the pool lie within 0…1.*multiply them by width and height"):
        task().load(home.parent)
    image.write_bytes(whole)
    assert ["within 0…1" in line for line in task().problems(home.parent)] == [True, True]
    assert verify(home).exit_code == 1


def test_corners_in_the_place_of_sizes_are_asked_about(home):
    rebox(home, lambda x, y, w, h: [x, y, x + w, y + h], "train")
    (line,) = task().problems(home.parent)
    assert "of the pool reach beyond their image: bbox is x, y, width, height; are these x, y, x, y?" in line
    done = verify(home)
    assert done.exit_code == 1
    assert sum("x, y, x, y?" in said for said in done.stdout.splitlines()) == 2  # the problem, and among the notes
    (cut,) = [note for note in task().load(home.parent).notes if "beyond their image; cut" in note]
    assert cut.count("box (") == 3


def test_a_box_a_pixel_too_wide_is_no_reason_to_ask(home):
    rebox(home, lambda x, y, w, h: [x, y, 97 - x, 73 - y])
    assert list(task().problems(home.parent)) == []


def test_a_pool_without_objects_is_refused_in_either_format(home, tmp_path):
    content = json.loads((home / "train.json").read_text())
    (home / "train.json").write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(AlbenchError, match="no object in the pool"):
        task().load(home.parent)
    assert ["no object in the pool" in line for line in task().problems(home.parent)] == [True]
    PascalVoc.miniature(tmp_path / "voc")
    for name in (tmp_path / "voc/ImageSets/Main/train.txt").read_text().split():
        (tmp_path / f"voc/Annotations/{name}.xml").write_text("<annotation></annotation>")
    voc = PascalVoc(folder="voc", size=48)
    with pytest.raises(AlbenchError, match="no object in the pool"):
        voc.load(tmp_path)
    assert len(list(voc.problems(tmp_path))) == 1


def test_a_pool_of_difficult_objects_alone_is_refused_where_they_are_not_learnt_from(tmp_path):
    PascalVoc.miniature(tmp_path)
    for name in (tmp_path / "ImageSets/Main/train.txt").read_text().split():
        hard = annotation("leaf", (1, 1, 20, 20)).replace("<difficult>0", "<difficult>1")
        (tmp_path / f"Annotations/{name}.xml").write_text(f"<annotation>{hard}</annotation>")
    fields = {"folder": ".", "size": 48, "width": 8, "classes": ("brick", "leaf", "water")}
    assert PascalVoc(**fields).load(tmp_path)  # and from its cache:
    voc = PascalVoc(**fields, train_difficult=False)
    said = r"every object of the pool is difficult .*not learnt from: set `train_difficult`"
    with pytest.raises(AlbenchError, match=said):
        voc.load(tmp_path)
    assert [re.match(said, line) is not None for line in voc.problems(tmp_path)] == [True]


def test_shares_and_sizes_in_voc_are_told_too(tmp_path):
    PascalVoc.miniature(tmp_path)
    voc = PascalVoc(folder=".", size=48)
    size = "<size><width>96</width><height>72</height></size>"

    def everywhere(*box):
        for file in (tmp_path / "Annotations").glob("*.xml"):
            file.write_text(f"<annotation>{size}{annotation('leaf', box)}</annotation>")

    everywhere(0.1, 0.1, 0.5, 0.4)
    assert ["within 0…1" in line for line in voc.problems(tmp_path)] == [True, True]
    everywhere(20, 20, 300, 200)  # of an image that was larger
    lines = list(voc.problems(tmp_path))  # each box first, then what it may be
    assert ["of images of another size?" in line for line in lines] == [*[False] * (len(lines) - 2), True, True]


def test_a_box_of_less_than_a_pixel_is_said_and_kept(home):
    before = (task().load(home.parent).pool.targets["labels"] >= 0).sum()
    content = json.loads((home / "train.json").read_text())
    content["annotations"][0]["bbox"] = [10, 10, 0.2, 20]
    (home / "train.json").write_text(json.dumps(content))
    data = task().load(home.parent)
    assert (data.pool.targets["labels"] >= 0).sum() == before
    assert sum("is less than a pixel wide or high; kept" in note for note in data.notes) == 1


def test_a_class_without_any_object_is_said_once_and_images_in_other_modes_are_counted(home):
    content = json.loads((home / "train.json").read_text())
    content["categories"].append({"id": 0, "name": "things"})  # as Roboflow's exports have
    content["images"][0]["file_name"] = "a.png"
    Image.new("RGBA", (96, 72), (9, 9, 9, 100)).save(home / "train2017/a.png")
    Image.new("L", (96, 72), 9).save(home / "train2017/000002.jpg")
    (home / "train.json").write_text(json.dumps(content))
    data = task().load(home.parent)
    assert [note for note in data.notes if "things" in note] == [
        "class things: no object at all, but a class of the network"
    ]
    assert [note for note in data.notes if "channels" in note or "transparency" in note] == [
        "1 image in grey, put into three channels",
        "1 image with transparency, which is left out",
    ]


def test_many_of_a_kind_are_one_note_and_few_are_told_one_by_one():
    many = [Oddity(f"{i}.jpg:", "its size differs; kept", "images differ in size; kept") for i in range(1234)]
    few = [Oddity("7.jpg: leaf box (1, 2, 3, 4)", "is degenerate; left out", "boxes are degenerate; left out")]
    assert grouped([many[0], *few, *many[1:]]) == [
        "1,234 images differ in size; kept; the first: 0.jpg, 1.jpg, 2.jpg",
        "7.jpg: leaf box (1, 2, 3, 4) is degenerate; left out",
    ]


def test_images_in_colour_are_not_said_to_be_converted():
    assert converted(["RGB", "P", "RGB"]) == []
    assert converted(["CMYK", "I;16", "L"]) == [
        "1 image in CMYK, converted to RGB",
        "2 images in grey, put into three channels",
    ]
