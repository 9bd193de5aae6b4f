"""What is going on: each trial leaves a heartbeat in a small file, and the terminal shows them all.

Files, because a worker may be another process (or machine), and so that a second terminal can look too.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from albench.store import CEILING, Trial

INTERVAL = 0.5  # seconds between two heartbeats of a trial, and between two looks at them
PULSE = 30.0  # seconds after which a heartbeat is repeated where nothing new is to say


class Heartbeat:
    """Called by the cycle runner with (stage, what, fraction); writes at most twice a second, and at least each PULSE.

    The file (JSON) says stage, what, fraction; since when that is being done and when the trial was started (seconds
    of the epoch); host, pid, device; and the time of writing, so that silence tells of a process that is gone.
    """

    def __init__(self, folder: Path, trial: Trial, device: str = "cpu", thread: bool = True) -> None:
        """Without a `thread` of its own it is for the caller to call `pulse` now and then."""
        self.path, self.trial, self._last = folder / "progress" / f"{trial}.json", trial, (-1, "", 0.0)
        now = time.time()
        self._beat = {"stage": 0, "what": "loading", "fraction": 0.0, "since": now, "started": now}
        self._beat |= {"host": socket.gethostname(), "pid": os.getpid(), "device": device}
        self._lock, self._ended, self._written = threading.Lock(), threading.Event(), 0.0
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        if thread:
            threading.Thread(target=self._pulses, daemon=True).start()

    def __call__(self, stage: int, what: str, fraction: float) -> None:
        """Say what the trial is doing; a full disk must not stop it."""
        now, new = time.monotonic(), (stage, what) != self._last[:2]
        if not new and now - self._last[2] < INTERVAL:
            return
        self._last = (stage, what, now)
        since = {"since": time.time()} if new else {}
        self._beat |= {"stage": stage, "what": what, "fraction": round(fraction, 3), **since}
        self._write()

    def end(self) -> None:
        """The trial is over."""
        with self._lock:
            self._ended.set()
            self.path.unlink(missing_ok=True)

    def pulse(self) -> None:
        """Repeat the heartbeat if it is time."""
        if time.monotonic() - self._written >= PULSE:
            self._write()

    def _pulses(self) -> None:
        while not self._ended.wait(PULSE):
            self._write()

    def _write(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._ended.is_set():
                return
            self._written = time.monotonic()
            temporary = self.path.with_name(f".{self.path.name}@{socket.gethostname()}-{os.getpid()}.tmp")
            temporary.write_text(json.dumps(self._beat | {"time": time.time()}))
            os.replace(temporary, self.path)


@dataclass
class _State:
    done: int = 0  # trials
    failed: int = 0
    stages: float = 0.0  # of this session, finished or begun


class Display:
    """The live view of a run; plain lines where the output is no terminal."""

    def __init__(self, folder: Path, trials: list[Trial], stages: int, console: Console, left: int) -> None:
        self.folder, self.trials, self.stages, self.console = folder, trials, stages, console
        self.start, self.state = time.monotonic(), _State()
        self.left = left  # stages that this session has to do
        self._by_name = {str(trial): trial for trial in trials}

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Show the view while the block runs."""
        if not self.console.is_terminal:
            yield
            return
        stop = threading.Event()
        with Live(self._view(), console=self.console, refresh_per_second=4, transient=True) as view:

            def watch() -> None:
                while not stop.wait(INTERVAL):
                    view.update(self._view())

            thread = threading.Thread(target=watch, daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    def ended(self, trial: Trial, error: str | None, stages: int) -> None:
        """A trial is over: count it, and say so; `stages` of it were done in this session."""
        self.state.done += 1
        self.state.stages += stages
        self.state.failed += error is not None
        mark = f"[{self.state.done}/{len(self.trials)}] {trial.task} · {trial.strategy} · seed {trial.seed}"
        left = f"; about {clock(self._seconds_left())} left" if self.state.done < len(self.trials) else ""
        if error is not None:
            self.console.print(Text(f"{mark}: failed: {error}", style="red"), soft_wrap=True)
        elif not self.console.is_terminal:
            self.console.print(Text(f"{mark}: done after {clock(time.monotonic() - self.start)}{left}"), soft_wrap=True)

    def _running(self) -> list[tuple[Trial, dict]]:
        found = []
        for path in (self.folder / "progress").glob("*.json"):  # those that run, not the thousands that wait
            with contextlib.suppress(OSError, ValueError, KeyError):
                trial, beat = self._by_name[path.stem], json.loads(path.read_text())
                if time.time() - beat["time"] < 3600:
                    found.append((trial, beat))
        return sorted(found)

    def _seconds_left(self, begun: float = 0.0) -> float:
        done = self.state.stages + begun
        return (time.monotonic() - self.start) / done * max(0.0, self.left - done) if done else float("nan")

    def _view(self) -> Group:
        running = self._running()
        begun = sum(beat["fraction"] for _, beat in running)
        table = Table.grid(padding=(0, 2))
        for trial, beat in running:
            bar = ProgressBar(total=1.0, completed=beat["fraction"], width=24)
            stages = 1 if trial.strategy == CEILING else self.stages
            where = f"stage {beat['stage'] + 1}/{stages} {beat['what']}"
            table.add_row(f"{trial.task} · {trial.strategy} · seed {trial.seed}", where, bar)
        elapsed, left = clock(time.monotonic() - self.start), clock(self._seconds_left(begun))
        failed = f", {self.state.failed} failed" if self.state.failed else ""
        head = f"{self.state.done}/{len(self.trials)} trials{failed} · {elapsed} so far · about {left} left"
        return Group(Text(head, style="bold"), table)


def clock(seconds: float) -> str:
    """'2 min 05 s', '41 s', '3 h 10 min', or '?'."""
    if seconds != seconds:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
