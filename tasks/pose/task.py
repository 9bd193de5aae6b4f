"""What every pose task shares: the network, its two losses, its distributions, its metrics."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from albench.samples import Batch, Data, Samples
from albench.task import Prediction, Raw, Task, stored
from albench.tasks.pose import augment, heatmaps, metric
from albench.tasks.pose.hourglass import StackedHourglass
from albench.tasks.pose.metric import Pck
from albench.tasks.pose.skeleton import LSP, LSP_HEAD, LSP_TORSO, Skeleton


class Pose(Task):
    """A person in the middle of a square image; one heat map a joint, by a stacked hourglass.

    Samples have targets joints [N, J, 2], in pixels of the stored image, and visible [N, J], whether a joint is
    annotated; and what `pcks` names. Prepared batches have them in pixels of the network's image, and what the loss
    needs. Where it is the data that say what the joints are, `skeleton` is not theirs: a target mirror [N, J] has the
    joint that each becomes in a mirror, and limbs [N, L, 2] what is drawn.
    The paper's sizes: size 256, stride 4, 2 stacks, depth 4, width 256, heatmap_loss "mse".
    """

    metric: ClassVar[str] = "pck@0.2"
    pictures: ClassVar[int] = 5
    skeleton: ClassVar[Skeleton] = LSP
    pcks: ClassVar[tuple[Pck, ...]] = (  # the first one is the metric
        Pck("pck@0.2", 0.2, LSP_TORSO),
        Pck("pckh-neck@0.5", 0.5, LSP_HEAD, outcome="head_error"),
    )

    size: Annotated[int, Field(gt=0)] = 64  # side of the network's image in pixels
    # Side of the stored image over it: what rotation and scale bring in. At ± 25 % and ± 30° a third of the images has
    # a grey border of more than 1 % with 1.25, and none with (cos 30° + sin 30°) / .75 = 1.82
    margin: Annotated[float, Field(ge=1)] = 1.25
    stride: Literal[2, 4] = 4  # image pixels in a heat map's cell
    stacks: Annotated[int, Field(gt=0)] = 1
    depth: Annotated[int, Field(gt=0)] = 2  # halvings inside an hourglass
    width: Annotated[int, Field(gt=0, multiple_of=2)] = 64  # channels
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of channels before the heat maps
    heatmap_loss: Literal["mse", "cross-entropy"] = "cross-entropy"
    sigma: Annotated[float, Field(gt=0)] = 1.0  # of the Gaussian targets of "mse", in cells
    scaling: Annotated[float, Field(ge=0, lt=1)] = 0.25  # augmentation: scale in 1 ± scaling
    rotation: Annotated[float, Field(ge=0, le=180)] = 30.0  # augmentation: angle in ± rotation, degrees
    flip: bool = True  # augmentation: mirrored half the time, left and right joints swapped
    flip_test: bool = False  # measure on the mean of an image's maps and those of its mirror image, mirrored back

    @model_validator(mode="after")
    def _halves(self) -> Self:
        step = self.stride * 2**self.depth
        if self.size % step:
            raise ValueError(f"size = {self.size} is no multiple of stride · 2^depth = {step}")
        return self

    @property
    def can(self) -> frozenset[str]:
        """Dropout passes, where the network has dropout."""
        return frozenset({"dropout"} if self.dropout > 0 else ())

    @property
    def stored(self) -> int:
        """Side of the stored images in pixels."""
        return round(self.size * self.margin)

    @property
    def _lengths(self) -> list[str]:
        """The targets that errors are relative to."""
        return [pck.length for pck in self.pcks if isinstance(pck.length, str)]

    @property
    def cells(self) -> int:
        """Side of a heat map in cells."""
        return self.size // self.stride

    def build(self, classes: Sequence[str]) -> nn.Module:
        """A stacked hourglass with one heat map per joint name; forward as in StackedHourglass."""
        return StackedHourglass(len(classes), self.stacks, self.depth, self.width, self.stride, self.dropout)

    def prepare(self, batch: Batch) -> Batch:
        """The middle of the stored image at the network's size, normalised; targets encoded where there are any."""
        count, device = len(batch["image"]), batch["image"].device
        still = torch.zeros(count, device=device)
        return self._warped(batch, still + 1, still, still.bool())

    def draw_augmentation(self, batch: Batch, rng: torch.Generator) -> Batch:
        """A scale, a rotation and a flip for each image."""
        count = len(batch["image"])
        scale, angle, flip = augment.draw_similarity(count, self.scaling, self.rotation, self.flip, rng)
        return {"scale": scale, "angle": angle, "flip": flip}

    def apply_augmentation(self, batch: Batch, drawn: Batch) -> Batch:
        """As `prepare`, with what was drawn."""
        return self._warped(batch, **drawn)

    def _warped(self, batch: Batch, scale: Tensor, angle: Tensor, flip: Tensor) -> Batch:
        matrix = augment.similarity(scale, angle, flip)
        # Mid-grey is zero, and so is what lies outside the stored image.
        image = (batch["image"].float() - 127.5) / 64
        warped = {"image": augment.warp_images(image, matrix, self.size)}
        if "joints" in batch:
            joints = augment.warp_joints(batch["joints"].float(), matrix, batch["image"].shape[-1], self.size)
            mirror = batch.get("mirror", self.skeleton.mirrored)
            joints = augment.swap_sides(joints, flip, mirror)
            visible = augment.swap_sides(batch["visible"], flip, mirror)
            lengths = {name: batch[name] * scale for name in self._lengths}
            warped |= {"joints": joints, "visible": visible} | lengths | self._encoded(joints, visible)
            warped |= {"mirror": batch["mirror"]} if "mirror" in batch else {}
        return warped

    def _encoded(self, joints: Tensor, visible: Tensor) -> Batch:
        """What the loss reads: "counted" [B, J], annotated joints on the map, and "cell" [B, J] or "target" maps."""
        side, at = self.cells, joints / self.stride
        counted = {"counted": visible & heatmaps.inside(at, side, side)}
        at = torch.where(counted["counted"].unsqueeze(-1), at, 0)  # what is not annotated may be NaN
        if self.heatmap_loss == "cross-entropy":
            return counted | {"cell": heatmaps.cells(at, side, side)}
        return counted | {"target": heatmaps.gaussians(at, side, side, self.sigma)}

    def losses(self, raw: Raw, batch: Batch) -> Tensor:
        """fp32 [B]: a joint's loss, averaged over the sample's own annotated joints, summed over the stacks.

        A joint's loss is the mean squared error over the cells of its heat map ("mse"), or the negative log-softmax
        of its cell ("cross-entropy"). The normaliser is the sample's own number of annotated joints (those that
        augmentation moved off the map are not counted), so joints that are not annotated make a sample neither easier
        nor harder, and a sample without any has loss 0.
        """
        maps, counted = raw["maps"].float(), batch["counted"]
        if self.heatmap_loss == "cross-entropy":
            cell = batch["cell"][:, None, :, None].expand(-1, maps.shape[1], -1, 1)
            each = -maps.flatten(3).log_softmax(3).gather(3, cell).squeeze(3)
        else:
            each = (maps - batch["target"].unsqueeze(1)).square().mean((3, 4))
        total = torch.where(counted.unsqueeze(1), each, 0).sum((1, 2))
        return total / counted.sum(1).clamp_min(1)

    def predict(self, raw: Raw) -> Prediction:
        """Per joint a distribution over the cells of the last stack's map; all joints weigh the same.

        Which joints of a candidate are annotated is hidden, so it cannot be the weight. Maps trained by mean squared
        error are clipped and normalised to sum 1, and their plain softmax is beside it for the paper's `entropy`.
        """
        maps = raw["maps"][:, -1].float()
        weight = maps.new_ones(maps.shape[:2])
        grid = (maps.shape[2], maps.shape[3])
        if self.heatmap_loss == "cross-entropy":
            return Prediction(heatmaps.softmax_logp(maps), weight, grid)
        return Prediction(heatmaps.clipped_logp(maps), weight, grid, softmax_logp=heatmaps.softmax_logp(maps.double()))

    def features(self, raw: Raw) -> list[Tensor]:
        """The last full-resolution map [B, width, H, W] of each stack, before its heat maps."""
        return raw["features"]

    def embedding(self, raw: Raw) -> Tensor:
        """fp32 [B, width]: the last map before the heat maps, averaged over its cells."""
        return raw["features"][-1].float().mean((2, 3))

    def outputs(self, forward: Callable[[Batch], Raw], batch: Batch) -> Raw:
        """With `flip_test` the last maps of the mirrored image go along, mirrored back, sides swapped: "mirrored"."""
        raw = forward(batch)
        if not self.flip_test:
            return raw
        maps = forward({"image": batch["image"].flip(-1)})["maps"][:, -1]
        mirror = batch.get("mirror", self.skeleton.mirrored)
        every = torch.ones(len(maps), dtype=torch.bool, device=maps.device)
        return raw | {"mirrored": augment.swap_sides(maps, every, mirror).flip(-1)}

    def joints(self, raw: Raw) -> Tensor:
        """Predicted joints [B, J, 2] in pixels of the network's image, decoded from the last stack.

        Of a flip test, from the mean of both maps as the network gives them (so of logits, for cross-entropy).
        """
        maps = raw["maps"][:, -1].float()
        if "mirrored" in raw:
            maps = (maps + raw["mirrored"].float()) / 2
        return heatmaps.decode(maps) * self.stride

    def measure(
        self, batches: Iterable[tuple[Raw, Batch]], classes: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Each of `pcks`, over all annotated joints and per joint; a body without the length does not count.

        For LSP: PCK@0.2 of the torso (left shoulder to right hip) and PCKh@0.5 of the segment from neck to head top,
        which is *not* MPII's head box, hence the name of its own. Errors are relative to the body, so those of the
        crop are those of the original image, which was scaled alike in x and y.
        Outcomes: relative errors [N, J] (NaN: not annotated) under each one's name, predicted joints [N, J, 2] in
        pixels of the stored image, loss [N].
        """
        names = ("predicted", "joints", "visible", "loss", *self._lengths)
        columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for raw, batch in batches:
            found = batch | {"predicted": self.joints(raw), "loss": self.losses(raw, batch)}
            for name in names:
                columns[name].append(found[name].cpu().numpy())
        whole = {name: np.concatenate(column) for name, column in columns.items()}
        predicted, joints, visible = whole["predicted"], whole["joints"], whole["visible"]
        values: dict[str, float] = {}
        outcomes: dict[str, np.ndarray] = {}
        for pck in self.pcks:
            counts = ~np.isin(np.arange(joints.shape[1]), pck.left_out)
            if isinstance(pck.length, str):
                length = whole[pck.length]
            else:
                length = metric.segment_lengths(joints, visible, pck.length)
            # as they are stored, so that the outcomes give the same number again
            error = metric.relative_errors(predicted, joints, visible & counts, length).astype(np.float32)
            values |= metric.scores(pck.name, error, pck.threshold, tuple(classes), pck.groups)
            outcomes[pck.outcome] = error
        values |= self.beside(predicted, joints, visible)
        outcomes |= {"predicted": predicted + (self.stored - self.size) / 2, "loss": whole["loss"]}
        return values, {name: value.astype(np.float32) for name, value in outcomes.items()}

    def beside(self, predicted: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> dict[str, float]:
        """Further metrics of joints [N, J, 2] in pixels of the network's image; default: none."""
        return {}

    def describe(self, data: Data) -> dict[str, str]:
        """How many joints are annotated, of how many."""
        visible = torch.cat([part.targets["visible"] for part in (data.pool, data.test)])
        return {"joints": f"{visible.shape[1]} a person, {visible.sum(1).float().mean():.1f} of them annotated (mean)"}

    def contents(self, targets: Batch, classes: Sequence[str]) -> Tensor:
        """Which joints are annotated."""
        return targets["visible"].long()

    def remeasure(self, outcomes: dict[str, np.ndarray], counts: np.ndarray) -> np.ndarray:
        """The first of `pcks` over all annotated joints of the samples, as often as they are counted."""
        (error,) = stored(outcomes, self.pcks[0].outcome)
        return metric.resampled(error, self.pcks[0].threshold, counts)

    def answer(self, outcomes: dict[str, np.ndarray], sample: int) -> dict[str, Any]:
        """The predicted joints in pixels of the stored image."""
        return {"joints": outcomes["predicted"][sample].astype(float).round(1).tolist()}

    def draw(
        self, axes: Any, samples: Samples, row: int, classes: Sequence[str], answer: dict[str, Any] | None = None
    ) -> None:
        """The stored image with its skeleton: left orange, right blue, trunk and head green; an answer's is dotted."""
        image = samples.images[row].permute(1, 2, 0).cpu().numpy()
        axes.imshow(image, extent=(0, image.shape[1], image.shape[0], 0), interpolation="nearest")
        skeleton = self.skeleton
        if "mirror" in samples.targets:
            limbs = samples.targets["limbs"][row].tolist() if "limbs" in samples.targets else []
            skeleton = Skeleton(tuple(classes), tuple((a, b) for a, b in limbs))
        joints, visible = (samples.targets[name][row].cpu().numpy() for name in ("joints", "visible"))
        skeleton.draw(axes, joints, visible)
        if answer:
            joints = np.array(answer["joints"])
            skeleton.draw(axes, joints, np.ones(len(joints), bool), predicted=True)
        axes.set_xlim(0, image.shape[1])  # a joint may be annotated, or predicted, beyond the image
        axes.set_ylim(image.shape[0], 0)
        axes.set_axis_off()
