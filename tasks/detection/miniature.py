"""A tiny data set in VOC's and in COCO's official layout, written from nothing: for tests and conformance suites."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"brick": (200, 60, 40), "leaf": (50, 170, 60), "water": (50, 80, 210)}  # class → colour of its rectangles

Box = tuple[float, float, float, float]
Painted = tuple[str, np.ndarray, list[tuple[str, Box, bool]]]


def painted(count: int) -> Iterator[Painted]:
    """(name, picture, [(class, box, difficult)]) of painted rectangles; every call gives the same.

    Pictures are 96 × 72 pixels and hold one or two objects; the third has none, and the second of the fourth's is
    difficult. Boxes are 1-based inclusive pixels.
    """
    rng = np.random.default_rng(7)
    for row in range(count):
        picture = rng.integers(90, 170, (72, 96, 3)).astype(np.uint8)
        objects: list[tuple[str, Box, bool]] = []
        for place in range(0 if row == 2 else 2 if row == 3 else int(rng.integers(1, 3))):
            kind = list(COLOURS)[int(rng.integers(len(COLOURS)))]
            width, height = (int(v) for v in rng.integers(22, 40, 2))
            left, top = int(rng.integers(0, 48 - width + 1)) + 48 * place, int(rng.integers(0, 72 - height + 1))
            picture[top : top + height, left : left + width] = COLOURS[kind]
            objects.append((kind, (left + 1, top + 1, left + width, top + height), row == 3 and place == 1))
        yield f"{row + 1:06d}", picture, objects


def write(folder: Path, train: int = 24, val: int = 8) -> None:
    """JPEGImages, Annotations and ImageSets/Main/{train,val}.txt with painted pictures."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = []
    for name, picture, objects in painted(train + val):
        names.append(name)
        Image.fromarray(picture).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
        size = "<size><width>96</width><height>72</height><depth>3</depth></size>"
        things = "".join(annotation(*thing) for thing in objects)
        text = f"<annotation><filename>{name}.jpg</filename>{size}{things}</annotation>\n"
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    for split, part in (("train", names[:train]), ("val", names[train:])):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(part) + "\n")


def write_coco(folder: Path, train: int = 24, val: int = 8) -> None:
    """The same pictures in COCO's layout: annotations/instances_{train,val}2017.json, {train,val}2017/; sparse ids.

    The difficult object is a crowd.
    """
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    ids = {"brick": 3, "leaf": 17, "water": 90}
    rows = list(painted(train + val))
    for split, part in (("train2017", rows[:train]), ("val2017", rows[train:])):
        (folder / split).mkdir(exist_ok=True)
        content: dict[str, list[dict]] = {"images": [], "annotations": []}
        content["categories"] = [{"id": number, "name": name} for name, number in ids.items()]
        for name, picture, objects in part:
            Image.fromarray(picture).save(folder / split / f"{name}.jpg", quality=95)
            content["images"].append({"id": 7 * int(name), "file_name": f"{name}.jpg", "width": 96, "height": 72})
            for kind, (x1, y1, x2, y2), crowd in objects:
                thing: dict = {"image_id": 7 * int(name), "category_id": ids[kind], "iscrowd": int(crowd)}
                thing |= {"bbox": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1], "id": len(content["annotations"]) + 1}
                content["annotations"].append(thing)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def annotation(name: str, box: Box, difficult: bool = False) -> str:
    """One <object> of an annotation file; the box in 1-based inclusive pixels."""
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox>{corners}</bndbox></object>"
