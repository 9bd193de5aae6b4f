"""Sends trials to workers: which, when, with what; and what becomes of one whose worker died."""

import functools
import json
import secrets
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from albench import parcel
from albench.backends import Lost, Options, Pool
from albench.errors import AlbenchError
from albench.progress import Heartbeat
from albench.store import CEILING, Store, Trial, write_whole
from albench.suite import followed
from albench.timelimit import last_words
from albench.worker import TOKEN, Job, Outcome, Reply, Run, stages_done, work

TRIES = 3  # workers that may die of a trial one after the other without a stage done in between


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

    def __post_init__(self) -> None:
        self.store, self._token = Store(self.run.folder), secrets.token_hex(8)
        write_whole(self.run.folder / TOKEN, self._token.encode())
        self._plugins = {path: path.read_bytes() for path in self.run.plugins}

    def outcomes(self, trials: list[Trial]) -> Iterator[Outcome]:
        """How each trial ended, as they come.

        Raises:
            AlbenchError: the workers are lost for good, or cannot begin.
        """
        waiting, out = deque(trials), dict[Trial, object]()
        deaths, before = Counter[Trial](), dict[Trial, int]()
        while waiting or out:
            self._send(waiting, out)
            for trial, reply in self.pool.wait():
                del out[trial]
                if beat := self._beats.pop(trial, None):
                    beat.end()
                if isinstance(reply, Lost):
                    done = self._done(trial)
                    deaths[trial] = deaths[trial] + 1 if done == before.get(trial, done) else 1
                    before[trial] = done
                    end = self._end_of_lost(trial, reply.why, deaths[trial])
                else:
                    end = self._received(trial, reply)
                if end is None:
                    waiting.appendleft(trial)
                else:
                    yield end

    def _send(self, waiting: deque[Trial], out: dict[Trial, object]) -> None:
        """Send out as many as there is room for, in order, past those that wait for a stage 0 that is being trained."""
        room, held = self.pool.room() - len(out), []
        while room > 0 and waiting:
            trial = waiting.popleft()
            shared = self._shared_start(trial)
            if shared is not None and shared in out.values():
                held.append(trial)
                continue
            self.pool.submit(trial, functools.partial(self.work, self._job(trial)))
            out[trial] = shared
            room -= 1
        waiting.extendleft(reversed(held))

    def _job(self, trial: Trial) -> Job:
        sent = None
        if self.away:
            sent = parcel.outward(self.store, trial, self._siblings(trial), self._leader(trial))
            self._beats[trial] = Heartbeat(self.run.folder, trial, self.run.device)
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
        if reply.parcel is not None:
            parcel.receive(reply.parcel, self.store, trial)
        elif reply.outcome is None:
            self.away = True
        return reply.outcome

    def _end_of_lost(self, trial: Trial, why: str, deaths: int) -> Outcome | None:
        if words := last_words(self.store.last_words(trial)):  # its time limit ended the worker: no need to try again
            return Outcome(trial, *words)
        return Outcome(trial, f"{why}, {deaths} times; finished stages are kept") if deaths >= TRIES else None

    def _done(self, trial: Trial) -> int:
        return stages_done(self.store, trial, self.run.stages(trial))

    def _siblings(self, trial: Trial) -> list[Trial]:
        """The trials whose stage 0 may be this one's, too."""
        return [Trial(trial.task, s, trial.seed) for s in self.run.suite.strategies if s != trial.strategy]

    def _leader(self, trial: Trial) -> Trial | None:
        entry = self.run.suite.strategies.get(trial.strategy)
        leader = followed(trial.strategy, entry) if entry else None
        return Trial(trial.task, leader, trial.seed) if leader else None

    def _shared_start(self, trial: Trial) -> Any:
        """What a stage 0 that is still to be trained has in common with others. Where the folder is shared, a lock
        sees to that; workers that do not see each other must not be sent the same."""
        if not self.away or trial.strategy == CEILING:
            return None
        try:
            if self.store.records(trial):
                return None
        except AlbenchError:  # damaged: the trial's own error
            return None
        entry = self.run.suite.strategies[trial.strategy]
        return trial.task, trial.seed, entry.companion, json.dumps(entry.companion_params, sort_keys=True)
