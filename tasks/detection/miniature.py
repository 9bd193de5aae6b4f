"""A tiny data set in VOC's official layout, written from nothing: for tests and conformance suites."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"brick": (200, 60, 40), "leaf": (50, 170, 60), "water": (50, 80, 210)}  # class → colour of its rectangles


def write(folder: Path, train: int = 24, val: int = 8) -> None:
    """JPEGImages, Annotations and ImageSets/Main/{train,val}.txt with painted rectangles; every call writes the same.

    Images are 96 × 72 pixels and hold one or two objects; the third has none, and the second of the fourth's is
    difficult.
    """
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    names = [f"{i:06d}" for i in range(1, train + val + 1)]
    for row, name in enumerate(names):
        picture = rng.integers(90, 170, (72, 96, 3)).astype(np.uint8)
        objects = []
        for place in range(0 if row == 2 else 2 if row == 3 else int(rng.integers(1, 3))):
            kind = list(COLOURS)[int(rng.integers(len(COLOURS)))]
            width, height = (int(v) for v in rng.integers(22, 40, 2))
            left, top = int(rng.integers(0, 48 - width + 1)) + 48 * place, int(rng.integers(0, 72 - height + 1))
            picture[top : top + height, left : left + width] = COLOURS[kind]
            objects.append(annotation(kind, (left + 1, top + 1, left + width, top + height), row == 3 and place == 1))
        Image.fromarray(picture).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
        size = "<size><width>96</width><height>72</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.jpg</filename>{size}{''.join(objects)}</annotation>\n"
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    for split, part in (("train", names[:train]), ("val", names[train:])):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(part) + "\n")


def annotation(name: str, box: tuple[float, float, float, float], difficult: bool = False) -> str:
    """One <object> of an annotation file; the box in 1-based inclusive pixels."""
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox>{corners}</bndbox></object>"
