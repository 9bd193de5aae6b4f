"""What many trials ask of the scheduler and of the file system: real dispatch and real records, stages that only sleep.

    python tests/engine/scaling.py --trials 1000 --workers 100 --stages 5 --seconds 4 --away

Workers are threads of this process, so that 100 of them fit on any machine; all else is what a run does: parcels,
locks, heartbeats, records, trainings (of a few kilobytes), each write on disk before the next step.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch

from albench import store, worker
from albench.backends import Options
from albench.dispatch import Dispatch
from albench.progress import Heartbeat
from albench.store import Store
from albench.suite import read, resolve
from albench.worker import Outcome, Reply, Run

SUITE = """
name = "scaling"
seeds = SEEDS
stages = STAGES
budget = 10
strategies = ["random", "random-b", "entropy", "margin", "least-confidence"]
tasks = ["digits", "figures"]
"""
OPERATIONS = {"open": "opened", "os.rename": "renamed", "os.remove": "removed", "os.mkdir": "folders"}
counts = Counter()


def count(event, arguments):
    """An audit hook: how often a file was opened, renamed, removed."""
    if event in OPERATIONS and isinstance(arguments[0], str | Path):
        counts[OPERATIONS[event]] += 1


class Threads:
    """A pool of threads."""

    def __init__(self, workers):
        self.workers, self.threads, self.out = workers, ThreadPoolExecutor(workers), {}

    def room(self):
        return self.workers

    def submit(self, trial, call):
        self.out[self.threads.submit(call)] = trial

    def wait(self):
        return [(self.out.pop(f), f.result()) for f in wait(self.out, 2.0, FIRST_COMPLETED).done]


class Immediate(Threads):
    """Each call is made when its reply is asked for: the dispatcher alone."""

    def submit(self, trial, call):
        self.out[trial] = call

    def wait(self):
        trial = next(iter(self.out))
        return [(trial, self.out.pop(trial)())]


def sleeper(seconds):
    """In place of `worker.run_trial`: the same files, without the work."""

    def run_trial(run, trial, fingerprint, one_stage=False):
        home, heartbeat, stages = Store(run.folder), Heartbeat(run.folder, trial), run.stages(trial)
        with home.lock(str(trial)):
            for stage in range(worker.stages_done(home, trial, stages), stages):
                heartbeat(stage, "training", 0.0)
                who = trial.strategy if stage else ""  # stage 0 is the same for all
                identity = store._checksum(f"{trial.task} {trial.seed} {stage} {who}".encode()) * 2
                with home.lock(identity):
                    record = home.trained(identity)
                    if record is None:
                        time.sleep(seconds)
                        record = {"stage": stage, "labelled": 10 * (stage + 1), "metrics": {"accuracy": 0.5}}
                        outcomes = {"correct": np.zeros(1000, np.float32)}
                        home.save_trained(identity, record, outcomes, {"weight": torch.zeros(1000)})
                home.append(trial, {"kind": "trained", "identity": identity, **record})
                last = stage + 1 == stages
                heartbeat(stage, "selecting", 0.0)
                home.append(trial, {"kind": "finished" if last else "selected", "stage": stage, "indices": [0] * 100})
                if one_stage:
                    break
        heartbeat.end()
        return Outcome(trial)

    return run_trial


def sends_home(job):
    """A worker that does not see the run folder."""
    return worker.work(replace(job, token="elsewhere"))


def nothing(job):
    """A trial that takes no time and leaves nothing."""
    return Reply(Outcome(job.trial))


def simulate(folder, trials, workers, stages, seconds, away=False, empty=False):
    """Run so many trials; what they cost beside the sleeping, per stage."""
    clock = time.perf_counter()
    (folder / "scaling.toml").write_text(SUITE.replace("SEEDS", str(trials // 10)).replace("STAGES", str(stages)))
    run = Run(resolve(read(str(folder / "scaling.toml"))), folder / "run", None, "cpu")
    planned = run.trials()
    enumerated = time.perf_counter() - clock
    before, synced = (worker.run_trial, worker._same_data, store._sync), []

    def sync(file):
        began = time.perf_counter()
        before[2](file)
        synced.append(time.perf_counter() - began)

    worker.run_trial, worker._same_data, store._sync = sleeper(seconds), lambda *arguments: None, sync
    work = nothing if empty else sends_home if away else worker.work
    sizes, process = [], psutil.Process()
    try:
        pool = Immediate(workers) if empty else Threads(workers)
        dispatch = Dispatch(pool, run, dict.fromkeys(run.suite.tasks, "?"), Options("dask"), work)
        counts.clear()
        synced.clear()
        clock, cpu, all_cpu = time.perf_counter(), time.thread_time(), time.process_time()
        for number, outcome in enumerate(dispatch.outcomes(planned), 1):
            assert outcome.error is None, outcome.trace
            if number % max(1, trials // 10) == 0:
                sizes.append(round(process.memory_info().rss / 2**20, 1))
        wall, cpu, all_cpu = time.perf_counter() - clock, time.thread_time() - cpu, time.process_time() - all_cpu
    finally:
        worker.run_trial, worker._same_data, store._sync = before
    done = len(planned) * stages
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    trained = len(list((folder / "run" / "trained").glob("*.json")))  # those that slept
    return {
        "trials": len(planned),
        "workers": workers,
        "stages": done,
        "away": away,
        "enumerating, s": round(enumerated, 2),
        "wall, s": round(wall, 1),
        "dispatcher's cpu per stage, ms": round(1000 * cpu / done, 2),
        "cpu of all per stage, ms": round(1000 * all_cpu / done, 2),
        "worker's time beside sleeping per stage, ms": round(1000 * (wall * workers - trained * seconds) / done, 1),
        "of it waiting for the disk (fsync)": round(1000 * sum(synced) / done, 1),
        "per stage": {"fsync": round(len(synced) / done, 2)}
        | {name: round(counts[name] / done, 2) for name in sorted(counts)},
        "files": len(files),
        "KiB per trial": round(sum(files) / 1024 / len(planned), 1),
        "MiB at each tenth of the trials": sizes,
    }


def main():
    parser = argparse.ArgumentParser()
    for name, kind in {"trials": int, "workers": int, "stages": int, "seconds": float}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--away", action="store_true", help="workers do not see the run folder: parcels")
    parser.add_argument("--empty", action="store_true", help="trials leave nothing: the dispatcher alone")
    options = parser.parse_args()
    sys.addaudithook(count)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(simulate(Path(folder), **vars(options)), indent=1))


if __name__ == "__main__":
    main()
