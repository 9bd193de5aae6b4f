"""A time limit for code that nobody here wrote: a strategy's selection.

Two limits. At the first a signal interrupts Python code and ends it with one clear line: loops, sleeps, waits; the
trial fails and its worker goes on. A signal is only seen by Python, and only in the main thread of a process. So code
that hangs in C, or swallows every exception, is stopped by a second limit: the worker process ends, after the place
where it hung is written to `note`; who looks after the worker finds the line there (`last_words`). What that cannot
do: with one worker, where the run itself is that process, the run ends with it; the same command carries on with the
other trials first.
"""

import contextlib
import faulthandler
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from albench.errors import AlbenchError

GRACE = 30.0  # seconds from the first limit to the second, or as long as the limit itself where that is shorter


@contextlib.contextmanager
def time_limit(seconds: float, message: str, note: Path) -> Iterator[None]:
    """End the block after so many seconds (0: never).

    Raises:
        AlbenchError: `message`, in the main thread.
    """
    if seconds <= 0:
        yield
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    try:
        with note.open("w", encoding="utf-8") as file, _alarm(seconds, message):
            file.write(f"{message}\n")
            file.flush()
            # A thread in C, which needs no interpreter lock: it also ends code that never gives the lock back.
            faulthandler.dump_traceback_later(seconds + min(GRACE, seconds), exit=True, file=file)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
    finally:
        note.unlink(missing_ok=True)


@contextlib.contextmanager
def _alarm(seconds: float, message: str) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise AlbenchError(message)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def last_words(note: Path) -> tuple[str, str] | None:
    """(the message, the traceback) of a process that ended itself: at the second limit, or without a GPU; else None."""
    try:
        message, _, trace = note.read_text(encoding="utf-8", errors="replace").partition("\n")
    except OSError:
        return None
    return (message, trace) if trace else None
