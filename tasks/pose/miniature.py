"""Tiny pose data sets in official layouts, for tests and conformance suites."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from albench.seeds import generator
from albench.tasks.pose.painting import generate

SIDE, EXTENT = 80, 64  # of an image, and of the square around the figure in its middle


def figures(count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 80, 80, 3] of a figure each, and its joints [N, 14, 2] in LSP's order."""
    images, joints = generate(count, SIDE, EXTENT, generator(name))
    return images.permute(0, 2, 3, 1).numpy(), joints.double().numpy()


def write_mpii(folder: Path, mat: str) -> None:
    """24 + 8 people, two in an image, as images/, annot/*.json and the official .mat; one joint is not annotated."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annot").mkdir(exist_ok=True)
    images, lsp = figures(32, "mpii miniature")
    hips, shoulders = lsp[:, 2:4].mean(1), lsp[:, 8:10].mean(1)
    joints = np.concatenate([lsp[:, :6], np.stack([hips, shoulders], 1), lsp[:, 12:], lsp[:, 6:12]], 1) + 0.5
    joints[1::2] += (SIDE, 0)
    entries, annolist = [], []
    for first in range(0, 32, 2):
        name = f"{first:09d}.jpg"
        Image.fromarray(np.concatenate(images[first : first + 2], 1)).save(folder / "images" / name, quality=92)
        people = []
        for row in (first, first + 1):
            centre, scale = np.array([SIDE * (row - first) + SIDE / 2, SIDE / 2]) + 0.5, EXTENT / 250
            visible = np.ones(16, int)
            if row == 3:
                joints[row, 5], visible[5] = -1, 0
            keys = {"image": name, "center": centre.tolist(), "scale": scale}
            entries.append(keys | {"joints": joints[row].tolist(), "joints_vis": visible.tolist()})
            people.append(_annorect(joints[row], visible, centre, scale))
        annolist.append({"image": structs([{"name": name}]), "annorect": structs(people)})
    (folder / "annot" / "train.json").write_text(json.dumps(entries[:24]))
    (folder / "annot" / "valid.json").write_text(json.dumps(entries[24:]))
    release = {"annolist": structs(annolist), "img_train": np.ones((1, 16)), "version": "12"}
    savemat(folder / mat, {"RELEASE": release}, do_compression=True)


def _annorect(joints: np.ndarray, visible: np.ndarray, centre: np.ndarray, scale: float) -> dict[str, Any]:
    """A person as the official file has it, with a head box around neck and head top."""
    points = [
        {"x": x, "y": y, "id": float(i), "is_visible": 1.0}
        for i, ((x, y), there) in enumerate(zip(joints, visible, strict=True))
        if there
    ]
    low, high = joints[8:10].min(0) - 2, joints[8:10].max(0) + 2
    box = {"x1": low[0], "y1": low[1], "x2": high[0], "y2": high[1]}
    place = {"scale": scale, "objpos": structs([{"x": centre[0], "y": centre[1]}])}
    return box | {"annopoints": structs([{"point": structs(points)}])} | place


def structs(records: list[dict[str, Any]]) -> np.ndarray:
    """A 1 × N struct array as scipy writes it."""
    array = np.zeros((1, len(records)), [(key, object) for key in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


def write_coco(folder: Path, keypoints: list[str]) -> None:
    """24 + 8 people as annotations/person_keypoints_*2017.json and images: beside them a crowd and a bare person."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    images, lsp = figures(32, "coco miniature")
    face = lsp[:, 12:].mean(1, keepdims=True)
    joints = np.concatenate([face.repeat(5, 1), lsp[:, [9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0]]], 1)
    for split, rows in {"train2017": range(24), "val2017": range(24, 32)}.items():
        (folder / split).mkdir(exist_ok=True)
        entries, annotations = [], []
        for row in rows:
            name = f"{row:012d}.jpg"
            Image.fromarray(images[row]).save(folder / split / name, quality=92)
            entries.append({"id": row, "file_name": name, "width": SIDE, "height": SIDE})
            points = np.concatenate([joints[row] - 0.5, np.full((17, 1), 2)], 1)
            points[3:5] = 0  # ears that nobody labelled
            low, high = joints[row].min(0), joints[row].max(0)
            keys = {"id": row, "image_id": row, "category_id": 1, "iscrowd": 0}
            annotations.append(keys | {"bbox": [*low, *(high - low)], "keypoints": points.flatten().tolist()})
        other: dict[str, Any] = {"image_id": rows[0], "category_id": 1, "bbox": [0, 0, 9, 9], "keypoints": [0] * 51}
        annotations += [other | {"id": 100, "iscrowd": 1}, other | {"id": 101, "iscrowd": 0}]
        categories = [{"id": 1, "name": "person", "keypoints": keypoints}]
        content = {"images": entries, "categories": categories, "annotations": annotations}
        (folder / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
