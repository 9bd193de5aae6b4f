"""What goes wrong while a run works ends in one clear line; other trials go on, and what was done stays readable."""

import errno
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
import torch

import albench
from albench import step
from albench import store as store_module
from albench.errors import AlbenchError
from albench.evaluation import halving
from albench.memory import out_of_memory
from albench.numerics import Numerics
from albench.store import Store, Trial, failures
from albench.tasks.classification.cifar10 import Cifar10
from albench.timelimit import last_words, time_limit

BROKEN = '''
import collections, itertools, time
import torch
from albench import Strategy, register_strategy

class Broken(Strategy):
    def observe(self, outputs):
        return {"score": outputs.prediction.entropy()}

@register_strategy("PREFIXduplicates")
class Duplicates(Broken):
    def select(self, pool, k, rng):
        return super().select(pool, k, rng)[:1].repeat(k)

@register_strategy("PREFIXoutside")
class Outside(Broken):
    def select(self, pool, k, rng):
        return torch.arange(len(pool) - k + 1, len(pool) + 1)

@register_strategy("PREFIXlabelled")
class Labelled(Broken):
    """Pool indices of what is labelled already, where positions among the candidates are asked for."""
    def select(self, pool, k, rng):
        return pool.labelled_index[:k] - 1000

@register_strategy("PREFIXfew")
class Few(Broken):
    def select(self, pool, k, rng):
        return super().select(pool, k, rng)[:-1]

@register_strategy("PREFIXnan")
class Nan(Broken):
    def observe(self, outputs):
        return {"score": outputs.prediction.entropy() * float("nan")}

@register_strategy("PREFIXmemory")
class Memory(Broken):
    def observe(self, outputs):
        return {"score": torch.empty(1 << 55)}

@register_strategy("PREFIXloop")
class Loop(Broken):
    def select(self, pool, k, rng):
        while True:
            pass

@register_strategy("PREFIXsleep")
class Sleep(Broken):
    def observe(self, outputs):
        time.sleep(10000)

@register_strategy("PREFIXstuck")
class Stuck(Broken):
    """A loop in C that never gives the interpreter lock back."""
    def select(self, pool, k, rng):
        collections.deque(itertools.repeat(0), maxlen=0)
'''
LINES = {
    "duplicates": "answered 7 positions twice",
    "outside": "answered [72]; positions lie in 0…71 (the candidates)",
    "labelled": "positions lie in 0…71",
    "few": "answered 7 positions; 8 were asked for",
    "nan": "a score that is not finite; a sort would put it first",
    "memory": "the memory of this machine is not enough: run fewer trials at once (--jobs)",
    "loop": "its selection took longer than 0.03 minutes; mend it, or set selection_minutes",
    "sleep": "its selection took longer than 0.03 minutes; mend it, or set selection_minutes",
}


@pytest.fixture
def broken(tmp_path):
    prefix = f"{tmp_path.name.replace('_', '-')[-20:].strip('-')}-"
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.replace("PREFIX", prefix))
    return path, prefix


def values(folder, **of):
    results = albench.load_results(folder)
    for column, value in of.items():
        results = results[results[column] == value]
    return results[results.metric == "accuracy"].set_index("stage").value.to_dict()


def test_each_broken_strategy_ends_in_its_line_and_stops_no_other(run, broken):
    path, prefix = broken
    names = [f"{prefix}{name}" for name in LINES]
    folder, failed, said = run(
        strategies=[*names, "random"], plugins=[path], seeds=1, stages=2, settings=["selection_minutes=0.03"]
    )
    lines = {outcome.trial.strategy.removeprefix(prefix): outcome.error for outcome in failed}
    assert set(lines) == set(LINES)
    for name, expected in LINES.items():
        assert expected in lines[name]
        assert "\n" not in lines[name]
        assert lines[name] in said
    assert set(values(folder, strategy="random")) == {0, 1}
    assert all(set(values(folder, strategy=name)) == {0} for name in names)  # the training that was done is kept


def command(suite, out, *more):
    arguments = ["run", str(suite), "--out", str(out), "--device", "cpu", "--no-report", *map(str, more)]
    return subprocess.run([sys.executable, "-m", "albench", *arguments], capture_output=True, text=True, timeout=200)


HANGS = {
    "in C": "collections.deque(itertools.repeat(0), maxlen=0)",
    "and swallows every exception": """
while True:
    try: time.sleep(9)
    except Exception: pass
""",
}


@pytest.mark.parametrize("how", HANGS)
def test_code_that_no_signal_stops_ends_with_its_process_and_says_where(tmp_path, how):
    script, note = tmp_path / "hang.py", tmp_path / "note"
    script.write_text(
        "import collections, itertools, pathlib, time\nfrom albench.timelimit import time_limit\n"
        f"def strange():\n    exec({HANGS[how]!r}, globals())\n"
        f"with time_limit(0.3, 'it took too long', pathlib.Path({str(note)!r})):\n    strange()\n"
    )
    assert subprocess.run([sys.executable, str(script)], timeout=60).returncode == 1
    message, trace = last_words(note)
    assert message == "it took too long"
    assert "in strange" in trace


def test_a_block_within_its_limit_leaves_nothing(tmp_path):
    note = tmp_path / "note"
    with time_limit(60, "", note):
        assert last_words(note) is None  # a kill in here is no hang
    assert not note.exists()
    with pytest.raises(AlbenchError, match="too long"), time_limit(0.1, "too long", note):
        time.sleep(60)
    assert not note.exists()


@pytest.mark.slow
def test_a_selection_that_hangs_in_c_is_stopped_and_the_others_go_on(tiny, tmp_path, broken):
    path, prefix = broken
    options = ("--plugin", path, "--strategies", f"{prefix}stuck,random", "--seeds", 1, "--jobs", 2, "--stages", 2)
    done = command(tiny, tmp_path / "run", *options, "--set", "selection_minutes=0.05")
    assert done.returncode == 1, done.stderr
    assert "its selection took longer than 0.05 minutes" in done.stderr
    assert set(values(tmp_path / "run", strategy="random")) == {0, 1}
    assert [f["trial"] for f in failures(tmp_path / "run")] == [f"digits--{prefix}stuck--seed0"]
    assert "in select" in (tmp_path / "run" / "failures" / f"digits--{prefix}stuck--seed0.txt").read_text()


@pytest.mark.slow
def test_a_hang_in_c_ends_a_run_of_one_worker_and_the_next_one_begins_with_the_others(tiny, tmp_path, broken):
    path, prefix = broken
    options = ("--plugin", path, "--strategies", f"{prefix}stuck,random", "--seeds", 1, "--jobs", 1, "--stages", 2)
    options += ("--set", "selection_minutes=0.05")
    assert command(tiny, tmp_path / "run", *options).returncode == 1
    done = command(tiny, tmp_path / "run", *options)
    assert done.returncode == 1
    stuck = f"digits--{prefix}stuck--seed0: strategy '{prefix}stuck': its selection took longer than 0.05 minutes"
    assert f"The last session ended in {stuck}" in done.stderr
    assert "digits · random · seed 0: done" in done.stderr
    kinds = [(r["kind"], r["stage"]) for r in Store(tmp_path / "run").records(Trial("digits", "random", 0))]
    assert kinds == [("trained", 0), ("selected", 0), ("trained", 1), ("finished", 1)]


def test_another_time_limit_is_no_other_experiment(run):
    run(strategies=["random"], seeds=1, stages=1)
    _, failed, _ = run(strategies=["random"], seeds=1, stages=2, settings=["selection_minutes=7"])
    assert failed == []


def gpu_with_room_for(monkeypatch, training=10**9, scoring=10**9):
    """A network whose pass over more samples than this says what a full GPU says."""
    real = step.forward

    def forward(model, image, bf16):
        if len(image) > (training if model.training else scoring):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")
        return real(model, image, bf16)

    monkeypatch.setattr(step, "forward", forward)


def test_scoring_halves_its_batch_until_it_fits_and_says_so(run, monkeypatch):
    small, _, _ = run(strategies=["random"], seeds=1, out="small", settings=["numerics.scoring_batch=32"])
    gpu_with_room_for(monkeypatch, scoring=32)
    halved, failed, _ = run(strategies=["random"], seeds=1, settings=["numerics.scoring_batch=64"])
    assert failed == []
    assert (halved / "results.csv").read_bytes() == (small / "results.csv").read_bytes()
    records = [r for trial in Store(halved).trials() for r in Store(halved).records(trial) if r["kind"] == "trained"]
    assert {r["scoring_batch"] for r in records} == {32}


def test_compiled_steps_of_other_networks_go_before_a_scoring_batch_is_halved(monkeypatch):
    """Each holds a graph's memory on a GPU; this network's own would be compiled again at the next stage."""
    monkeypatch.setattr(step, "_kept", dict.fromkeys("abc"))
    tried = []

    def work(setup):
        tried.append((setup.numerics.scoring_batch, "".join(step._kept)))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    @dataclass
    class Here:
        numerics: Numerics
        device: torch.device

    with pytest.raises(torch.OutOfMemoryError):
        halving(Here(Numerics(scoring_batch=4), torch.device("cpu")), work)
    assert tried == [(4, "abc"), (4, "c"), (2, "c"), (1, "c"), (4, ""), (2, ""), (1, "")]


def test_observing_halves_its_batch_too_and_selects_as_with_that_batch(run, monkeypatch):
    from albench.strategies.uncertainty import Entropy

    small, _, _ = run(strategies=["entropy"], seeds=1, out="small", settings=["numerics.scoring_batch=16"])
    real = Entropy.observe

    def observe(self, outputs):
        if len(outputs.batch["image"]) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, outputs)

    monkeypatch.setattr(Entropy, "observe", observe)
    halved, failed, _ = run(strategies=["entropy"], seeds=1, settings=["numerics.scoring_batch=64"])
    assert failed == []
    assert (halved / "selections.csv").read_bytes() == (small / "selections.csv").read_bytes()
    (trial,) = Store(halved).trials()
    assert {r["scoring_batch"] for r in Store(halved).records(trial) if r["kind"] == "selected"} == {16}


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."), True),
        (RuntimeError("could not create a primitive"), True),  # what oneDNN says then
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_memory_that_is_not_enough_is_known_by_its_words(error, memory):
    assert out_of_memory(error) is memory


@pytest.mark.parametrize(("room", "line"), [(5, "a batch of 4 fits"), (1, "no smaller batch fits either")])
def test_training_says_which_batch_would_fit(run, monkeypatch, room, line):
    gpu_with_room_for(monkeypatch, training=room)
    _, failed, _ = run(strategies=["learning-loss"], seeds=1, settings=["recipe.batch=16"])
    assert "not enough memory to train with recipe.batch = 16 (CUDA out of memory. Tried to al" in failed[0].error
    assert line in failed[0].error
    assert "\n" not in failed[0].error


def full_at(monkeypatch, what, error=errno.ENOSPC, text="No space left on device"):
    """Writing a file of this name fails; returns what mends it."""
    real = store_module._sync

    def full(file):
        if what in str(file.name):
            raise OSError(error, text, str(file.name))
        real(file)

    monkeypatch.setattr(store_module, "_sync", full)
    return lambda: monkeypatch.setattr(store_module, "_sync", real)


@pytest.mark.parametrize("what", [".jsonl", ".safetensors", ".npz", "trained", "selections.csv", "manifest"])
def test_a_disk_that_is_full_at_any_file_loses_nothing_that_was_written(run, monkeypatch, what):
    whole, _, _ = run(strategies=["entropy"], seeds=1, out="whole")
    run(strategies=["entropy"], seeds=1, stages=1)
    mend = full_at(monkeypatch, what)
    try:
        folder, failed, _ = run(strategies=["entropy"], seeds=1)
        line = failed[0].error
    except AlbenchError as error:
        folder, line = whole.parent / "run", str(error)
    assert "No space left on device; what was written stays" in line
    assert "\n" not in line
    assert values(folder)[0] == values(whole)[0]
    mend()
    _, failed, _ = run(strategies=["entropy"], seeds=1)
    assert failed == []
    for name in ("results.csv", "selections.csv", "diagnostics.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert not list(folder.rglob("*.tmp"))


def test_a_folder_that_became_read_only_is_one_line(run, monkeypatch):
    run(strategies=["random"], seeds=1, stages=1)
    full_at(monkeypatch, "", errno.EROFS, "Read-only file system")
    with pytest.raises(AlbenchError, match="manifest.json.*: Read-only file system; what was written stays"):
        run(strategies=["random"], seeds=1)


def test_a_data_root_that_vanished_is_one_line_and_the_results_stay(run, tmp_path):
    root = tmp_path / "data"
    task = Cifar10.miniature(root)
    suite = tmp_path / "cifar.toml"
    params = json.dumps(task.model_dump(mode="json")).replace(":", " =")
    suite.write_text(
        "stages = 2\nseeds = 1\nbudget = 4\nrecipe = { updates = 2, batch = 4 }\n"
        f'strategies = ["random"]\n[tasks.cifar10]\nparams = {params}\n'
    )
    folder, failed, _ = run(suite, data_root=root)
    assert failed == []
    before = albench.load_results(folder)
    shutil.rmtree(root)
    with pytest.raises(AlbenchError, match="task 'cifar10'.*") as error:
        run(suite, data_root=root, stages=3)
    assert str(root) in str(error.value)
    assert "\n" not in str(error.value)
    assert albench.load_results(folder).equals(before)


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".npz"])
def test_a_damaged_training_is_trained_again_to_the_same_numbers(run, suffix):
    """Stage 0 is shared: what is damaged is found by the strategy that comes later."""
    whole, _, _ = run(strategies=["random", "entropy"], seeds=1, out="whole")
    folder, _, _ = run(strategies=["random"], seeds=1, stages=1)
    (path,) = (folder / "trained").glob(f"*{suffix}")
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    _, failed, _ = run(strategies=["random", "entropy"], seeds=1)
    assert failed == []
    for name in ("results.csv", "selections.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_bad_checkpoint_in_a_run_is_set_aside_and_said(run):
    whole, _, _ = run(strategies=["learning-loss"], seeds=1, stages=1, out="whole")
    (identity,) = [path.stem for path in (whole / "trained").glob("*.json")]
    folder = whole.parent / "run"
    (folder / "trained").mkdir(parents=True)
    (folder / "trained" / f"{identity}.checkpoint").write_bytes(b"what a broken disk gives back" * 9)
    _, failed, said = run(strategies=["learning-loss"], seeds=1, stages=1)
    assert failed == []
    assert f"{identity}.checkpoint: torn or damaged; set aside as *.bad" in said
    assert "set aside" in (folder / "log.txt").read_text()
    assert (folder / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    assert [p.name for p in (folder / "trained").glob("*.checkpoint*")] == [f"{identity}.checkpoint.bad"]


def test_what_a_killed_process_left_unfinished_is_swept_and_what_is_alive_is_not(run):
    import os
    import socket

    folder, _, _ = run(strategies=["random"], seeds=1, stages=1)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    host = socket.gethostname()
    dead = folder / "trained" / f".x.json@{host}-{gone.pid}.tmp"
    kept = [folder / "trained" / f".x.json@{name}.tmp" for name in (f"{host}-{os.getpid()}", f"elsewhere-{gone.pid}")]
    for path in (dead, *kept):
        path.write_text("")
    run(strategies=["random"], seeds=1, stages=2)
    assert not dead.exists()
    assert all(path.exists() for path in kept)


def test_a_failed_write_leaves_the_last_checkpoint_and_the_training_goes_on(run, monkeypatch):
    full_at(monkeypatch, ".checkpoint")
    folder, failed, said = run(strategies=["random"], seeds=1, stages=1, checkpoint_minutes=1e-9)
    assert failed == []
    assert said.count("no checkpoint could be written (No space left on device); training goes on") == 1
    assert not list((folder / "trained").glob("*.checkpoint*"))
