"""MPII in its official form, with what such files can hold."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from albench.errors import AlbenchError
from albench.tasks.pose import heads
from albench.tasks.pose.miniature import structs
from albench.tasks.pose.mpii import MAT, PEOPLE, Mpii
from albench.tasks.pose.skeleton import MPII

TINY = {"size": 32, "stride": 2, "stacks": 1, "depth": 1, "width": 8}


def person(image="a.jpg", center=(60.0, 50.0), scale=0.3, joints=None, vis=None):
    joints = [[40.0 + 2 * j, 45.0 + j] for j in range(16)] if joints is None else joints
    keys = {"image": image, "center": list(center), "scale": scale}
    return keys | {"joints": joints, "joints_vis": [1] * 16 if vis is None else vis}


def official(center=(60.0, 50.0), scale=0.3, box=(10.0, 20.0, 40.0, 60.0)):
    place = {"scale": scale, "objpos": structs([{"x": center[0], "y": center[1]}])}
    return dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) | place


def written(root, train, valid, annolist, size=(120, 100)):
    """Files in the official layout: people, and for each image's name the official people."""
    folder = root / "mpii"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annot").mkdir(exist_ok=True)
    for image in {one["image"] for one in train + valid if isinstance(one.get("image"), str)}:
        Image.new("RGB", size, (90, 90, 90)).save(folder / "images" / image)
    (folder / "annot/train.json").write_text(json.dumps(train))
    (folder / "annot/valid.json").write_text(json.dumps(valid))
    records = [
        {"image": structs([{"name": name}]), "annorect": structs(people) if people else np.zeros((0, 0))}
        for name, people in annolist.items()
    ]
    savemat(folder / MAT, {"RELEASE": {"annolist": structs(records)}})
    return root


def simple(root, **changes):
    """One person to train on, two to test on, all with head boxes; `changes` are of the first one."""
    train = [person("a.jpg") | changes]
    valid = [person("b.jpg"), person("c.jpg")]
    return written(root, train, valid, {name: [official()] for name in ("a.jpg", "b.jpg", "c.jpg")})


def wrong(root):
    """Every problem but that these are fewer people than MPII has."""
    return [line for line in Mpii(**TINY).problems(root) if "official split" not in line]


def dirt(data):
    return [note for note in data.notes if "official split" not in note]


def test_the_miniature_is_read_whole_and_says_that_it_is_a_part(tmp_path):
    task = Mpii.miniature(tmp_path)
    data = task.load(tmp_path)
    assert (len(data.pool), len(data.test)) == (24, 8)
    assert data.classes == MPII.names
    assert data.pool.names[1] == "000000000.jpg at (120.5, 40.5)"
    assert (~data.pool.targets["visible"]).nonzero().tolist() == [[3, 5]]
    assert (data.pool.targets["head"] > 0).all()
    assert data.notes == [
        "train.json has 24 people, where the official split has 22,246",
        "valid.json has 8 people, where the official split has 2,958",
    ]
    assert sum(PEOPLE.values()) == 25_204
    assert Mpii.miniature(tmp_path).load(tmp_path / "mpii").fingerprint() == data.fingerprint()  # the folder itself


def test_the_default_is_the_paper_s():
    task = Mpii()
    assert (task.size, task.cells, task.stacks, task.depth, task.width, task.heatmap_loss) == (
        256,
        64,
        2,
        4,
        256,
        "mse",
    )
    recipe = task.recipe
    assert (recipe.epochs, recipe.batch, recipe.optimiser, recipe.learning_rate) == (125, 6, "rmsprop", 2.5e-4)


def test_the_square_is_200_px_a_scale_enlarged_and_shifted_and_joints_stay_on_their_pixels(tmp_path):
    center, scale = (70.0, 40.0), 0.4
    joints = [[30.0 + 5 * j, 30.0 + 3 * j] for j in range(16)]
    root = simple(tmp_path, center=center, scale=scale, joints=joints)
    pixels = np.full((100, 120, 3), 90, np.uint8)
    x, y = map(int, joints[7])
    pixels[y - 3 : y + 2, x - 3 : x + 2] = (255, 0, 0)  # around pixel (x, y), counted from 1
    Image.fromarray(pixels).save(root / "mpii/images/a.jpg", quality=98, subsampling=0)
    task = Mpii()
    pool = task.load(root).pool
    assert pool.images.shape == (1, 3, 320, 320)
    side = 200 * scale * 1.25  # on 256 pixels
    found = pool.targets["joints"][0, 7].numpy() - 32
    middle = np.array(center) + np.array([0, 15 * scale])
    assert found == pytest.approx((np.array(joints[7]) - middle) * 256 / side + 128, abs=1e-3)
    red = (pool.images[0, 0].float() - pool.images[0, 1] > 100).nonzero().float()
    assert red.mean(0).flip(0).numpy() + 0.5 - 32 == pytest.approx(found, abs=0.5)
    plain = Mpii(enlarge=1.0, shift=0.0).load(root).pool.targets["joints"][0, 7].numpy() - 32
    assert plain == pytest.approx((np.array(joints[7]) - center) * 256 / (200 * scale) + 128, abs=1e-3)


def test_whose_head_box_is_told_by_place_then_by_scale(tmp_path):
    train = [person(center=(60, 50)), person(center=(30, 50)), person(center=(60, 50), scale=0.5)]
    boxes = [
        official((30.0, 50.0), 0.3, (0.0, 0.0, 3.0, 4.0)),
        official((60.0, 50.0), 0.5, (0.0, 0.0, 6.0, 8.0)),
        official((60.0, 50.0), 0.3, (0.0, 0.0, 9.0, 12.0)),
    ]
    train[2]["joints"][0] = [41.0, 45.0]
    data = Mpii(**TINY).load(written(tmp_path, train, [person("b.jpg")], {"a.jpg": boxes, "b.jpg": [official()]}))
    squares = np.array([0.3, 0.3, 0.5]) * 250
    assert data.pool.targets["head"].numpy() * squares / 32 == pytest.approx(0.6 * np.array([15, 5, 10]))
    assert dirt(data) == []


def test_people_without_a_head_box_do_not_count_and_are_said(tmp_path):
    valid = [person("b.jpg"), person("c.jpg"), person("d.jpg"), person("e.jpg"), person("f.jpg")]
    no_box, no_place = official(), official()
    no_box["x2"] = np.zeros((0, 0))
    no_place["objpos"] = np.zeros((0, 0))
    annolist = {"a.jpg": [official()], "b.jpg": [official()], "c.jpg": [official((63.0, 50.0))]}
    annolist |= {"d.jpg": [], "e.jpg": [no_box], "f.jpg": [no_place]}
    task = Mpii(**TINY)
    data = task.load(written(tmp_path, [person("a.jpg")], valid, annolist))
    assert len(data.test) == 5
    assert (data.test.targets["head"] > 0).tolist() == [True, False, False, False, False]
    assert dirt(data) == [
        f"4 people to test on without a head box in {MAT}; they do not count in PCKh; the first: "
        "c.jpg at (60, 50), d.jpg at (60, 50), e.jpg at (60, 50)"
    ]
    batch = task.prepare(data.test.batch(torch.arange(5)))
    _, outcomes = task.measure([({"maps": torch.zeros(5, 1, 16, 16, 16)}, batch)], data.classes)
    assert (~np.isnan(outcomes["error"])).sum(1).tolist() == [14, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": math.nan}, "a center of (20, 20) and a scale of nan; left out"),
        ({"scale": 0.0}, "scale of 0; left out"),
        ({"scale": 1e9}, "scale of 1e+09; left out"),
        ({"center": [-1e12, 3]}, "a center of (-1e+12, 3)"),
        ({"joints_vis": [0] * 16}, "no annotated joint; left out"),
        ({"joints": [[1e6, math.nan]] * 16}, "no annotated joint; left out"),
    ],
)
def test_people_that_cannot_be_cut_out_are_left_out_and_said(tmp_path, changes, said):
    root = simple(tmp_path)
    train = [person("a.jpg"), person("a.jpg", center=(20.0, 20.0)) | changes]
    (root / "mpii/annot/train.json").write_text(json.dumps(train))
    data = Mpii(**TINY).load(root)
    assert len(data.pool) == 1
    assert any(said in note for note in dirt(data))


def test_every_person_that_says_something_impossible_is_a_problem(tmp_path):
    changes = [
        {"center": [math.nan, 3.0]},
        {"scale": -1.0},
        {"joints": [[1e9, 5.0], *person()["joints"][1:]]},
        {"joints_vis": [0] * 16},
        {"scale": 40.0},
        {"center": [110.0, 90.0], "scale": 0.05},
        {"joints": [[-3.0, 5.0], *person()["joints"][1:]]},  # an image's edge may cut people
    ]
    train = [person("a.jpg", center=(20.0 + i, 20.0)) | change for i, change in enumerate(changes)]
    root = written(tmp_path, train, [person("b.jpg")], {"b.jpg": [official()]})
    (root / "mpii/images/c.jpg").write_bytes(b"no image")
    said = [
        "person 0, a.jpg at (nan, 3): a center of (nan, 3) and a scale of 0.3; left out",
        "person 1, a.jpg at (21, 20): a center of (21, 20) and a scale of -1; left out",
        "person 2, a.jpg at (22, 20): 1 joint NaN or far outside the image; taken as not annotated",
        "person 3, a.jpg at (23, 20): no annotated joint; left out",
        "person 4, a.jpg at (24, 20): a scale of 40, so a height of 67 times the image's longer side; kept",
        "person 5, a.jpg at (110, 90): no annotated joint in the square that center and a scale of 0.05 give; kept",
        "c.jpg: it is no JPEG or PNG",
    ]
    for line, part in zip(wrong(root), said, strict=True):
        assert line.startswith(f"{root}/mpii/annot/train.json, {part}") or line.endswith(part)


def test_a_huge_square_is_cut_without_a_huge_canvas(tmp_path):
    data = Mpii(**TINY).load(simple(tmp_path, scale=40.0))  # 10,000 pixels around an image of 120 × 100
    assert dirt(data)[0].endswith("a scale of 40, so a height of 67 times the image's longer side; kept")
    image = data.pool.images[0].float()
    assert image.shape == (3, 40, 40)
    assert (image - 128).abs().max() < 40  # grey, with a trace of the image


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": "../secret.jpg"}, "person 0: image names '../secret.jpg', which is outside"),
        ({"image": "none.jpg"}, "person 0: image names 'none.jpg', and .* has no such file"),
        ({"image": 7}, "person 0: image names no file"),
        ({"center": [1.0]}, "person 0: center is not 2 numbers"),
        ({"center": None}, "person 0: center is not 2 numbers"),
        ({"scale": "large"}, "person 0: scale is not a number"),
        ({"joints": [[1, 2]] * 15}, "person 0: joints is not 16 × 2 numbers"),
        ({"joints": [[1, 2]] * 15 + [[1]]}, "person 0: joints is not 16 × 2 numbers"),
        ({"joints_vis": {"a": 1}}, "person 0: joints_vis is not 16 numbers"),
    ],
)
def test_an_entry_that_is_none_is_named(tmp_path, changes, said):
    root = simple(tmp_path)
    (root / "mpii/annot/train.json").write_text(json.dumps([person("a.jpg") | changes]))
    with pytest.raises(AlbenchError, match=said) as caught:
        Mpii(**TINY).load(root)
    assert "\n" not in str(caught.value)


def test_every_problem_is_a_line(tmp_path):
    root = simple(tmp_path)
    assert wrong(root) == []
    bad = [person("a.jpg") | {"scale": "large"}, person("a.jpg"), 7, person("none.jpg")]
    (root / "mpii/annot/train.json").write_text(json.dumps(bad))
    (root / "mpii/images/b.jpg").write_bytes(b"no image")
    (root / "mpii" / MAT).write_bytes(b"MATLAB")
    for line, said in zip(
        wrong(root), [MAT, "person 0: scale", "person 2 is no", "person 3: image", "b.jpg"], strict=True
    ):
        assert said in line


def test_a_file_that_cannot_be_read_does_not_hide_what_is_wrong_with_the_others(tmp_path):
    root = simple(tmp_path)
    assert list(Mpii(**TINY).problems(root)) == [
        "train.json has 1 people, where the official split has 22,246",
        "valid.json has 2 people, where the official split has 2,958",
    ]
    (root / "mpii/annot/train.json").write_text("[{")
    (root / "mpii/annot/valid.json").write_text(json.dumps([person("b.jpg"), 7]))
    (root / "mpii/images/c.jpg").write_bytes(b"no image")
    (root / "mpii" / MAT).unlink()
    (tmp_path / "elsewhere").write_bytes(b"")
    (root / "mpii" / MAT).symlink_to(tmp_path / "elsewhere")
    for line, said in zip(wrong(root), ["is a link", "train.json", "person 1 is no", "c.jpg"], strict=True):
        assert said in line


def test_people_who_are_there_twice_are_named_each(tmp_path):
    train = [person("a.jpg"), person("b.jpg"), person("a.jpg"), person("a.jpg", scale=0.4), person("a.jpg", (9.0, 9.0))]
    root = written(tmp_path, train, [person("b.jpg"), person("a.jpg"), person("c.jpg")], {"a.jpg": [official()]})
    assert wrong(root) == [
        "train.json: a.jpg at (60, 50) is there 2 times",
        "a.jpg at (60, 50) is in train.json and valid.json both",
        "b.jpg at (60, 50) is in train.json and valid.json both",
    ]
    written(tmp_path, train, [person("c.jpg")], {"c.jpg": [official()]})
    assert "train.json: a.jpg at (60, 50) is there 2 times" in dirt(Mpii(**TINY).load(root))


def test_head_boxes_of_other_people_altogether_are_refused_before_anything_is_trained(tmp_path):
    root = written(tmp_path, [person("a.jpg")], [person("b.jpg")], {"a.jpg": [official()], "z.jpg": [official()]})
    with pytest.raises(AlbenchError, match=rf"{MAT} has a head box for nobody of valid.json"):
        Mpii(**TINY).load(root)


def test_many_odd_people_of_a_kind_are_one_note(tmp_path):
    outside = [person(f"{i}.jpg", joints=[[-5.0, 9.0]] * (i + 1) + [[60.0, 50.0]] * (15 - i)) for i in range(5)]
    root = written(tmp_path, outside, [person("b.jpg")], {"b.jpg": [official()]})
    (note,) = dirt(Mpii(**TINY).load(root))
    assert note.startswith("5 people with joints outside the image; kept; the first: 0.jpg at (60, 50), 1.jpg at")


def test_whoever_is_trained_on_needs_no_head_box(tmp_path):
    root = written(tmp_path, [person("a.jpg")], [person("b.jpg")], {"a.jpg": [], "b.jpg": [official()]})
    assert dirt(Mpii(**TINY).load(root)) == []


def test_a_square_without_an_annotated_joint_is_noted(tmp_path):
    far = person("a.jpg", center=(110.0, 90.0), scale=0.05)  # 12.5 pixels around there, and joints to (70, 60)
    root = written(tmp_path, [person("a.jpg"), far], [person("b.jpg")], {"b.jpg": [official()]})
    data = Mpii(**TINY).load(root)
    assert len(data.pool) == 2
    assert dirt(data) == [
        "a.jpg at (110, 90): no annotated joint in the square that center and a scale of 0.05 give; kept"
    ]


def test_the_same_person_is_not_in_pool_and_test(tmp_path):
    root = written(tmp_path, [person("a.jpg")], [person("a.jpg")], {"a.jpg": [official()]})
    with pytest.raises(AlbenchError, match=r"1 people are in train.json and valid.json both, a.jpg at \(60, 50\)"):
        Mpii(**TINY).load(root)


def test_what_is_missing_is_said_with_where_to_get_it(tmp_path):
    with pytest.raises(AlbenchError, match="data root"):
        Mpii().load(None)
    with pytest.raises(AlbenchError) as caught:
        Mpii().fetch(tmp_path)
    said = str(caught.value)
    for part in (MAT, "train.json", "valid.json", "images/", "human-pose.mpi-inf.mpg.de", "mpii_human_pose_v1.tar.gz"):
        assert part in said
    assert str(tmp_path / "mpii" / "annot") in said
    assert "\n" not in said
    root = simple(tmp_path)
    Mpii().fetch(root)
    (root / "mpii" / MAT).unlink()
    with pytest.raises(AlbenchError, match=f"has no {MAT};"):
        Mpii().load(root)


def test_a_damaged_or_foreign_mat_is_one_line(tmp_path):
    root = simple(tmp_path)
    file = root / "mpii" / MAT
    whole = file.read_bytes()
    for content in (whole[:100], whole[: len(whole) // 2], b"rubbish"):
        file.write_bytes(content)
        with pytest.raises(AlbenchError, match=f"{MAT} cannot be read") as caught:
            Mpii(**TINY).load(root)
        assert "\n" not in str(caught.value)
    savemat(file, {"joints": np.zeros(3)})
    with pytest.raises(AlbenchError, match="holds no struct 'RELEASE' with the field 'annolist'"):
        Mpii(**TINY).load(root)


def test_official_people_are_read_as_scipy_reads_them(tmp_path):
    Mpii.miniature(tmp_path)
    found = heads.read(tmp_path / "mpii" / MAT)
    annolist = loadmat(tmp_path / "mpii" / MAT, simplify_cells=True)["RELEASE"]["annolist"]
    assert list(found) == [image["image"]["name"] for image in annolist]
    for image in annolist:
        sizes = [0.6 * math.hypot(p["x2"] - p["x1"], p["y2"] - p["y1"]) for p in image["annorect"]]
        assert [head.size for head in found[image["image"]["name"]]] == pytest.approx(sizes)
