"""Figures to files: drawn at once, or by other processes while the report goes on."""

import gc
import io
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from albench.pools import cores
from albench.report import typeface
from albench.report.looks import style

DPI = 200
QUALITY, EFFORT = 80, 0  # of WebP in the page; EFFORT 2 takes 1.7 times as long for images 13 % smaller
LEVEL = 3  # of PNG: 6 takes 1.4 times as long for files 2 % smaller (a gallery of digits: a fifth)
FEW = 12  # figures: starting processes takes as long as drawing so many
PROCESSES = 3  # beside this one, at most; each takes about 150 MB
LARGE = 10**7  # bytes of results.csv
GARBAGE = 50_000  # objects between searches for garbage: figures make so many that a quarter of the time goes there

Drawn = Figure | Callable[[float], Figure]  # a figure, or what draws one of a width in inches


def save(draw: Drawn, path: Path, width: float) -> bytes:
    """Draw, and write PATH.png, .pdf and .svg; the same results give the same files, so they hold no dates.

    Returns the PNG as WebP for the page: a fraction of its size, and a sixth where it shows photographs.
    """
    pixels, held = io.BytesIO(), io.BytesIO()
    with style(width), warnings.catch_warnings():
        # a name in a script that matplotlib's font lacks: boxes in the PNG, the name in the page, SVG and tables
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = draw if isinstance(draw, Figure) else draw(width)
        figure.savefig(pixels, format="rgba", dpi=DPI)
        figure.savefig(f"{path}.pdf", metadata={"CreationDate": None})
        figure.savefig(f"{path}.svg", metadata={"Date": None})
    size = tuple((figure.get_size_inches() * DPI).astype(int))
    image = Image.frombuffer("RGBA", size, pixels.getvalue()).convert("RGB")  # figures are on white: nothing is lost
    image.save(f"{path}.png", dpi=(DPI, DPI), compress_level=LEVEL)
    image.save(held, "WEBP", quality=QUALITY, method=EFFORT)
    return held.getvalue()


def _begin(fonts: Path) -> None:
    """What a process that draws does first."""
    typeface.adopted(fonts)
    gc.set_threshold(GARBAGE)


@contextmanager
def unhindered() -> Iterator[None]:
    """One thread for small matrix products, which more only wait for, and fewer searches for garbage."""
    from threadpoolctl import threadpool_limits

    before = gc.get_threshold()
    gc.set_threshold(GARBAGE)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        gc.set_threshold(*before)


def breadth(png: bytes) -> float:
    """Inches that a saved figure is wide, from the PNG's header."""
    return int.from_bytes(png[16:20]) / DPI


def _processes() -> int:
    """How many draw beside this one, which does, too, once it has nothing else to do."""
    return min(cores() - 1, PROCESSES)


def _executor() -> Any:
    """The processes that draw, always the same ones."""
    from joblib.externals.loky import get_reusable_executor  # it sends functions, too

    return get_reusable_executor(_processes(), timeout=60, initializer=_begin, initargs=(typeface.folder(),))


def _elsewhere(draw: Drawn, path: Path, width: float) -> bytes:
    """`save` in one of those processes."""
    return _executor().submit(save, draw, path, width).result()


def warmed_up(folders: list[Path]) -> bool:
    """Start the processes while this one still reads, where the runs are so large that they will be needed.

    Whether they are, for `Press`.
    """
    tables = [folder / "results.csv" for folder in folders]
    large = sum(table.stat().st_size for table in tables if table.is_file()) > LARGE
    if large and _processes():
        executor = _executor()
        for _ in range(_processes()):
            executor.submit(gc.collect)
    return large


class Press:
    """Draws and saves in other processes, as many as there are cores; in this one where figures or cores are few.

    warm: other processes have started already. images: what `save` returned, by path; whole after `finish`.
    """

    def __init__(self, warm: bool = False) -> None:
        self._few = 0 if warm else FEW
        self.images: dict[Path, bytes] = {}
        self._waiting: list[tuple[Drawn, Path, float]] = []
        self._sent: list[tuple[tuple[Drawn, Path, float], Future]] = []
        # an executor of processes takes figures ahead of time, which could not be cancelled; threads take one at a time
        self._threads: ThreadPoolExecutor | None = None

    def add(self, draw: Drawn, path: Path, width: float) -> None:
        """See `save`; the files are there after `finish`. A figure that is drawn already is saved here and now."""
        if isinstance(draw, Figure):  # to send one takes longer than to save it
            self.images[path] = save(draw, path, width)
            return
        self._waiting.append((draw, path, width))
        if _processes() and (self._sent or len(self._waiting) > self._few):
            self._send()

    def finish(self) -> None:
        """Wait until everything is saved; what went wrong while drawing elsewhere is raised here."""
        for draw, path, width in self._waiting:
            self.images[path] = save(draw, path, width)
        for (draw, path, width), saved in reversed(self._sent):  # those sent last are begun last
            if saved.cancel():
                self.images[path] = save(draw, path, width)
        self.images |= {figure[1]: saved.result() for figure, saved in self._sent if not saved.cancelled()}
        self._waiting.clear()
        self._sent.clear()
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _send(self) -> None:
        if self._threads is None:
            _executor()  # first here: of two threads that import joblib at once, one sees half of it
            self._threads = ThreadPoolExecutor(_processes() + 1)  # one more: no process waits for its next figure
        self._sent += [(figure, self._threads.submit(_elsewhere, *figure)) for figure in self._waiting]
        self._waiting.clear()
