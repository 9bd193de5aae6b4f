"""From the scores of all default boxes to an image's detections: SSD's own last step."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

LOW_SCORE, PER_CLASS, OVERLAP, PER_IMAGE = 0.01, 400, 0.45, 200
CPU_TOGETHER, GPU_TOGETHER = 200, 1 << 14  # boxes that one call suppresses: calls cost time, and so do pairs
FIRST = 1000  # boxes of an image that are looked at first
MANY = 0.015  # share of the scores: where more are above LOW_SCORE, looking for the best is faster than sorting them

Detections = tuple[Tensor, Tensor, Tensor, Tensor]


def detections(scores: Tensor, boxes: Tensor) -> Detections:
    """Rows in the batch [K], labels [K], scores [K], corners [K, 4]; row by row, best first.

    scores: [B, D, C] of the C classes; boxes: [B, D, 4], corners in fractions of the image. Scores above .01, the best
    400 boxes a class, non-maximum suppression at IoU .45 per class, the best 200 boxes an image.
    """
    above = _above(scores)
    able = torch.bincount(above[0], minlength=len(scores))
    most = int(able.max())
    row, label, score, box = _suppressed(scores, boxes, above, min(FIRST, most))
    # A box is suppressed by better ones alone: 200 that are left of the first are the best 200 of all.
    if bool(((able > FIRST) & (torch.bincount(row, minlength=len(scores)) < PER_IMAGE)).any()):
        row, label, score, box = _suppressed(scores, boxes, above, most)
    few = _rank(row) < PER_IMAGE
    return row[few], label[few], score[few], box[few]


def _above(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Rows, and places within a row's D·C, of the scores above LOW_SCORE, in rising order."""
    able, each = (scores > LOW_SCORE).flatten(), scores[0].numel()
    if able.is_cuda:
        found = able.nonzero()[:, 0]
    else:  # NumPy, since torch takes eight times as long
        found = torch.from_numpy(np.flatnonzero(able.numpy()))
    return found // each, found % each


def _best(scores: Tensor, above: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, places and values of each row's `count` best of those above; row by row, in falling order."""
    flat, (row, place) = scores.flatten(1), above
    if len(row) > MANY * flat.numel():
        value, place = flat.topk(count, dim=1)
        row, rank = (value > LOW_SCORE).nonzero(as_tuple=True)
        return row, place[row, rank], value[row, rank]
    order = flat[row, place].argsort(descending=True, stable=True)
    order = order[row[order].argsort(stable=True)]
    order = order[_rank(row[order]) < count]
    return row[order], place[order], flat[row[order], place[order]]


def _suppressed(scores: Tensor, boxes: Tensor, above: tuple[Tensor, Tensor], count: int) -> Detections:
    """What suppression leaves of each image's best `count` boxes of any class, of those above LOW_SCORE."""
    classes = scores.shape[2]
    row, place, score = _best(scores, above, count)
    label, box = place % classes, boxes[row, place // classes]
    group = row * classes + label
    order = group.argsort(stable=True)
    order = order[_rank(group[order]) < PER_CLASS]
    kept = order[_apart(box[order], score[order], group[order])].sort().values  # as they were: row by row, best first
    return row[kept], label[kept], score[kept], box[kept]


def _apart(box: Tensor, score: Tensor, group: Tensor) -> Tensor:
    """Positions that suppression within each group leaves; equal groups stand together, best first.

    Groups go together, moved apart in fp64, which keeps the overlaps exact; not too many, since every box is compared
    with every better one, on a GPU whether they are apart or not.
    """
    import torchvision.ops  # noqa: F401  not before the first training step: it imports torch's compiler, for a second

    box, score = box.double() + 2.0 * group[:, None], score.double()
    most = GPU_TOGETHER if box.is_cuda else CPU_TOGETHER
    begin, kept = 0, [group.new_zeros(0)]
    for size in _together(torch.unique_consecutive(group, return_counts=True)[1].tolist(), most):
        kept.append(begin + torch.ops.torchvision.nms(box[begin : begin + size], score[begin : begin + size], OVERLAP))
        begin += size
    return torch.cat(kept)


def _together(sizes: list[int], most: int) -> Iterator[int]:
    """The sizes of neighbouring groups added up to `most`, or a group's own where it alone has more.

    >>> list(_together([2, 2, 2, 7, 1], 4))
    [4, 2, 7, 1]
    """
    total = 0
    for size in sizes:
        if total and total + size > most:
            yield total
            total = 0
        total += size
    if total:
        yield total


def _rank(group: Tensor) -> Tensor:
    """The place of each element within its group; equal groups stand together, in rising order."""
    return torch.arange(len(group), device=group.device) - torch.searchsorted(group, group)
