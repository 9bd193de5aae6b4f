"""Figures of a report: matplotlib's object-oriented interface, no global state beyond the drawing itself.

A strategy's colour and marker are the same in every figure: they follow from its place in the suite. The reference
(random) and its variants are grey, the others take Okabe and Ito's colour-blind-safe palette without its yellow, which
white paper swallows. Figures are drawn on white, so that they read the same on a dark page and in print.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, product
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from albench.report.runs import Run

GREYS = ("#6E6E6E", "#3C3C3C", "#A8A8A8")  # the first is legible on white and on a dark page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B4B94")
GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "<": "◀", ">": "▶", "*": "★"}
MARKERS = tuple(GLYPHS)  # markers of matplotlib, and what a table shows in their place
INK, FAINT = "#222222", "#6B6B6B"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "text.color": INK,
    "axes.edgecolor": "#9A9A9A",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # text stays text in an author's paper
}


@dataclass(frozen=True)
class Look:
    """How a strategy is drawn, everywhere. `name` is its label with the mark of those that cheat."""

    name: str
    colour: str
    marker: str
    dashes: str = "-"

    @property
    def glyph(self) -> str:
        """The marker as a character."""
        return GLYPHS[self.marker]

    def line(self, **changes: Any) -> dict[str, Any]:
        """Keyword arguments for a curve."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dashes,
            "linewidth": 1.8,
            "markersize": 5.5,
            "markeredgecolor": "white",
            "markeredgewidth": 0.7,
        } | changes


def looks(runs: list[Run]) -> dict[str, Look]:
    """One look per strategy label, in the order of the suites."""
    greys = cycle(product(("-", "--", ":"), GREYS))
    colours = cycle(product(("-", "--", ":", "-."), COLOURS))
    found: dict[str, Look] = {}
    for run in runs:
        reference = run.strategies.get(run.reference, {}).get("strategy", run.reference)
        for label, facts in run.strategies.items():
            if label in found:
                continue
            family = str(facts.get("strategy", label))
            is_reference = family == reference or family.startswith(f"{reference}-")
            dashes, colour = next(greys if is_reference else colours)
            name = f"{label} ⚠" if facts.get("cheats") else label
            found[label] = Look(name, colour, MARKERS[len(found) % len(MARKERS)], dashes)
    return found


@contextmanager
def style() -> Iterator[None]:
    """Draw and save within it; the caller's own matplotlib settings come back afterwards."""
    with matplotlib.rc_context(STYLE):
        yield


def learning_curve(table: pd.DataFrame, styles: dict[str, Look], ylabel: str) -> Figure:
    """Mean and ± 1 std over seeds against labels. `table` is `analysis.curves.curves` of one task and metric."""
    longest = max(len(look.name) for look in styles.values())
    names = min(2.4, 0.42 + 0.07 * longest)  # inches for the names at the right
    width, height = 5.8, 3.7  # narrow enough to be read whole on a phone
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.58 / width, 0.48 / height, (width - 0.58 - names) / width, (height - 0.56) / height))
    ends: list[tuple[Look, float, float]] = []
    for strategy, look in styles.items():
        rows = table[table["strategy"] == strategy].sort_values("labelled")
        if rows.empty:
            continue
        x, mean, std = (rows[c].to_numpy(float) for c in ("labelled", "mean", "std"))
        axes.fill_between(x, mean - std, mean + std, color=look.colour, alpha=0.13, linewidth=0)
        axes.plot(x, mean, **look.line(), zorder=3)
        ends.append((look, x[-1], mean[-1]))
    axes.set_xlabel("labelled samples")
    axes.set_ylabel(ylabel)
    _label_ticks(axes, table["labelled"].unique())
    _name_lines(axes, ends)
    return figure


def _label_ticks(axes: Axes, labelled: np.ndarray) -> None:
    """A tick at every number of labels that was measured, as long as they can be read."""
    labelled = np.sort(labelled)
    if 1 < len(labelled) <= 12:
        axes.set_xticks(labelled, [f"{n:,}" for n in labelled])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _name_lines(axes: Axes, ends: list[tuple[Look, float, float]]) -> None:
    """Names at the right, in the curves' final order, moved apart where they would overlap."""
    if not ends:
        return
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    right = max(x for _, x, _ in ends)
    axes.set_xlim(axes.get_xlim()[0], right + 0.02 * (right - axes.get_xlim()[0]))
    ends = sorted(ends, key=lambda end: end[2])
    wanted = np.array([(y - low) / (high - low) for _, _, y in ends])
    places = spread(wanted, gap=min(0.055, 1 / len(ends)))
    across = axes.get_yaxis_transform()
    for (look, x, _), wish, place in zip(ends, wanted, places, strict=True):
        if x == right:
            leader = Line2D([1.0, 1.025], [wish, place], color=look.colour, linewidth=0.8, transform=axes.transAxes)
            leader.set_clip_on(False)
            axes.add_line(leader)
        marker = look.line(linewidth=0)
        axes.plot([1.042], [low + place * (high - low)], **marker, transform=across, clip_on=False)
        axes.text(1.065, place, look.name, transform=axes.transAxes, va="center", fontsize=8.5)


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Ascending places in [0, 1], at least `gap` apart and as near to the wanted ones as a simple pass gets.

    >>> spread(np.array([0.5, 0.5]), 0.1).round(2).tolist()
    [0.45, 0.55]
    """
    steps = np.arange(len(wanted)) * gap
    # Pool neighbours that violate the order (isotonic regression by pooling), then give the gaps back.
    blocks: list[list[float]] = []
    for value in wanted - steps:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    pooled = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])
    return np.clip(pooled, 0, max(0.0, 1 - steps[-1])) + steps


def ranking(table: pd.DataFrame, styles: dict[str, Look]) -> Figure:
    """Ranking accuracy against labels, a panel per strategy that scores, beside two baselines on the same model.

    table: `curves` rows of metrics "ranking-accuracy/{test,candidates}/{score,entropy,trivial}".
    """
    shown = [s for s in styles if ((table["strategy"] == s) & table["metric"].str.endswith("/score")).any()]
    figure, panels = _panels(len(shown), "ranking accuracy", "labelled samples", share=True, legend=True)
    baselines: dict[str, dict[str, Any]] = {
        "trivial": {"color": "#8F8F8F", "linestyle": ":", "linewidth": 1.7},
        "entropy": {"color": "#6B6B6B", "linestyle": "--", "linewidth": 1.4},
    }
    for axes, strategy in zip(panels, shown, strict=True):
        look, mine = styles[strategy], table[table["strategy"] == strategy]
        kinds = {f"test/{name}": kind for name, kind in baselines.items()}
        kinds |= {"candidates/score": _hollow(look), "test/score": look.line(linestyle="-")}
        axes.axhline(0.5, color="#BBBBBB", linewidth=1)
        for metric, kind in kinds.items():
            rows = mine[mine["metric"] == f"ranking-accuracy/{metric}"].sort_values("labelled")
            axes.plot(rows["labelled"], rows["mean"], **kind)
        axes.set_title(look.name, loc="left")
        _label_ticks(axes, mine["labelled"].unique())
        axes.set_ylim(min(0.4, table["mean"].min() - 0.02), max(0.8, table["mean"].max() + 0.02))
    grey = Look("", "#444444", "o")
    handles = [
        Line2D([], [], label="score, test set", **grey.line()),
        Line2D([], [], label="score, candidates", **_hollow(grey)),
        *(Line2D([], [], label=f"{name}, test set", **baselines[name]) for name in ("entropy", "trivial")),
    ]
    columns = 4 if len(shown) > 1 else 2
    figure.legend(handles=handles, loc="lower center", ncols=columns, columnspacing=1.6, handlelength=2.4)
    return figure


def _hollow(look: Look) -> dict[str, Any]:
    return look.line(linestyle="-", linewidth=1, markersize=4, markerfacecolor="white", markeredgecolor=look.colour)


def scatter(table: pd.DataFrame, styles: dict[str, Look]) -> Figure:
    """Predicted against true loss of test samples, a panel per strategy. table: columns strategy, predicted, true.

    Where true losses span orders of magnitude their axis is logarithmic (only the order matters to a selection), and
    losses of 0 are drawn at the smallest positive one.
    """
    shown = [s for s in styles if (table["strategy"] == s).any()]
    figure, panels = _panels(len(shown), "true loss", "score", share=True)
    true = table.loc[np.isfinite(table["true"]), "true"]
    positive = true[true > 0]
    log = true.min() >= 0 and len(positive) > 0 and positive.quantile(0.95) > 30 * positive.quantile(0.05)
    floor = positive.min() if log else -np.inf
    for axes, strategy in zip(panels, shown, strict=True):
        look, mine = styles[strategy], table[table["strategy"] == strategy]
        axes.scatter(mine["predicted"], mine["true"].clip(lower=floor), s=9, color=look.colour, alpha=0.4, linewidth=0)
        axes.set_title(look.name, loc="left")
        if log:
            axes.set_yscale("log")
            axes.set_ylim(floor / 2, true.max() * 2)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            margin = 0.04 * (true.max() - true.min()) or 1.0
            axes.set_ylim(true.min() - margin, true.max() + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def _columns(count: int) -> int:
    return 2 if count in (2, 4) else min(3, count)


def _panels(count: int, ylabel: str, xlabel: str, share: bool, legend: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, two or three a row, placed by hand (layout engines take a second each).

    share: one scale for all, so that only the first of a row has numbers. legend: leave room below.
    """
    columns = _columns(count)
    rows = -(-count // columns)
    left, right, gap, top, below = 0.6, 0.1, 0.2 if share else 0.62, 0.3, 0.5
    foot = 0.0 if not legend else 0.35 if count > 1 else 0.5
    width = 6.8 if columns > 1 else 4.2
    panel = (width - left - right - gap * (columns - 1)) / columns
    tall = min(2.1, 0.9 * panel)
    height = rows * (top + tall + below) + foot
    figure, axes = Figure(figsize=(width, height)), []
    for i in range(count):
        row, column = divmod(i, columns)
        x = left + column * (panel + gap)
        y = height - (row + 1) * (top + tall) - row * below
        axes.append(figure.add_axes((x / width, y / height, panel / width, tall / height)))
        axes[-1].set_xlabel(xlabel)
        if column == 0:
            axes[-1].set_ylabel(ylabel)
        elif share:
            axes[-1].tick_params(labelleft=False)
    return figure, axes
