"""What a task's data is, once loaded: uint8 images and their annotations, one row a sample."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

Batch = dict[str, Tensor]


@dataclass
class Samples:
    """Images and annotations, row by row.

    images: uint8 [N, C, H, W]. targets: name → tensor [N, …]; ragged annotations are padded, with a mask.
    names: what a sample is called in messages and pictures ("im00012.jpg").
    """

    images: Tensor
    targets: dict[str, Tensor]
    names: list[str] = field(repr=False)

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8
        assert self.images.ndim == 4
        assert all(len(t) == len(self.images) for t in self.targets.values())
        assert len(self.names) == len(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Samples":
        """The same rows on a device, where training reads them without a copy per batch."""
        return Samples(self.images.to(device), {k: v.to(device) for k, v in self.targets.items()}, self.names)

    def batch(self, rows: Tensor, hidden: bool = False) -> Batch:
        """The rows as one batch {"image": uint8 [B, C, H, W], **targets}; `hidden` leaves the targets out."""
        rows = rows.to(self.images.device)
        batch = {"image": self.images[rows]}
        if not hidden:
            batch |= {name: target[rows] for name, target in self.targets.items()}
        return batch


@dataclass
class Data:
    """A task's pool and test set. `classes` names the outcomes or joints; `notes` says what dirt was survived."""

    pool: Samples
    test: Samples
    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    def fingerprint(self) -> str:
        """A hash of every pixel and annotation: the same for the same data, wherever it lies."""
        digest = hashlib.blake2b(repr(self.classes).encode(), digest_size=16)
        for samples in (self.pool, self.test):
            for name, tensor in [("image", samples.images), *sorted(samples.targets.items())]:
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()
