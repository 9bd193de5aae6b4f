"""The joints of a body: names, what mirrors what, what is drawn between them, and what measures its size."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

LEFT, RIGHT, MIDDLE = "#ff8c1a", "#1e90ff", "#3ddc84"  # of drawn limbs


@dataclass(frozen=True)
class Skeleton:
    """Joint names are person-centric: the right ankle is the person's right, wherever it is in the image.

    "left ankle" and "right ankle" are each other's mirror images; any other joint is its own.
    """

    names: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]

    # For each joint the one it becomes in a mirror: left and right swap, the middle stays.
    mirrored: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        place = {name.casefold(): number for number, name in enumerate(self.names)}
        mirrored = tuple(place.get(_mirror(name), number) for name, number in place.items())
        object.__setattr__(self, "mirrored", mirrored)

    def colour(self, limb: tuple[int, int]) -> str:
        """One colour for each side; the trunk, which joins both, has its own."""
        sides = {self.names[joint].casefold().split()[0] for joint in limb}
        if "left" in sides and "right" not in sides:
            return LEFT
        return RIGHT if "right" in sides and "left" not in sides else MIDDLE

    def draw(self, axes: Any, joints: np.ndarray, visible: np.ndarray, predicted: bool = False) -> None:
        """Limbs between annotated joints [J, 2] (pixels) as lines on matplotlib axes, joints as dots.

        What is `predicted` is dotted on black, without dots for joints; crosses, where there are no limbs.
        """
        for a, b in self.limbs:
            if visible[a] and visible[b]:
                ends, colour = joints[[a, b]].T, self.colour((a, b))
                if predicted:
                    axes.plot(*ends, color="black", linewidth=1.2, alpha=0.6)
                    axes.plot(*ends, color=colour, linewidth=1.2, linestyle=":")
                else:
                    axes.plot(*ends, color=colour, linewidth=2, solid_capstyle="round")
        if predicted and not self.limbs:
            axes.plot(*joints[visible].T, "x", color="black", markersize=3.5, markeredgewidth=0.9)
        if not predicted:
            axes.plot(*joints[visible].T, "o", color="white", markersize=2.5, markeredgewidth=0)


def _mirror(name: str) -> str:
    side, _, rest = name.partition(" ")
    return {"left": "right", "right": "left"}.get(side, side) + (f" {rest}" if rest else "")


LSP = Skeleton(
    names=(
        *("right ankle", "right knee", "right hip"),
        *("left hip", "left knee", "left ankle"),
        *("right wrist", "right elbow", "right shoulder"),
        *("left shoulder", "left elbow", "left wrist"),
        *("neck", "head top"),
    ),
    limbs=(
        *((0, 1), (1, 2), (3, 4), (4, 5)),  # legs
        *((6, 7), (7, 8), (9, 10), (10, 11)),  # arms
        *((2, 3), (8, 9), (2, 8), (3, 9)),  # trunk
        (12, 13),
    ),
)
LSP_TORSO = (9, 2)  # left shoulder to right hip: the segment that PCK is relative to
LSP_HEAD = (12, 13)  # neck to head top: the segment that PCKh is relative to, where there is no head box

MPII = Skeleton(
    names=(
        *("right ankle", "right knee", "right hip"),
        *("left hip", "left knee", "left ankle"),
        *("pelvis", "thorax", "upper neck", "head top"),
        *("right wrist", "right elbow", "right shoulder"),
        *("left shoulder", "left elbow", "left wrist"),
    ),
    limbs=(
        *((0, 1), (1, 2), (3, 4), (4, 5)),  # legs
        *((10, 11), (11, 12), (13, 14), (14, 15)),  # arms
        *((2, 6), (3, 6), (6, 7), (7, 8), (12, 7), (13, 7)),  # trunk
        (8, 9),
    ),
)

COCO = Skeleton(
    names=(
        *("nose", "left eye", "right eye", "left ear", "right ear"),
        *("left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist"),
        *("left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle"),
    ),
    limbs=(
        *((15, 13), (13, 11), (16, 14), (14, 12)),  # legs
        *((5, 7), (7, 9), (6, 8), (8, 10)),  # arms
        *((5, 6), (11, 12), (5, 11), (6, 12)),  # trunk
        *((0, 1), (0, 2), (1, 3), (2, 4)),  # head
    ),
)
