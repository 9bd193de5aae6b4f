"""COCO's mean average precision, by the library that everyone's numbers come from, beside VOC's own."""

import numpy as np
import torch

from albench.tasks.detection.metric import Boxes

# Exact, as COCO's own; torchmetrics' defaults went through 32 bits, and an IoU of exactly .6 misses its .60000002
IOUS, RECALLS = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
NAMES = {"map": "coco-map", "map_50": "coco-map@0.5", "map_75": "coco-map@0.75"}


def coco_map(found: Boxes, truth: Boxes, images: int) -> dict[str, float]:
    """ "coco-map" (mean over IoU .5, .55 … .95), "coco-map@0.5" and "coco-map@0.75"; {} where no object counts.

    By torchmetrics on faster-coco-eval: 101 recall points, at most 100 detections an image and class, classes without
    an object left out. Difficult objects are COCO's crowds: neither hit nor miss, however many detections lie on one.
    `images` is their number; boxes are 1-based inclusive pixels, as everywhere in albench.
    """
    from torchmetrics.detection import MeanAveragePrecision

    if not (truth.weight == 0).any():
        return {}
    evaluator = MeanAveragePrecision(
        "xyxy", "bbox", iou_thresholds=IOUS, rec_thresholds=RECALLS, backend="faster_coco_eval"
    )
    evaluator.warn_on_many_detections = False
    annotated = [part | {"iscrowd": part.pop("weight").long()} for part in _per_image(truth, images)]
    detected = [part | {"scores": part.pop("weight").float()} for part in _per_image(found, images)]
    evaluator.update(detected, annotated)
    values = evaluator.compute()
    return {name: float(values[key]) for key, name in NAMES.items()}


def _per_image(boxes: Boxes, images: int) -> list[dict[str, torch.Tensor]]:
    """Boxes, labels and weights of each image, in their order; boxes as continuous corners from 0."""
    order = np.argsort(boxes.sample, kind="stable")
    ends = np.searchsorted(boxes.sample[order], np.arange(1, images))
    corners = boxes.box[order] - np.array([1.0, 1, 0, 0])
    columns = [torch.from_numpy(np.ascontiguousarray(c)) for c in (corners, boxes.label[order], boxes.weight[order])]
    split = zip(*(column.tensor_split(torch.from_numpy(ends)) for column in columns), strict=True)
    return [{"boxes": box.float(), "labels": label.long(), "weight": weight} for box, label, weight in split]
