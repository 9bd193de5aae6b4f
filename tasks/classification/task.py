"""Image classification: cross-entropy, augmentation of whole batches, accuracy."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from albench.facts import LATER
from albench.recipe import Recipe
from albench.samples import Batch, Data, Samples
from albench.task import Prediction, Raw, Task, constant, stored
from albench.tasks.classification.augment import colour, crop, cut_out
from albench.tasks.classification.metric import calibration_error
from albench.tasks.classification.network import ResidualNetwork

JITTER = 0.4  # brightness, contrast and saturation are scaled by 1 ± up to this


class Classification(Task):
    """An image, one label. Targets: "label" int64 [N].

    The defaults are a compact network for colour images on CPUs; a data set of another kind says its own.
    """

    metric = "accuracy"
    recipe: ClassVar[Recipe] = Recipe(  # that of real-small's CIFAR-10; not tuned on other images
        updates=500, batch=64, learning_rate=0.1, weight_decay=5e-4, schedule="cosine", warmup=0.1
    )
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)  # per channel, of pixels in [0, 1]; ImageNet's
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)  # as many as images have channels
    flips: ClassVar[bool] = True

    blocks: tuple[Annotated[int, Field(gt=0)], ...] = (1, 1, 1)
    width: Annotated[int, Field(gt=0)] = 24
    pad: Annotated[int, Field(ge=0)] = 4  # the crop is drawn from the image with this border of zeros
    # flips where the classes allow them
    augmentation: Annotated[Literal["crop-flip", "crop-flip-colour-cutout"], LATER] = "crop-flip"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # before the classifier

    @property
    def can(self) -> frozenset[str]:
        """Always a last-layer gradient; dropout where there is any."""
        return frozenset({"gradient", "dropout"} if self.dropout else {"gradient"})

    def build(self, classes: Sequence[str]) -> nn.Module:
        """A residual network for these classes."""
        return ResidualNetwork(len(self.mean), len(classes), self.blocks, self.width, self.dropout)

    def _normalised(self, image: Tensor) -> Tensor:
        mean, std = (constant(numbers, image.device)[:, None, None] for numbers in (self.mean, self.std))
        return (image - mean) / std

    def prepare(self, batch: Batch) -> Batch:
        """Images as float32, normalised per channel."""
        return batch | {"image": self._normalised(batch["image"].float() / 255)}

    def draw_augmentation(self, batch: Batch, rng: torch.Generator) -> Batch:
        """Where each crop begins and, where the classes allow it, whether it is mirrored; what `augmentation` adds."""
        count, _, *sides = batch["image"].shape
        drawn = {"shift": torch.randint(0, 2 * self.pad + 1, (2, count), generator=rng, device=rng.device)}
        if self.flips:
            drawn["flip"] = torch.rand(count, generator=rng, device=rng.device) < 0.5
        if self.augmentation == "crop-flip-colour-cutout":
            drawn["colour"] = 1 + JITTER * (2 * torch.rand(3, count, generator=rng, device=rng.device) - 1)
            centre = [torch.randint(0, side, (count,), generator=rng, device=rng.device) for side in sides]
            drawn["centre"] = torch.stack(centre)
        return drawn

    def apply_augmentation(self, batch: Batch, drawn: Batch) -> Batch:
        """The crop of the zero-padded image, mirrored where it is to be; then colours, then the hole.

        Zero is black before normalisation, as in the usual transform (pad, crop, flip, then normalise); the hole is
        cut behind it and has the mean colour.
        """
        image = crop(batch["image"], self.pad, drawn["shift"], drawn.get("flip")).float() / 255
        if "colour" in drawn:
            image = colour(image, drawn["colour"])
        image = self._normalised(image)
        if "centre" in drawn:
            image = cut_out(image, drawn["centre"])
        return batch | {"image": image}

    def losses(self, raw: Raw, batch: Batch) -> Tensor:
        """Cross-entropy [B] in nats."""
        return F.cross_entropy(raw["logits"].float(), batch["label"], reduction="none")

    def predict(self, raw: Raw) -> Prediction:
        """The softmax: D = 1, C = classes."""
        return Prediction(raw["logits"].float().log_softmax(1)[:, None])

    def features(self, raw: Raw) -> list[Tensor]:
        """The maps behind each residual stage."""
        return raw["features"]

    def embedding(self, raw: Raw) -> Tensor:
        """The pooled last map [B, d]: the last feature before the classifier."""
        return raw["embedding"].float()

    def gradient(self, raw: Raw) -> tuple[Tensor, Tensor]:
        """(p − onehot(argmax p)) [B, C] and the embedding [B, d] (Ash et al. 2020)."""
        probability = raw["logits"].float().softmax(1)
        return probability - F.one_hot(probability.argmax(1), probability.shape[1]), self.embedding(raw)

    def measure(
        self, batches: Iterable[tuple[Raw, Batch]], classes: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """ "accuracy" and "accuracy/<class>"; "nll", the negative log-likelihood in nats, and "ece", the expected
        calibration error over 15 bins of equal width (lower is better for both).

        Outcomes: predicted class, whether it is correct, loss and confidence per sample.
        """
        predicted, loss, confidence, label = [], [], [], []
        for raw, batch in batches:
            logp = self.predict(raw).logp[:, 0]
            top = logp.max(1)
            predicted.append(top.indices)
            confidence.append(top.values.exp())
            loss.append(self.losses(raw, batch))
            label.append(batch["label"])
        guess, truth = torch.cat(predicted).cpu().numpy(), torch.cat(label).cpu().numpy()
        metrics = {"accuracy": float((guess == truth).mean())}
        for number, name in enumerate(classes):
            if (truth == number).any():
                metrics[f"accuracy/{name}"] = float((guess[truth == number] == number).mean())
        outcomes = {
            "predicted": guess.astype(np.uint8 if len(classes) <= 256 else np.int32),
            "correct": guess == truth,
            "loss": torch.cat(loss).cpu().numpy().astype(np.float32),
            "confidence": torch.cat(confidence).cpu().numpy().astype(np.float32),
        }
        metrics["nll"] = float(outcomes["loss"].mean(dtype=np.float64))
        metrics["ece"] = calibration_error(outcomes["confidence"], outcomes["correct"])
        return metrics, outcomes

    def describe(self, data: Data) -> dict[str, str]:
        """The images of the rarest and of the commonest class."""
        counts = torch.bincount(data.pool.targets["label"], minlength=len(data.classes))
        least, most = int(counts.argmin()), int(counts.argmax())
        rarest, commonest = (f"{int(counts[place]):,} ({data.classes[place]})" for place in (least, most))
        return {"labels": f"from {rarest} to {commonest} images a class in the pool"}

    def contents(self, targets: Batch, classes: Sequence[str]) -> Tensor:
        """One class a sample."""
        return F.one_hot(targets["label"], len(classes))

    def remeasure(self, outcomes: dict[str, np.ndarray], counts: np.ndarray) -> np.ndarray:
        """Accuracy over the samples as often as they are counted."""
        (correct,) = stored(outcomes, "correct")
        with np.errstate(invalid="ignore"):  # no sample at all: NaN
            return (counts @ correct.astype(np.int64)) / counts.sum(1)

    def answer(self, outcomes: dict[str, np.ndarray], sample: int) -> dict[str, Any]:
        """The predicted class and its probability."""
        confidence = round(float(outcomes["confidence"][sample]), 3)
        return {"label": int(outcomes["predicted"][sample]), "confidence": confidence}

    def draw(
        self, axes: Any, samples: Samples, row: int, classes: Sequence[str], answer: dict[str, Any] | None = None
    ) -> None:
        """The image, its class above it; with an answer "said → is" where it is wrong, in red."""
        image = samples.images[row].permute(1, 2, 0).numpy()
        axes.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
        truth = classes[int(samples.targets["label"][row])]
        said = classes[answer["label"]] if answer else truth
        title, colour = (_short(truth, 15), "black")
        if said != truth:
            room = 12 - min(6, len(said), len(truth))  # for the longer of the two
            title, colour = f"{_short(said, room)} → {_short(truth, room)}", "#c0392b"
        axes.set_title(title, fontsize=7 if len(title) < 12 else 5, pad=2, y=1, color=colour)  # y: not searched for
        axes.set_axis_off()


def _short(name: str, letters: int) -> str:
    """The name, cut so that it fits above a picture."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
