"""One pass over samples: what a strategy asked to see, batch by batch; and the guarded selection from it."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from albench import registry
from albench.blame import blamed
from albench.errors import AlbenchError
from albench.evaluation import measured
from albench.numeric.nearest import nearest_distance
from albench.samples import Batch, Samples
from albench.seeds import generator, isolated
from albench.strategy import Outputs, PoolView, Strategy
from albench.training import Fitted, Setup

REVIEWED = 200  # of a selection's samples are measured before they are learned, whatever K is
PICTURED = 8  # of them keep the model's answer, for pictures


@dataclass
class Diagnosis:
    """What a pass tells beside what the strategy keeps: for the report alone, never for a selection.

    predicted: predictors of the loss, [N] each on the CPU: "score" (the strategy's), "companion" (what a companion
    says of each sample, where that is a number and not the score itself), and beside them "entropy" (as the strategy
    has it), "margin" (less of it is more uncertain) and "trivial"; none where there is neither of the first two.
    true: the loss [N] on the CPU. embedding: [N, d], on the device.
    """

    predicted: dict[str, Tensor]
    true: Tensor
    embedding: Tensor


def observe(
    setup: Setup, strategy: Strategy, fitted: Fitted, samples: Samples, rows: Tensor, stage: int, diagnose: bool = False
) -> tuple[dict[str, Tensor], Diagnosis | None]:
    """What the strategy keeps of the given rows, concatenated: name → [N, …].

    The model is in evaluation mode, images are not augmented, labels are left out. With `diagnose` there is a
    Diagnosis beside it, from the same forward pass.

    Raises:
        AlbenchError: what is kept has the wrong length or device, or a score is not a number.
    """
    kept: list[dict[str, Tensor]] = []
    diagnosed: list[dict[str, Tensor]] = []
    with isolated(*setup.axes, stage, "observation", who=_who(strategy)), torch.no_grad():
        hidden = not (diagnose or strategy.cheats)
        for batch in samples.batches(rows.split(setup.numerics.scoring_batch), hidden):
            part, diagnosis = _observe_batch(setup, strategy, fitted, batch, diagnose)
            kept.append(part)
            if diagnosis is not None:
                diagnosed.append(diagnosis)
    together = {name: torch.cat([part[name] for part in kept]) for name in (kept[0] if kept else {})}
    if not diagnosed:
        return together, None
    columns = {name: torch.cat([d[name] for d in diagnosed]) for name in diagnosed[0]}
    embedding = columns.pop("embedding").float()
    columns = {name: column.double().cpu() for name, column in columns.items()}  # fp32 would make ties of close scores
    true = columns.pop("true")
    if {"score", "companion"} <= columns.keys() and torch.equal(columns["score"], columns["companion"]):
        del columns["companion"]
    return together, Diagnosis(predicted=columns, true=true, embedding=embedding)


def _observe_batch(
    setup: Setup, strategy: Strategy, fitted: Fitted, batch: Batch, diagnose: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    task, count = setup.task, len(batch["image"])
    full = task.prepare(batch)
    full["image"] = full["image"].contiguous(memory_format=torch.channels_last)
    seen = full if strategy.cheats else {"image": full["image"]}
    bf16 = setup.numerics.precision == "bf16"
    outputs = Outputs(task, fitted.model, seen, fitted.companion, cheats=strategy.cheats, bf16=bf16)
    who = _who(strategy)
    with blamed(who, "observe()"):
        given = dict(strategy.observe(outputs))
    kept = {name: _checked(who, name, value, count, setup.device) for name, value in given.items()}
    if not diagnose:
        return kept, None
    diagnosis = {"true": task.losses(outputs.raw, full), "embedding": outputs.embedding}
    predicted = {name: value for name, value in kept.items() if name == "score"}
    companion = fitted.companion
    if companion is not None and companion.predicts() and outputs.companion.shape == (count,):
        predicted["companion"] = outputs.companion
    if predicted:
        belief = outputs.prediction
        predicted |= {"entropy": belief.entropy(raw=True), "margin": -belief.margin(), "trivial": task.trivial(full)}
    return kept, diagnosis | predicted


def _who(strategy: Strategy) -> str:
    return f"strategy {registry.strategies.name_of(type(strategy))!r}"


def contents(setup: Setup, rows: Tensor) -> list[int]:
    """How often each class, object or joint is annotated in these rows of the pool."""
    targets = {name: column[rows.to(column.device)] for name, column in setup.data.pool.targets.items()}
    return setup.task.contents(targets, setup.data.classes).sum(0).tolist()


def character(setup: Setup, diagnosis: Diagnosis, positions: Tensor, stage: int) -> dict[str, float]:
    """What a selection is like to the model that led to it, from the pass over the candidates; for the report alone.

    "loss": the mean true loss of the selected over that of all candidates; above 1 it took what the model gets wrong.
    "distance": the mean distance of a selected sample's embedding to its nearest among the selected, over the same of
    k random candidates; below 1 the selection is redundant. For a random selection both are 1 but for chance, so
    strategies that observe nothing cost no pass for it.
    """
    k, found = len(positions), {}
    drawn = torch.randperm(len(diagnosis.true), generator=generator(*setup.axes, stage, "character"))[:k]
    usual = float(diagnosis.true.mean())
    if math.isfinite(usual) and usual > 0:
        found["loss"] = float(diagnosis.true[positions].mean()) / usual
    apart = [nearest_distance(diagnosis.embedding[chosen.to(setup.device)]) for chosen in (positions, drawn)]
    if apart[1] > 0:
        found["distance"] = apart[0] / apart[1]
    return found


def review(setup: Setup, model: nn.Module, rows: Tensor) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """What the model said of selected samples before it learned them; for the report alone. One pass over few rows.

    {"metric": the task's metric on the first REVIEWED of the rows} (for a classifier, 1 − the share that it got wrong),
    left out where it is not defined; and the answers for the first PICTURED, as `Task.draw` takes them.
    """
    metrics, outcomes = measured(setup, model, setup.data.pool, rows[:REVIEWED])
    value = metrics.get(setup.task.metric, math.nan)
    with blamed(f"task {setup.axes[-1]!r}", "answer()"):
        answers = [setup.task.answer(outcomes, sample) for sample in range(min(PICTURED, len(rows)))]
    return {"metric": value} if math.isfinite(value) else {}, answers


def _checked(who: str, name: str, value: Any, length: int, device: torch.device) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != length:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise AlbenchError(f"{who}: observe() kept {name!r} as {shape}; it must be a tensor with one row per sample")
    if name == "score" and value.ndim != 1:
        shape = tuple(value.shape)
        raise AlbenchError(f"{who}: observe() gave a score of shape {shape}; it is one number per sample: ({length},)")
    if value.device.type not in (device.type, "cpu"):
        raise AlbenchError(f"{who}: observe() kept {name!r} on the device {value.device}; the run is on {device}")
    if name == "score" and not bool(value.isfinite().all()):
        raise AlbenchError(f"{who}: observe() gave a score that is not finite; a sort would put it first")
    part = value.untyped_storage().nbytes() > value.nbytes  # of a batch, which it would keep alive with itself
    return value.detach().clone() if part else value.detach()


def select(setup: Setup, strategy: Strategy, name: str, pool: PoolView, k: int) -> Tensor:
    """k positions [k] among the candidates, checked: whole numbers, exactly k, each once, in range.

    `name` is the registered name: with it begin the strategy's own random draws.

    Raises:
        AlbenchError: the strategy broke one of these rules: which.
    """
    who = f"strategy {name!r}"
    rng = generator(*setup.axes, pool.stage, "selection", name)
    with isolated(*setup.axes, pool.stage, "selection", name, who=who), torch.no_grad(), blamed(who, "select()"):
        answer = strategy.select(pool, k, rng)
    if isinstance(answer, Tensor) and answer.device.type not in (setup.device.type, "cpu"):
        raise AlbenchError(f"{who}: select() answered on the device {answer.device}; the run is on {setup.device}")
    try:
        positions = torch.as_tensor(answer).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise AlbenchError(f"{who}: select() answered {type(answer).__name__}, not positions: {error}") from error
    if positions.dtype.is_floating_point or positions.dtype == torch.bool or positions.ndim != 1:
        raise AlbenchError(
            f"{who}: select() answered {positions.dtype} {tuple(positions.shape)}; positions are [k] ints"
        )
    positions = positions.long()
    if len(positions) != k:
        raise AlbenchError(f"{who}: select() answered {len(positions)} positions; {k} were asked for")
    if len(positions.unique()) != k:
        raise AlbenchError(f"{who}: select() answered {k - len(positions.unique())} positions twice")
    if k and (int(positions.min()) < 0 or int(positions.max()) >= len(pool)):
        wrong = [int(p) for p in positions if not 0 <= p < len(pool)]
        raise AlbenchError(f"{who}: select() answered {wrong[:3]}; positions lie in 0…{len(pool) - 1} (the candidates)")
    return positions
