"""How strategies and figures look: one colour and marker per strategy everywhere, sizes for one and two columns.

A strategy's colour and marker follow from its name, so that they are the same in all reports; of two with the same
ones the later in the suite takes what is free. The reference (random) and its variants are grey, the others take Okabe
and Ito's colour-blind-safe palette without its yellow, which white paper swallows. Files are drawn on white, so that
they read the same on a dark page and in print; the page's own charts use `Look.dark` on a dark page.
"""

import colorsys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, cycle, product
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from albench.report import typeface
from albench.report.runs import Run

TWO_COLUMNS, ONE_COLUMN = 6.9, 3.3  # inches: the text and the column of the usual two-column paper
GREYS = ("#6E6E6E", "#3C3C3C", "#A8A8A8")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B4B94")
GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "<": "◀", ">": "▶", "*": "★"}
MARKERS = tuple(GLYPHS)  # markers of matplotlib, and what a table shows in their place
SALT = b"11411"  # with it the names of the usual comparisons get looks of their own
INK, FAINT = "#222222", "#6B6B6B"
DARK_CARD = "#1c1f24"  # of page.css
READABLE = 4.0  # contrast that a mark keeps on a dark page (3 is WCAG's least for graphics)
STYLE: dict[Any, Any] = {
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar
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
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.bbox": "standard",  # whatever the user's own settings say
    "pdf.fonttype": 42,  # text stays text in an author's paper
    "svg.fonttype": "none",
    "svg.hashsalt": "albench",  # the same figure gives the same file
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

    @property
    def dark(self) -> str:
        """The colour on a dark page."""
        return on_dark(self.colour)

    def line(self, **changes: Any) -> dict[str, Any]:
        """Keyword arguments for a curve; thinner where fonts are smaller."""
        scale = small() / 8
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dashes,
            "linewidth": 1.8 * scale,
            "markersize": (8.5 if self.marker == "*" else 5.5) * scale,  # a star's points are thin
            "markeredgecolor": "white",
            "markeredgewidth": 0.7 * scale,
        } | changes


def looks(runs: list[Run]) -> dict[str, Look]:
    """One look per strategy label, in the order of the suites."""
    kinds = {label: str(facts.get("strategy", label)) for run in runs for label, facts in run.strategies.items()}
    owner: dict[int, str] = {}  # of a colour and a marker: the first whose name leads to them
    for label, kind in kinds.items():
        if not _of_reference(kind, runs):
            owner.setdefault(_place(kind), label)
    own = {label: ("-", COLOURS[place], MARKERS[place + 1]) for place, label in owner.items()}
    greys = cycle(product(("-", "--", ":"), GREYS))
    free = [("-", colour) for place, colour in enumerate(COLOURS) if place not in owner]
    colours = chain(free, cycle(product(("--", ":", "-.", "-"), COLOURS)))
    unused = [marker for place, marker in enumerate(MARKERS) if place - 1 not in owner]
    markers = chain(unused, cycle(MARKERS))
    found: dict[str, Look] = {}
    for run in runs:
        for label, facts in run.strategies.items():
            if label in found:
                continue
            if label in own:
                dashes, colour, marker = own[label]
            else:
                dashes, colour = next(greys if _of_reference(kinds[label], runs) else colours)
                marker = next(markers)
            found[label] = Look(f"{label} ⚠" if facts.get("cheats") else label, colour, marker, dashes)
    return found


def _of_reference(kind: str, runs: list[Run]) -> bool:
    """Whether a strategy is some run's reference, or a variant of it (random-b)."""
    references = {str(run.strategies.get(run.reference, {}).get("strategy", run.reference)) for run in runs}
    return any(kind == reference or kind.startswith(f"{reference}-") for reference in references)


def _place(kind: str) -> int:
    """The colour that a name leads to, the same everywhere."""
    return int.from_bytes(blake2b(kind.encode(), salt=SALT, digest_size=2).digest(), "big") % len(COLOURS)


def present(styles: dict[str, Look], table: pd.DataFrame) -> dict[str, Look]:
    """The looks of the strategies that a table with a column `strategy` holds, in the order of `styles`."""
    there = set(table["strategy"].unique())
    return {strategy: look for strategy, look in styles.items() if strategy in there}


@lru_cache
def on_dark(colour: str) -> str:
    """A colour, lightened in its own hue until it can be told from the dark page's cards.

    Greys change sides before, so that the dark ones do not all become the same.

    >>> on_dark("#56B4E9"), on_dark("#3C3C3C")
    ('#56b4e9', '#c3c3c3')
    """
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    if not saturation:
        lightness = 1 - lightness
    while _contrast(colorsys.hls_to_rgb(hue, lightness, saturation), to_rgb(DARK_CARD)) < READABLE:
        lightness += 0.01
    return to_hex(colorsys.hls_to_rgb(hue, lightness, saturation))


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2's contrast ratio of two sRGB colours."""
    a, b = sorted((luminance(one), luminance(other)))
    return (b + 0.05) / (a + 0.05)


def luminance(colour: tuple[float, ...]) -> float:
    """WCAG 2's relative luminance of an sRGB colour, channels in [0, 1]."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@contextmanager
def style(width: float = TWO_COLUMNS) -> Iterator[None]:
    """Draw and save within it; the caller's own matplotlib settings come back afterwards.

    Fonts are 9 and 8 points, and 7.5 and 7 in a figure that stands in one column.
    """
    font, ticks = (9, 8) if width > ONE_COLUMN else (7.5, 7)
    sizes = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), font)
    sizes |= dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), ticks)
    with matplotlib.rc_context(STYLE | {"font.family": typeface.family(), "font.sans-serif": [typeface.BASE]} | sizes):
        yield


def small() -> float:
    """The smaller font's size in points, within `style`."""
    size = matplotlib.rcParams["legend.fontsize"]
    return float(size) if isinstance(size, int | float) else 8.0
