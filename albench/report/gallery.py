"""Pictures of what strategies chose first, drawn with the annotations they bought."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from albench import registry
from albench.errors import AlbenchError
from albench.report.lettering import wrapped
from albench.report.looks import ONE_COLUMN, TWO_COLUMNS, Look
from albench.report.runs import Run

SHOWN = 8
ROWS = 12  # strategies that are shown: each picture costs time and space
GAP, TITLE, LABEL = 0.07, 0.14, 1.3  # inches


def load(run: Run, task: str, data_root: Path | None) -> tuple[Any, Any]:
    """A task object and its data, checked to be those of the run.

    Plug-in files named by the manifest are not loaded: a report of a folder that somebody sent must not run code.

    Raises:
        AlbenchError: they cannot be had, and why.
    """
    facts = run.tasks[task]
    root = data_root or run.data_root
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


def first_picks(selections: pd.DataFrame, task: str) -> pd.DataFrame:
    """The first samples of the first selection: columns strategy, seed, order, index.

    Of each strategy the lowest seed is taken, which is the same for all where all ran.
    """
    first = selections[(selections["task"] == task) & (selections["stage"] == 1) & (selections["order"] < SHOWN)]
    lowest = first.groupby("strategy")["seed"].transform("min")
    first = first[first["seed"] == lowest]
    return first.sort_values(["strategy", "order"])[["strategy", "seed", "order", "index"]]


def rows(picks: pd.DataFrame, styles: dict[str, Look]) -> list[str]:
    """The strategies that are shown, in the order of `styles`: the first ones, where there are many."""
    return [strategy for strategy in styles if (picks["strategy"] == strategy).any()][:ROWS]


def draw(picks: pd.DataFrame, styles: dict[str, Look], task: Any, data: Any, width: float = TWO_COLUMNS) -> Figure:
    """A row of samples for each of `rows`: SHOWN, or half of them in one column.

    In one column the names stand above the rows. Axes are placed by hand: layout engines are slow.
    """
    shown = rows(picks, styles)
    beside, above, columns = (LABEL, 0.0, SHOWN) if width > ONE_COLUMN else (GAP, 0.22, SHOWN // 2)
    named = (beside if beside > GAP else width) - 0.36
    cell = (width - beside) / columns - GAP
    pitch = cell + TITLE + GAP + above
    height = len(shown) * pitch + GAP
    figure = Figure(figsize=(width, height))
    for row, strategy in enumerate(shown):
        look = styles[strategy]
        bottom = height - (row + 1) * pitch
        middle = (bottom + (cell / 2 if not above else cell + TITLE + 0.1)) / height
        figure.text(0.32 / width, middle, wrapped(look.name, named, 9), va="center", fontsize=9)
        corner = figure.add_axes((0.08 / width, middle - 0.09 / height, 0.18 / width, 0.18 / height))
        corner.set_axis_off()
        corner.plot([0], [0], color=look.colour, marker=look.marker, markersize=7)
        for column, index in enumerate(picks.loc[picks["strategy"] == strategy, "index"].head(columns)):
            left = beside + column * (cell + GAP)
            axes = figure.add_axes((left / width, bottom / height, cell / width, cell / height))
            axes.grid(False)
            task.draw(axes, data.pool, int(index), data.classes)
            axes.set_xticks([])
            axes.set_yticks([])
    return figure
