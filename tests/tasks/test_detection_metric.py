"""VOC's mean average precision against a slow, obvious reference."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from albench.tasks.detection.metric import HIT, IGNORED, MISS, Boxes, average_precision, eleven_point, judge, resampled


def boxes(rows):
    """(sample, label, box, weight) rows → flat arrays."""
    sample, label, box, weight = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Boxes(
        np.array(sample, int), np.array(label, int), np.array(box, float).reshape(-1, 4), np.array(weight, float)
    )


def slow_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def slow_precision(found, truth, label):
    """The devkit's loop, word for word: (all-point, 11-point), NaN where no object counts."""
    objects = [[*o, False] for o in truth if o[1] == label]
    positives = sum(not o[3] for o in objects)
    if not positives:
        return np.nan, np.nan
    hits, misses, points, steps = 0, 0, [], []
    for sample, _, box, _ in sorted((f for f in found if f[1] == label), key=lambda f: -f[3]):
        best, candidate = -1.0, None
        for o in objects:
            if o[0] == sample and slow_iou(box, o[2]) > best:
                best, candidate = slow_iou(box, o[2]), o
        if best >= 0.5:
            if candidate[3]:
                continue
            if candidate[4]:
                misses += 1
            else:
                hits, candidate[4] = hits + 1, True
        else:
            misses += 1
        points.append((hits / positives, hits / (hits + misses)))
        steps.append((hits, hits / (hits + misses)))
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    eleven = [max((p for h, p in steps if 10 * h >= k * positives), default=0.0) for k in range(11)]
    return area, sum(eleven) / 11


A, FAR = (1, 1, 10, 10), (50, 50, 60, 60)


@pytest.mark.parametrize(
    ("found", "truth", "verdict"),
    [
        ([(0, 0, A, 0.9), (0, 0, A, 0.8)], [(0, 0, A, 0)], [HIT, MISS]),  # a second match
        ([(0, 0, A, 0.8), (0, 0, A, 0.9)], [(0, 0, A, 0)], [MISS, HIT]),  # in falling score
        ([(0, 0, A, 0.5), (0, 0, A, 0.5)], [(0, 0, A, 0)], [HIT, MISS]),  # a tie: in the order given
        ([(0, 0, A, 0.9), (0, 0, A, 0.8)], [(0, 0, A, 1)], [IGNORED, IGNORED]),  # difficult
        ([(1, 0, A, 0.9), (0, 1, A, 0.8)], [(0, 0, A, 0)], [MISS, MISS]),  # another image, another class
        ([(0, 0, (1, 1, 10, 5), 0.9)], [(0, 0, A, 0)], [HIT]),  # IoU of exactly one half
        ([(0, 0, (1, 1, 10, 4), 0.9)], [(0, 0, A, 0)], [MISS]),
        ([(0, 0, (1, 1, 1, 1), 0.9)], [(0, 0, (1, 1, 2, 1), 0)], [HIT]),  # inclusive: one pixel of two
        # The candidate is the largest overlap, taken or not: a neighbour that would do is not tried.
        (
            [(0, 0, A, 0.9), (0, 0, (1, 1, 10, 11), 0.8)],
            [(0, 0, A, 0), (0, 0, (1, 1, 10, 16), 0)],
            [HIT, MISS],
        ),
        ([(0, 0, FAR, 0.9)], [], [MISS]),
    ],
)
def test_verdicts(found, truth, verdict):
    assert judge(boxes(found), boxes(truth)).tolist() == verdict


def test_classes_without_counting_objects_have_no_precision():
    found, truth = boxes([(0, 0, A, 0.9), (0, 2, A, 0.9)]), boxes([(0, 0, A, 0), (0, 1, A, 1), (0, 3, FAR, 0)])
    area, eleven, _ = average_precision(found, truth, 4)
    assert np.array_equal(area, [1, np.nan, np.nan, 0], equal_nan=True)
    assert np.array_equal(eleven, [1, np.nan, np.nan, 0], equal_nan=True)


@pytest.mark.parametrize("positives", [10, 20, 30, 70, 130])
def test_a_recall_of_exactly_a_threshold_reaches_it(positives):
    assert eleven_point(np.array([0.1, 0.2, 0.3]), np.ones(3)) == pytest.approx(4 / 11)
    for tenth in range(1, 11):
        recall = np.arange(1, tenth * positives // 10 + 1) / positives
        assert eleven_point(recall, np.ones(len(recall))) == pytest.approx((tenth + 1) / 11)


def test_nothing_found_and_nothing_there():
    area, _, verdict = average_precision(boxes([]), boxes([(0, 0, A, 0)]), 1)
    assert area.tolist() == [0]
    assert len(verdict) == 0
    assert np.isnan(average_precision(boxes([]), boxes([]), 2)[0]).all()


corner = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
box = corner.map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3]))
scores = st.sampled_from([0.1, 0.3, 0.3, 0.5, 0.9])


@settings(max_examples=300)
@given(
    found=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), box, scores), max_size=25),
    truth=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), box, st.integers(0, 1)), max_size=12),
)
def test_equals_the_slow_reference(found, truth):
    area, eleven, _ = average_precision(boxes(found), boxes(truth), 3)
    slow = np.array([slow_precision(found, truth, label) for label in range(3)])
    np.testing.assert_allclose(area, slow[:, 0])
    np.testing.assert_allclose(eleven, slow[:, 1])


@settings(max_examples=200)
@given(
    found=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), box, scores), max_size=15),
    truth=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), box, st.integers(0, 1)), max_size=9),
    counts=st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=3),
)
def test_counting_an_image_several_times_is_having_copies_of_it(found, truth, counts):
    detections, objects = boxes(found), boxes(truth)
    _, _, verdict = average_precision(detections, objects, 3)
    positives = np.array(
        [[sum(o[0] == n and o[1] == c and not o[3] for o in truth) for c in range(3)] for n in range(3)]
    )
    judged = *detections[:2], detections.weight, verdict, positives, np.array(counts)
    areas, elevens = resampled(*judged), resampled(*judged, eleven=True)

    def copied(rows, times):  # image n becomes images 10 n, 10 n + 1 …
        return [(10 * row[0] + copy, *row[1:]) for row in rows for copy in range(times[row[0]])]

    for area, eleven, times in zip(areas, elevens, counts, strict=True):
        slow = np.array([slow_precision(copied(found, times), copied(truth, times), label) for label in range(3)])
        np.testing.assert_allclose(area, slow[:, 0])
        np.testing.assert_allclose(eleven, slow[:, 1])


def test_the_size_of_voc_2007_takes_seconds():
    rng = np.random.default_rng(0)
    images, per_image, classes = 4952, 200, 20

    def random(count, sample, weight):
        low = rng.integers(1, 400, (count, 2))
        return Boxes(
            sample, rng.integers(0, classes, count), np.hstack((low, low + rng.integers(5, 100, (count, 2)))), weight
        )

    found = random(images * per_image, np.repeat(np.arange(images), per_image), rng.random(images * per_image))
    truth = random(images * 3, np.repeat(np.arange(images), 3), (rng.random(images * 3) < 0.1).astype(float))
    start = time.perf_counter()
    average_precision(found, truth, classes)
    assert time.perf_counter() - start < 15


B = (1, 1, 10, 20)  # holds A; their IoU is exactly one half


@pytest.mark.parametrize(
    ("found", "truth", "area"),
    [
        # Ten detections of one object: one hit, nine misses; behind the hit they cost nothing, before it they do.
        ([(0, 0, A, 0.9 - i / 100) for i in range(10)], [(0, 0, A, 0)], 1),
        ([(0, 0, A, 0.9), *[(0, 0, A, 0.8)] * 8, (1, 0, A, 0.1)], [(0, 0, A, 0), (1, 0, A, 0)], 0.5 + 0.5 * 2 / 10),
        # Two objects on the same place: a detection's candidate is the first of them, twice. One is never found.
        ([(0, 0, A, 0.9), (0, 0, A, 0.8)], [(0, 0, A, 0), (0, 0, A, 0)], 0.5),
        # A difficult object that overlaps more takes the detection from the one that counts.
        ([(0, 0, A, 0.9)], [(0, 0, B, 0), (0, 0, A, 1)], 0),
        # A difficult object elsewhere takes nothing.
        ([(0, 0, A, 0.9)], [(0, 0, A, 0), (0, 0, FAR, 1)], 1),
        # An image with difficult objects only: detections on them vanish, those beside them miss.
        ([(1, 0, A, 0.95), (1, 0, A, 0.94), (0, 0, A, 0.9)], [(0, 0, A, 0), (1, 0, A, 1)], 1),
        ([(1, 0, FAR, 0.95), (0, 0, A, 0.9)], [(0, 0, A, 0), (1, 0, A, 1)], 0.5),
        # Detections of an image without any annotation, of this class or at all, are misses.
        ([(5, 0, A, 0.95), (0, 0, A, 0.9)], [(0, 0, A, 0), (5, 1, A, 0)], 0.5),
        # Equal scores: in the order given, so a miss first halves the precision.
        ([(0, 0, FAR, 0.9), (0, 0, A, 0.9)], [(0, 0, A, 0)], 0.5),
        ([(0, 0, A, 0.9), (0, 0, FAR, 0.9)], [(0, 0, A, 0)], 1),
    ],
)
def test_adversarial_cases_of_one_class(found, truth, area):
    assert average_precision(boxes(found), boxes(truth), 1)[0] == pytest.approx([area])
    assert slow_precision(found, truth, 0)[0] == pytest.approx(area)


def test_a_class_that_is_only_found_leaves_the_mean_alone():
    found = boxes([(0, 0, A, 0.9), *[(0, 1, A, 0.99)] * 5])
    area, _, verdict = average_precision(found, boxes([(0, 0, A, 0)]), 2)
    assert np.nanmean(area) == 1
    assert verdict.tolist() == [HIT, *[MISS] * 5]
