"""PCK, the percentage of correct keypoints: pure functions of joint positions.

Errors are relative to a length of the same body, so any unit does (image pixels, crop pixels) as long as a crop
scales both directions alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Pck:
    """One PCK: what it is called, and what its errors are relative to.

    `length` is a segment (two joints of the body), or names the target [N] that holds each body's length in pixels of
    the stored image (0: unknown). `outcome` is what the relative errors are called among the outcomes. Joints that are
    `left_out` have no error. A group's value is the mean of its joints' own.
    """

    name: str  # with the threshold in it: "pck@0.2"
    threshold: float
    length: tuple[int, int] | str
    outcome: str = "error"
    left_out: tuple[int, ...] = ()
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def segment_lengths(joints: np.ndarray, visible: np.ndarray, segment: tuple[int, int]) -> np.ndarray:
    """The distance [N] between two joints of each body [N, J, 2]; 0 where an end of it is not annotated."""
    a, b = segment
    length = np.linalg.norm(joints[:, a] - joints[:, b], axis=-1)
    return np.where(visible[:, a] & visible[:, b], length, 0)


def relative_errors(predicted: np.ndarray, joints: np.ndarray, visible: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Distances [N, J] of predicted to annotated joints, in lengths [N] of each body's own.

    predicted, joints: [N, J, 2]; visible: bool [N, J], whether a joint is annotated. NaN where the joint is not
    annotated, or where the body has no length (0 or NaN).
    """
    defined = length > 0
    errors = np.linalg.norm(predicted - joints, axis=-1) / np.where(defined, length, 1)[:, None]
    return np.where(visible & defined[:, None], errors, np.nan)


def pck(errors: np.ndarray, threshold: float) -> float:
    """Share of the annotated joints whose error is at most the threshold; NaN where there is none.

    >>> pck(np.array([[0.1, 0.3], [0.2, np.nan]]), 0.2)
    0.6666666666666666
    """
    defined = ~np.isnan(errors)
    return float((errors[defined] <= threshold).mean()) if defined.any() else float("nan")


def pck_area(errors: np.ndarray, threshold: float) -> float:
    """Area under the PCK curve from threshold 0 to `threshold`, over its width: in [0, 1], exact; NaN where none is.

    The mean over thresholds of [error ≤ threshold] is 1 − error / threshold for each joint, and 0 beyond.

    >>> pck_area(np.array([[0.0, 0.1], [0.4, np.nan]]), 0.2)
    0.5
    """
    defined = errors[~np.isnan(errors)]
    return float(np.clip(1 - defined / threshold, 0, None).mean()) if len(defined) else float("nan")


def resampled(errors: np.ndarray, threshold: float, counts: np.ndarray) -> np.ndarray:
    """`pck` [R] of bodies [N, J] where body n counts counts[r, n] times (non-negative integers)."""
    defined = (~np.isnan(errors)).sum(1)
    with np.errstate(invalid="ignore"):  # no annotated joint at all: NaN
        return (counts @ (errors <= threshold).sum(1)) / (counts @ defined)


def scores(
    name: str,
    errors: np.ndarray,
    threshold: float,
    joint_names: tuple[str, ...],
    groups: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, float]:
    """PCK over all joints under `name`, and of each joint that is annotated somewhere under "name/joint".

    With "pck@0.2" comes "pck-auc@0.2", the area under the PCK curve up to there. A group is the mean of its joints'
    PCK, as official tables give "shoulder" for the left and the right one.
    """
    parts = {f"{name}/{joint}": pck(errors[:, j], threshold) for j, joint in enumerate(joint_names)}
    for group, members in (groups or {}).items():
        parts[f"{name}/{group}"] = float(np.mean([parts[f"{name}/{joint_names[j]}"] for j in members]))
    parts |= {name.replace("@", "-auc@"): pck_area(errors, threshold)}
    return {name: pck(errors, threshold)} | {key: value for key, value in parts.items() if not np.isnan(value)}


def tenth_accuracy(
    predicted: np.ndarray, joints: np.ndarray, counted: np.ndarray, stride: int, side: int, which: tuple[int, ...]
) -> float:
    """The number that hourglass training codes log: *not* PCKh, since no body's size is in it.

    Share of joints whose cell is found within half a tenth of the heat map's `side` (in cells; 3.2 of 64), for each
    joint of `which`, then the mean over those joints. predicted, joints: [N, J, 2] in pixels, compared cell by cell;
    counted: bool [N, J], annotated joints on the map. Over all bodies; the codes average over batches.
    """
    distance = np.linalg.norm(np.floor(predicted / stride) - np.floor(joints / stride), axis=-1) / (side / 10)
    errors = np.where(counted, distance, np.nan)
    each = [value for j in which if not np.isnan(value := pck(errors[:, j], 0.5))]
    return float(np.mean(each)) if each else float("nan")
