"""A user's own files: a test set drawn where they have none, and what is said where they are not found."""

import shutil

import pytest
from pydantic import ValidationError

from albench.errors import AlbenchError
from albench.facts import facts
from albench.layout import share_out
from albench.tasks.classification.folder import ImageFolder
from albench.tasks.detection.coco import Coco
from albench.tasks.detection.voc import PascalVoc

TINY = {"size": 48, "width": 8}


def coco(root, **fields):
    """A miniature with the pool's file alone."""
    if not (root / "coco").exists():
        Coco.miniature(root)
        shutil.rmtree(root / "coco/val2017")
        (root / "coco/annotations/instances_val2017.json").unlink()
    return Coco(**TINY | {"test_share": 0.3} | fields)


def voc(root, **fields):
    """A miniature without lists of splits."""
    if not (root / "voc").exists():
        PascalVoc.miniature(root / "voc")
        shutil.rmtree(root / "voc/ImageSets")
    return PascalVoc(**TINY | {"folder": "voc", "pool_split": "", "test_share": 0.3} | fields)


def folder(root, **fields):
    """A miniature whose classes are in the folder itself."""
    if not (root / "images").exists():
        ImageFolder.miniature(root)
        shutil.rmtree(root / "images/test")
        for label in "abcd":
            (root / "images/train" / label).rename(root / "images" / label)
        (root / "images/train").rmdir()
    return ImageFolder(**{"size": 16, "width": 4, "blocks": (1, 1), "pool_split": "", "test_share": 0.3} | fields)


KINDS = pytest.mark.parametrize("make", [coco, voc, folder])


@KINDS
def test_a_share_of_the_pool_is_the_test_set_and_every_image_is_in_one_of_them(make, tmp_path):
    data = make(tmp_path).load(tmp_path)
    whole = 32 if make is voc else 24
    assert len(data.pool) + len(data.test) == len({*data.pool.names, *data.test.names}) == whole
    assert 0 < len(data.test) < whole / 2
    (note,) = [note for note in data.notes if "test_share" in note]
    assert note == f"{len(data.test)} of {whole} images are the test set, drawn by the images' names (test_share = 0.3)"
    assert [line for line in make(tmp_path).problems(tmp_path) if "the official one" not in line] == []


@KINDS
def test_the_share_belongs_to_the_data_and_to_the_identity_but_its_absence_does_not(make, tmp_path):
    fewer, more = make(tmp_path, test_share=0.2), make(tmp_path, test_share=0.5)
    assert fewer.load(tmp_path).fingerprint() != more.load(tmp_path).fingerprint()
    assert set(fewer.load(tmp_path).test.names) < set(more.load(tmp_path).test.names)
    assert facts(fewer)["test_share"] == 0.2
    assert "test_share" not in facts(type(fewer)())  # runs of before it are carried on
    assert type(fewer).model_validate(fewer.model_dump(mode="json")) == fewer


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        (Coco, {"test": "b.json"}, "leave test out"),
        (Coco, {"test": "b.json", "test_images": "b"}, "leave test and test_images out"),
        (PascalVoc, {"test_split": "b"}, "leave test_split out"),
        (ImageFolder, {"test_split": "b"}, "leave test_split out"),
    ],
)
def test_a_share_and_a_test_set_of_its_own_contradict_each_other(task, given, said):
    with pytest.raises(ValidationError, match=said):
        task(test_share=0.2, **given)
    for share in (0, 1, -0.2, 20):
        with pytest.raises(ValidationError, match="test_share"):
            task(test_share=share)


def test_an_image_stays_where_it_is_when_others_are_added():
    names = [f"{i}.jpg" for i in range(2000)]
    pool, test, _ = share_out(names[::2], 0.2, str)
    more_pool, more_test, note = share_out(names, 0.2, str)
    assert set(pool) < set(more_pool)
    assert set(test) < set(more_test)
    assert more_pool == [name for name in names if name not in {*more_test}]  # the order is kept
    assert 340 < len(more_test) < 460
    assert note.startswith(f"{len(more_test)} of 2,000 images")


def test_a_share_that_leaves_nothing_is_refused():
    with pytest.raises(AlbenchError, match=r"test_share = 0.001 of 1 image leaves none for the test set"):
        share_out(["a"], 0.001, str)
    with pytest.raises(AlbenchError, match=r"test_share = 0.999 of 2 images leaves none for the pool"):
        share_out(["a", "b"], 0.999, str)


def test_a_folder_of_classes_that_is_not_there_is_not_looked_for_in_the_data_root(tmp_path):
    assert folder(tmp_path).load(tmp_path / "images").classes == ("a", "b", "c", "d")  # the root may be the folder
    with pytest.raises(AlbenchError, match="there is no folder .*imgaes"):
        folder(tmp_path, folder="imgaes").load(tmp_path)


def test_a_folder_without_splits_is_told_how_to_go_on(tmp_path):
    voc(tmp_path)
    (tmp_path / "voc/ImageSets/Main").mkdir(parents=True)
    with pytest.raises(AlbenchError, match='pool_split = "" takes every image, and test_share = 0.2 a test set'):
        PascalVoc(folder="voc", **TINY).load(tmp_path)
    folder(tmp_path)
    with pytest.raises(AlbenchError, match=r"set `pool_split` \(\"\": the folders of the classes lie in `folder`"):
        ImageFolder().load(tmp_path)
    (tmp_path / "images/test").mkdir()
    (tmp_path / "images/a").rename(tmp_path / "images/test/a")
    with pytest.raises(AlbenchError, match="images are in pool and test both, .*set `test_share`"):
        ImageFolder(pool_split="").load(tmp_path)


def test_an_image_without_its_annotation_is_named(tmp_path):
    task = voc(tmp_path)
    (tmp_path / "voc/Annotations/000003.xml").unlink()
    with pytest.raises(AlbenchError, match=r"no annotation .*000003.xml, which goes with 000003.jpg"):
        task.load(tmp_path)
