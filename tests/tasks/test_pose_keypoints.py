"""Keypoints of a user's own in COCO's format: what they are called, what a mirror swaps, what is drawn."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from albench.errors import AlbenchError
from albench.facts import facts
from albench.tasks.pose.coco import NAMES, CocoKeypoints

HAND = ["wrist", "left_thumb", "right_thumb", "Left_Tip", "Right_Tip"]
BONES = [[1, 2], [1, 3], [2, 4], [3, 5]]
FILES = {"pool": "hands.json", "pool_images": "photos", "test": "more.json", "test_images": "photos"}
TINY = {"size": 32, "stride": 2, "depth": 1, "width": 8, "folder": "hands"}


def write(root, file, rows, category, mode="RGB"):
    """Images of rows, and in each a hand whose joint j is at (20 + 5j, 30 + 3j); the last joint is not annotated."""
    (root / "hands/photos").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for row in rows:
        Image.new(mode, (100, 80), 90 if mode == "L" else (90, 90, 90)).save(root / f"hands/photos/{row}.png")
        images.append({"id": row, "file_name": f"{row}.png"})
        count = len(category.get("keypoints", HAND))
        points = [[20 + 5 * j, 30 + 3 * j, 2 * (j < count - 1)] for j in range(count)]
        entry = {"id": row, "image_id": row, "category_id": 4, "bbox": [15, 25, 40, 30]}
        annotations.append(entry | {"keypoints": [v for point in points for v in point]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "hand"} | category]}
    (root / "hands" / file).write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "hands.json", range(20), {"keypoints": HAND, "skeleton": BONES})
    write(tmp_path, "more.json", range(20, 26), {"keypoints": HAND, "skeleton": BONES})
    return tmp_path


def task(**fields):
    return CocoKeypoints(**TINY | FILES | fields)


def test_names_and_limbs_are_the_category_s(root):
    data = task().load(root)
    assert (len(data.pool), len(data.test)) == (20, 6)
    assert data.classes == ("wrist", "left thumb", "right thumb", "Left Tip", "Right Tip")
    assert data.pool.targets["mirror"][3].tolist() == [0, 2, 1, 4, 3]
    assert data.pool.targets["limbs"][3].tolist() == [[0, 1], [0, 2], [1, 3], [2, 4]]
    assert data.notes == [f"keypoint Right Tip: annotated nowhere in the {part}" for part in ("pool", "test set")]
    assert list(task().problems(root)) == []
    assert task().data_source == "the folder hands, in COCO's format"
    assert CocoKeypoints().data_source == CocoKeypoints.source


def test_a_mirror_swaps_left_and_right_of_the_file(root):
    own = task(scaling=0, rotation=0)
    batch = own.load(root).pool.batch(torch.arange(2))
    drawn = {"scale": torch.ones(2), "angle": torch.zeros(2), "flip": torch.tensor([False, True])}
    plain, mirrored = (own.apply_augmentation(batch, drawn)[name] for name in ("joints", "visible"))
    assert plain[1, 1].tolist() == pytest.approx([32 - plain[0, 2, 0].item(), plain[0, 2, 1].item()])
    assert plain[1, 0].tolist() == pytest.approx([32 - plain[0, 0, 0].item(), plain[0, 0, 1].item()])
    assert mirrored.tolist() == [[True, True, True, True, False], [True, True, True, False, True]]


def test_an_image_of_any_suffix_is_read_again_when_it_changed_and_verified(root):
    file = root / "hands/hands.json"
    file.write_text(file.read_text().replace('"3.png"', '"3.jfif"'))
    odd = (root / "hands/photos/3.png").rename(root / "hands/photos/3.jfif")
    (root / "hands/photos/dangling.jpg").symlink_to("nowhere.jpg")  # no annotation names it
    before = task().load(root)
    Image.new("RGB", (100, 80), (200, 0, 0)).save(odd, format="png")
    assert not torch.equal(task().load(root).pool.images[3], before.pool.images[3])
    odd.write_bytes(odd.read_bytes()[:60])
    assert any("3.jfif" in problem for problem in task().problems(root))


def test_a_flip_test_mirrors_the_file_s_sides_back_and_candidates_have_none(root):
    own = task(flip_test=True)
    data = own.load(root)
    batch, hidden = (own.prepare(data.test.batch(torch.arange(2), hide)) for hide in (False, True))

    def forward(given):
        maps = torch.zeros(2, 1, 5, own.cells, own.cells)
        maps[:, 0, 1, 3, 2] = 1  # "left thumb", wherever it looks
        return {"maps": maps}

    raw = own.outputs(forward, batch)
    assert raw["mirrored"][0, 2, 3, own.cells - 1 - 2] == 1
    assert raw["mirrored"].sum() == 2
    assert "mirrored" not in own.outputs(forward, hidden)
    values, _ = own.measure([(raw, batch)], data.classes)
    assert "pck-box@0.2/Left Tip" in values


def test_what_is_drawn_are_the_file_s_limbs(root, tmp_path):
    data = task().load(root)
    _, axes = plt.subplots()
    joints = np.zeros((5, 2)).tolist()
    task().draw(axes, data.pool, 0, data.classes, {"joints": joints})
    colours = [line.get_color() for line in axes.lines if line.get_linewidth() == 2]
    assert colours == ["#ff8c1a", "#1e90ff", "#ff8c1a"]  # left, right, left; the right tip is not annotated
    write(root, "hands.json", range(20), {"keypoints": HAND})
    write(root, "more.json", range(20, 26), {"keypoints": HAND})
    data = task().load(root)
    assert "limbs" not in data.pool.targets
    _, axes = plt.subplots()
    task().draw(axes, data.pool, 0, data.classes, {"joints": joints})
    assert sum(line.get_marker() == "x" for line in axes.lines) == 1  # or nothing would show where they are predicted
    plt.close("all")


@pytest.mark.parametrize(
    ("category", "said"),
    [
        ({}, "no category has `keypoints`"),
        ({"keypoints": []}, "no category has `keypoints`"),
        ({"keypoints": "nose"}, "category 4: its keypoints are no list of names"),
        ({"keypoints": ["a", 3]}, "category 4: its keypoints are no list of names"),
        ({"keypoints": ["a", "_"]}, "category 4: its keypoints are no list of names"),
        ({"keypoints": ["left_a", "Left a"]}, "two of its keypoints have one name"),
    ],
)
def test_categories_that_describe_no_body_are_refused(root, category, said):
    write(root, "hands.json", range(20), category)
    with pytest.raises(AlbenchError, match=rf"hands.json.*{said}"):
        task().load(root)
    assert [said.split("`")[0] in line for line in task().problems(root)] == [True]


def test_two_bodies_are_refused(root):
    write(root, "more.json", range(20, 26), {"keypoints": HAND[:3]})
    with pytest.raises(AlbenchError, match=r"the pool's keypoints .wrist, .*are not those of the test set"):
        task().load(root)
    assert len(list(task().problems(root))) == 1
    content = json.loads((root / "hands/hands.json").read_text())
    content["categories"].append({"id": 5, "name": "foot", "keypoints": ["heel"]})
    (root / "hands/hands.json").write_text(json.dumps(content))
    with pytest.raises(AlbenchError, match="categories 'hand' and 'foot' have different keypoints"):
        task(test_share=0.3, **dict.fromkeys(("test", "test_images"))).load(root)


@pytest.mark.parametrize("skeleton", [[[0, 1]], [[1, 9]], [[1]], "all", [["wrist", "left_thumb"]]])
def test_a_skeleton_that_is_none_is_not_drawn_and_said(root, skeleton):
    write(root, "hands.json", range(20), {"keypoints": HAND, "skeleton": skeleton})
    data = task().load(root)
    assert "limbs" not in data.pool.targets
    assert sum("its skeleton is no list of pairs from 1 to 5; not drawn" in note for note in data.notes) == 1


def test_keypoints_without_a_counterpart_are_their_own_mirror_images_and_said(root):
    for names, said in (
        (["wrist", "left_thumb", "tip"], "keypoint left thumb: no such one on the other side"),
        (["wrist", "thumb", "tip"], "no keypoint is called left … or right …"),
    ):
        write(root, "hands.json", range(20), {"keypoints": names})
        write(root, "more.json", range(20, 26), {"keypoints": names})
        data = task().load(root)
        assert data.pool.targets["mirror"][0].tolist() == [0, 1, 2]
        assert sum(said in note for note in data.notes) == 1


def test_one_file_is_shared_out_by_its_images(root):
    content = json.loads((root / "hands/hands.json").read_text())
    twins = [entry | {"id": entry["id"] + 100} for entry in content["annotations"]]
    (root / "hands/hands.json").write_text(json.dumps(content | {"annotations": content["annotations"] + twins}))
    own = task(test_share=0.3, **dict.fromkeys(("test", "test_images")))
    data = own.load(root)
    assert len(data.pool) + len(data.test) == 40
    assert len(data.test) % 2 == 0
    pool, test = ({name.split()[0] for name in part.names} for part in (data.pool, data.test))
    assert not pool & test
    assert data.notes[0].startswith(f"{len(data.test)} of 40 people are the test set")
    assert list(own.problems(root)) == []
    assert facts(own)["test_share"] == 0.3
    assert not {"pool", "pool_images", "test", "test_images", "test_share"} & facts(CocoKeypoints()).keys()


def test_own_files_that_are_missing_are_named_with_their_settings_and_nothing_is_to_be_fetched(tmp_path):
    with pytest.raises(AlbenchError) as caught:
        task().fetch(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"no {tmp_path}/hands/hands.json (`pool`), no {tmp_path}/hands/photos (`pool_images`), no ")
    assert "`folder`, `pool`, `pool_images`, `test` and `test_images` say where they lie (or `test_share` " in said
    assert "fetch" not in said


def test_grey_images_and_images_without_anyone_are_counted(root):
    write(root, "hands.json", range(20), {"keypoints": HAND}, mode="L")
    content = json.loads((root / "hands/hands.json").read_text())
    (root / "hands/hands.json").write_text(json.dumps(content | {"annotations": content["annotations"][:15]}))
    notes = task().load(root).notes
    assert "hands.json: 5 images without anyone who has keypoints; not used" in notes
    assert "hands.json: 15 images in grey, put into three channels" in notes


def test_odd_people_are_grouped(root):
    content = json.loads((root / "hands/hands.json").read_text())
    for position, entry in enumerate(content["annotations"][:10]):
        entry["num_keypoints"] = 1
        entry["keypoints"][:2] = [-3, 20]
        if position % 2:  # of one joint and of two, they are one kind
            entry["keypoints"][3:5] = [-3, 20]
    (root / "hands/hands.json").write_text(json.dumps(content))
    first, second = [note for note in task().load(root).notes if note.startswith("10 people")]
    assert first == (
        "10 people with joints outside the image; kept; the first: "
        "0.png, annotation 0, 1.png, annotation 1, 2.png, annotation 2"
    )
    assert second.startswith("10 people with another num_keypoints than are annotated; the first: 0.png, annotation 0")


def test_coco_s_own_names_are_coco_s_skeleton_wherever_the_files_lie(root):
    for file, rows in (("hands.json", range(20)), ("more.json", range(20, 26))):
        write(root, file, rows, {"keypoints": NAMES})
    assert "mirror" not in task().load(root).pool.targets
