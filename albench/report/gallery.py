"""Pictures of what strategies chose, drawn with the annotations they bought and what the model had said of them."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from albench import registry
from albench.errors import AlbenchError
from albench.report import words
from albench.report.blocks import Block, Folder, Text
from albench.report.lettering import wrapped
from albench.report.looks import ONE_COLUMN, TWO_COLUMNS, Look, present, style
from albench.report.runs import Run

KEPT = 8  # samples of a selection in the CSV; a task says how many of them are shown in a row
ROWS, OF_MANY = 8, 5  # strategies that are shown, of up to so many and of more: each picture costs time and space
GAP, TITLE, LABEL, LINE, ENTRY = 0.07, 0.14, 1.3, 0.16, 0.95  # inches; the last two: an entry of the legend


def load(run: Run, task: str, data_root: Path | None) -> tuple[Any, Any]:
    """A task object and its data, checked to be those of the run.

    Plug-in files named by the manifest are not loaded: a report of a folder that somebody sent must not run code.

    Raises:
        AlbenchError: they cannot be had, and why.
    """
    facts = run.tasks[task]
    root = data_root or run.data_root
    if root is not None and not root.is_dir():
        raise AlbenchError("the data are not on this machine; `--data-root DIR` names the folder that holds them")
    try:
        built = registry.tasks.get(facts["task"])(**facts["entry"].get("params", {}))
        data = built.load(root)
    except AlbenchError:
        raise
    except Exception as error:  # whatever a third party's task does, the report has everything else to show
        raise AlbenchError(f"loading the data failed with {type(error).__name__}: {error}") from error
    if facts.get("fingerprint") not in (None, data.fingerprint()):
        raise AlbenchError("the data found now are not those of the run (another fingerprint)")
    return built, data


def blocks(
    runs: list[Run], task: str, styles: dict[str, Look], folder: Folder, data_root: Path | None, name: str
) -> list[Block]:
    """What each strategy chose first and last, or a sentence that says why there is no picture."""
    selections = pd.concat([run.rows("selections", task) for run in runs], ignore_index=True)
    answers = pd.concat([run.rows("answers", task) for run in runs], ignore_index=True)
    first, last = picks(selections, answers), picks(selections, answers, last=True)
    if first.empty:
        return [Text("There are no pictures of selected samples: nothing was selected yet.")]
    moments = [(first, "first", f"gallery-{name}")]
    if (last["stage"] > 1).any():
        moments.append((last, "last", f"gallery-last-{name}"))
    try:
        loaded = load(runs[0], task, data_root)
        return [_block(chosen, when, slug, task, styles, folder, loaded) for chosen, when, slug in moments]
    except AlbenchError as error:
        return [Text(f"Pictures of selected samples are missing: {str(error).rstrip('.')}.")]
    except Exception as error:  # a third party's draw() must not cost the rest of the report
        return [Text(f"Pictures of selected samples are missing: drawing failed, {type(error).__name__}: {error}.")]


def _block(
    chosen: pd.DataFrame,
    when: str,
    slug: str,
    task: str,
    styles: dict[str, Look],
    folder: Folder,
    loaded: tuple[Any, Any],
) -> Block:
    drawn = {}
    for width in (TWO_COLUMNS, ONE_COLUMN)[: 1 + folder.one_column]:  # at once, so that what fails is known here
        with style(width), matplotlib.rc_context({"axes.grid": False}):  # axes without it take a quarter less time
            drawn[width] = draw(chosen, styles, *loaded, width)
    shown = rows(chosen, styles)
    more = chosen["strategy"].nunique() - len(shown)
    names = words.listed(shown)
    seeds = words.listed([str(seed) for seed in sorted(chosen["seed"].unique())])
    said = "; dotted, or in red before an arrow, what the model had said" if chosen["answer"].notna().any() else ""
    return folder.picture(
        drawn,
        slug,
        f"Selected {when}",
        alt=f"The first {beside(loaded[0])} samples of the {when} selection on {task} by {names}, a row each.",
        caption=f"The first samples of each strategy's {when} selection (seed {seeds}), in the order of its "
        f"choice, with the annotations that were bought{said}."
        + (f" The first {len(shown)} strategies; the CSV has those of {more} more." if more > 0 else ""),
        data=folder.csv(chosen, slug),
        column=True,
    )


def picks(selections: pd.DataFrame, answers: pd.DataFrame, last: bool = False) -> pd.DataFrame:
    """The first samples of a task's first selection (or last): columns strategy, seed, stage, order, index, answer.

    Of each strategy the lowest seed is taken, which is the same for all where all ran. `answer`: what the model said
    before it had the labels, as JSON; none where an older run did not keep it.
    """
    mine = selections[(selections["stage"] > 0) & (selections["order"] < KEPT)]
    if not last:
        mine = mine[mine["stage"] == 1]
    mine = mine[mine["seed"] == mine.groupby("strategy")["seed"].transform("min")]
    mine = mine[mine["stage"] == mine.groupby("strategy")["stage"].transform("max")]
    mine = mine.merge(answers, how="left", on=["task", "strategy", "seed", "stage", "order"])
    columns = ["strategy", "seed", "stage", "order", "index", "answer"]
    return mine.sort_values(["strategy", "order"])[columns].reset_index(drop=True)


def rows(picks: pd.DataFrame, styles: dict[str, Look]) -> list[str]:
    """The strategies that are shown, in the order of `styles`: the first ones, where there are many."""
    there = list(present(styles, picks))
    return there if len(there) <= ROWS else there[:OF_MANY]


def beside(task: Any) -> int:
    """How many samples stand in a row."""
    return min(task.pictures, KEPT)


def draw(picks: pd.DataFrame, styles: dict[str, Look], task: Any, data: Any, width: float = TWO_COLUMNS) -> Figure:
    """A row of samples for each of `rows`: as many as the task says, or half of them in one column.

    In one column the names stand above the rows. Axes are placed by hand: layout engines are slow.
    """
    shown, many = rows(picks, styles), beside(task)
    left, above, columns = (LABEL, 0.0, many) if width > ONE_COLUMN else (GAP, 0.22, -(-many // 2))
    named = (left if left > GAP else width) - 0.36
    cell = (width - left) / columns - GAP
    figure = Figure(figsize=(width, width))  # its height follows from what the pictures turn out to be
    pictures = [_pictures(figure, picks[picks["strategy"] == name].head(columns), task, data) for name in shown]
    tall = cell * max(_ratio(axes) for row in pictures for axes in row)
    title = TITLE if any(axes.get_title() for row in pictures for axes in row) else 0.0
    pitch = tall + title + GAP + above
    legend, entries = task.legend(data.classes), max(1, int(width / ENTRY))
    lines = -(-len(legend) // entries)
    height = len(shown) * pitch + GAP + LINE * lines
    figure.set_figheight(height)
    for row, strategy in enumerate(shown):
        look = styles[strategy]
        bottom = height - (row + 1) * pitch
        middle = (bottom + (tall / 2 if not above else tall + title + 0.11)) / height
        figure.text(0.32 / width, middle, wrapped(look.name, named, 9), va="center", fontsize=9)
        figure.add_artist(Line2D([0.17 / width], [middle], color=look.colour, marker=look.marker, markersize=7))
        for column, axes in enumerate(pictures[row]):
            place = left + column * (cell + GAP)
            axes.set_position((place / width, bottom / height, cell / width, tall / height))
    for number, (name, colour) in enumerate(legend.items()):
        line, column = divmod(number, entries)
        place, middle = 0.08 + column * ENTRY, LINE * (lines - line - 0.5) / height
        figure.text(place / width, middle, "■", color=colour, va="center", fontsize=8)
        figure.text((place + 0.14) / width, middle, name, va="center", fontsize=7)
    return figure


def _pictures(figure: Figure, picks: pd.DataFrame, task: Any, data: Any) -> list[Axes]:
    """Axes with a strategy's samples, not placed yet."""
    found = []
    for pick in picks.to_dict("records"):
        axes = figure.add_axes((0, 0, 1, 1))
        answer = json.loads(pick["answer"]) if isinstance(pick["answer"], str) else {}
        task.draw(axes, data.pool, int(pick["index"]), data.classes, **({"answer": answer} if answer else {}))
        axes.set_xticks([])
        axes.set_yticks([])
        found.append(axes)
    return found


def _ratio(axes: Axes) -> float:
    """How tall an image needs to be in a square; 1 for what is no image."""
    if axes.get_aspect() == "auto":
        return 1.0
    return min(1.0, abs(np.ptp(axes.get_ylim()) / np.ptp(axes.get_xlim())))
