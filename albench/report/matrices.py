"""Heat maps: significance of all pairs, penalty matrix, class balance, overlap of selections."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Affine2D

from albench.report.lettering import breadth, widest, wrapped
from albench.report.looks import FAINT, INK, TWO_COLUMNS, luminance, small
from albench.report.numbers import number

# colour-blind-safe: purple for more, orange for less; one hue from pale to dark
MAPS = {"difference": "PuOr", "amount": "Blues", "ratio": "PuOr"}
EMPTY = "#F0F0F0"
BAR, LEAST = 0.13, 1.0  # inches: the colour bar's breadth and least height


def heat_map(
    matrix: pd.DataFrame,
    texts: pd.DataFrame | None = None,
    marks: pd.DataFrame | None = None,
    *,
    kind: str = "difference",
    limit: float | None = None,
    label: str = "",
    rows: str = "",
    columns: str = "",
    width: float = TWO_COLUMNS,
) -> Figure:
    """A matrix as colours with its numbers.

    Args:
        matrix: values with row and column names; NaN is a grey cell.
        texts: what cells say, of the same shape; default nothing. Left out where cells are too small to hold it.
        marks: appended to the texts ("*" for significance), and shown even where the texts do not fit.
        kind: "difference" (diverging at 0), "amount" (from 0), or "ratio" (logarithmic, diverging at 1).
        limit: where the colours end: ± limit, 0 to limit, or 1/limit to limit; default from the values.
        label: of the colour bar.
        rows, columns: what the names at the left and at the top are, such as "strategy".
        width: inches.
    """
    norm = _norm(matrix.to_numpy(float), kind, limit)
    figure, axes, cell = _frame(matrix, norm, kind, label, width, rows, columns)
    if texts is not None or marks is not None:
        _write(axes, matrix, texts, marks, ScalarMappable(norm, MAPS[kind]), cell)
    return figure


def significance(
    difference: pd.DataFrame, p_adjusted: pd.DataFrame, alpha: float = 0.05, label: str = "", width: float = TWO_COLUMNS
) -> Figure:
    """Mean differences row − column of all pairs; "*" where the adjusted p is below alpha.

    difference, p_adjusted: square, strategies' names on both sides, NaN on the diagonal.
    """
    texts = difference.map(lambda v: number(v, 3, True) if np.isfinite(v) else "")
    marks = (difference.notna() & (p_adjusted < alpha)).map(lambda significant: "*" if significant else "")
    return heat_map(difference, texts, marks, label=label, rows="row minus column", width=width)


def penalties(matrix: pd.DataFrame, means: pd.Series | None = None, width: float = TWO_COLUMNS) -> Figure:
    """The pairwise penalty matrix: how often the row beats the column. means: a last row, how often each is beaten."""
    shown = matrix if means is None else pd.concat([matrix, means.rename("column mean").to_frame().T])
    texts = shown.map(lambda v: f"{v:.2f}" if np.isfinite(v) else "")
    return heat_map(
        shown, texts, kind="amount", label="times that the row beats the column", rows="row beats column", width=width
    )


def balance(ratio: pd.DataFrame, width: float = TWO_COLUMNS) -> Figure:
    """Share of a class among what was selected over its share in the pool. ratio: strategies × classes, 1 = as pool.

    Classes that were never selected have a ratio of 0, drawn as the colour at the scale's end.
    """
    texts = ratio.map(lambda v: f"{v:.2f}" if np.isfinite(v) else "")
    return heat_map(ratio, texts, kind="ratio", label="selection ÷ pool", width=width)


def overlap(jaccard: pd.DataFrame, width: float = TWO_COLUMNS) -> Figure:
    """Jaccard index of what two strategies selected: 1 the same samples, 0 none in common. jaccard: square."""
    texts = jaccard.map(lambda v: f"{v:.2f}" if np.isfinite(v) else "")
    return heat_map(jaccard, texts, kind="amount", limit=1.0, label="Jaccard index", width=width)


def _norm(values: np.ndarray, kind: str, limit: float | None) -> Normalize:
    finite = values[np.isfinite(values)]
    if kind == "ratio":
        positive = finite[finite > 0]
        end = limit or max(2.0, float(np.exp(np.abs(np.log(positive)).max(initial=0))))
        return LogNorm(1 / end, end, clip=True)
    end = limit or float(np.abs(finite).max(initial=0)) or 1.0
    return TwoSlopeNorm(0, -end, end) if kind == "difference" else Normalize(0, end)


def _frame(
    matrix: pd.DataFrame, norm: Normalize, kind: str, label: str, width: float, rows: str, columns: str
) -> tuple[Figure, Axes, tuple[float, float]]:
    """Coloured cells with names and colour bar; returns the cells' size in inches too."""
    size, line = small(), small() * 1.25 / 72
    names = [wrapped(str(name), 0.3 * width, size) for name in matrix.index]
    heads = [wrapped(str(name), 1.6, size) for name in matrix.columns]
    left = widest(names, size) + 0.12 + (line if rows else 0)
    bar = 0.42 + widest(["−0.000"], size) + (2 * line if label else 0)
    wide = min(0.95, (width - left - bar) / len(heads))
    flat = widest(heads, size) + 0.08 < wide  # else the names stand upright
    top = (max(h.count("\n") + 1 for h in heads) * line if flat else widest(heads, size)) + 0.12
    top += line if columns else 0
    tall = min(max(0.3, 0.45 * wide), 0.42)
    tall = max(tall, max(n.count("\n") + 1 for n in names) * line + 0.04)
    height = top + max(tall * len(names), LEAST) + 0.08
    figure = Figure(figsize=(left + wide * len(heads) + bar, height))
    total = figure.get_figwidth()
    bottom = height - top - tall * len(names)
    box = (left / total, bottom / height, wide * len(heads) / total, tall * len(names) / height)
    axes = figure.add_axes(box)
    axes.grid(False)
    axes.set_facecolor(EMPTY)
    values = np.ma.masked_invalid(matrix.to_numpy(float))
    edges = (np.arange(n + 1) - 0.5 for n in values.shape[::-1])
    axes.pcolormesh(*edges, values, norm=norm, cmap=MAPS[kind], edgecolors="white", linewidth=1)
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(heads)), heads, rotation=0 if flat else 90, color=INK, fontsize=size)
    axes.set_yticks(range(len(names)), names, color=INK, fontsize=size)
    axes.tick_params(length=0, pad=3)
    axes.spines[:].set_visible(False)
    if rows:
        axes.set_ylabel(rows, fontsize=size, color=FAINT)
    if columns:
        axes.set_xlabel(columns, fontsize=size, color=FAINT)
        axes.xaxis.set_label_position("top")
    _bar(figure, axes, norm, kind, label)
    return figure, axes, (wide, tall)


def _bar(figure: Figure, axes: Axes, norm: Normalize, kind: str, label: str) -> None:
    """The colour bar, as tall as the map but at least LEAST."""
    box, (total, height) = axes.get_position(), figure.get_size_inches()
    tall = min(max(box.height * height, LEAST), 2.4)
    place = (box.x1 + 0.14 / total, box.y1 - tall / height, BAR / total, tall / height)
    bar = figure.colorbar(ScalarMappable(norm, MAPS[kind]), cax=figure.add_axes(place))
    middle = box.y1 * height - tall / 2
    label = wrapped(label, 2 * min(middle, height - middle) - 0.05, small())
    bar.set_label(label, fontsize=small(), color=FAINT)
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    if kind == "ratio":
        low, high = norm.vmin or 0.0, norm.vmax or np.inf
        steps = [s for s in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16) if low <= s <= high]
        bar.ax.yaxis.set_major_locator(FixedLocator(steps))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if v >= 1 else f"1/{1 / v:g}"))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    else:
        bar.ax.yaxis.set_major_locator(MaxNLocator(5))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.3g}".replace("-", "−")))


def _write(
    axes: Axes,
    matrix: pd.DataFrame,
    texts: pd.DataFrame | None,
    marks: pd.DataFrame | None,
    colours: ScalarMappable,
    cell: tuple[float, float],
) -> None:
    """Texts and marks into the cells, in black or white, whichever reads better on the cell's colour."""
    values = matrix.to_numpy(float)
    said = np.full(values.shape, "", object) if texts is None else texts.to_numpy(object)
    added = np.full(values.shape, "", object) if marks is None else marks.to_numpy(object)
    whole = said + added
    fits = [max(breadth(t, small()) for t in cells.flat) <= cell[0] - 0.06 for cells in (whole, added)]
    if not any(fits):
        return
    shades = colours.to_rgba(np.ma.masked_invalid(values))
    bright = ~np.isfinite(values) | (np.array([[luminance(tuple(shade)) for shade in row] for row in shades]) > 0.3)
    if not fits[0]:
        _stamp(axes, added, bright)
        return
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": small()}
    for (row, column), text in np.ndenumerate(whole):
        if text:
            axes.text(column, row, text, color=INK if bright[row, column] else "white", **style)


def _stamp(axes: Axes, marks: np.ndarray, bright: np.ndarray) -> None:
    """Marks alone into the cells, the equal ones as one line's markers: there are many, and texts are slow."""
    for mark, on_bright in product(sorted(set(marks.flat) - {""}), (True, False)):
        rows, columns = np.nonzero((marks == mark) & (bright == on_bright))
        glyph = TextPath((0, 0), mark, size=small())
        box = glyph.get_extents()
        centred = glyph.transformed(Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2))
        size = 2 * np.abs(centred.vertices).max()  # the markersize at which matplotlib leaves an outline as it is
        look = {"marker": centred, "markersize": size, "markeredgewidth": 0, "color": INK if on_bright else "white"}
        axes.add_line(Line2D(columns, rows, linestyle="none", **look))
