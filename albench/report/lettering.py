"""Names and numbers in figures, placed by measuring them: nothing is clipped and nothing needs a layout engine."""

import warnings
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from albench.report.looks import Look, small

HANDLE, SPACE = 0.32, 0.16  # inches: a legend's line with its gap, and the gap to the next entry


@lru_cache(4096)
def breadth(text: str, size: float) -> float:
    """Inches that a line of text takes at `size` points.

    >>> 1.0 < breadth("m" * 10, 9) < 1.4
    True
    """
    if not text:
        return 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        font = FontProperties(size=size)  # its measures, not an outline: that takes a hundred times as long
        return float(text_to_path.get_text_width_height_descent(text.replace(" ", "n"), font, False)[0]) / 72


def widest(names: list[str], size: float) -> float:
    """Inches of the longest line among texts that may have several."""
    return max((breadth(line, size) for name in names for line in name.split("\n")), default=0.0)


def wrapped(text: str, inches: float, size: float) -> str:
    """The text in as many lines as it needs, broken after spaces, hyphens, slashes or signs where there are any.

    >>> wrapped("learning-loss", 0.6, 8)
    'learning-\\nloss'
    """
    lines = []
    while breadth(text, size) > inches and len(text) > 1:
        fits = next((n for n in range(len(text) - 1, 1, -1) if breadth(text[:n], size) <= inches), 1)
        places = [n for n in range(2, fits + 1) if text[n - 1] in " -/+_,"]
        cut = places[-1] if places else fits
        lines.append(text[:cut].rstrip(" "))
        text = text[cut:]
    return "\n".join([*lines, text])


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


def label_ticks(axes: Axes, labelled: np.ndarray, inches: float) -> None:
    """A tick at every number of labels that was measured; where they would touch, only the first numbers are left out.

    inches: the width of the axes.
    """
    labelled = np.unique(np.asarray(labelled, float))
    if not 1 < len(labelled) <= 40:
        axes.xaxis.set_major_locator(MaxNLocator(max(3, int(inches / 0.7)), integer=True))
        return
    texts = [f"{n:,.0f}" if float(n).is_integer() else f"{n:,g}" for n in labelled]
    scale = inches / (1.1 * (labelled[-1] - labelled[0]))
    kept, left = [""] * len(texts), np.inf
    for i in reversed(range(len(texts))):  # the last one is read most often
        half, place = breadth(texts[i], small()) / 2, labelled[i] * scale
        if place + half + 0.06 < left:
            kept[i], left = texts[i], place - half
    axes.set_xticks(labelled, kept)


def name_lines(axes: Axes, ends: list[tuple[Look, float, float]], inches: float) -> None:
    """Names at the right, in the curves' final order, moved apart where they would overlap.

    ends: look, x and y of each curve's last point; inches: the height of the axes.
    """
    if not ends:
        return
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    right = max(x for _, x, _ in ends)
    axes.set_xlim(axes.get_xlim()[0], right + 0.02 * (right - axes.get_xlim()[0]))
    ends = sorted(ends, key=lambda end: end[2])
    wanted = np.array([(y - low) / (high - low) for _, _, y in ends])
    places = spread(wanted, gap=min(0.178 / inches, 1 / len(ends)))
    across = axes.get_yaxis_transform()
    for (look, x, _), wish, place in zip(ends, wanted, places, strict=True):
        if x == right:
            leader = Line2D([1.0, 1.025], [wish, place], color=look.colour, linewidth=0.8, transform=axes.transAxes)
            leader.set_clip_on(False)
            axes.add_line(leader)
        marker = look.line(linewidth=0)
        axes.plot([1.042], [low + place * (high - low)], **marker, transform=across, clip_on=False)
        axes.text(1.065, place, look.name, transform=axes.transAxes, va="center")


class Legend:
    """Entries below a figure, as many a row as fit. `height` in inches, before the figure is made.

    entries: (name, keyword arguments of its line).
    """

    def __init__(self, entries: list[tuple[str, dict]], width: float) -> None:
        size = small()
        self.entries = [(wrapped(name, width - HANDLE - SPACE, size), line) for name, line in entries]
        column = HANDLE + widest([name for name, _ in self.entries], size) + SPACE
        self.columns = max(1, min(len(entries), int((width - 0.05) / column)))
        rows = [self.entries[i : i + self.columns] for i in range(0, len(entries), self.columns)]
        lines = sum(max(name.count("\n") + 1 for name, _ in row) for row in rows)
        self.height = (lines * 1.45 * size) / 72 + 0.06

    def draw(self, figure: Figure) -> None:
        """Put it at the foot of the figure."""
        columns = -(-len(self.entries) // self.columns)
        # matplotlib fills columns first: reorder, so that one reads along the rows
        order = [i for c in range(self.columns) for i in range(c, len(self.entries), self.columns)] if columns else []
        handles = [Line2D([], [], **self.entries[i][1]) for i in order]
        legend = figure.legend(
            handles,
            [" "] * len(order),  # a label that begins with an underscore would be left out
            loc="lower center",
            ncols=self.columns,
            borderaxespad=0.1,
            borderpad=0.2,
            handlelength=HANDLE * 72 / small() - 0.8,
            handletextpad=0.8,
            columnspacing=SPACE * 72 / small(),
            labelspacing=0.3,
        )
        for text, i in zip(legend.get_texts(), order, strict=True):
            text.set_text(self.entries[i][0])
