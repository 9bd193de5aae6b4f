"""PCK, the percentage of correct keypoints: pure functions of joint positions.

Errors are relative to a segment of the same body, so any unit does (image pixels, crop pixels) as long as a crop
scales both directions alike.
"""

import numpy as np


def relative_errors(
    predicted: np.ndarray, joints: np.ndarray, visible: np.ndarray, segment: tuple[int, int]
) -> np.ndarray:
    """Distances [N, J] of predicted to annotated joints, in lengths of each body's own segment.

    predicted, joints: [N, J, 2]; visible: bool [N, J], whether a joint is annotated. NaN where the joint is not
    annotated, or where the segment has no length because an end of it is not annotated or both ends coincide.
    """
    a, b = segment
    length = np.linalg.norm(joints[:, a] - joints[:, b], axis=-1)
    defined = visible[:, a] & visible[:, b] & (length > 0)
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


def scores(name: str, errors: np.ndarray, threshold: float, joint_names: tuple[str, ...]) -> dict[str, float]:
    """PCK over all joints under `name`, and of each joint that is annotated somewhere under "name/joint".

    With "pck@0.2" comes "pck-auc@0.2", the area under the PCK curve up to there.
    """
    parts = {f"{name}/{joint}": pck(errors[:, j], threshold) for j, joint in enumerate(joint_names)}
    parts |= {name.replace("@", "-auc@"): pck_area(errors, threshold)}
    return {name: pck(errors, threshold)} | {key: value for key, value in parts.items() if not np.isnan(value)}
