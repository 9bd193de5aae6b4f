"""What a task's data is, once loaded: uint8 images and their annotations, one row a sample.

On a GPU all of it is resident where it fits; else images stay where they are (mapped from the cache, as a rule), and a
batch travels through pinned memory while the one before it is computed.
"""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from albench.errors import AlbenchError

Batch = dict[str, Tensor]


def _said(value: Any) -> str:
    """'float32 [10, 3, 32, 32]', or what it is instead of a tensor."""
    return (
        f"{value.dtype} {list(value.shape)}".removeprefix("torch.")
        if isinstance(value, Tensor)
        else type(value).__name__
    )


@dataclass
class Samples:
    """Images and annotations, row by row.

    images: uint8 [N, C, H, W]. targets: name → tensor [N, …]; ragged annotations are padded, with a mask.
    names: what a sample is called in messages and pictures ("im00012.jpg"). streamed_to: the device of the batches
    where images are not resident.
    """

    images: Tensor
    targets: dict[str, Tensor]
    names: list[str] = field(repr=False)
    streamed_to: torch.device | None = None

    def __post_init__(self) -> None:
        images = self.images
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4:
            raise AlbenchError(f"images must be a uint8 tensor [N, C, H, W], not {_said(images)}")
        for name, target in self.targets.items():
            if not isinstance(target, Tensor) or target.ndim == 0 or len(target) != len(images):
                raise AlbenchError(
                    f"target {name!r} must be a tensor with a row for each of {len(images)} images, not {_said(target)}"
                )
        if len(self.names) != len(images):
            raise AlbenchError(f"there are {len(self.names)} names for {len(images)} images")

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device, resident: bool = True) -> "Samples":
        """The same rows on a device, where training reads them without a copy per batch; not `resident`: batches are.

        Targets are small and always go.
        """
        targets = {k: v.to(device) for k, v in self.targets.items()}
        if resident:
            return Samples(self.images.to(device), targets, self.names)
        return Samples(self.images, targets, self.names, device)

    def batch(self, rows: Tensor, hidden: bool = False) -> Batch:
        """The rows as one batch {"image": uint8 [B, C, H, W], **targets}; `hidden` leaves the targets out."""
        if self.streamed_to is not None:
            return self._sent(self._gather(rows.cpu(), self._buffer(len(rows))), rows, hidden)
        batch = {"image": self.images[rows.to(self.images.device)]}
        return batch if hidden else batch | self.annotations(rows)

    def batches(self, chunks: Iterable[Tensor], hidden: bool = False) -> Iterator[Batch]:
        """`batch` of each of several rows; where images are streamed, the next one is gathered meanwhile."""
        if self.streamed_to is None:
            yield from (self.batch(rows, hidden) for rows in chunks)
            return
        with ThreadPoolExecutor(1) as thread:
            before = None
            for rows in chunks:  # the thread does nothing with the device, which may be recording a graph
                gathered = thread.submit(self._gather, rows.cpu(), self._buffer(len(rows)))
                if before is not None:
                    yield self._sent(before[0].result(), before[1], hidden)
                before = gathered, rows
            if before is not None:
                yield self._sent(before[0].result(), before[1], hidden)

    def _buffer(self, count: int) -> Tensor:
        """Room for a batch; torch gives pinned memory out again only when copies from it have ended."""
        pinned = self.streamed_to is not None and self.streamed_to.type == "cuda"
        with torch.inference_mode(False):  # or the thread, which knows no such mode, could not write there
            return torch.empty((count, *self.images.shape[1:]), dtype=torch.uint8, pin_memory=pinned)

    def _gather(self, rows: Tensor, buffer: Tensor) -> Tensor:
        return torch.index_select(self.images, 0, rows, out=buffer)

    def _sent(self, images: Tensor, rows: Tensor, hidden: bool) -> Batch:
        batch = {"image": images.to(self.streamed_to, non_blocking=True)}
        return batch if hidden else batch | self.annotations(rows)

    def annotations(self, rows: Tensor) -> Batch:
        """The rows of every target."""
        return {name: target[rows.to(target.device, non_blocking=True)] for name, target in self.targets.items()}


@dataclass
class Data:
    """A task's pool and test set. `classes` names the outcomes or joints; `notes` says what dirt was survived."""

    pool: Samples
    test: Samples
    classes: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    known: str | None = None  # the fingerprint, where whoever read the data has it

    def to(self, device: torch.device, resident: bool = True) -> "Data":
        """The same data on a device; see `Samples.to`."""
        return replace(self, pool=self.pool.to(device, resident), test=self.test.to(device, resident))

    def fingerprint(self) -> str:
        """A hash of every pixel and annotation: the same for the same data, wherever it lies."""
        if self.known is not None:
            return self.known
        digest = hashlib.blake2b(repr(self.classes).encode(), digest_size=16)
        for samples in (self.pool, self.test):
            for name, tensor in [("image", samples.images), *sorted(samples.targets.items())]:
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()
