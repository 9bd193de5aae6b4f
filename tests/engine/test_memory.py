"""Scoring a pool holds a batch at a time: 16,551 images × 8,732 boxes × 21 classes would be 12 GB."""

import gc
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from albench import registry
from albench.evaluation import evaluate
from albench.memory import peak_memory, reset_peak_memory
from albench.observing import observe
from albench.tasks.detection.scenes import DigitScenes
from albench.training import Numerics, Setup, build

STRATEGIES = ["entropy", "margin", "bald", "core-set", "learning-loss", "true-loss"]


def held():
    """Bytes of all tensors made since the freeze that Python can reach, each storage once."""
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.fixture
def scenes(monkeypatch):
    """A setup that scores four at a time, and what was held whenever a batch began."""
    task = DigitScenes(pool=48, test=48, dropout=0.1)
    data, seen = task.load(None), []

    def prepare(self, batch):
        seen.append(held())
        return original(self, batch)

    original = DigitScenes.prepare
    monkeypatch.setattr(DigitScenes, "prepare", prepare)
    companion = registry.companions.get("loss-prediction")
    gc.freeze()  # what is there already is not looked through again and again
    yield Setup(task, data, task.recipe, Numerics(scoring_batch=4), torch.device("cpu"), (0, 0, "t"), companion), seen
    gc.unfreeze()


def growth(seen):
    """Bytes a sample by which what is held grows, once the first batches have gone through."""
    assert len(seen) >= 12
    return (seen[-1] - seen[2]) / (4 * (len(seen) - 3))


@pytest.mark.parametrize("name", STRATEGIES)
def test_observing_holds_what_a_strategy_keeps_and_no_prediction(scenes, name):
    setup, seen = scenes
    fitted = build(setup, 0)
    seen.clear()
    strategy = registry.strategies.get(name)()
    kept, _ = observe(setup, strategy, fitted, setup.data.pool, torch.arange(48), 0, diagnose=True)
    own = sum(column.nbytes for column in kept.values()) / 48
    with torch.no_grad():
        raw = fitted.model(setup.task.prepare(setup.data.pool.batch(torch.arange(1)))["image"])
    small = setup.task.predict(raw).logp.nbytes / 10
    diagnosed = setup.task.embedding(raw).nbytes + 64  # and four numbers
    assert own < small
    assert diagnosed < small
    assert growth(seen) <= own + diagnosed


def test_the_meter_sees_predictions_that_are_kept(scenes, monkeypatch):
    setup, seen = scenes
    kept, score = [], registry.strategies.get("entropy").observe

    def observe_and_keep(self, outputs):
        kept.append(outputs.prediction)
        return score(self, outputs)

    monkeypatch.setattr(registry.strategies.get("entropy"), "observe", observe_and_keep)
    fitted = build(setup, 0)
    seen.clear()
    observe(setup, registry.strategies.get("entropy")(), fitted, setup.data.pool, torch.arange(48), 0)
    assert growth(seen) >= kept[0].logp[0].nbytes


def test_evaluating_holds_detections_and_no_prediction(scenes, monkeypatch):
    monkeypatch.setattr("albench.tasks.detection.suppression.PER_IMAGE", 5)
    setup, seen = scenes
    model = build(setup, 0).model
    seen.clear()
    evaluate(setup, model)
    assert growth(seen) <= 5 * 40 + 3 * 40 + 64  # detections, objects, and the losses


def test_the_peak_of_a_cpu_begins_anew():
    device = torch.device("cpu")
    torch.ones(60_000_000).sum()  # 240 MB, gone again
    before = peak_memory(device)
    reset_peak_memory(device)
    after = peak_memory(device)
    if after == before:
        pytest.skip("this system does not reset a process's peak")
    assert before - after > 100_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system says no peak but ru_maxrss")
def test_the_peak_of_a_cpu_is_not_that_of_the_process_before_it():
    code = "import torch; from albench.memory import peak_memory; print(peak_memory(torch.device('cpu')))"

    def peak():
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120).stdout)

    before = peak()
    torch.ones(500_000_000).sum()  # 2 GB, gone again, which a new process inherits as its ru_maxrss
    assert peak() < before + 100_000_000


FREED = """
import resource, torch
from albench.memory import keep_freed_memory, peak_memory, reset_peak_memory
keep_freed_memory()
torch.set_num_threads(1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def many():
    before = faults()
    for _ in range(20):
        torch.ones(16, 1 << 20)  # 64 MB
    return faults() - before
many()
kept, high = many(), peak_memory(torch.device("cpu"))
reset_peak_memory(torch.device("cpu"))
print(kept * resource.getpagesize(), high - peak_memory(torch.device("cpu")))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_and_no_part_of_a_later_peak():
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=120)
    fresh, less = map(int, done.stdout.split())
    assert fresh < 64 << 20  # of 20 × 64 MB that were asked for
    assert less > 32 << 20 or not Path("/proc/self/clear_refs").exists()
