"""Interactive charts of the page, as data: page.js draws them. The numbers are those of the figures they stand for."""

from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from albench.report.figures import banded, framed
from albench.report.looks import Look
from albench.report.numbers import number


@dataclass(frozen=True)
class Series:
    """A curve. low, high: its band, or the ends of its error bars where `published`; text: what a point says.

    Lists are of one length, in the order of x; None where there is no number.
    """

    name: str
    colour: str
    dark: str  # the colour on a dark page
    marker: str
    dashes: str
    x: list[float]
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    text: list[str]
    published: bool = False


@dataclass(frozen=True)
class Line:
    """A horizontal line across a chart, such as the full-data ceiling."""

    value: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Series over a common axis. ticks: where the x axis is labelled; lines: horizontal ones.

    frame: (low, high) beyond which bands may run off the axis.
    """

    xlabel: str
    ylabel: str
    series: list[Series]
    ticks: list[float]
    lines: list[Line] = field(default_factory=list)
    frame: tuple[float, float] | None = None

    def specification(self) -> dict:
        """For JSON."""
        return asdict(self)


def learning_chart(
    table: pd.DataFrame,
    styles: dict[str, Look],
    ylabel: str,
    ceiling: tuple[float, str] | None = None,
    published: pd.DataFrame | None = None,
    published_name: str = "published",
) -> Chart:
    """What `figures.learning_curve` draws, to be looked into; the arguments are the same."""
    series = []
    for strategy, look in styles.items():
        rows = table[table["strategy"] == strategy].sort_values("labelled")
        if not rows.empty:
            mean, std = rows["mean"].to_numpy(float), rows["std"].to_numpy(float)
            text = [_spread(*point) for point in zip(mean, std, rows["n"], strict=True)]
            std = std if banded(table) else np.full(len(std), np.nan)
            series.append(_series(look, rows["labelled"], mean, mean - std, mean + std, text))
    if published is not None:
        for strategy, look in styles.items():
            rows = published[published["strategy"] == strategy].sort_values("labelled")
            if not rows.empty:
                value, doubt = rows["value"].to_numpy(float), rows["uncertainty"].fillna(0).to_numpy(float)
                text = [f"{v:.4f}" + (f", read to ± {d:g}" if d > 0 else "") for v, d in zip(value, doubt, strict=True)]
                dashed = Look(f"{look.name}, {published_name}", look.colour, look.marker, "--")
                series.append(_series(dashed, rows["labelled"], value, value - doubt, value + doubt, text, True))
    lines = [Line(float(ceiling[0]), ceiling[1])] if ceiling else []
    return Chart("labelled samples", ylabel, series, _ticks(table), lines)


def difference_chart(table: pd.DataFrame, styles: dict[str, Look], ylabel: str, reference: str) -> Chart:
    """What `figures.difference_curve` draws, to be looked into; the arguments are the same."""
    series = []
    for strategy, look in styles.items():
        rows = table[(table["strategy"] == strategy) & (strategy != reference)].sort_values("labelled")
        if not rows.empty:
            mean, low, high = (rows[c].to_numpy(float) for c in ("mean", "low", "high"))
            text = [_interval(*point) for point in zip(mean, low, high, rows["n"], strict=True)]
            if not banded(table):
                low = high = np.full(len(mean), np.nan)
            series.append(_series(look, rows["labelled"], mean, low, high, text))
    frame = framed(table[["mean", "low", "high"]].to_numpy(float), table["n"].to_numpy())
    return Chart("labelled samples", ylabel, series, _ticks(table), [Line(0.0, reference)], frame)


def _series(
    look: Look,
    x: pd.Series,
    mean: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    text: list[str],
    published: bool = False,
) -> Series:
    a, b, c = ([float(v) if np.isfinite(v) else None for v in values] for values in (mean, low, high))
    at = [float(v) for v in x]
    return Series(look.name, look.colour, look.dark, look.marker, look.dashes, at, a, b, c, text, published)


def _ticks(table: pd.DataFrame) -> list[float]:
    return sorted({float(labelled) for labelled in table["labelled"]})


def _spread(mean: float, std: float, seeds: float) -> str:
    return f"{number(mean)}{f' ± {number(std)}' if np.isfinite(std) else ''} (n = {seeds:.0f})"


def _interval(mean: float, low: float, high: float, seeds: float) -> str:
    ends = [number(end, 4, True) for end in (low, high)]
    between = f" [{', '.join(ends)}]" if np.isfinite(low) and np.isfinite(high) else ""
    return f"{number(mean, 4, True)}{between} (n = {seeds:.0f})"
