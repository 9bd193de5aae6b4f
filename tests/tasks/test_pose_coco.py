"""COCO keypoints in their official form, and what such files of strangers can hold."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from albench.errors import AlbenchError
from albench.tasks.pose.coco import NAMES, CocoKeypoints, read
from albench.tasks.pose.skeleton import COCO

TINY = {"size": 32, "stride": 2, "depth": 1, "width": 8}


def annotation(number=1, image=1, bbox=(20.0, 10.0, 40.0, 60.0), **changes):
    points = [[20 + 2 * j, 10 + 3 * j, 2] for j in range(17)]
    keys = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": list(bbox)}
    return keys | {"keypoints": [v for point in points for v in point]} | changes


def written(root, pool, test=None, images=None, categories=None, size=(120, 100)):
    """Files in the official layout: the annotations of train2017 (image 1) and of val2017 (image 2)."""
    for split, number, annotations in (("train2017", 1, pool), ("val2017", 2, test or [annotation(image=2)])):
        (root / "coco/annotations").mkdir(parents=True, exist_ok=True)
        (root / "coco" / split).mkdir(exist_ok=True)
        Image.new("RGB", size, (90, 90, 90)).save(root / "coco" / split / f"{number}.jpg")
        content = {
            "images": images or [{"id": number, "file_name": f"{number}.jpg"}],
            "categories": categories or [{"id": 1, "name": "person", "keypoints": NAMES}],
            "annotations": annotations,
        }
        images = None
        (root / f"coco/annotations/person_keypoints_{split}.json").write_text(json.dumps(content))
    return root


def wrong(root, **fields):
    """Every problem but that these are fewer images than COCO 2017 has."""
    return [line for line in CocoKeypoints(**TINY | fields).problems(root) if "the official one" not in line]


def test_the_miniature_leaves_out_crowds_and_people_without_keypoints_and_counts_them(tmp_path):
    data = CocoKeypoints.miniature(tmp_path).load(tmp_path)
    assert (len(data.pool), len(data.test)) == (24, 8)
    assert data.classes == COCO.names
    assert data.pool.targets["visible"].sum(0).tolist() == [24, 24, 24, 0, 0, *[24] * 12]
    assert data.notes == [
        *(
            f"person_keypoints_{split}.json: 1 {what} left out"
            for split in ("train2017", "val2017")
            for what in ("crowd", "person without keypoints")
        ),
        *(
            f"keypoint {side} ear: annotated nowhere in the {part}"
            for part in ("pool", "test set")
            for side in ("left", "right")
        ),
    ]
    assert data.pool.targets.keys() == {"joints", "visible", "box"}  # the data of COCO's own files are as they were
    assert CocoKeypoints.miniature(tmp_path).load(tmp_path / "coco").fingerprint() == data.fingerprint()


def test_left_and_right_are_the_person_s():
    assert [COCO.names[i] for i in COCO.mirrored][:3] == ["nose", "right eye", "left eye"]
    assert [COCO.mirrored[i] for i in COCO.mirrored] == list(range(17))
    assert NAMES[5:7] == ["left_shoulder", "right_shoulder"]


def test_the_square_is_around_the_box_and_joints_stay_on_their_pixels(tmp_path):
    root = written(tmp_path, [annotation()])
    pixels = np.full((100, 120, 3), 90, np.uint8)
    pixels[10 + 12 - 2 : 10 + 12 + 3, 20 + 8 - 2 : 20 + 8 + 3] = (255, 0, 0)  # around joint 4
    Image.fromarray(pixels).save(root / "coco/train2017/1.jpg", quality=98, subsampling=0)
    pool = CocoKeypoints(size=64, margin=1.5).load(root).pool
    side = 1.25 * 60  # the longer side of the box
    found = pool.targets["joints"][0, 4].numpy() - 16
    assert found == pytest.approx((np.array([28.5, 22.5]) - (40, 40)) * 64 / side + 32, abs=1e-3)
    red = (pool.images[0, 0].float() - pool.images[0, 1] > 100).nonzero().float()
    assert red.mean(0).flip(0).numpy() + 0.5 - 16 == pytest.approx(found, abs=0.5)
    assert float(pool.targets["box"][0]) == pytest.approx(60 * 64 / side, rel=1e-6)


def test_hidden_joints_are_annotated_and_those_of_v_0_are_not(tmp_path):
    points = annotation()["keypoints"]
    points[2::3] = [0, 1, 2] + [2] * 14
    data = CocoKeypoints(**TINY).load(written(tmp_path, [annotation(keypoints=points)]))
    assert data.pool.targets["visible"][0].tolist() == [False] + [True] * 16


def test_pck_is_within_a_fifth_of_the_box_s_longer_side(tmp_path):
    task = CocoKeypoints(size=64, stride=2, depth=1, width=8)
    data = task.load(written(tmp_path, [annotation()]))
    batch = task.prepare(data.pool.batch(torch.tensor([0])))
    pixels = 64 / 75  # of the crop in one of the image
    off = torch.zeros(17, 2)
    off[0, 0], off[1, 0] = 11.9 * pixels, 12.1 * pixels  # a fifth of 60 is 12
    task_joints = batch["joints"] + off
    moved = type("Exact", (CocoKeypoints,), {"joints": lambda self, raw: raw["joints"], "__module__": __name__})
    exact = moved.model_validate(task.model_dump())
    maps = torch.zeros(1, 1, 17, 32, 32)
    values, _ = exact.measure([({"maps": maps, "joints": task_joints}, batch)], data.classes)
    assert values["pck-box@0.2"] == pytest.approx(16 / 17)
    assert (values["pck-box@0.2/nose"], values["pck-box@0.2/left eye"]) == (1, 0)


@pytest.mark.parametrize(
    "bbox",
    [
        (20, 10, 0, 60),
        (20, 10, -4, 60),
        (20, 10, 1e9, 60),
        (1e9, 10, 9, 9),
        (float("nan"), 10, 9, 9),
        (0, 0, 9, float("inf")),
    ],
)
def test_a_box_that_is_none_is_left_out_and_said(tmp_path, bbox):
    root = written(tmp_path, [annotation(), annotation(77, bbox=bbox)])
    data = CocoKeypoints(**TINY).load(root)
    assert len(data.pool) == 1
    (note,) = data.notes
    assert note.startswith("1.jpg, annotation 77: a bbox of (")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keypoints": [1, 2, 2]}, "annotation 1: keypoints is not 51 numbers"),
        ({"keypoints": None}, "annotation 1: keypoints is not 51 numbers"),
        ({"bbox": [1, 2, 3]}, "annotation 1: bbox is not 4 numbers"),
        ({"bbox": "all"}, "annotation 1: bbox is not 4 numbers"),
        ({"image_id": 9}, "annotation 1: image_id is none of the file's"),
        ({"iscrowd": 1}, "has no person with an annotated joint"),
    ],
)
def test_an_annotation_that_is_none_is_named_with_its_file(tmp_path, change, said):
    with pytest.raises(AlbenchError, match=rf"person_keypoints_train2017.json.*{said}") as caught:
        CocoKeypoints(**TINY).load(written(tmp_path, [annotation(**change)]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../val2017/2.jpg", "/etc/passwd", "none.jpg", 7, None])
def test_an_image_outside_its_folder_is_refused(tmp_path, name):
    root = written(tmp_path, [annotation()], images=[{"id": 1, "file_name": name}])
    with pytest.raises(AlbenchError, match=r"train2017.json, image 1: file_name names"):
        CocoKeypoints(**TINY).load(root)


def test_pool_and_test_share_no_image(tmp_path):
    root = written(tmp_path, [annotation()])
    with pytest.raises(AlbenchError, match=r"1 image is in pool and test both, .*1\.jpg"):
        CocoKeypoints(test_split="train2017", **TINY).load(root)
    (root / "coco" / "again").symlink_to(root / "coco" / "train2017")
    with pytest.raises(AlbenchError, match=r"1 image is in pool and test both, .*1\.jpg"):
        CocoKeypoints(test="annotations/person_keypoints_train2017.json", test_images="again", **TINY).load(root)


def test_every_problem_is_a_line(tmp_path):
    root = written(tmp_path, [annotation()])
    assert wrong(root) == []
    bad = [annotation(1), annotation(1), annotation(2, image=9), annotation(3, keypoints=[1]), annotation(4, bbox=[1])]
    written(root, bad, [annotation(5, image=2)])
    (root / "coco/val2017/2.jpg").rename(root / "coco/val2017/3.jpg")
    (root / "coco/train2017/1.jpg").write_bytes(b"no image")
    said = ["[1]: no id", "annotation 2: image_id", "annotation 3: keypoints", "annotation 4: bbox", "image 2", "1.jpg"]
    for line, part in zip(wrong(root), said, strict=True):
        assert part in line


def test_impossible_people_are_problems_beside_what_cannot_be_read(tmp_path):
    far = annotation()["keypoints"]
    far[0] = 1e9
    out = annotation()["keypoints"]
    out[0] = -5  # the image's edge may cut people
    pool = [annotation(1), annotation(2, bbox=(20, 10, -4, 60)), annotation(3, keypoints=far)]
    pool += [annotation(4, keypoints=out), annotation(5, num_keypoints=3), annotation(6, keypoints=[1])]
    said = [
        "annotation 6: keypoints is not 51 numbers",
        "train2017.json: 1.jpg, annotation 2: a bbox of (20, 10, -4, 60); left out",
        "train2017.json: 1.jpg, annotation 3: 1 joint NaN or far outside the image; taken as not annotated",
    ]
    for line, part in zip(wrong(written(tmp_path, pool)), said, strict=True):
        assert part in line


def test_a_cut_file_does_not_hide_what_is_wrong_with_the_other_one(tmp_path):
    root = written(tmp_path, [annotation()], [annotation(5, image=2, bbox=[1])])
    (root / "coco/annotations/person_keypoints_train2017.json").write_text('{"images": [')
    (root / "coco/train2017/1.jpg").write_bytes(b"no image")
    for line, part in zip(wrong(root), ["train2017.json", "annotation 5: bbox", "1.jpg"], strict=True):
        assert part in line


def test_splits_of_coco_2017_have_an_official_size(tmp_path):
    root = written(tmp_path, [annotation()])
    first, second = CocoKeypoints(**TINY).problems(root)
    assert first.endswith("person_keypoints_train2017.json has 1 images; the official one has 118,287")
    assert second.endswith("person_keypoints_val2017.json has 1 images; the official one has 5,000")
    for file in [*root.rglob("*2017*")]:
        file.rename(file.with_name(file.name.replace("2017", "")))
    assert list(CocoKeypoints(pool_split="train", test_split="val", **TINY).problems(root)) == []


def test_a_file_is_one_image(tmp_path):
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 7, "file_name": "./1.jpg"}]
    root = written(tmp_path, [annotation(), annotation(2, image=7)], images=images)
    with pytest.raises(AlbenchError, match=r"train2017.json, image 7: './1.jpg' is image 1, too"):
        CocoKeypoints(**TINY).load(root)
    assert len(wrong(root)) == 1
    (line,) = wrong(root, test_split="train2017")[2:]
    assert "1 image is in pool and test both" in line


def test_a_v_is_0_1_or_2(tmp_path):
    points = annotation()["keypoints"]
    points[5] = 7
    root = written(tmp_path, [annotation(), annotation(3, keypoints=points)])
    with pytest.raises(AlbenchError, match="annotation 3: a v of its keypoints is 7; it is 0, 1 or 2"):
        CocoKeypoints(**TINY).load(root)
    assert len(wrong(root)) == 1


def test_what_is_stated_wrongly_is_noted(tmp_path):
    images = [{"id": 1, "file_name": "1.jpg", "width": 999, "height": 100}]
    root = written(tmp_path, [annotation(num_keypoints=17), annotation(3, num_keypoints=3)], images=images)
    assert CocoKeypoints(**TINY).load(root).notes == [
        "1.jpg: its annotation says 999 × 100, the image is 120 × 100; the image counts",
        "1.jpg, annotation 3: num_keypoints is 3, and 17 are annotated",
    ]


@pytest.mark.parametrize("path", ["..", "../coco/train2017", "{root}/coco"])
def test_settings_lead_nowhere_outside_the_data_root(tmp_path, path):
    root = written(tmp_path, [annotation()])
    for key in ("folder", "pool_split"):
        with pytest.raises(AlbenchError, match="leaves the data root"):
            CocoKeypoints(**{key: path.format(root=root)}).load(root)


def test_what_is_missing_is_said_with_where_to_get_it(tmp_path):
    with pytest.raises(AlbenchError, match="data root"):
        CocoKeypoints().load(None)
    with pytest.raises(AlbenchError) as caught:
        CocoKeypoints().fetch(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"no {tmp_path}/coco/annotations/person_keypoints_train2017.json (`pool`), no ")
    assert f"unpack them into {tmp_path}/coco; of other data `folder`, `pool`, " in said
    assert "annotations_trainval2017.zip" in said
    CocoKeypoints().fetch(written(tmp_path, [annotation()]))


def ids():
    images = [{"id": 3, "file_name": "a.jpg"}]
    return {"images": images, "categories": [{"id": 1}], "annotations": [{"id": 9, "image_id": 3, "category_id": 1}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("categories"), "has no list 'categories'"),
        (lambda c: c.update(images={"3": {}}), "has no list 'images'"),
        (lambda c: c["images"].append({"id": 3}), r"images\[1\]: no id of its own"),
        (lambda c: c["images"].append({}), r"images\[1\]: no id of its own"),
        (lambda c: c["annotations"].append([]), r"annotations\[1\]: no id of its own"),
        (lambda c: c["categories"].append({"id": [1]}), r"categories\[1\]: no id of its own"),
        (lambda c: c["annotations"][0].update(image_id=4), "annotation 9: image_id is none of the file's"),
        (lambda c: c["annotations"][0].update(category_id=[1]), "annotation 9: category_id is none of the file's"),
    ],
)
def test_a_coco_file_s_entries_have_ids_that_lead_somewhere(tmp_path, change, said):
    content = ids()
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read(tmp_path / "a.json").annotations[9]["image_id"] == 3
    change(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(AlbenchError, match=said):
        read(tmp_path / "a.json")
