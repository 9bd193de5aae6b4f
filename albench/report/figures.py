"""Figures over the number of labels: matplotlib's object-oriented interface, no global state beyond the drawing itself.

Every function takes the figure's width in inches (`looks.TWO_COLUMNS` or `ONE_COLUMN`), is drawn within `looks.style`
of that width, and places its axes by hand, since layout engines take a second each.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from albench.report.lettering import Legend, label_ticks, name_lines, widest
from albench.report.looks import FAINT, INK, ONE_COLUMN, TWO_COLUMNS, Look, present, small

LEFT, TOP, FOOT = 0.64, 0.1, 0.48  # inches beside, above and below axes
FEW, REACH = 3, 4  # seeds, below which an interval is 12.7 standard errors long; how far it is drawn, in largest means
BANDS = 8  # strategies beyond which bands would hide the curves, and the curves one another
LEADERS = 6  # of so many, in colour beside the reference
CROWD: dict[str, Any] = {"color": "#C4C4C4", "linewidth": 0.7}  # the others
MOST = 1.9  # inches that names at the right may take; longer ones stand below


def learning_curve(
    table: pd.DataFrame,
    styles: dict[str, Look],
    ylabel: str,
    ceiling: tuple[float, str] | None = None,
    published: pd.DataFrame | None = None,
    published_name: str = "published",
    reference: str = "",
    higher: bool = True,
    width: float = TWO_COLUMNS,
) -> Figure:
    """Mean and ± 1 std over seeds against labels; of very many strategies only the `leading` ones in colour.

    Args:
        table: `analysis.curves.curves` of one task and metric.
        styles: looks by strategy; those without rows are left out.
        ylabel: the metric as it is written.
        ceiling: (value, label) of a line across, such as what training on the whole pool reaches.
        published: columns strategy, labelled, value, uncertainty (of reading it off a figure); dashed, with error bars.
        published_name: what the dashed curves are called.
        reference: the strategy that is in colour in any case.
        higher: whether a higher value is a better one.
        width: inches.
    """
    extra = [(published_name, _published_line("#444444", "o"))] if published is not None else []
    coloured = leading(table, styles, reference, higher)
    figure, axes, finish = _over_labels(list(coloured.values()), ylabel, width, [*_crowd(table, coloured), *extra])
    ends = []
    _draw_crowd(axes, table, styles, coloured)
    for look, rows in _curves(table, coloured):
        x, mean, std = (rows[c].to_numpy(float) for c in ("labelled", "mean", "std"))
        if banded(table):
            axes.fill_between(x, mean - std, mean + std, color=look.colour, alpha=0.13, linewidth=0)
        axes.plot(x, mean, **look.line(), zorder=3)
        ends.append((look, x[-1], mean[-1]))
    if published is not None:
        for look, rows in _curves(published, styles):
            doubt = rows["uncertainty"].fillna(0).to_numpy(float)
            line = _published_line(look.colour, look.marker)
            axes.errorbar(rows["labelled"], rows["value"], yerr=doubt, **line, elinewidth=0.8, capsize=1.5, zorder=2)
    if ceiling:
        _across(axes, *ceiling)
    finish(table["labelled"].unique(), ends)
    return figure


def difference_curve(
    table: pd.DataFrame,
    styles: dict[str, Look],
    ylabel: str,
    reference: str,
    higher: bool = True,
    width: float = TWO_COLUMNS,
) -> Figure:
    """Mean paired difference to the reference with its interval, against labels; colours as in `learning_curve`.

    table: `analysis.curves.difference_curve`: columns strategy, labelled, mean, low, high, n. ylabel: such as
    "accuracy − random".
    """
    table = table[table["strategy"] != reference]
    coloured = leading(table, styles, higher=higher)
    figure, axes, finish = _over_labels(list(coloured.values()), ylabel, width, _crowd(table, coloured))
    axes.axhline(0, color=INK, linewidth=1)
    ends = []
    _draw_crowd(axes, table, styles, coloured)
    for look, rows in _curves(table, coloured):
        x, mean, low, high = (rows[c].to_numpy(float) for c in ("labelled", "mean", "low", "high"))
        if banded(table):
            axes.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)
            for edge in (low, high):  # bands of several strategies overlap: their borders keep them apart
                axes.plot(x, edge, color=look.colour, linewidth=0.6, alpha=0.55)
        axes.plot(x, mean, **look.line(), zorder=3)
        finite = np.flatnonzero(np.isfinite(mean))
        if len(finite):
            ends.append((look, x[finite[-1]], mean[finite[-1]]))
    if banded(table):
        bottom, top = framed(table[["mean", "low", "high"]].to_numpy(float), table["n"].to_numpy())
        room = 0.05 * (top - bottom) or 0.01
        axes.set_ylim(bottom - room, top + room)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g}".replace("-", "−") if value else "0")
    finish(table["labelled"].unique(), ends)
    return figure


def framed(values: np.ndarray, seeds: np.ndarray) -> tuple[float, float]:
    """Where an axis of differences ends (low, high): with 0, all means and all intervals, but those of two seeds only
    as far as REACH times the largest mean, since next to them no curve could be told from another.

    values [N, …]: mean, then ends of intervals; what is not finite does not count. seeds [N].
    """
    means = np.abs(values[:, 0])
    reach = REACH * means[np.isfinite(means)].max(initial=0)
    values = np.where((seeds < FEW)[:, None] & (reach > 0), values.clip(-reach, reach), values)
    finite = values[np.isfinite(values)]
    return float(finite.min(initial=0)), float(finite.max(initial=0))


def banded(table: pd.DataFrame) -> bool:
    """Whether curves are drawn with their bands: only few can be read through one another."""
    return table["strategy"].nunique() <= BANDS


def leading(table: pd.DataFrame, styles: dict[str, Look], reference: str = "", higher: bool = True) -> dict[str, Look]:
    """The strategies in colour: all that there are, or of very many those that end best, and the reference."""
    shown = present(styles, table)
    if banded(table):
        return shown
    ends = table.sort_values("labelled").groupby("strategy")["mean"].last().drop(reference, errors="ignore")
    kept = {reference, *(ends.nlargest(LEADERS) if higher else ends.nsmallest(LEADERS)).index}
    return {strategy: look for strategy, look in shown.items() if strategy in kept}


def _crowd(table: pd.DataFrame, coloured: dict[str, Look]) -> list[tuple[str, dict]]:
    """The legend's entry of the strategies in grey, if there are any."""
    others = table["strategy"].nunique() - len(coloured)
    return [(f"{others} others", CROWD)] if others else []


def _draw_crowd(axes: Axes, table: pd.DataFrame, styles: dict[str, Look], coloured: dict[str, Look]) -> None:
    for _, rows in _curves(table, {name: look for name, look in styles.items() if name not in coloured}):
        axes.plot(rows["labelled"], rows["mean"], zorder=1, **CROWD)


def _curves(table: pd.DataFrame, styles: dict[str, Look]) -> list[tuple[Look, pd.DataFrame]]:
    """Each strategy's rows along the labels."""
    by_strategy = {name: rows.sort_values("labelled") for name, rows in table.groupby("strategy")}
    return [(look, by_strategy[strategy]) for strategy, look in styles.items() if strategy in by_strategy]


def _over_labels(
    shown: list[Look], ylabel: str, width: float, extra: list[tuple[str, dict]]
) -> tuple[Figure, Axes, Any]:
    """A figure with one pair of axes, and what writes ticks and names once the curves are drawn.

    Names stand at the right in the order in which the curves end, or below where the figure has no room for that.
    """
    names = 0.42 + widest([look.name for look in shown], float(small()) + 1)
    beside = width > ONE_COLUMN and names <= MOST and len(shown) * 0.178 < 3.4
    entries = [] if beside else [(look.name, look.line()) for look in shown]
    legend = Legend([*entries, *extra], width) if entries or extra else None
    below = legend.height if legend else 0.0
    left, foot = LEFT * (0.9 if width <= ONE_COLUMN else 1), FOOT * (0.85 if width <= ONE_COLUMN else 1)
    across = width - left - (names if beside else 0.1)
    tall = 3.4 if width > ONE_COLUMN else 1.85
    figure = Figure(figsize=(width, TOP + tall + foot + below))
    height = figure.get_figheight()
    axes = figure.add_axes((left / width, (foot + below) / height, across / width, tall / height))
    axes.set_xlabel("labelled samples")
    axes.set_ylabel(ylabel)

    def finish(labelled: np.ndarray, ends: list[tuple[Look, float, float]]) -> None:
        label_ticks(axes, labelled, across)
        if beside:
            name_lines(axes, ends, tall)
        if legend:
            legend.draw(figure)

    return figure, axes, finish


def _published_line(colour: str, marker: str) -> dict[str, Any]:
    thin = {"linewidth": 1.0, "markersize": 3.5, "markeredgecolor": colour, "markeredgewidth": 0.8}
    return {"color": colour, "marker": marker, "linestyle": "--", "markerfacecolor": "white"} | thin


def _across(axes: Axes, value: float, label: str) -> None:
    """A labelled line across."""
    axes.axhline(value, color=FAINT, linewidth=1, linestyle=(0, (6, 2)))
    axes.margins(y=0.08)
    axes.annotate(label, (0.01, value), (0, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                  va="bottom", color=FAINT, fontsize=small())  # fmt: skip
