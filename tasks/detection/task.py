"""What the detection tasks share: everything but where their images come from."""

import functools
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from albench.facts import LATER
from albench.samples import Batch, Data, Samples
from albench.task import Prediction, Raw, Task, constant, fixed, stored
from albench.tasks.detection.augment import Drawn, Policy, augment, draw
from albench.tasks.detection.boxes import Grid, decode, default_boxes, match
from albench.tasks.detection.coco_map import coco_map
from albench.tasks.detection.loss import multibox_loss, scale
from albench.tasks.detection.metric import Boxes, average_precision, resampled
from albench.tasks.detection.network import SSD, Compact, compact_grids
from albench.tasks.detection.suppression import detections

DEVIATION = 0.225  # of images with unit variance, as a fraction of full brightness
METRICS = {"all-point": "map", "11-point": "map@11pt"}
SHOWN_SCORE, SHOWN_BOXES = 0.3, 20  # of an image's predicted boxes, in pictures
Fraction = Annotated[float, Field(ge=0, lt=1)]


@fixed
def _defaults(grids: tuple[Grid, ...], device: torch.device) -> Tensor:
    return _defaults_on(grids, device)


@functools.cache
def _defaults_on(grids: tuple[Grid, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # made once, used in training too
        return default_boxes(grids).to(device)


class Detection(Task):
    """Objects in boxes, found by an SSD. The metric is mean average precision at IoU .5 by VOC's rules.

    `rule` "all-point" is the devkit's since 2010, the area under the precision envelope ("map"); "11-point" is that of
    VOC 2007, which SSD and the paper report ("map@11pt"). Both are measured; the rule says which is the primary one.

    Targets of Samples: boxes fp32 [N, G, 4], (xmin, ymin, xmax, ymax) in 1-based inclusive pixels of the original
    image; labels int64 [N, G], -1 for padding; difficult bool [N, G]; size int64 [N, 2], the original's height and
    width. Batches from `prepare` and `augment` hold what each default box is to say: matched int64 [B, D], 0 for
    background, and offsets [B, D, 4].
    """

    channels: ClassVar[int] = 3
    mean: ClassVar[tuple[float, ...]] = (0.482, 0.459, 0.408)
    pictures: ClassVar[int] = 5

    size: Annotated[int, Field(ge=24, multiple_of=8)] = 48  # side of the network's input, pixels
    width: Annotated[int, Field(gt=0)] = 16  # channels of the network's first stage
    dropout: Fraction = 0.0  # on the source maps' way into the heads
    expand: Annotated[float, Field(ge=1, le=8)] = 4.0  # augmentation: largest canvas, in sides of the image
    crop: Annotated[float, Field(gt=0, le=1)] = 0.3  # shortest side of a crop
    mirror: bool = True
    photometric: Annotated[float, Field(ge=0, le=1)] = 1.0
    train_difficult: bool = True  # learn from objects that the evaluation leaves out
    divisor: Literal["batch", "image"] = "batch"  # of an image's loss: matched boxes of the batch, or its own
    # of average precision, in the primary metric and per class
    rule: Annotated[Literal["all-point", "11-point"], LATER] = "all-point"
    coco_metrics: bool = False  # measure COCO's mean average precision, too

    @property
    def metric(self) -> str:  # type: ignore[override]
        """The primary metric: the mean by `rule`."""
        return METRICS[self.rule]

    @property
    def can(self) -> frozenset[str]:
        """Dropout, where there is any."""
        return frozenset({"dropout"} if self.dropout else ())

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The default boxes, map by map."""
        return compact_grids(self.size)

    @property
    def deviation(self) -> float:
        """What images are divided by, as a fraction of full brightness."""
        return DEVIATION

    def build(self, classes: Sequence[str]) -> nn.Module:
        """A compact SSD with fresh weights."""
        return SSD(Compact(self.channels, self.width, len(self.grids)), self.grids, len(classes), self.dropout)

    def prepare(self, batch: Batch) -> Batch:
        """Images at network size, normalised; the targets as they are and, if present, `matched` and `offsets`."""
        image = self._centred(batch["image"])
        if image.shape[-1] != self.size:  # without smoothing, as in training (`augment.look`)
            image = F.interpolate(image, (self.size, self.size), mode="bilinear")
        ready = {**batch, "image": image / self.deviation}
        if "boxes" in batch:
            ready |= self._encoded(*self._truth(batch))
        return ready

    @property
    def _policy(self) -> Policy:
        return Policy(self.expand, self.crop, self.mirror, self.photometric)

    def draw_augmentation(self, batch: Batch, rng: torch.Generator) -> Batch:
        """See `augment.Drawn`."""
        return draw(len(batch["image"]), self._policy, rng)._asdict()

    def apply_augmentation(self, batch: Batch, drawn: Batch) -> Batch:
        """As `prepare`; of the targets only `labels` is handed on, with -1 for objects that were cropped away."""
        image, mean = self._centred(batch["image"]), self._mean(batch["image"])
        image, boxes, labels = augment(image, *self._truth(batch), self.size, self._policy, Drawn(**drawn), mean)
        ready = {"image": image / self.deviation}
        if "boxes" in batch:
            ready |= {"labels": labels, **self._encoded(boxes, labels)}
        return ready

    def _centred(self, image: Tensor) -> Tensor:
        return image.float() / 255 - self._mean(image)[:, None, None]

    def _mean(self, image: Tensor) -> Tensor:
        return constant(self.mean, image.device)

    def _truth(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Boxes [B, G, 4] as fractions of the image and labels [B, G]; G = 1, all padding, where there are none."""
        image = batch["image"]
        if "boxes" not in batch or not batch["boxes"].shape[1]:
            return image.new_zeros((len(image), 1, 4), dtype=torch.float32), image.new_full(
                (len(image), 1), -1, dtype=torch.int64
            )
        size = batch["size"].flip(1).repeat(1, 2)[:, None].float()
        first_pixel = constant((1.0, 1, 0, 0), size.device)  # pixel x covers x - 1 to x
        labels = batch["labels"]
        if not self.train_difficult:
            labels = labels.masked_fill(batch["difficult"], -1)
        return (batch["boxes"] - first_pixel) / size, labels

    def _encoded(self, boxes: Tensor, labels: Tensor) -> Batch:
        matched, offsets = match(boxes, labels, _defaults(self.grids, boxes.device))
        return {"matched": matched, "offsets": offsets}

    def losses(self, raw: Raw, batch: Batch) -> Tensor:
        """s_i [B] of SSD's objective Σ s_i / N; an image without objects has 0. See `loss.multibox_loss`.

        With divisor = "image" it is s_i / max(1, N_i), N_i the image's own matched default boxes: another order, in
        which an image with many objects is no harder for that.
        """
        own = multibox_loss(raw["logits"], raw["offsets"], batch["matched"], batch["offsets"])
        return own / (batch["matched"] > 0).sum(1).clamp_min(1) if self.divisor == "image" else own

    def scale(self, batch: Batch) -> Tensor | float:
        """B / max(1, N), N the matched default boxes of the batch; 1 with divisor = "image"."""
        return scale(batch["matched"]) if self.divisor == "batch" else 1.0

    def predict(self, raw: Raw) -> Prediction:
        """One distribution per default box over background and the classes."""
        return Prediction(raw["logits"].float().log_softmax(2))

    def features(self, raw: Raw) -> list[Tensor]:
        """The source maps."""
        return raw["features"]

    def embedding(self, raw: Raw) -> Tensor:
        """Spatial mean of fc7 (VGG) or of the deepest map (compact)."""
        return raw["embedding"]

    def trivial(self, batch: Batch) -> Tensor:
        """The number of objects where the annotation is there, else the mean intensity."""
        return (batch["labels"] >= 0).sum(1).float() if "labels" in batch else super().trivial(batch)

    def detect(self, raw: Raw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows in the batch [K], labels [K], scores [K], corners [K, 4] in fractions of the image; best first per row.

        See `suppression.detections`.
        """
        scores = raw["logits"].float().softmax(2)
        scores[..., 0] = 0  # background is never detected; without its column the others would have to be copied
        boxes = decode(raw["offsets"].float(), _defaults(self.grids, scores.device)).clamp(0, 1)
        row, label, score, box = detections(scores, boxes)
        return row, label - 1, score, box

    def measure(
        self, batches: Iterable[tuple[Raw, Batch]], classes: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """ "map" (all-point), "map@11pt" and "ap/<class>" (by `rule`), scored in the original images' pixels.

        With `coco_metrics` "coco-map" (IoU .5 to .95), "coco-map@0.5" and "coco-map@0.75" beside them.

        Outcomes: loss [N]; positives int16 [N, classes], the objects that count; and flat, one row a detection:
        sample, label, score, hit (1, 0 for a miss, -1 for ignored) and box (float16, 1-based inclusive pixels).
        """
        found, truth, losses, done = [], [], [], 0
        for raw, batch in batches:
            losses.append(self.losses(raw, batch))
            found.append(self._found(raw, batch, done))
            truth.append(_annotated(batch, done))
            done += len(batch["image"])
        detections, objects = _joined(found), _joined(truth)
        area, eleven, verdict = average_precision(detections, objects, len(classes))
        able = ~np.isnan(area)
        means = [float(ap[able].mean()) if able.any() else float("nan") for ap in (area, eleven)]
        numbers = {"map": means[0], "map@11pt": means[1]}
        by_rule = eleven if self.rule == "11-point" else area
        numbers |= {f"ap/{classes[label]}": float(by_rule[label]) for label in np.flatnonzero(able).tolist()}
        if self.coco_metrics:
            numbers |= coco_map(detections, objects, done)
        positives = np.zeros((done, len(classes)), np.int16)
        counts = objects.weight == 0
        np.add.at(positives, (objects.sample[counts], objects.label[counts]), 1)
        return numbers, {
            "loss": torch.cat(losses).cpu().numpy(),
            "positives": positives,
            "sample": detections.sample.astype(np.int32),
            "label": detections.label.astype(np.int16),
            "score": detections.weight.astype(np.float32),
            "hit": verdict,
            "box": detections.box.astype(np.float16),
        }

    def remeasure(self, outcomes: dict[str, np.ndarray], counts: np.ndarray) -> np.ndarray:
        """The mean over the classes, by `rule`, of the images as often as they are counted."""
        sample, label, score, hit, positives = stored(outcomes, "sample", "label", "score", "hit", "positives")
        precisions = resampled(sample, label, score, hit, positives, counts, eleven=self.rule == "11-point")
        means = [row[~np.isnan(row)] for row in precisions]
        return np.array([row.mean() if len(row) else np.nan for row in means])

    def _found(self, raw: Raw, batch: Batch, done: int) -> Boxes:
        row, label, score, box = self.detect(raw)
        size = batch["size"].flip(1).repeat(1, 2)[row]
        pixels = box * size + torch.tensor((1.0, 1, 0, 0), device=box.device)
        return Boxes(*(t.cpu().numpy() for t in (row + done, label, pixels, score)))

    def describe(self, data: Data) -> dict[str, str]:
        """How large the images were, how many objects there are, the most in an image, and how many are difficult."""
        parts = (data.pool, data.test)
        sizes = torch.cat([part.targets["size"] for part in parts])
        least, most = (" × ".join(map(str, side.flip(0).tolist())) for side in (sizes.amin(0), sizes.amax(0)))
        there = [part.targets["labels"] >= 0 for part in parts]
        numbers = [int(objects.sum()) for objects in there]
        fullest = max(int(objects.sum(1).max()) for objects in there)
        difficult = sum(int(part.targets["difficult"].sum()) for part in parts)
        said = f"{numbers[0]:,} in the pool, {numbers[1]:,} in the test set, {fullest} the most in an image"
        return {
            "originals": f"{least} pixels" if least == most else f"from {least} to {most} pixels",
            "objects": said + (f"; {difficult:,} of them difficult" if difficult else ""),
        }

    def contents(self, targets: Batch, classes: Sequence[str]) -> Tensor:
        """Objects per class, difficult ones too: each had to be drawn."""
        return F.one_hot(targets["labels"] + 1, len(classes) + 1).sum(1)[:, 1:]  # the padding, -1, is column 0

    def answer(self, outcomes: dict[str, np.ndarray], sample: int) -> dict[str, Any]:
        """The boxes with the highest scores, as far as they are surer than SHOWN_SCORE: boxes, labels, scores."""
        own = np.flatnonzero((outcomes["sample"] == sample) & (outcomes["score"] > SHOWN_SCORE))
        best = own[np.argsort(-outcomes["score"][own], kind="stable")][:SHOWN_BOXES]
        return {
            "boxes": outcomes["box"][best].astype(float).round(1).tolist(),
            "labels": outcomes["label"][best].tolist(),
            "scores": outcomes["score"][best].astype(float).round(3).tolist(),
        }

    def draw(
        self, axes: Any, samples: Samples, row: int, classes: Sequence[str], answer: dict[str, Any] | None = None
    ) -> None:
        """The image with its boxes in the colours of `legend`, dashed where difficult; an answer's are dotted."""
        height, width = samples.targets["size"][row].tolist()
        image = samples.images[row].permute(1, 2, 0).numpy()
        axes.imshow(
            image if image.shape[2] == 3 else image[..., 0], cmap="gray", extent=(0.5, width + 0.5, height + 0.5, 0.5)
        )
        colours = list(self.legend(classes).values())
        boxes, labels, difficult = (samples.targets[k][row].tolist() for k in ("boxes", "labels", "difficult"))
        for box, label, hard in zip(boxes, labels, difficult, strict=True):
            if label >= 0:
                axes.plot(*_outline(box), "--" if hard else "-", color=colours[label], linewidth=1.0)
        for box, label in zip(answer["boxes"], answer["labels"], strict=True) if answer else ():
            axes.plot(*_outline(box), color="black", linewidth=0.9, alpha=0.6)
            axes.plot(*_outline(box), ":", color=colours[label], linewidth=0.9)
        axes.set_xlim(0.5, width + 0.5)
        axes.set_ylim(height + 0.5, 0.5)
        axes.axis("off")

    def legend(self, classes: Sequence[str]) -> dict[str, str]:
        """A colour a class."""
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        palette = colormaps["tab20" if len(classes) > 10 else "tab10"]
        return {name: to_hex(palette(number % palette.N)) for number, name in enumerate(classes)}


def _outline(box: list[float]) -> tuple[list[float], list[float]]:
    """The corners of a box of 1-based inclusive pixels, as a closed line."""
    left, top, right, bottom = box[0] - 0.5, box[1] - 0.5, box[2] + 0.5, box[3] + 0.5
    return [left, right, right, left, left], [top, top, bottom, bottom, top]


def _annotated(batch: Batch, done: int) -> Boxes:
    row, place = (batch["labels"] >= 0).nonzero(as_tuple=True)
    parts = row + done, batch["labels"][row, place], batch["boxes"][row, place], batch["difficult"][row, place]
    return Boxes(*(t.cpu().numpy() for t in parts))


def _joined(parts: list[Boxes]) -> Boxes:
    return Boxes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
