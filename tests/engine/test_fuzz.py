"""Whatever stands in a file that a user or a stranger wrote: its content, or one clear line. Never a traceback."""

import copy
import io
import json
import string
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from albench.datafiles import opened_image
from albench.errors import AlbenchError
from albench.strategies.replay import Replay
from albench.strategy import PoolView
from albench.suite import read, resolve
from albench.tasks.classification import cifar10
from albench.tasks.detection import annotations
from albench.tasks.detection.coco import Coco
from albench.tasks.pose import heads, lsp
from albench.tasks.pose.coco import CocoKeypoints
from albench.tasks.pose.mpii import MAT, Mpii

from .conftest import TINY

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
many = settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FOLDER = tempfile.TemporaryDirectory(prefix="albench-fuzz-")  # goes with the process
PLACE = Path(FOLDER.name)


def both(strategy):
    """A property with few examples in every run, and with many when --slow is given."""

    def decorate(check):
        def small(value):
            check(value)

        def large(value):
            check(value)

        small.__name__, large.__name__ = f"test_{check.__name__}", f"test_{check.__name__}_long"
        small.__doc__ = large.__doc__ = check.__doc__
        globals()[small.__name__] = few(given(strategy)(small))
        globals()[large.__name__] = pytest.mark.slow(many(given(strategy)(large)))
        return check

    return decorate


def one_line(call):
    """The answer, or None where it was refused in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except AlbenchError as error:
        said = str(error)
    assert said
    assert "\n" not in said
    return None


def file(name: str, content: bytes) -> Path:
    path = PLACE / name
    path.write_bytes(content)
    return path


def damaged(whole: bytes):
    """The bytes with some flipped, cut, doubled or inserted."""
    place = st.integers(0, max(0, len(whole) - 1))
    flip = st.tuples(place, st.integers(1, 255)).map(
        lambda d: whole[: d[0]] + bytes([whole[d[0]] ^ d[1]]) + whole[d[0] + 1 :]
    )
    cut = place.map(lambda p: whole[:p])
    insert = st.tuples(place, st.binary(max_size=12)).map(lambda d: whole[: d[0]] + d[1] + whole[d[0] :])
    lost = st.tuples(place, place).map(lambda d: whole[: min(d)] + whole[max(d) :])
    return st.one_of(flip, cut, insert, lost)


# Suites ----------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["name", "seeds", "stages", "budget", "subset", "tasks", "strategies", "digits", "random", "recipe", "params",
     "companion", "learning-loss", "loss-prediction", "updates", "epochs", "primary", "reference", "numerics", "replay",
     "source", "ceiling", "price", "size", "voc", "folder", "base", "quick"]
)  # fmt: skip
KEYS = WORDS | st.text(string.printable, max_size=6)
SCALARS = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    WORDS,
    st.text(max_size=8),
    st.just(10**30),
    st.just("../../x"),
    st.none(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def toml(value) -> str:
    """Any structure as TOML, as far as TOML has it."""
    import json
    import math

    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return '""' if value is None else json.dumps(value)


@both(st.dictionaries(KEYS, VALUES, max_size=8))
def any_structure_is_a_suite_or_one_line(content):
    import json

    text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in content.items())
    one_line(lambda: resolve(read(str(file("any.toml", text.encode("utf-8", "replace"))))))


@both(st.one_of(damaged(TINY.encode()), st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def a_damaged_suite_is_one_line(content):
    one_line(lambda: resolve(read(str(file("damaged.toml", content)))))


@both(st.dictionaries(st.sampled_from(["tasks", "strategies", "recipe", "seeds", "primary", "numerics"]), VALUES))
def a_suite_with_one_table_replaced_is_one_line(changes):
    import tomllib

    content = tomllib.loads(TINY) | changes
    text = "\n".join(f"{key} = {toml(value)}" for key, value in content.items())
    one_line(lambda: resolve(read(str(file("replaced.toml", text.encode("utf-8", "replace"))))))


def test_nesting_without_end_is_one_line():
    for text in ("a = " + "[" * 100_000, "a = " + "{b=" * 5000):
        with pytest.raises(AlbenchError, match="not valid TOML"):
            read(str(file("deep.toml", text.encode())))
    for table in ("recipe", "tasks.digits.params", "tasks.digits", "price", "numerics", "primary", "companions"):
        text = TINY + f"\n[{table}.{'a.' * 5000}b]\n"
        assert one_line(lambda text=text: resolve(read(str(file("deep.toml", text.encode()))))) is None


# Annotations -----------------------------------------------------------------------------------------------------

XML = (
    b"<annotation><size><width>60</width><height>40</height></size><object><name>leaf</name><difficult>0</difficult>"
    b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
BITS = st.sampled_from(
    [b"<object>", b"</object>", b"<name>", b"</name>", b"<bndbox>", b"</bndbox>", b"<xmin>", b"</xmin>", b"nan",
     b"1e999",
     b"\xb2".decode("latin1").encode(), b"<size><height>", b"</height>", b"<?xml version='1.0' encoding='utf-16'?>",
     b"<?xml version='1.0' encoding='none'?>", b"<!DOCTYPE a>", b"&b;", b"&#0;", b"<annotation>", b"</annotation>",
     b"\xff"]
)  # fmt: skip


@both(st.one_of(damaged(XML), st.lists(BITS, max_size=12).map(b"".join), st.binary(max_size=80)))
def any_annotation_is_read_or_one_line(content):
    found = one_line(lambda: annotations.read(file("a.xml", content)))
    if found is not None:
        things, size = found
        kept, _ = annotations.clean(things, 40, 60, "a.jpg")
        assert all(1 <= t.box[0] < t.box[2] <= 60 and 1 <= t.box[1] < t.box[3] <= 40 for t in kept)
        assert size is None or all(isinstance(side, int) for side in size)


def test_deep_annotations_are_read_or_one_line():
    one_line(lambda: annotations.read(file("deep.xml", b"<a>" * 200_000 + b"</a>" * 200_000)))


@both(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace"))))
def any_split_list_is_read_or_one_line(content):
    from albench.tasks.detection.voc import PascalVoc

    home = PLACE / "voc"
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "ImageSets/Main/train.txt").write_bytes(content)
    (home / "ImageSets/Main/val.txt").write_bytes(b"x")
    assert one_line(lambda: PascalVoc(folder="voc").load(PLACE)) is None  # it names no image that is there


def mat() -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"joints": np.ones((14, 3, 2))}, do_compression=True)
    return buffer.getvalue()


@both(st.one_of(damaged(mat()), st.binary(max_size=300)))
def any_mat_file_is_read_or_one_line(content):
    found = one_line(lambda: lsp.read_joints(file("joints.mat", content)))
    if found is not None:
        joints, visible, _ = found
        assert joints.shape == (*visible.shape, 2)


def places(value, above=()):
    """The path of every value inside lists and objects."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(path for key, one in inner for path in places(one, (*above, key)))]


def changed(content):
    """JSON with one value somewhere replaced by another one of any kind."""

    def change(drawn):
        path, value = drawn
        whole = {"": copy.deepcopy(content)}
        place, last = whole, ""
        for key in path:
            place, last = place[last], key
        place[last] = value
        return json.dumps(whole[""]).encode()

    return st.tuples(st.sampled_from(places(content)), VALUES).map(change)


def people(task, name):
    """A miniature below PLACE: its task, the file of the pool's people, and that file with three of them."""
    mini = task.miniature(PLACE / name)
    (annotations,) = (PLACE / name).rglob("*train*.json")
    content = json.loads(annotations.read_text())
    if isinstance(content, list):
        return mini, annotations, content[:3]
    kept = content["annotations"][:2] + content["annotations"][-1:]
    return mini, annotations, content | {"images": content["images"][:2], "annotations": kept}


POSES = {task: people(task, task.__name__) for task in (Mpii, CocoKeypoints)}
PEOPLE = [st.tuples(st.just(task), changed(content)) for task, (_, _, content) in POSES.items()]
OTHERS = st.tuples(st.sampled_from(list(POSES)), damaged(json.dumps(POSES[Mpii][2]).encode()) | st.binary(max_size=60))


@both(st.one_of(*PEOPLE, OTHERS))
def any_people_in_json_are_read_or_one_line(drawn):
    task, content = drawn
    mini, annotations, _ = POSES[task]
    annotations.write_bytes(content)
    data = one_line(lambda: mini.load(PLACE / task.__name__))
    if data is not None:
        assert len(data.pool) in (1, 2, 3)
        assert data.pool.targets["joints"].isfinite().all()


BOXES = people(Coco, "Coco")


@both(st.one_of(changed(BOXES[2]), damaged(json.dumps(BOXES[2]).encode())))
def any_boxes_in_json_are_read_or_one_line(content):
    mini, annotations, _ = BOXES
    annotations.write_bytes(content)
    data = one_line(lambda: mini.load(PLACE / "Coco"))
    if data is not None:
        assert len(data.pool) in (0, 1, 2)
        assert data.pool.targets["boxes"].isfinite().all()


@both(damaged((PLACE / "Mpii" / "mpii" / MAT).read_bytes()))
def any_head_boxes_are_read_or_one_line(content):
    found = one_line(lambda: heads.read(file("heads.mat", content)))
    if found is not None:
        assert all(head.size > 0 for there in found.values() for head in there)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (200, 10, 10)).save(buffer, "JPEG")
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (24, 16), 3).save(buffer, "PNG")
    return buffer.getvalue()


@both(st.one_of(damaged(jpeg()), damaged(png()), st.binary(max_size=60)))
def any_image_is_read_or_one_line(content):
    def decode():
        with opened_image(file("a.jpg", content)) as image:
            return image.convert("RGB")

    one_line(decode)


@both(st.binary(max_size=3073 * 2) | st.integers(0, 4).map(lambda n: bytes([n]) * 3073 * n))
def any_cifar_file_is_read_or_one_line(content):
    found = one_line(lambda: cifar10.read_batch(file("data_batch_1.bin", content), None, "labels"))
    if found is not None:
        images, labels = found
        assert images.shape[1:] == (3, 32, 32)
        assert images.dtype == np.uint8
        assert len(labels) == len(images)


# Selections ------------------------------------------------------------------------------------------------------

CSV = b"task,strategy,seed,stage,order,index\ndigits,a,0,0,0,3\ndigits,a,0,0,1,4\ndigits,a,0,1,0,5\ndigits,a,0,1,1,6\n"


@both(st.one_of(damaged(CSV), st.binary(max_size=80)))
def any_selections_are_replayed_or_one_line(content):
    pool = PoolView("digits", 0, 0, torch.tensor([5, 6, 7]), torch.tensor([3, 4]), {}, {}, {})
    replay = Replay(source=file("selections.csv", content))
    positions = one_line(lambda: replay.select(pool, 2, torch.Generator()))
    if positions is not None:
        assert len(positions) == 2
        assert set(positions.tolist()) <= {0, 1, 2}
