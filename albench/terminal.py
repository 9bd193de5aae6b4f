"""Signs of life on stderr while something takes long: lines for everybody, what moves for terminals alone."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

INTERVAL = 0.5  # seconds between two looks at how far it is
AHEAD = 256  # images, in which order they are written


def say(line: str) -> None:
    """Print one line."""
    Console(stderr=True).print(Text(line), soft_wrap=True)


@contextlib.contextmanager
def busy(what: str) -> Iterator[Progress]:
    """Show the time that has passed while the block runs; `stop` and `start` what is yielded to print lines."""
    with _shown(SpinnerColumn(), "{task.description}", TimeElapsedColumn()) as progress:
        progress.add_task(escape(what), total=None)
        yield progress


@contextlib.contextmanager
def counting(what: str, look: Callable[[], tuple[int, int]]) -> Iterator[None]:
    """Show how much is done while the block runs; `look` gives how many there are and of how many, now and then."""
    columns = "{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    ended = threading.Event()
    with _shown(*columns) as progress:
        bar = progress.add_task(escape(what), total=None)

        def watch() -> None:
            while not ended.wait(INTERVAL):
                done, total = look()
                progress.update(bar, total=total or None, completed=done)

        thread = threading.Thread(target=watch, daemon=True)
        if not progress.disable:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if thread.is_alive():
                thread.join()


@contextlib.contextmanager
def filling(what: str) -> Iterator[Callable[[np.ndarray], None]]:
    """Show how many images are written while the block runs. What is yielded is told of each array of zeros, [N, C, H,
    W], that the block fills: whoever fills it need not count."""
    arrays: list[np.ndarray] = []
    counts: list[int] = []

    def look() -> tuple[int, int]:
        there = list(arrays)
        counts.extend([0] * (len(there) - len(counts)))
        counts[:] = [filled(images, count) for images, count in zip(there, counts, strict=True)]
        return sum(counts), sum(map(len, there))

    with counting(what, look):
        yield arrays.append


def filled(images: np.ndarray, known: int = 0) -> int:
    """How many of the images [N, C, H, W], written roughly in order over zeros, are there; `known` were before.

    A row of each is looked at; one that is black is counted with those after it.
    """
    while len(rows := np.flatnonzero(images[known : known + AHEAD, :, images.shape[2] // 2].any((1, 2)))):
        known += int(rows[-1]) + 1
    return known


def _shown(*columns: object) -> Progress:
    """A progress display on stderr that leaves nothing behind, and shows nothing where that is no terminal."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)  # type: ignore[arg-type]
