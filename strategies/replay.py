"""Replay: train once more on what a strategy selected in another run, or in this one.

A control: sets that learning loss selected, without its module beside the model, tell what the selection is worth
apart from the joint training.
"""

import csv
import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator, model_validator
from torch import Tensor

from albench.errors import AlbenchError, did_you_mean
from albench.strategy import PoolView, Strategy

THIS_RUN = "this run"
_NUMBER = re.compile(r"[0-9]{1,12}")
COLUMNS = ("task", "strategy", "seed", "stage", "order", "index")


class Replay(Strategy):
    """Selects the recorded pool indices of (task, seed, stage).

    source: a run folder (its selections.csv is read), or such a CSV. A row says at which `stage` a sample was first
        trained on: 0 is the initial set, and what was picked after stage s is found at stage s + 1, in `order`.
        "this run": the selections of another strategy of the same suite, whose trials go first.
    strategy: whose selections; may be left out where the file holds those of one strategy only.
    """

    whole_pool: bool = True  # the recorded samples may lie outside this run's random candidates

    # absolute, because a run may be resumed from another folder
    source: Literal["this run"] | Annotated[Path, AfterValidator(Path.absolute)]
    strategy: str | None = None

    @model_validator(mode="after")
    def _says_whose(self) -> Self:
        if self.source == THIS_RUN and self.strategy is None:
            raise ValueError(f'source = "{THIS_RUN}" needs `strategy`, the label of the one to replay')
        return self

    def follows(self) -> str | None:
        return self.strategy if self.source == THIS_RUN else None

    def sees_hidden_labels(self) -> bool:
        """What a cheat selected stays marked when it is replayed; a bare CSV does not tell."""
        if not isinstance(self.source, Path):
            return False
        manifest = (self.source if self.source.is_dir() else self.source.parent) / "manifest.json"
        if not manifest.is_file():
            return False
        try:
            strategies = json.loads(manifest.read_text(encoding="utf-8"))["strategies"]
            return any(facts["cheats"] for name, facts in strategies.items() if self.strategy in (None, name))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AlbenchError(f"replay: {manifest} is damaged ({error!r}); does its run tell of a cheat?") from error

    def select(self, pool: PoolView, k: int, rng: torch.Generator) -> Tensor:
        if pool.followed is not None:
            return _positions(pool, pool.followed.tolist(), "this run")
        trial, file = self._trial(pool)
        initial = trial.get(0)
        if pool.stage == 0 and initial is not None and sorted(initial) != sorted(pool.labelled_index.tolist()):
            raise AlbenchError(
                f"replay: {file} starts from another initial set; use the suite seed and data it was run with"
            )
        picks = trial.get(pool.stage + 1)
        if picks is None:
            raise AlbenchError(
                f"replay: {file} records stages {min(trial)}…{max(trial)} of task {pool.task!r}, seed {pool.seed}; "
                f"stage {pool.stage + 1} is not among them"
            )
        if len(picks) != k:
            raise AlbenchError(
                f"replay: {file} records {len(picks)} selections for stage {pool.stage + 1}, not K = {k}"
            )
        return _positions(pool, picks, file)

    def _trial(self, pool: PoolView) -> tuple[dict[int, list[int]], Path]:
        """Stage → recorded indices in order, of this view's task and seed; and the file they are from."""
        assert isinstance(self.source, Path)
        file = self.source / "selections.csv" if self.source.is_dir() else self.source
        rows = _read(file)
        strategies = sorted({row["strategy"] for row in rows})
        if self.strategy is None and len(strategies) > 1:
            raise AlbenchError(f"replay: {file} holds {', '.join(strategies)}; set `strategy` to one of them")
        name = self.strategy or strategies[0]
        if name not in strategies:
            raise AlbenchError(
                f"replay: {file} holds no strategy {name!r}.{did_you_mean(name, strategies)} "
                f"There are: {', '.join(strategies)}"
            )
        stages: dict[int, list[tuple[int, int]]] = {}
        for row in rows:
            if (row["strategy"], row["task"], row["seed"]) == (name, pool.task, str(pool.seed)):
                stages.setdefault(int(row["stage"]), []).append((int(row["order"]), int(row["index"])))
        if not stages:
            held = sorted({f"{row['task']} seed {row['seed']}" for row in rows if row["strategy"] == name})
            raise AlbenchError(
                f"replay: {file} holds no selections of {name!r} for task {pool.task!r}, seed {pool.seed}; "
                f"it has {', '.join(held)}"
            )
        return {stage: [index for _, index in sorted(picks)] for stage, picks in stages.items()}, file


def _positions(pool: PoolView, picks: list[int], source: object) -> Tensor:
    position = {index: i for i, index in enumerate(pool.index.tolist())}
    missing = [index for index in picks if index not in position]
    if missing:
        raise AlbenchError(
            f"replay: {source} selects sample {missing[0]} for stage {pool.stage + 1}, which is not among the "
            "candidates: labelled already, or outside them. Use the suite seed, the data and the stages it was run "
            "with, and whole_pool = true"
        )
    return torch.tensor([position[index] for index in picks])


def _read(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            rows, columns = list(reader), reader.fieldnames or []
    except OSError as error:
        raise AlbenchError(f"replay: {file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise AlbenchError(f"replay: {file} is no CSV ({error})") from error
    lacking = [column for column in COLUMNS if column not in columns]
    if lacking:
        raise AlbenchError(f"replay: {file} has no column {lacking[0]!r}; it needs {', '.join(COLUMNS)}")
    for line, row in enumerate(rows, start=2):
        if not all(_NUMBER.fullmatch(row[c] or "") for c in ("stage", "order", "index")):
            raise AlbenchError(f"replay: {file}, line {line}: stage, order and index must be whole numbers")
    if not rows:
        raise AlbenchError(f"replay: {file} holds no selections")
    return rows
