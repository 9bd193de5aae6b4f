"""Passes of a trained model over samples: its metrics on the test set, in batches that the GPU's memory holds."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from albench import step as steps
from albench.blame import blamed
from albench.errors import AlbenchError
from albench.memory import out_of_memory, release
from albench.samples import Batch, Samples
from albench.task import Raw
from albench.training import Setup

T = TypeVar("T")


def passes(setup: Setup, model: nn.Module, samples: Samples, rows: Tensor | None = None) -> Iterator[tuple[Raw, Batch]]:
    """(raw, prepared batch) over the rows (default: all) in order, in evaluation mode and without augmentation."""
    rows = torch.arange(len(samples)) if rows is None else rows
    who = f"task {setup.axes[-1]!r}"
    for batch in samples.batches(rows.split(setup.numerics.scoring_batch)):
        with blamed(who, "prepare()"):
            ready = setup.task.prepare(batch)
        with blamed(who, "the model's forward()"):
            raw = setup.task.outputs(lambda ready: setup.forward(model, ready), ready)
        yield raw, ready


def measured(
    setup: Setup, model: nn.Module, samples: Samples, rows: Tensor | None = None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What `Task.measure` says of the rows (default: all)."""
    with torch.inference_mode(), blamed(f"task {setup.axes[-1]!r}", "measure()"):
        metrics, outcomes = setup.task.measure(passes(setup, model, samples, rows), setup.data.classes)
        return {name: float(value) for name, value in metrics.items()}, outcomes


def evaluate(setup: Setup, model: nn.Module) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics on the test set, and outcomes per test sample.

    Raises:
        AlbenchError: the primary metric is missing or not finite, or `measure` failed.
    """
    metrics, outcomes = measured(setup, model, setup.data.test)
    if setup.task.metric not in metrics:
        raise AlbenchError(
            f"measure() gave no metric {setup.task.metric!r}, which the task names as its own; it gave: "
            + (", ".join(metrics) or "none")
        )
    if not math.isfinite(metrics[setup.task.metric]):
        raise AlbenchError(f"the metric {setup.task.metric!r} is not finite on the test set: {metrics}")
    return metrics, outcomes


def halving(setup: Setup, work: Callable[[Setup], T]) -> tuple[T, int]:
    """work(setup), begun again with half the scoring batch whenever the GPU's memory is not enough; and that batch.

    Before it is halved other networks' compiled steps go, whose graphs hold memory; at 1 this network's goes, too, and
    the whole batch is tried again.
    The result is the one of a run with that `numerics.scoring_batch`: per sample it differs in the last bits, at most.
    On a CPU, where results are equal to the bit, nothing is halved.
    """
    size = setup.numerics.scoring_batch
    while True:
        try:
            return work(replace(setup, numerics=setup.numerics.model_copy(update={"scoring_batch": size}))), size
        except Exception as error:
            full = isinstance(error, torch.OutOfMemoryError) or (setup.device.type == "cuda" and out_of_memory(error))
            if not full or (size == 1 and not steps.kept_now()):
                raise
        release(setup.device)  # here, where the failed pass's tensors are gone with its traceback
        if steps.forget(but=1):
            continue
        if size > 1:
            size //= 2
        else:  # with all the memory there is
            steps.forget()
            size = setup.numerics.scoring_batch
