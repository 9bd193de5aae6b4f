"""Intervals and ranks: forest plot of the primary test, label efficiency, critical-difference diagram."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from albench.report.figures import FEW, framed
from albench.report.lettering import Legend, widest, wrapped
from albench.report.looks import FAINT, INK, ONE_COLUMN, TWO_COLUMNS, Look, small

ROW = 0.23  # inches a line of a forest plot takes
ZONE = "#EDEDED"
NO_ESTIMATE, NO_INTERVAL = "no estimate", "no interval"
FURTHER: dict[str, tuple[str, dict[str, Any]]] = {  # intervals beside the 95 % one: in the legend, as a line
    "verdict": ("of the verdict, after Holm", {"color": FAINT, "linewidth": 0.8, "marker": "|", "markersize": 5}),
    "sampled": ("another test set, too", {"color": FAINT, "linewidth": 1.2, "linestyle": (0, (1, 1))}),
}


def forest(
    table: pd.DataFrame, styles: dict[str, Look], xlabel: str, effect: float | None, width: float = TWO_COLUMNS
) -> Figure:
    """Differences to the reference with their intervals, a line per strategy; ± the effect of interest is shaded.

    Args:
        table: `analysis.comparison.against_reference`: columns strategy, mean, low, high; with a column task, a group
            of lines per task; with a column verdict, the word stands at the right. verdict_low and verdict_high are
            drawn as thin whiskers, sampled_low and sampled_high (another test set, too) as a dotted line below. With a
            column pairs, intervals of two seeds may run off the axis (`figures.framed`).
        styles: looks by strategy, in the order of the lines.
        xlabel: such as "AUBC − random".
        effect: the smallest effect of interest; None shades nothing.
        width: inches.
    """
    lines = _lines(table, styles)
    more = {name: (f"{name}_low", f"{name}_high") for name in FURTHER if f"{name}_low" in table}
    more = {name: ends for name, ends in more.items() if table[list(ends)].notna().to_numpy().any()}
    values = table[["mean", "low", "high", *(end for ends in more.values() for end in ends)]].to_numpy(float)
    seeds = table["pairs"].to_numpy() if "pairs" in table else np.full(len(table), FEW)
    seen = [*framed(values, seeds), *(side * 1.4 * (effect or 0) for side in (-1, 1))]
    room = 0.04 * (max(seen) - min(seen)) or 0.01
    shown = [("of this comparison alone", {"color": FAINT, "linewidth": 2.2}), *(FURTHER[name] for name in more)]
    legend = Legend(shown, width) if more else None
    figure, axes = _rows(lines, xlabel, width, verdicts="verdict" in table, legend=legend)
    if effect:
        axes.axvspan(-effect, effect, color=ZONE, linewidth=0, zorder=0)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    for place, (row, look) in enumerate(lines):
        if look is not None and np.isfinite(row["mean"]):
            for name, (low, high) in more.items():
                style = FURTHER[name][1] | {"color": look.colour, "markeredgecolor": look.colour}
                below = 0.32 if name == "sampled" else 0.0
                axes.plot([row[low], row[high]], [place + below] * 2, zorder=2, **style)
            _interval(axes, place, row["mean"], row["low"], row["high"], look)
    axes.set_xlim(min(seen) - room, max(seen) + room)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}".replace("-", "−") if value else "0")
    return figure


def efficiency(
    table: pd.DataFrame, styles: dict[str, Look], xlabel: str, budget: float, width: float = TWO_COLUMNS
) -> Figure:
    """Labels saved against the reference with intervals, a line per strategy; what goes on beyond is an open arrow.

    table: columns strategy, mean, low, high (±inf where a value was not reached within the budget, NaN where nothing
    can be said; without an end on either side only the point is drawn); with a column task, a group of lines per task
    or target. xlabel: such as "labels saved against random". budget: the most that can be saved, where the axis ends
    at the latest.
    """
    values = table[["mean", "low", "high"]].to_numpy(float)
    said = [reached(mean) or (NO_INTERVAL if np.isinf([low, high]).all() else "") for mean, low, high in values]
    lines = _lines(table.assign(verdict=said), styles)
    values = values[~np.isnan(values[:, 0])]
    reach = min(np.abs(values[np.isfinite(values)]).max(initial=0) * 1.18 or budget, budget) or 1.0
    figure, axes = _rows(lines, xlabel, width, verdicts=True)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.set_xlim(-1.04 * reach, 1.04 * reach)  # arrows end at the border, clear of the names
    for place, (row, look) in enumerate(lines):
        if look is None or row["verdict"] == NO_ESTIMATE:
            continue
        ends = np.array([row["mean"], row["low"], row["high"]], float)
        if np.isinf(ends[1:]).all():  # no interval
            ends[1:] = np.nan
        low, high = ends[1:].clip(-reach, reach)
        _interval(axes, place, row["mean"] if abs(row["mean"]) <= reach else np.inf, low, high, look)
        for side in np.unique(np.sign(ends[np.abs(ends) > reach])):
            _arrow(axes, place, float(side) * reach, look)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+,.4g}".replace("-", "−") if value else "0")
    return figure


def reached(mean: float) -> str:
    """What is said of labels saved that are not a number; '' for the others."""
    if np.isinf(mean):
        return "not reached" if mean < 0 else "reference: not reached"
    return NO_ESTIMATE if np.isnan(mean) else ""


def _lines(table: pd.DataFrame, styles: dict[str, Look]) -> list[tuple[dict, Look | None]]:
    """Rows to draw; a look of None is a task's heading."""
    lines: list[tuple[dict, Look | None]] = []
    tasks = table["task"].unique() if "task" in table else [None]
    for task in tasks:
        rows = table if task is None else table[table["task"] == task]
        if len(tasks) > 1:
            lines.append(({"name": str(task)}, None))
        for strategy, look in styles.items():
            lines += [(row, look) for row in rows[rows["strategy"] == strategy].to_dict("records")]
    return lines


def _rows(
    lines: list[tuple[dict, Look | None]], xlabel: str, width: float, verdicts: bool, legend: Legend | None = None
) -> tuple[Figure, Axes]:
    """A figure with a line per row, names at the left, verdicts at the right, a legend below."""
    size = small()
    row_height = ROW * (0.85 if width <= ONE_COLUMN else 1)
    names = [wrapped(row["name"] if look is None else look.name, 0.36 * width, size) for row, look in lines]
    headings = [name for name, (_, look) in zip(names, lines, strict=True) if look is None]
    left = max(widest(names, size), 1.12 * widest(headings, size)) + 0.14  # headings are bold
    words = [str(row.get("verdict", "")) for row, _ in lines]
    right = widest(words, size) + 0.16 if verdicts else 0.16
    heights = [max(1, name.count("\n") + 1) for name in names]
    tall, foot = row_height * max(sum(heights), 1) + 0.08, 0.45 + (legend.height if legend else 0.0)
    figure = Figure(figsize=(width, 0.08 + tall + foot))
    height = figure.get_figheight()
    axes = figure.add_axes((left / width, foot / height, (width - left - right) / width, tall / height))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), names, color=INK, fontsize=size)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", pad=4)
    axes.set_xlabel(xlabel)
    axes.locator_params(axis="x", nbins=5 if width <= ONE_COLUMN else 9)
    for label, (_, look) in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if look is None else "normal")
    for place, (word, (_, look)) in enumerate(zip(words, lines, strict=True)):
        if word and look is not None and verdicts:
            axes.annotate(word, (1, place), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                          va="center", fontsize=size)  # fmt: skip
    if legend:
        legend.draw(figure)
    return figure, axes


def _interval(axes: Axes, place: int, mean: float, low: float, high: float, look: Look) -> None:
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [place, place], color=look.colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
    if np.isfinite(mean):
        axes.plot([mean], [place], **look.line(linewidth=0), zorder=3)


def _arrow(axes: Axes, place: int, border: float, look: Look) -> None:
    marker = ">" if border > 0 else "<"
    line: dict[str, Any] = {
        "markerfacecolor": "white",
        "markeredgecolor": look.colour,
        "markeredgewidth": 1.2,
        "markersize": 7,
    }
    axes.plot([border], [place], marker=marker, linewidth=0, clip_on=False, zorder=4, **line)


def critical_difference(
    mean_ranks: dict[str, float], styles: dict[str, Look], cd: float, width: float = TWO_COLUMNS
) -> Figure:
    """Demšar's diagram (2006): mean ranks on a line, best at the left; a bar joins those that differ by less than cd.

    mean_ranks: strategy → mean rank, 1 is best. cd: the Nemenyi test's critical difference.
    """
    order = sorted(mean_ranks, key=lambda strategy: mean_ranks[strategy])
    ranks = np.array([mean_ranks[strategy] for strategy in order])
    count, size, step = len(order), small(), small() * 1.9 / 72
    groups = cliques(ranks, cd)
    said = [styles[s].name + (f" ({mean_ranks[s]:.2f})" if width > ONE_COLUMN else "") for s in order]
    side = min(widest(said, size) + 0.3, 0.36 * width)
    names = [wrapped(name, side - 0.3, size) for name in said]
    top, bars = 0.62, 0.12 + 0.085 * len(groups)
    half = -(-count // 2)
    deep = max(name.count("\n") for name in names)
    step *= 1 + 0.7 * deep
    height = top + bars + step * half + 0.05
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)

    def at(rank: float) -> float:
        return side + (rank - 1) / max(count - 1, 1) * (width - 2 * side)

    _scale(axes, at, count, top, cd)
    for level, (first, last) in enumerate(groups):
        y = top + 0.12 + 0.085 * level
        axes.plot([at(ranks[first]) - 0.04, at(ranks[last]) + 0.04], [y, y], color=INK, linewidth=2.6)
    for i, (strategy, name) in enumerate(zip(order, names, strict=True)):
        look, left = styles[strategy], i < half
        row = i if left else count - 1 - i
        y, end = top + bars + step * (row + 0.5), side - 0.06 if left else width - side + 0.06
        axes.plot([at(ranks[i]), at(ranks[i]), end], [top, y, y], color=look.colour, linewidth=1.1, zorder=1)
        axes.plot([at(ranks[i])], [top], **look.line(linewidth=0), zorder=3, clip_on=False)
        axes.text(end + (-0.05 if left else 0.05), y, name, ha="right" if left else "left", va="center", fontsize=size)
    return figure


def _scale(axes: Axes, at: Callable[[float], float], count: int, top: float, cd: float) -> None:
    """The line of ranks with its ticks, and the critical difference as a measure above it."""
    axes.plot([at(1), at(count)], [top, top], color=INK, linewidth=0.9)
    for rank in range(1, count + 1):
        axes.plot([at(rank)] * 2, [top, top - 0.06], color=INK, linewidth=0.9)
        axes.text(at(rank), top - 0.09, f"{rank}", ha="center", va="bottom", fontsize=small(), color=FAINT)
    end = min(at(1 + cd), at(count))
    axes.plot([at(1), end], [0.2, 0.2], color=INK, linewidth=1.4, marker="|", markersize=6)
    wider = " (wider than the scale)" if 1 + cd > count else ""
    axes.text(end + 0.08, 0.2, f"critical difference {cd:.2f}{wider}", ha="left", va="center", fontsize=small())


def cliques(ranks: np.ndarray, cd: float) -> list[tuple[int, int]]:
    """The longest runs (first, last) of ascending mean ranks whose ends differ by no more than cd; two or more.

    >>> cliques(np.array([1.0, 1.5, 2.2, 4.0]), 1.0)
    [(0, 1), (1, 2)]
    """
    last = [int(np.searchsorted(ranks, rank + cd, side="right")) - 1 for rank in ranks]
    runs = [(first, end) for first, end in enumerate(last) if end > first]
    return [runs[i] for i in range(len(runs)) if i == 0 or runs[i][1] > runs[i - 1][1]]
