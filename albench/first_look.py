"""Somebody else's task on two samples, before anything is trained: a mistake is a line, not every trial's trace."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from albench.blame import blamed
from albench.errors import AlbenchError
from albench.samples import Data
from albench.task import Prediction, Task

SAMPLES = 2


def loaded(task: Task, root: Path | None) -> Data:
    """A task's data.

    Raises:
        AlbenchError: what `load` raises; or it returned something else.
    """
    data = task.load(root)
    if not isinstance(data, Data):
        raise AlbenchError(f"load() returned {_kind(data)}, not albench.samples.Data")
    return data


def built(task: Task, data: Data, who: str) -> nn.Module:
    """A task's model. Of a task that is not albench's own, what the engine calls is tried with it first.

    Raises:
        AlbenchError: a method failed, or returned something else than `albench.Task` says: which, and what.
    """
    with blamed(who, "build()"):
        model = task.build(data.classes)
    if not isinstance(model, nn.Module):
        raise AlbenchError(f"{who}: build() returned {_kind(model)}, not a torch.nn.Module")
    if type(task).__module__.partition(".")[0] != "albench":  # those have tests
        _try(task, model.eval(), data, who)
    return model


@torch.no_grad()
def _try(task: Task, model: nn.Module, data: Data, who: str) -> None:
    rows = torch.arange(min(SAMPLES, len(data.pool)))
    count = len(rows)
    with blamed(who, "prepare()"):
        task.prepare(data.pool.batch(rows, hidden=True))  # a strategy's view has no targets
        batch = task.prepare(data.pool.batch(rows))
    if not isinstance(batch, dict) or not isinstance(batch.get("image"), Tensor):
        raise AlbenchError(f"{who}: prepare() returned {_kind(batch)}, not a batch with an 'image'")
    with blamed(who, "the model's forward()"):
        raw = model(batch["image"])
    if not isinstance(raw, dict):
        raise AlbenchError(
            f"{who}: the model's forward() returned {_kind(raw)}, not a dict of what losses(), predict(), features() "
            "and embedding() read"
        )
    given = f" (forward() gives {', '.join(map(repr, raw)) or 'nothing'})"
    calls = (
        ("losses", lambda: task.losses(raw, batch), (count,)),
        ("embedding", lambda: task.embedding(raw), (count, None)),
        ("features", lambda: task.features(raw), (count, None, None, None)),
    )
    for name, call, wanted in calls:
        with blamed(who, f"{name}(){given}"):
            found = call()
        listed, maps = isinstance(found, list | tuple), name == "features"
        parts = found if listed else [found]
        wrong = [part for part in parts if not _fits(part, wanted)]
        if listed != maps or not parts:
            wrong = [found]
        if wrong:
            form = f"[{', '.join(str(count) if side else '·' for side in wanted)}]"
            form = f"a list of maps {form}" if maps else f"a Tensor {form}"
            raise AlbenchError(f"{who}: {name}() returned {_kind(wrong[0])} for {count} samples, not {form}")
    with blamed(who, f"predict(){given}"):
        prediction = task.predict(raw)
    if not isinstance(prediction, Prediction) or not _fits(prediction.logp, (count, None, None)):
        what = _kind(prediction.logp) + " as logp" if isinstance(prediction, Prediction) else _kind(prediction)
        raise AlbenchError(f"{who}: predict() returned {what}, not a Prediction with logp [{count}, ·, ·]")


def _fits(tensor: Any, wanted: tuple[int | None, ...]) -> bool:
    if not isinstance(tensor, Tensor):
        return False
    return tensor.ndim == len(wanted) and all(side in (None, n) for side, n in zip(wanted, tensor.shape, strict=True))


def _kind(value: Any) -> str:
    """'a Tensor [2, 10]', 'a dict', 'None'."""
    if value is None:
        return "None"
    return f"a {type(value).__name__}" + (f" {list(value.shape)}" if isinstance(value, Tensor) else "")
