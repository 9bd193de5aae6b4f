"""Seeds from named axes, and a global generator that nobody can disturb.

A seed is a hash of what it is for: (suite seed, trial seed, task, stage, purpose). Two trials that name the same axes
draw the same numbers, whoever runs first and wherever: that is how strategies are paired.
"""

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from albench.errors import AlbenchError

Axis = str | int


def seed(*axes: Axis) -> int:
    """A seed in [0, 2**63) from named axes; the types count, so seed(1) is not seed("1").

    >>> seed("digits", 0) == seed("digits", 0), seed("digits", 0) == seed("digits", "0")
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(repr(axes).encode(), digest_size=8).digest(), "big") >> 1


def generator(*axes: Axis, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded by the axes, on the device that draws from it."""
    return torch.Generator(device=device).manual_seed(seed(*axes))


@contextlib.contextmanager
def isolated(*axes: Axis, who: str = "this code") -> Iterator[None]:
    """Run a block under a global torch generator of its own; the outer state is as before, whatever the block does.

    Layers and dropout draw from torch's global generator, so building, training and selecting happen in here.

    Raises:
        AlbenchError: `who` seeded torch's global generator, or touched numpy's or Python's.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the legacy state is what is guarded
    devices = (
        list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    )  # manual_seed seeds them all
    own = seed(*axes)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(own)
        try:
            yield
            reseeded = torch.initial_seed() != own
            numpy_now = np.random.get_state()  # noqa: NPY002
            touched = random.getstate() != python or any(
                not np.array_equal(a, b) for a, b in zip(numpy, numpy_now, strict=True)
            )
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
    if reseeded or touched:
        what = "seeded torch's global generator" if reseeded else "touched the global random state of numpy or Python"
        raise AlbenchError(f"{who} {what}; draw from the generator it is given (rng) instead")
