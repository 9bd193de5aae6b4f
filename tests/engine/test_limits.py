"""What the system itself refuses, for real: memory, a full disk, a folder that is read-only, data that go away."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import albench
from albench import status
from albench.evaluation import halving
from albench.samples import Data
from albench.store import Store, Trial
from albench.tasks.classification.cifar10 import Cifar10
from albench.tasks.classification.digits import Digits
from albench.training import Numerics, Setup


def in_a_child(work):
    """What the function returns in a fork of this process, which may set limits for itself that cannot be undone."""
    if torch.cuda.is_available():
        pytest.skip("a fork of a process that used autograd beside a GPU cannot train")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:
            os.write(writing, json.dumps([repr(error)]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = json.load(pipe)
    os.waitpid(child, 0)
    return said


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts its own memory by /proc")
def test_memory_that_ends_in_training_says_which_batch_fits_and_the_other_task_goes_on(run, tmp_path):
    suite = tmp_path / "large.toml"
    suite.write_text(
        'name = "large"\nseeds = 1\nstages = 2\nbudget = 8\nstrategies = ["random"]\n'
        "[tasks.large]\ntask = 'digits'\nparams = { samples = 120, width = 64 }\n"
        "recipe = { updates = 2, batch = 8192 }\n"
        "[tasks.digits]\nparams = { samples = 120, width = 4, blocks = [1, 1] }\nrecipe = { updates = 2, batch = 8 }\n"
    )
    run(suite, out="small", tasks=["digits"])  # what is needed is imported

    def scarce():
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (400 << 20),) * 2)
        _, failed, _ = run(suite)
        return [[str(outcome.trial), outcome.error] for outcome in failed]

    ((trial, line),) = in_a_child(scarce)
    assert trial == "large--random--seed0"
    assert "not enough memory to train with recipe.batch = 8192" in line
    assert "fits" in line
    assert set(albench.load_results(tmp_path / "run").task) == {"digits"}


@pytest.mark.gpu
def test_a_gpu_that_is_really_full_halves_the_batch(tmp_path):
    device, task = torch.device("cuda"), Digits(samples=60)
    data: Data = task.load(None)
    setup = Setup(task, data, task.recipe, Numerics(scoring_batch=64), device, (0, 0, "x"))
    torch.cuda.empty_cache()
    piece = torch.cuda.mem_get_info()[0] // 20  # 64 pieces are three times what is free, 16 fit

    def measure(less):
        return torch.empty(less.numerics.scoring_batch * piece, dtype=torch.uint8, device=device).numel()

    assert halving(setup, measure) == (16 * piece, 16)


def small_disk(tmp_path, size):
    """A command before another: mounts a small disk on a folder, and copies what is there in the end."""
    full = tmp_path / "full"
    full.mkdir()
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("unshare -rm is not allowed here")
    script = (
        f'mount -t tmpfs -o size={size} none "{full}"; "$@"; code=$?; cp -r "{full}/run" "{tmp_path}/run"; exit $code'
    )
    return ["unshare", "-rm", "bash", "-c", script, "-"], full / "run"


def test_a_disk_that_is_really_full_keeps_what_was_written_and_the_run_goes_on_elsewhere(run, tiny, tmp_path):
    whole, _, _ = run(strategies=["entropy"], seeds=1, out="whole")
    size = sum(-(-p.stat().st_size // 4096) * 4 for p in whole.rglob("*") if p.is_file())
    before, folder = small_disk(tmp_path, f"{int(0.6 * size)}k")
    call = [*before, sys.executable, "-m", "albench", "run", str(tiny), "--out", str(folder), "--device", "cpu"]
    call += ["--strategies", "entropy", "--seeds", "1", "--jobs", "1", "--no-report"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=200)
    assert done.returncode in (1, 2)
    assert "No space left on device; what was written stays" in done.stderr
    assert "Traceback" not in done.stderr
    kept = [(r["kind"], r["stage"]) for r in Store(tmp_path / "run").records(Trial("digits", "entropy", 0))]
    assert kept
    assert ("finished", 2) not in kept
    folder, failed, _ = run(strategies=["entropy"], seeds=1)
    assert failed == []
    for name in ("results.csv", "selections.csv", "diagnostics.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="becomes another user: needs root")
def test_a_folder_of_another_user_is_one_line_and_can_be_read(run, tmp_path):
    folder, _, _ = run(strategies=["random"], seeds=1, stages=1)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest", "popen", "test")):
            parent.chmod(0o755)

    def nobody():
        os.setgid(65534)
        os.setuid(65534)
        try:
            run(strategies=["random"], seeds=1)
        except albench.AlbenchError as error:
            return [str(error), len(albench.load_results(folder)), status.read(folder).stages_done]

    line, rows, stages = in_a_child(nobody)
    assert line.startswith(str(folder))
    assert "Permission denied; what was written stays" in line
    assert rows > 0
    assert stages == 1


LEAVING = """
import shutil
import albench
from albench import worker

@albench.register_strategy("{name}")
class Leaving(albench.Strategy):
    \"\"\"The disk with the data is lost while it selects; the next trial's worker finds none.\"\"\"

    def observe(self, outputs):
        return {{"score": outputs.prediction.entropy()}}

    def select(self, pool, k, rng):
        shutil.rmtree({root!r}, ignore_errors=True)
        worker.data_on.cache_clear()
        return super().select(pool, k, rng)
"""


def test_data_that_vanish_while_a_trial_runs_fail_the_next_in_one_line_and_not_this_one(run, tmp_path):
    root, plugin, name = tmp_path / "data", tmp_path / "leaving.py", f"leaving-{tmp_path.name.replace('_', '-')}"
    params = json.dumps(Cifar10.miniature(root).model_dump(mode="json")).replace(":", " =")
    plugin.write_text(LEAVING.format(name=name, root=str(root)))
    suite = tmp_path / "cifar.toml"
    suite.write_text(
        "stages = 2\nseeds = 1\nbudget = 4\nrecipe = { updates = 2, batch = 4 }\n"
        f"[strategies.first]\nstrategy = '{name}'\n[strategies.second]\nstrategy = 'random'\n"
        f"[tasks.cifar10]\nparams = {params}\n"
    )
    folder, failed, _ = run(suite, data_root=root, plugins=[plugin])
    assert [outcome.trial.strategy for outcome in failed] == ["second"]
    assert str(root) in failed[0].error
    assert "\n" not in failed[0].error
    first = Store(folder).records(Trial("cifar10", "first", 0))
    assert [(r["kind"], r["stage"]) for r in first] == [
        ("trained", 0),
        ("selected", 0),
        ("trained", 1),
        ("finished", 1),
    ]
