"""Figures to files: drawn at once, or by other processes while the report goes on."""

import io
import os
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from albench.report import typeface
from albench.report.looks import style

DPI = 200
QUALITY = 85  # of WebP in the page
FEW = 24  # figures: starting processes takes as long as drawing so many
PROCESSES = 4  # at most; each takes about 150 MB

Drawn = Figure | Callable[[float], Figure]  # a figure, or what draws one of a width in inches


def save(draw: Drawn, path: Path, width: float) -> None:
    """Draw, and write PATH.png, .pdf and .svg; the same results give the same files, so they hold no dates."""
    with style(width), warnings.catch_warnings():
        # a name in a script that matplotlib's font lacks: boxes in the PNG, the name in the page, SVG and tables
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = draw if isinstance(draw, Figure) else draw(width)
        figure.savefig(f"{path}.png", dpi=DPI)
        figure.savefig(f"{path}.pdf", metadata={"CreationDate": None})
        figure.savefig(f"{path}.svg", metadata={"Date": None})


def breadth(png: bytes) -> float:
    """Inches that a saved figure is wide, from the PNG's header."""
    return int.from_bytes(png[16:20]) / DPI


def webp(png: Path) -> bytes:
    """A saved figure for the page: a fraction of the PNG's size, and a sixth where it shows photographs."""
    held = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").save(held, "WEBP", quality=QUALITY, method=2)
    return held.getvalue()


class Press:
    """Saves figures in other processes, as many as there are cores; in this one where figures or cores are few."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Drawn, Path, float]] = []
        self._saving: list[Future] = []
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._processes = min(cores, PROCESSES)

    def add(self, draw: Drawn, path: Path, width: float) -> None:
        """See `save`; the files are there after `finish`."""
        if isinstance(draw, Figure):
            save(draw, path, width)
            return
        self._waiting.append((draw, path, width))
        if self._processes > 1 and (self._saving or len(self._waiting) > FEW):
            self._send()

    def finish(self) -> None:
        """Wait until everything is saved; what went wrong while drawing is raised here."""
        for figure in self._waiting:
            save(*figure)
        self._waiting.clear()
        for saved in self._saving:
            saved.result()
        self._saving.clear()

    def _send(self) -> None:
        from joblib.externals.loky import get_reusable_executor  # it sends functions, too

        executor = get_reusable_executor(
            self._processes, timeout=60, initializer=typeface.adopted, initargs=(typeface.folder(),)
        )
        self._saving += [executor.submit(save, *figure) for figure in self._waiting]
        self._waiting.clear()
