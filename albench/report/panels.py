"""Figures of several panels: what a score says about the loss, a panel per strategy that scores."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from albench.report.lettering import Legend, label_ticks, wrapped
from albench.report.looks import ONE_COLUMN, TWO_COLUMNS, Look, present, small

CHANCE = {"ranking-accuracy": ("ranking accuracy", 0.5), "spearman": ("Spearman's ρ", 0.0)}
BASELINES: dict[str, dict[str, Any]] = {
    "entropy": {"color": "#6B6B6B", "linestyle": "--", "linewidth": 1.4},
    "margin": {"color": "#6B6B6B", "linestyle": "-.", "linewidth": 1},
    "trivial": {"color": "#8F8F8F", "linestyle": ":", "linewidth": 1.7},
}


def ranking(
    table: pd.DataFrame, styles: dict[str, Look], measure: str = "ranking-accuracy", width: float = TWO_COLUMNS
) -> Figure:
    """How well a score orders losses against labels, a panel per strategy that scores, beside baselines.

    Of a strategy that does not score but has a companion it is the companion's prediction.

    The baselines are measured on the same model; bands are ± one standard deviation over seeds. A baseline that is
    the strategy's own score is not drawn a second time, and the legend names what is drawn.
    table: `curves` rows of metrics "MEASURE/{test,candidates}/{score,companion,entropy,…}"; measure: a key of CHANCE.
    """
    ylabel, chance = CHANCE[measure]
    table = table[table["metric"].str.startswith(f"{measure}/")]
    shown = present(styles, table[table["metric"].str.endswith(("/score", "/companion"))])
    lines = {strategy: _lines(table[table["strategy"] == strategy], measure) for strategy in shown}
    drawn = {kind for own in lines.values() for kind in own}
    legend = Legend(
        [
            (f"{name}, {'test set' if where == 'test' else where}", look)
            for (where, name), look in _looks(Look("", "#444444", "o")).items()
            if (where, name) in drawn
        ],
        width,
    )
    titles = [styles[s].name for s in shown]
    figure, panels, across = _panels(titles, ylabel, "labelled samples", width, True, legend)
    for axes, strategy in zip(panels, shown, strict=True):
        axes.axhline(chance, color="#BBBBBB", linewidth=1)
        for kind, look in reversed(_looks(styles[strategy]).items()):
            if kind not in lines[strategy]:
                continue
            rows = lines[strategy][kind]
            if kind != ("candidates", "score"):
                ends = (rows["mean"] - rows["std"]).to_numpy(float), (rows["mean"] + rows["std"]).to_numpy(float)
                axes.fill_between(rows["labelled"], *ends, color=look["color"], alpha=0.13, linewidth=0)
            axes.plot(rows["labelled"], rows["mean"], **look)
        label_ticks(axes, table.loc[table["strategy"] == strategy, "labelled"].unique(), across)
        spread = table["std"].fillna(0)
        low, high = (table["mean"] - spread).min(), (table["mean"] + spread).max()
        low, high = min(chance - 0.1, low), max(chance + 0.3, high)
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    return figure


def _lines(mine: pd.DataFrame, measure: str) -> dict[tuple[str, str], pd.DataFrame]:
    """(where, predictor) → a strategy's rows along the labels, of what `_looks` draws."""
    found: dict[tuple[str, str], pd.DataFrame] = {}
    for where, name in _looks(Look("", "#000000", "o")):
        rows = mine[mine["metric"] == f"{measure}/{where}/{name}"].sort_values("labelled")
        own = found.get(("test", "score"), found.get(("test", "companion")))
        same = name in BASELINES and own is not None and np.array_equal(own["mean"], rows["mean"])
        if len(rows) and not same:
            found[where, name] = rows
    return found


def _looks(look: Look) -> dict[tuple[str, str], dict[str, Any]]:
    """(where, predictor) → its line, in the legend's order; what comes first is drawn last, on top."""
    own = {("test", "score"): look.line(linestyle="-"), ("candidates", "score"): _hollow(look)}
    own[("test", "companion")] = look.line(linestyle=(0, (5, 1)))
    return own | {("test", name): line for name, line in BASELINES.items()}


def _hollow(look: Look) -> dict[str, Any]:
    return look.line(linestyle="-", linewidth=1, markersize=4, markerfacecolor="white", markeredgecolor=look.colour)


def spans_magnitudes(true: pd.Series) -> bool:
    """Whether losses are drawn on a logarithmic axis."""
    positive = true[(true > 0) & np.isfinite(true)]
    return bool(true.min() >= 0 and len(positive) and positive.quantile(0.95) > 30 * positive.quantile(0.05))


def scatter(
    table: pd.DataFrame,
    styles: dict[str, Look],
    companions: frozenset[str] = frozenset(),
    width: float = TWO_COLUMNS,
) -> Figure:
    """Predicted against true loss of test samples, a panel per strategy. table: columns strategy, predicted, true.

    companions: the strategies that select by no score, of which it is what their companion predicts.
    Where true losses span orders of magnitude their axis is logarithmic (only the order matters to a selection), and
    losses of 0 are drawn at the smallest positive one. Points are pixels within the PDF and SVG: there are thousands.
    """
    shown = present(styles, table)
    figure, panels, _ = _panels([look.name for look in shown.values()], "true loss", "score", width, share=True)
    true = table.loc[np.isfinite(table["true"]), "true"]
    log = spans_magnitudes(true)
    floor = true[true > 0].min() if log else -np.inf
    for axes, (strategy, look) in zip(panels, shown.items(), strict=True):
        mine = table[table["strategy"] == strategy]
        points: dict[str, Any] = {"s": 9, "color": look.colour, "alpha": 0.4, "linewidth": 0, "rasterized": True}
        axes.scatter(mine["predicted"], mine["true"].clip(lower=floor), **points)
        if log:
            _logarithmic(axes, floor / 2, true.max() * 2)
        else:
            margin = 0.04 * (true.max() - true.min()) or 1.0
            axes.set_ylim(true.min() - margin, true.max() + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if strategy in companions:
            axes.set_xlabel("companion")
    return figure


def descent(table: pd.DataFrame, styles: dict[str, Look], width: float = TWO_COLUMNS) -> Figure:
    """The training objective against updates, mean over seeds: a panel of the first stage and one of the last.

    table: columns strategy, stage, labelled, update, objective (its mean). Where objectives span more than a decade
    their axis is logarithmic.
    """
    shown = present(styles, table)
    stages = sorted({int(table["stage"].min()), int(table["stage"].max())})
    labelled = {stage: f"{table.loc[table['stage'] == stage, 'labelled'].max():,} labels" for stage in stages}
    legend = Legend([(look.name, look.line(marker="")) for look in shown.values()], width)
    figure, panels, _ = _panels(list(labelled.values()), "training objective", "updates", width, True, legend)
    low, high = table["objective"].min(), table["objective"].max()
    for axes, stage in zip(panels, stages, strict=True):
        for strategy, look in shown.items():
            rows = table[(table["strategy"] == strategy) & (table["stage"] == stage)].sort_values("update")
            axes.plot(rows["update"], rows["objective"], **look.line(marker="", linewidth=1.4))
        if low > 0 and high > 10 * low:
            _logarithmic(axes, low / 1.2, high * 1.2)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        else:
            margin = 0.05 * (high - low) or 1.0
            axes.set_ylim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _power(value: float) -> str:
    """A power of ten: as a number where that is short, else 10⁻⁵."""
    exponent = round(np.log10(value))
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value:g}" if -3 <= exponent <= 3 else f"10{digits}"


def _columns(count: int, width: float) -> int:
    if width <= ONE_COLUMN:
        return min(2, count)
    return 2 if count in (2, 4) else min(3, count)


def _panels(
    titles: list[str], ylabel: str, xlabel: str, width: float, share: bool, legend: Legend | None = None
) -> tuple[Figure, list[Axes], float]:
    """A figure with a panel for each title, two or three a row, and the inches that each is wide.

    share: one scale for all, so that only the first of a row has numbers.
    """
    columns = _columns(len(titles), width)
    rows = -(-len(titles) // columns)
    left, right, gap, below = 0.6, 0.1, 0.2 if share else 0.62, 0.5
    panel = (width - left - right - gap * (columns - 1)) / columns
    titles = [wrapped(title, panel, small() + 1) for title in titles]
    top = 0.16 + max(title.count("\n") + 1 for title in titles) * 1.3 * (small() + 1) / 72
    tall = min(2.1 if columns > 1 else 2.8, 0.9 * panel)
    height = rows * (top + tall + below) + (legend.height if legend else 0.0)
    figure, axes = Figure(figsize=(width, height)), []
    for i, title in enumerate(titles):
        row, column = divmod(i, columns)
        x = left + column * (panel + gap)
        y = height - (row + 1) * (top + tall) - row * below
        axes.append(figure.add_axes((x / width, y / height, panel / width, tall / height)))
        axes[-1].set_title(title, loc="left", y=1)  # y: matplotlib searches for it else
        axes[-1].set_xlabel(xlabel)
        if column == 0:
            axes[-1].set_ylabel(ylabel)
        elif share:
            axes[-1].tick_params(labelleft=False)
    if legend:
        legend.draw(figure)
    return figure, axes, panel
