"""Files that annotations name, and JSON of any content: a value, or one line that says where."""

import numpy as np
import pytest
from PIL import Image

from albench import datafiles
from albench.datafiles import as_rgb, image_files, named_file, numbers, opened_image, read_json
from albench.errors import AlbenchError


def test_a_named_file_is_found_also_in_a_folder_below(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.jpg").touch()
    assert named_file(tmp_path, "train/a.jpg", "annotation 7") == tmp_path / "train" / "a.jpg"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../outside.jpg", "outside"),
        ("{root}/outside.jpg", "outside"),
        ("a/../../outside.jpg", "outside"),
        ("none.jpg", "no such file"),
        ("x" * 5000, "no such file"),
        ("sub", "no such file"),
        ("link.jpg", "is a link that leaves"),
        ("\0", "names no file"),
        ("", "names no file"),
        (None, "names no file"),
        (7, "names no file"),
        (["a.jpg"], "names no file"),
    ],
)
def test_a_name_that_is_no_file_of_the_folder_is_refused_in_one_line(tmp_path, name, said):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.jpg").touch()
    (folder / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    if isinstance(name, str):
        name = name.format(root=tmp_path)
    with pytest.raises(AlbenchError, match=said) as caught:
        named_file(folder, name, "a.json, annotation 7")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot read"),
        (b'[{"a": 1}', "cannot read"),
        (b"\xff\xfe\xfa", "cannot read"),
        (b"[" * 100_000, "cannot read"),
        (b"[" + b"9" * 10_000 + b"]", "cannot read"),
        (b'{"a": 1}', "holds no list, but a dict"),
        (b"7", "holds no list, but a int"),
    ],
)
def test_what_is_no_json_of_the_right_kind_is_said_in_one_line(tmp_path, content, said):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(AlbenchError, match=said) as caught:
        read_json(file, list)
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_is_read_and_its_size_is_checked_first(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    file.write_text('{"a": [1, 2.5, "\u00e4"]}')
    assert read_json(file, dict) == {"a": [1, 2.5, "ä"]}
    monkeypatch.setattr(datafiles, "MOST_JSON", 10)
    with pytest.raises(AlbenchError, match="more than 0 MB"):
        read_json(file, dict)
    with pytest.raises(AlbenchError, match="cannot read .*missing.json"):
        read_json(tmp_path / "missing.json", dict)


@pytest.mark.parametrize("value", [None, "text", [1, 2], [1, 2, "x"], {"a": 1}, [1, 2, [3]], [1, 2, 10**400]])
def test_what_are_not_those_numbers_is_said(value):
    with pytest.raises(AlbenchError, match=r"^a.json, annotation 7: bbox is not 3 numbers$"):
        numbers({"bbox": value}, "bbox", (3,), "a.json, annotation 7")


def test_numbers_may_be_nan_and_may_be_one():
    assert np.isnan(numbers({"a": [1, float("nan")]}, "a", (2,), "")[1])
    assert float(numbers({"a": 2}, "a", (), "")) == 2
    with pytest.raises(AlbenchError, match="a is not a number"):
        numbers({}, "a", (), "here")


def test_hidden_files_are_no_images(tmp_path):
    for name in ("b.jpg", "a/c.PNG", "._b.jpg", "a/._c.png", ".thumbnails/b.jpg", "b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert image_files(tmp_path) == [tmp_path / "a/c.PNG", tmp_path / "b.jpg"]
    hidden = tmp_path / ".data"  # the folder itself may be
    (hidden / "images").mkdir(parents=True)
    (hidden / "images/a.jpg").touch()
    assert image_files(hidden / "images") == [hidden / "images/a.jpg"]


def test_16_bit_grey_is_grey_and_not_white(tmp_path):
    values = np.array([[0, 255, 256, 32_768, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    with opened_image(tmp_path / "a.png") as image:
        read = as_rgb(image)
    assert read.mode == "RGB"
    for image in (
        read,
        as_rgb(Image.fromarray(values.astype(np.int32))),
        as_rgb(Image.fromarray(values.astype(">u2"))),
    ):
        assert np.asarray(image).tolist() == [[[0] * 3, [0] * 3, [1] * 3, [128] * 3, [255] * 3]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_are_read_as_pillow_reads_them(mode):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    assert np.array_equal(np.asarray(as_rgb(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("value", [np.float32(0.5), np.int32(65_536), np.int32(-1)])
def test_pixels_that_are_no_grey_are_refused(value):
    with pytest.raises(ValueError, match="save it in 8 bits"):
        as_rgb(Image.fromarray(np.full((2, 2), value)))
