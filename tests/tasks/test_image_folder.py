"""A folder of one's own images, a class in each of its folders, and what such folders can hold."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder as Reference

from albench.errors import AlbenchError
from albench.tasks.classification.folder import ImageFolder

TINY = {"size": 16, "width": 4, "blocks": (1, 1)}


@pytest.fixture
def home(tmp_path):
    ImageFolder.miniature(tmp_path)
    return tmp_path / "images"


def save(file, pixels, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def test_classes_and_files_are_torchvision_s(home):
    data, theirs = ImageFolder(**TINY).load(home.parent), Reference(home / "train")
    assert list(data.classes) == theirs.classes
    assert data.pool.targets["label"].tolist() == theirs.targets
    assert [str(home / name) for name in data.pool.names] == [path for path, _ in theirs.samples]
    assert ImageFolder(**TINY).load(home).fingerprint() == data.fingerprint()  # the data root may be that folder


def test_the_middle_is_kept_upright_in_three_channels(tmp_path):
    pixels = np.zeros((40, 120), np.uint8)
    pixels[:, 40:80] = 200  # the middle square
    pixels[:20, 40:80] = 100
    save(tmp_path / "images/train/a/0.png", pixels)
    turned = Image.Exif()
    turned[274] = 3  # upside down
    save(tmp_path / "images/train/b/0.jpg", pixels, exif=turned, quality=95)
    save(tmp_path / "images/test/a/0.png", pixels[:, ::-1] // 2)
    first, second = ImageFolder(**TINY).load(tmp_path).pool.images.float()
    assert first.shape == (3, 16, 16)
    assert (first[:, 1:7, 2:14] == 100).all()
    assert (first[:, 9:15, 2:14] == 200).all()
    assert (second[:, 1:7, 2:14] - 200).abs().max() < 4
    assert (second[:, 9:15, 2:14] - 100).abs().max() < 4


def test_images_of_other_kinds_are_counted_and_a_class_of_nothing_else_is_refused(home):
    for name in ("train/a/0.gif", "train/b/1.webp", "train/b/2.webp"):
        save(home / name, np.full((20, 20, 3), 7, np.uint8))
    data = ImageFolder(**TINY).load(home.parent)
    assert data.notes[0] == "train: left out, being no .jpg, .jpeg or .png: .gif 1, .webp 2; train/a/0.gif the first"
    save(home / "train/z/0.webp", np.full((20, 20, 3), 7, np.uint8))
    with pytest.raises(AlbenchError, match=r"train/z has images, but no .jpg, .jpeg or .png: save 0.webp as one"):
        ImageFolder(**TINY).load(home.parent)


def test_what_is_odd_is_noted(home):
    save(home / "test/e/0.png", np.full((20, 20, 3), 7, np.uint8))
    (home / "train/a/notes.txt").write_text("no image")
    (home / "train/.thumbnails").mkdir()
    (home / "train/f").mkdir()  # empty: no class
    first = sorted((home / "train/a").glob("*.png"))[0]
    (home / "test/b" / "copy.png").write_bytes(first.read_bytes())
    data = ImageFolder(**TINY).load(home.parent)
    assert data.classes == tuple("abcde")
    assert data.notes == [
        "class e: no image in train",
        "1 test images are in the pool, too, to the pixel, test/b/copy.png among them",
    ]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            {"test_split": "val"},
            "there is no folder .*images/val; make it, with a folder per class, or set `test_split`",
        ),
        ({"folder": "photos"}, "there is no folder .*photos/train; make it"),
        ({"folder": "../images"}, "leaves the data root"),
        ({"test_split": "../../x"}, "leaves the data root"),
        ({"test_split": "train"}, "are both 'train'"),
        ({"pool_split": "train/a"}, "has no .jpg, .jpeg or .png in a folder per class"),
    ],
)
def test_what_is_missing_is_one_line(home, params, said):
    with pytest.raises(AlbenchError, match=said) as caught:
        ImageFolder(**TINY | params).load(home.parent)
    assert "\n" not in str(caught.value)


def test_one_class_and_links_that_lead_out_are_refused(home, tmp_path):
    file = next((home / "train/a").iterdir())
    file.rename(tmp_path / "outside.png")
    file.symlink_to(tmp_path / "outside.png")
    with pytest.raises(AlbenchError, match="is a link that leaves the data folder"):
        ImageFolder(**TINY).load(home.parent)
    (tmp_path / "outside.png").unlink()
    with pytest.raises(AlbenchError, match=rf"^{file} is a link to nothing; take it away"):
        ImageFolder(**TINY).load(home.parent)
    save(tmp_path / "one/train/a/0.png", np.zeros((9, 9), np.uint8))
    save(tmp_path / "one/test/a/0.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(AlbenchError, match="all images are of one class, a;"):
        ImageFolder(folder="one", **TINY).load(tmp_path)


def test_every_damaged_image_is_a_line(home):
    task = ImageFolder(**TINY)
    assert list(task.problems(home.parent)) == []
    files = [next((home / "train" / label).iterdir()) for label in "ac"]
    for file in files:
        file.write_bytes(file.read_bytes()[:90])
    assert [file.name in line for file, line in zip(files, task.problems(home.parent), strict=True)] == [True, True]
    with pytest.raises(AlbenchError, match="cannot read image"):
        task.load(home.parent)


def test_a_changed_image_is_read_again(home):
    before = ImageFolder(**TINY).load(home.parent)
    save(home / "train/a/0.png", np.full((20, 28, 3), 255, np.uint8))
    after = ImageFolder(**TINY).load(home.parent)
    assert not torch.equal(before.pool.images, after.pool.images)


def test_16_bit_images_and_their_8_bit_copies_are_the_same(home):
    grey = np.random.default_rng(0).integers(0, 255, (20, 28), np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    save(home / "train/a/0.png", grey, exif=exif)
    save(home / "train/b/1.png", grey.astype(np.uint16) * 257, exif=exif)
    data = ImageFolder(**TINY).load(home.parent)
    eight, sixteen = (data.pool.images[data.pool.names.index(f"train/{name}.png")] for name in ("a/0", "b/1"))
    assert torch.equal(eight, sixteen)


def test_hidden_files_are_passed_over(home):
    before = ImageFolder(**TINY).load(home.parent)
    (home / "train/a/._0.png").write_bytes(b"\0\5\x16\7")
    assert ImageFolder(**TINY).load(home.parent).pool.names == before.pool.names
    assert list(ImageFolder(**TINY).problems(home.parent)) == []
