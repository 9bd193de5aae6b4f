"""Trials are sent out, come back, are lost and tried again; GPUs are shared out among them."""

import concurrent.futures
import contextlib
import io
import itertools
import subprocess
import sys
import time

import pytest
from rich.console import Console

from albench import backends, devices, execute, pools, worker
from albench.backends import Lost, Options
from albench.devices import NoSlotError
from albench.dispatch import TRIES, Dispatch
from albench.errors import AlbenchError
from albench.store import Trial
from albench.suite import read, resolve
from albench.worker import Outcome, Reply, Run


class Unreliable:
    """Workers in this process; those whose number is called die before the call."""

    def __init__(self, dies, size=2):
        self.dies, self.size, self.calls, self.most = dies, size, [], 0
        self.numbers, self.sent = itertools.count(), []

    def room(self):
        return self.size

    def submit(self, trial, call):
        self.calls.append((trial, call))
        self.sent.append(trial)
        self.most = max(self.most, len(self.calls))

    def wait(self):
        trial, call = self.calls.pop(0)
        return [(trial, Lost("its worker was killed") if self.dies(next(self.numbers), trial) else call())]


def ends(job):
    return Reply(Outcome(job.trial))


@pytest.fixture
def dispatch(tiny, tmp_path):
    def make(pool, work=ends, device="cpu", **changes):
        suite = resolve(read(str(tiny), ()).model_copy(update=changes))
        run = Run(suite, tmp_path / "run", None, device)
        return Dispatch(pool, run, {"digits": "?"}, Options(), work)

    return make


def test_a_trial_whose_worker_died_is_tried_again_and_no_other(dispatch):
    pool = Unreliable(lambda number, trial: number == 0)
    sent = dispatch(pool)
    outcomes = list(sent.outcomes(sent.run.trials()))
    assert {o.trial for o in outcomes} == set(sent.run.trials())
    assert all(o.error is None for o in outcomes)
    assert len(pool.sent) == len(outcomes) + 1


def test_a_trial_that_kills_every_worker_is_given_up_in_one_line(dispatch):
    guilty = Trial("digits", "entropy", 1)
    pool = Unreliable(lambda number, trial: trial == guilty)
    sent = dispatch(pool)
    failed = [o for o in sent.outcomes(sent.run.trials()) if o.error is not None]
    assert [o.trial for o in failed] == [guilty]
    assert failed[0].error == f"its worker was killed, {TRIES} times; finished stages are kept"
    assert pool.sent.count(guilty) == TRIES


def test_a_trial_that_gets_on_is_tried_as_often_as_it_takes(dispatch):
    trial, sent = Trial("digits", "random", 0), None

    def dies(number, trial):
        """Each worker finishes a stage and dies."""
        if number < 5:
            sent.store.append(trial, {"kind": "trained", "stage": number})
            sent.store.append(trial, {"kind": "selected", "stage": number})
        return number < 5

    sent = dispatch(Unreliable(dies), stages=9)
    assert [o.error for o in sent.outcomes([trial])] == [None]


def test_a_worker_that_lost_its_gpu_ends_and_says_why(dispatch, monkeypatch):
    """An illegal access is all that CUDA answers that process from then on: it would fail every trial it is sent."""

    class Ended(BaseException):
        pass

    def end(code):
        raise Ended

    def lost(device):
        assert device == "cuda:1"  # asking another would take memory there
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    sent, trial = dispatch(Unreliable(lambda number, trial: False)), Trial("digits", "random", 0)
    failure = Outcome(trial, "AcceleratorError: an illegal memory access", "the traceback")
    monkeypatch.setattr(worker, "device_of_worker", lambda *_: contextlib.nullcontext("cuda:1"))
    monkeypatch.setattr(worker, "_work_on", lambda device, job, here: Reply(failure))
    monkeypatch.setattr(worker.torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(worker.torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(worker.os, "_exit", end)
    assert worker.work(sent._job(trial)).outcome == failure  # any other error: the process goes on
    monkeypatch.setattr(worker.torch.cuda, "synchronize", lost)
    with pytest.raises(Ended):
        worker.work(sent._job(trial))
    assert sent._end_of_lost(trial, "its worker was killed", 1) == failure


def test_no_more_trials_are_out_than_there_is_room_for(dispatch):
    pool = Unreliable(lambda number, trial: number % 7 == 0, size=3)
    sent = dispatch(pool, seeds=100)
    assert len(list(sent.outcomes(sent.run.trials()))) == 300
    assert pool.most == 3


# GPUs ---------------------------------------------------------------------------------------------------------------


def test_every_gpu_has_one_trial_before_any_has_two():
    slots = devices.slots(["a", "b", "c"], 2)
    assert [gpu for _, gpu in slots] == [0, 1, 2, 0, 1, 2]
    assert len({name for name, _ in slots}) == 6
    assert devices.slots(["a", "b"], 1, only=1) == [("b-0", 1)]


def test_two_workers_never_claim_one_gpu_and_a_dead_one_gives_it_back(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from albench import devices\n"
        "(_, index), lock = devices.claim(devices.slots(['a', 'b'], 1), Path(sys.argv[1]), 60)\n"
        "print(index, flush=True); time.sleep(60)"
    )
    start = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    claimed = {int(p.stdout.readline()) for p in processes}
    assert claimed == {0, 1}
    with pytest.raises(NoSlotError, match="every GPU slot of .* is held by another process of this run"):
        devices.claim(devices.slots(["a", "b"], 1), tmp_path, 0.2, poll=0.05)
    processes[0].kill()
    processes[0].wait()
    (_, index), lock = devices.claim(devices.slots(["a", "b"], 1), tmp_path, 5, poll=0.1)
    assert index in (0, 1)
    lock.release()
    processes[1].kill()
    processes[1].wait()


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "_slots", lambda device, per_gpu: devices.slots(["a", "b"], per_gpu))
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(devices, "SLOT_WAIT", 0.1)
    monkeypatch.setattr(devices, "_LAST", [])


def test_an_idle_worker_holds_no_gpu_and_takes_its_last_one_again(two_gpus, tmp_path):
    with devices.device_of_worker("cuda", 1, tmp_path) as first:
        with devices.device_of_worker("cuda", 1, tmp_path) as second:
            assert {first, second} == {"cuda:0", "cuda:1"}
            with pytest.raises(NoSlotError), devices.device_of_worker("cuda", 1, tmp_path):
                pass
        with devices.device_of_worker("cuda", 1, tmp_path) as again:
            assert again == second


def test_more_workers_than_gpus_hand_trials_back_and_all_are_done(two_gpus, dispatch, monkeypatch):
    """Five threads of Dask workers on a machine with two GPUs."""

    class Crowd(Unreliable):
        def wait(self):  # all that are out at the same time
            with concurrent.futures.ThreadPoolExecutor(8) as threads:
                calls, self.calls = self.calls, []
                return list(zip([t for t, _ in calls], threads.map(lambda one: one[1](), calls), strict=True))

    def works(run, trial, fingerprint):
        time.sleep(0.3)
        return Outcome(trial)

    monkeypatch.setattr(worker, "run_trial", works)
    pool = Crowd(lambda number, trial: False, size=5)
    sent = dispatch(pool, work=worker.work, device="cuda")
    outcomes = list(sent.outcomes(sent.run.trials()))
    assert sorted(o.trial for o in outcomes) == sorted(sent.run.trials())
    assert all(o.error is None for o in outcomes)
    assert len(outcomes) < len(pool.sent) <= len(outcomes) + 3  # each of the three without a GPU was asked once


def test_gpus_that_stay_taken_end_the_run_in_one_line(two_gpus, dispatch):
    pool = Unreliable(lambda number, trial: False)
    sent = dispatch(pool, work=worker.work, device="cuda")
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(devices.device_of_worker("cuda", 1, sent.run.folder))
        with pytest.raises(AlbenchError, match="is held by another process of this run: use as many workers as GPUs"):
            list(sent.outcomes(sent.run.trials()))


@pytest.mark.parametrize(("jobs", "expected"), [(7, 2), (2, 2), (1, 1), (None, 2)])
def test_on_this_machine_no_more_trials_run_at_once_than_gpus_have_room_for(tmp_path, monkeypatch, jobs, expected):
    started, console = [], Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(pools, "Processes", lambda jobs, threads: started.append(jobs) or pools.Here())
    run = Run(resolve(read("quick")), tmp_path, None, "cuda")
    with execute._workers(run, Options(jobs=jobs), 9, console):
        assert started == [expected]
    assert ("room for 2 trials" in console.file.getvalue()) == (jobs == 7)


def test_jobs_are_the_gpus_times_the_trials_on_each(monkeypatch):
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 4)
    assert devices.default_jobs("cuda", 1, 2) == 8
    assert devices.default_jobs("cuda:3", 1, 2) == 2


# Options ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"backend": "spark"}, "--backend spark: use one of loky, dask, ray, slurm"),
        ({"scheduler": "tcp://x:1"}, "--scheduler is for --backend dask and ray, not loky"),
        ({"slurm": {"partition": "gpu"}}, "--slurm is for --backend slurm, not loky"),
        ({"jobs": 0}, "--jobs must be at least 1, not 0"),
        ({"checkpoint_minutes": float("nan")}, "--checkpoint-minutes must be a finite number, or 0 for none, not nan"),
        ({"checkpoint_minutes": float("inf")}, "--checkpoint-minutes must be a finite number, or 0 for none, not inf"),
        ({"checkpoint_minutes": -1}, "--checkpoint-minutes must be a finite number, or 0 for none, not -1"),
        ({"trials_per_gpu": 0}, "--trials-per-gpu must be at least 1, not 0"),
        ({"backend": "slurm", "trials_per_gpu": 2}, "--trials-per-gpu is not for --backend slurm"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(run, options, line):
    with pytest.raises(AlbenchError, match=line):
        run(**options)


@pytest.mark.parametrize("backend", ["dask", "ray", "slurm"])
def test_an_extra_that_is_not_installed_is_named(run, monkeypatch, backend):
    monkeypatch.setitem(backends.BACKENDS, backend, ("no_such_module",))
    with pytest.raises(AlbenchError, match=rf'pip install "albench\[{backend}\]"'):
        run(backend=backend)


def test_slurm_parameters_are_key_value():
    assert backends.parameters(("partition=gpu", "mem_gb = 16")) == {"partition": "gpu", "mem_gb": "16"}
    with pytest.raises(AlbenchError, match="use key=value"):
        backends.parameters(("partition",))


def test_one_process_at_a_time_works_on_a_trial(run, tmp_path):
    """A worker that outlived its session holds the trial: another waits until it is gone."""
    folder, _, _ = run(strategies=["random"], seeds=1, stages=1)
    code = (
        "import sys, time; from pathlib import Path; from albench.store import Store\n"
        "with Store(Path(sys.argv[1])).lock('digits--random--seed0'):\n"
        "    print('held', flush=True); time.sleep(2); Path(sys.argv[2]).touch()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "ended")], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    _, failed, _ = run(strategies=["random"], seeds=1, stages=2)
    assert failed == []
    assert (tmp_path / "ended").exists()
    process.wait(10)
