"""Sends trials to workers: which, when, with what; and what becomes of one whose worker died."""

import functools
import json
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace

from albench import parcel
from albench.backends import Lost, Options, Pool
from albench.errors import AlbenchError
from albench.progress import Heartbeat
from albench.store import CEILING, Store, Trial, write_whole
from albench.suite import followed, twins
from albench.timelimit import last_words
from albench.worker import TOKEN, Job, Outcome, Reply, Run, stages_done, work

TRIES = 3  # workers that may die of a trial one after the other without a stage done in between
REFUSALS = 6  # by which nobody is left to take a trial
CROWDED = 600.0  # seconds for which a worker that had no GPU slot for a trial counts as no room


@dataclass
class Dispatch:
    """The submitting side of `worker.work`. Results do not depend on who does a trial, or in which order."""

    pool: Pool
    run: Run
    fingerprints: dict[str, str]  # of the tasks' data
    options: Options
    work: Callable[[Job], Reply] = work
    away: bool = False  # a worker does not see the run folder: from now on parcels travel
    _beats: dict[Trial, Heartbeat] = field(default_factory=dict)  # of trials that are away, for those who look
    _where: dict[Trial, str] = field(default_factory=dict)  # they were last
    _starts: dict[Trial, Hashable] = field(default_factory=dict)  # `_start` of those asked for, until they come back
    _refused: deque[float] = field(default_factory=deque)  # when trials were handed back

    def __post_init__(self) -> None:
        self.store, self._token = Store(self.run.folder), secrets.token_hex(8)
        write_whole(self.run.folder / TOKEN, self._token.encode())
        self._plugins = {path: path.read_bytes() for path in self.run.plugins}
        strategies = self.run.suite.strategies.items()
        self._alike = {label: twins(self.run.suite, label) for label, _ in strategies}
        self._leaders = {label: followed(label, entry) for label, entry in strategies}
        self._companions = {
            label: (entry.companion, json.dumps(entry.companion_params, sort_keys=True)) for label, entry in strategies
        }

    def outcomes(self, trials: list[Trial]) -> Iterator[Outcome]:
        """How each trial ended, as they come.

        Raises:
            AlbenchError: the workers are lost for good, or cannot begin, or have no GPU free.
        """
        waiting, out = deque(trials), dict[Trial, Hashable]()
        deaths, before = Counter[Trial](), dict[Trial, int]()
        while waiting or out:
            self._send(waiting, out)
            for trial, reply in self.pool.wait():
                del out[trial]
                self._starts.pop(trial, None)
                if beat := self._beats.pop(trial, None):
                    beat.end()
                if isinstance(reply, Lost):
                    done = self._done(trial)
                    deaths[trial] = deaths[trial] + 1 if done == before.get(trial, done) else 1
                    before[trial] = done
                    end = self._end_of_lost(trial, reply.why, deaths[trial])
                elif reply.refused is not None:
                    self._handed_back(reply.refused, alone=not out)
                    end = None
                else:
                    end = self._received(trial, reply)
                if end is None:
                    waiting.appendleft(trial)
                else:
                    yield end
            for beat in self._beats.values():
                beat.pulse()

    def _send(self, waiting: deque[Trial], out: dict[Trial, Hashable]) -> None:
        """Send out as many as there is room for, in order, past those that wait for a stage that is being trained."""
        room, held = self._room() - len(out), []
        busy = {shared for shared in out.values() if shared is not None}
        while room > 0 and waiting:
            trial = waiting.popleft()
            shared = self._shared_start(trial)
            if shared in busy:
                held.append(trial)
                continue
            self.pool.submit(trial, functools.partial(self.work, self._job(trial)))
            out[trial] = shared
            if shared is not None:
                busy.add(shared)
            room -= 1
        waiting.extendleft(reversed(held))

    def _room(self) -> int:
        """Of the pool, without the workers that had no GPU for a trial; they are asked again after a while."""
        while self._refused and time.monotonic() - self._refused[0] > CROWDED:
            self._refused.popleft()
        return max(1, self.pool.room() - len(self._refused))

    def _handed_back(self, why: str, alone: bool) -> None:
        """A worker had no GPU for a trial: others may.

        Raises:
            AlbenchError: no other trial of this session is out, and still there is no GPU, again and again.
        """
        self._refused.append(time.monotonic())
        if alone and len(self._refused) >= REFUSALS + self.pool.room():
            raise AlbenchError(f"{why}; finished stages are kept")

    def _job(self, trial: Trial) -> Job:
        sent = None
        if self.away:
            sent = parcel.outward(self.store, trial, self._siblings(trial), self._others(trial))
            last = f" (last: {self._where[trial]})" if trial in self._where else ""
            where = f"sent to a {self.options.backend} worker{last}"
            self._beats[trial] = Heartbeat(self.run.folder, trial, where, thread=False)
            self._beats[trial](self._done(trial), "away", 0.0)
        return Job(
            self.run,
            trial,
            self.fingerprints[trial.task],
            self._token,
            socket.gethostname(),
            self.options.per_gpu,
            self._plugins,
            sent,
        )

    def _received(self, trial: Trial, reply: Reply) -> Outcome | None:
        self._where[trial] = reply.where
        if reply.parcel is not None:
            parcel.receive(reply.parcel, self.store, trial)
        elif reply.outcome is None:
            self.away = True
        if reply.outcome is not None:
            del self._where[trial]
        return reply.outcome

    def _end_of_lost(self, trial: Trial, why: str, deaths: int) -> Outcome | None:
        if words := last_words(self.store.last_words(trial)):  # it ended itself, and said why: no need to try again
            return Outcome(trial, *words)
        return Outcome(trial, f"{why}, {deaths} times; finished stages are kept") if deaths >= TRIES else None

    def _done(self, trial: Trial) -> int:
        return stages_done(self.store, trial, self.run.stages(trial))

    def _siblings(self, trial: Trial) -> list[Trial]:
        """The trials whose stage 0 may be this one's, too."""
        same = self._companions.get(trial.strategy)
        return [
            Trial(trial.task, label, trial.seed)
            for label, companion in self._companions.items()
            if label != trial.strategy and companion == same
        ]

    def _others(self, trial: Trial) -> set[Trial]:
        """The trials that this one follows or shares every training with."""
        leader = self._leaders.get(trial.strategy)
        return {*self._twins(trial), *([replace(trial, strategy=leader)] if leader else [])}

    def _twins(self, trial: Trial) -> list[Trial]:
        return [replace(trial, strategy=label) for label in self._alike.get(trial.strategy, ())]

    def _shared_start(self, trial: Trial) -> Hashable:
        """What a stage that is still to be trained has in common with others. Where the folder is shared, a lock
        sees to that; workers that do not see each other must not be sent the same."""
        if not self.away or trial.strategy == CEILING:
            return None
        if trial not in self._starts:
            self._starts[trial] = self._start(trial)
        return self._starts[trial]

    def _start(self, trial: Trial) -> Hashable:
        try:
            if self.store.records(trial):
                return self._course(trial)
        except AlbenchError:  # damaged: the trial's own error
            return None
        return trial.task, trial.seed, *self._companions[trial.strategy]

    def _course(self, trial: Trial) -> Hashable:
        """What the later stages have in common with others."""
        return frozenset({trial, *others}) if (others := self._twins(trial)) else None
