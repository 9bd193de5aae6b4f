"""Mean average precision by the rules of the official VOC devkit. Arrays in, numbers out.

Boxes are (xmin, ymin, xmax, ymax) in 1-based inclusive pixels: a width is xmax - xmin + 1.
"""

from typing import NamedTuple

import numpy as np

HIT, MISS, IGNORED = 1, 0, -1
CHUNK = 2_000_000  # detections × replicates at once: some 100 MB


class Boxes(NamedTuple):
    """Boxes of many images, flat: sample [K] (row of the image), label [K], box [K, 4].

    weight [K]: a detection's score, or 1 for a ground-truth box that is difficult and 0 for one that counts.
    """

    sample: np.ndarray
    label: np.ndarray
    box: np.ndarray
    weight: np.ndarray


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [K] of boxes in pairs, [K, 4] each; pixels are inclusive."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    inter = np.clip(high - low + 1, 0, None).prod(1)
    return inter / ((a[:, 2:] - a[:, :2] + 1).prod(1) + (b[:, 2:] - b[:, :2] + 1).prod(1) - inter)


def judge(found: Boxes, truth: Boxes, threshold: float = 0.5) -> np.ndarray:
    """For each detection HIT, MISS or IGNORED, int8 [K].

    A detection's candidate is the object of its image and class with the largest IoU (the first of equals), taken or
    not. In falling score (ties in the order given), the first to reach `threshold` with an object hits it, later ones
    miss; one whose candidate is difficult is ignored; all others miss.
    """
    verdict = np.full(len(found.sample), MISS, np.int8)
    width = int(max(found.label.max(initial=0), truth.label.max(initial=0))) + 1
    key, truth_key = found.sample * width + found.label, truth.sample * width + truth.label
    order = np.argsort(truth_key, kind="stable")
    start = np.searchsorted(truth_key[order], key, "left")
    count = np.searchsorted(truth_key[order], key, "right") - start
    able = np.flatnonzero(count)
    if not len(able):
        return verdict
    # All pairs of a detection and an object of its image and class, detection by detection.
    begin = np.cumsum(count[able]) - count[able]
    detection = np.repeat(able, count[able])
    candidate = order[np.arange(len(detection)) - np.repeat(begin - start[able], count[able])]
    value = overlap(found.box[detection].astype(np.float64), truth.box[candidate].astype(np.float64))
    best = np.maximum.reduceat(value, begin)
    is_best = np.where(value == np.repeat(best, count[able]), np.arange(len(value)), len(value))
    target = candidate[np.minimum.reduceat(is_best, begin)]
    close = best >= threshold
    able, target = able[close], target[close]
    difficult = truth.weight[target] > 0
    verdict[able[difficult]] = IGNORED
    able, target = able[~difficult], target[~difficult]
    falling = np.argsort(-found.weight[able], kind="stable")
    _, first = np.unique(target[falling], return_index=True)
    verdict[able[falling[first]]] = HIT
    return verdict


def curve(score: np.ndarray, verdict: np.ndarray, positives: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each detection in falling score; ignored ones leave no trace. positives > 0."""
    counted = verdict != IGNORED
    order = np.argsort(-score[counted], kind="stable")
    hits = np.cumsum(verdict[counted][order] == HIT)
    return hits / positives, hits / np.arange(1, len(hits) + 1)


def all_point(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the precision envelope: the best precision at each recall or beyond."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * envelope).sum())


def eleven_point(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC 2007's rule: mean over recall 0, .1 … 1 of the best precision at that recall or beyond.

    The thresholds are rounded quotients as recall is, so that 3 of 10 reaches .3 (linspace has .30000000000000004).
    """
    return float(np.mean([precision[recall >= t].max(initial=0) for t in np.arange(11) / 10]))


def average_precision(found: Boxes, truth: Boxes, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All-point and 11-point average precision [classes], and each detection's verdict.

    A class without an object that counts has no average precision: NaN, to be left out of the mean.
    """
    verdict = judge(found, truth)
    area, eleven = np.full((2, classes), np.nan)
    for label in range(classes):
        positives = int(((truth.label == label) & (truth.weight == 0)).sum())
        if positives:
            own = found.label == label
            points = curve(found.weight[own], verdict[own], positives)
            area[label], eleven[label] = all_point(*points), eleven_point(*points)
    return area, eleven, verdict


def resampled(
    sample: np.ndarray,
    label: np.ndarray,
    score: np.ndarray,
    verdict: np.ndarray,
    positives: np.ndarray,
    counts: np.ndarray,
    eleven: bool = False,
) -> np.ndarray:
    """All-point (or 11-point) average precision [R, C] where image n is there counts[r, n] times.

    counts: non-negative integers [R, N].
    sample, label, score, verdict: one row a detection, judged already: copies of an image are images of their own.
    positives: objects that count, [N, C]. The c copies of a detection stand together, as one step of the curve: on the
    way through them precision only rises (hits) or recall stays (misses), so the envelope is that of c steps.
    """
    present = counts.astype(np.int64) @ positives.astype(np.int64)
    rule = _eleven_points if eleven else _area
    found = np.full(present.shape, np.nan)
    for number in range(present.shape[1]):
        own = np.flatnonzero((label == number) & (verdict != IGNORED))
        own = own[np.argsort(-score[own], kind="stable")]
        able = np.flatnonzero(present[:, number])
        for rows in np.array_split(able, 1 + len(able) * len(own) // CHUNK):
            weight = counts[np.ix_(rows, sample[own])].astype(np.int64)
            hits = np.cumsum(weight * (verdict[own] == HIT), 1)
            recall, precision = hits / present[rows, number, None], hits / np.maximum(np.cumsum(weight, 1), 1)
            found[rows, number] = rule(recall, precision)
    return found


def _area(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """`all_point` of each row of recall and precision [R, K]."""
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    return (np.diff(recall, axis=1, prepend=0) * envelope).sum(1)


def _eleven_points(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """`eleven_point` of each row of recall and precision [R, K]."""
    best = [np.where(recall >= t, precision, 0).max(1, initial=0) for t in np.arange(11) / 10]
    return np.stack(best, 1).mean(1)
