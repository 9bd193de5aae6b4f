"""Each target of speed, beside the straightforward way; `table.py` makes the README's table of it.

    pytest tests/benchmarks/test_targets.py --benchmark-enable -s && python tests/benchmarks/table.py

On a machine with a GPU this fills the GPU's rows, too. Without --benchmark-enable each way runs once, at a small size.
"""

import contextlib
import copy
import functools
import json
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import torch

import albench
from albench.numeric.k_center import k_center
from albench.numeric.k_means_pp import k_means_pp
from albench.numerics import Numerics
from albench.store import Store
from albench.tasks.classification.cifar10 import BINARY
from albench.tasks.detection.boxes import default_boxes
from albench.tasks.detection.voc import PascalVoc

from . import conftest, precision, ways
from .conftest import DEVICE
from .table import README, TARGETS, render, within
from .test_selection import CLASSES, D, materialised_k_means_pp, sklearn_k_center

CPU = torch.device("cpu")


def test_every_target_has_a_line_and_what_nobody_measured_says_so(tmp_path):
    assert render(tmp_path).count("not measured") == len(TARGETS)
    row = {"ways": {"plain": {"median": 2.0}, "albench": {"median": 6000.0, "least": 5, "most": 7, "rounds": 3}}}
    row |= {"unit": "s", "ratio": 3.0, "machine": "an abacus"}
    (tmp_path / "abacus.json").write_text(json.dumps({"machine": "an abacus", "rows": {"badge": row}}))
    (line,) = [line for line in render(tmp_path).splitlines() if "abacus" in line]
    assert "2 (1 round) s | 6,000 (5–7, 3 rounds) s | 3× | ≥ 25× | an abacus" in line


def test_what_is_kept_has_the_straightforward_way_first(tmp_path, monkeypatch):
    monkeypatch.setattr(conftest, "KEPT", tmp_path)
    kept = conftest.Table(enabled=True)
    kept.keep("badge", {"materialised": 12.0, "albench": 4.0}, "s", 3.0, CPU)
    kept.save()
    assert "outer products materialised: 12 (1 round) s | 4 (1 round) s | 3×" in render(tmp_path)


def test_the_readme_has_the_table_of_what_was_measured():
    readme = README.read_text(encoding="utf-8")
    assert within(readme, render()) == readme, "run python tests/benchmarks/table.py"


def test_a_loss_of_accuracy_is_not_called_noise():
    fp32 = [0.50, 0.54, 0.52, 0.56]
    noise, loss = [0.51, 0.53, 0.53, 0.55], [0.40, 0.45, 0.42, 0.46]
    digits = precision.CASES[0]
    assert precision.line("accuracy", digits, fp32, noise).endswith("+0.0000 ± 0.0184 | yes | undecided |\n")
    assert precision.line("accuracy", digits, fp32, loss).endswith("-0.0975 ± 0.0080 | no | no |\n")


# Training -----------------------------------------------------------------------------------------------------------


STRAIGHTFORWARD = """
import os, sys, torch
sys.path.insert(0, sys.argv[1])
import ways
updates = int(sys.argv[2])
data, task = ways.random_images(updates * ways.BATCH), ways.network(sys.argv[3] == "True")
for turn in sys.stdin:
    start = sum(os.times()[:2])
    ways.straightforward(task, data, updates, torch.device("cpu"))
    print(sum(os.times()[:2]) - start, flush=True)
"""


@contextlib.contextmanager
def in_turns(program, *arguments):
    """A call that lets a process of its own take its turn, and returns the seconds that it says it took."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:

        def turn():
            other.stdin.write("go\n")
            other.stdin.flush()
            return float(other.stdout.readline())

        yield turn


@pytest.mark.parametrize(("row", "precision"), [("train-cpu", "bf16"), ("train-cpu-fp32", "fp32")])
def test_joint_training_on_a_cpu(table, row, precision, request):
    """The straightforward way has a process of its own, which does not keep freed memory as albench's does."""
    updates = 4 if table.enabled else 2
    task, data = ways.network(table.enabled), ways.random_images(updates * ways.BATCH)
    with in_turns(STRAIGHTFORWARD, request.path.parent, updates, table.enabled) as plain:
        both = {"straightforward": plain, precision: lambda: ways.ours(task, data, updates, CPU, precision)}
        table.compare(row, both, "images/s", work=updates * ways.BATCH, device=CPU)


BARE = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
import ways
step = ways.bare(ways.network(sys.argv[3] == "True"), ways.random_images(ways.BATCH), torch.device("cuda"))
for turn in sys.stdin:
    start = time.perf_counter()
    step(int(sys.argv[2]))
    torch.cuda.synchronize()
    print(time.perf_counter() - start, flush=True)
"""


@pytest.mark.gpu
def test_joint_training_on_a_gpu(table, request):
    """The bare way has a process of its own, so that neither frees or keeps memory of the other's."""
    task, data = ways.network(table.enabled), ways.random_images(5000)
    updates = 400 if table.enabled else 2
    both = {
        "straightforward": lambda: ways.straightforward(task, data, updates, DEVICE),
        "albench": lambda: ways.ours(task, data, updates, DEVICE, "bf16"),
    }
    table.compare("train-gpu", both, "images/s", work=updates * ways.BATCH, rounds=2)
    longer = 2 * updates  # the bare way has its network before it begins, albench makes it first
    with in_turns(BARE, request.path.parent, longer, table.enabled) as bare:
        both = {"bare": bare, "albench": lambda: ways.ours(task, data, longer, DEVICE, "bf16")}
        table.compare("train-gpu-bare", both, "images/s", work=longer * ways.BATCH)


def official_files(folder, images):
    """CIFAR-10's binary files with random pixels, so many images in each."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in BINARY:
        records = rng.integers(0, 256, (images, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(folder / name)


@pytest.mark.gpu
def test_a_whole_trial_on_a_gpu(table, tmp_path, data_root):
    """`albench run ll4al-cifar10`, one trial from start to end: of CIFAR-10's images where they are at hand, else of as
    many of noise. As a test two stages of one epoch."""
    settings = ["ceiling=0"]
    if not (table.enabled and (data_root / "cifar-10-batches-bin").is_dir()):
        data_root = tmp_path
        official_files(data_root / "cifar-10-batches-bin", 10_000 if table.enabled else 100)
        settings += ["tasks.cifar10.params.verify=false"]
    if not table.enabled:
        settings += ["tasks.cifar10.recipe.epochs=1", "tasks.cifar10.budget=128", "tasks.cifar10.subset=200"]
        settings += ["tasks.cifar10.params={network='compact', width=4, blocks=[1, 1], verify=false}"]
    command = [sys.executable, "-m", "albench", "run", "ll4al-cifar10", "--strategies", "learning-loss", "--seeds", "1"]
    command += ["--stages", "10" if table.enabled else "2", "--data-root", data_root, "--out", tmp_path / "run"]
    command += ["--no-report", *(part for setting in settings for part in ("--set", setting))]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    table.keep("trial-gpu", {"albench": time.perf_counter() - start}, "s")


ONE_OF_MANY = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import ways
enabled, updates = sys.argv[2] == "True", int(sys.argv[3])
data, task, device = ways.random_images(5000), ways.network(enabled), torch.device("cuda")
ways.ours(task, data, 10, device, "bf16")
print("ready", flush=True)
for turn in sys.stdin:
    ways.ours(task, data, updates, device, "bf16")
    torch.cuda.synchronize()
    print("done", flush=True)
"""


@pytest.mark.gpu
def test_trials_at_once_on_one_gpu(table, request):
    """Of eight processes that are warm the first one, two, four or all train; the others wait and do nothing."""
    updates, counts, found = (800, (1, 2, 4, 8), {}) if table.enabled else (2, (1, 2), {})
    command = [sys.executable, "-c", ONE_OF_MANY, str(request.path.parent), str(table.enabled), str(updates)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(counts[-1])
    ]
    try:
        assert all(process.stdout.readline() == "ready\n" for process in processes)
        for count in counts:
            start = time.perf_counter()
            for process in processes[:count]:
                process.stdin.write("go\n")
                process.stdin.flush()
            assert all(process.stdout.readline() == "done\n" for process in processes[:count])
            found[str(count)] = count * updates * ways.BATCH / (time.perf_counter() - start)
    finally:
        for process in processes:
            process.kill()
    best = max(found, key=found.get)
    table.keep("per-gpu", found | {f"the best, {best}": found[best]}, "images/s", found[best] / found["1"])


@pytest.mark.gpu
def test_a_cuda_graph_on_a_gpu(table):
    updates = 400 if table.enabled else 4
    task, data = ways.network(table.enabled), ways.random_images(5000)
    hows = ("on", "eager-graphs", "graphs")
    three = {how: lambda how=how: ways.ours(task, data, updates, DEVICE, "bf16", how) for how in hows}
    table.compare("graphs-gpu", three, "images/s", work=updates * ways.BATCH)


@pytest.mark.gpu
def test_trials_on_streams_of_one_gpu(table):
    count, updates, numerics = 4, 100 if table.enabled else 2, Numerics(precision="bf16")
    made = ways.trials_and_batches(ways.network(table.enabled), ways.random_images(ways.BATCH), count, DEVICE, "bf16")
    streams = [torch.cuda.Stream() for _ in range(count)]
    with numerics.in_force(), numerics.equal_shapes():
        alone, together = ways.in_turn(*made), ways.in_turn(*made, streams)
        both = {"in turn": lambda: alone(updates), "streams": lambda: together(updates)}
        table.compare("streams-gpu", both, "images/s", work=count * updates * ways.BATCH)


@pytest.mark.parametrize(
    ("row", "device", "count", "precision"),
    [
        pytest.param("vectorised-gpu", "cuda", 4, "bf16", marks=pytest.mark.gpu),
        ("vectorised-cpu", "cpu", 2, "fp32"),
    ],
)
def test_trials_as_one_vectorised_model(table, row, device, count, precision):
    device, updates = torch.device(device), {"cuda": 100, "cpu": 2}[device] if table.enabled else 1
    data, numerics = ways.random_images(ways.BATCH), Numerics(precision=precision)
    trials, *batches = ways.trials_and_batches(ways.network(table.enabled), data, count, device, precision)
    with numerics.in_force(), numerics.equal_shapes():
        alone, together = ways.in_turn(copy.deepcopy(trials), *batches), ways.vectorised(trials, *batches)
        if not table.enabled and precision == "fp32":
            stacked, single = together(2), alone(2)
            for trial, own in enumerate(single):
                for name, weights in own.items():
                    torch.testing.assert_close(stacked[name][trial], weights, rtol=1e-3, atol=1e-4)
        both = {"in turn": lambda: alone(updates), "vectorised": lambda: together(updates)}
        table.compare(row, both, "images/s", work=count * updates * ways.BATCH, device=device)


# Selection ----------------------------------------------------------------------------------------------------------


def test_k_center_on_a_cpu(table):
    pool, labelled, k = (20_000, 1_000, 1_000) if table.enabled else (200, 20, 10)
    points = torch.randn(pool + labelled, D, generator=torch.Generator().manual_seed(0))
    both = {
        "scikit-learn": lambda: sklearn_k_center(points[:pool].numpy(), points[pool:].numpy(), k),
        "albench": lambda: k_center(points[:pool], points[pool:], k),
    }
    table.compare("k-center-cpu", both, device=CPU)


@pytest.mark.gpu
def test_k_center_on_a_gpu(table):
    pool, k = (50_000, 1_000) if table.enabled else (500, 50)
    points = torch.randn(pool + 1000, D, device=DEVICE)
    table.compare("k-center-gpu", {"albench": lambda: k_center(points[:pool], points[pool:], k)})


def test_badge(table):
    pool, k = (10_000, 50) if table.enabled else (200, 5)
    rng = torch.Generator().manual_seed(0)
    g = torch.randn(pool, CLASSES, generator=rng).softmax(1)
    g, h = g - torch.nn.functional.one_hot(g.argmax(1), CLASSES), torch.rand(pool, D, generator=rng)
    both = {
        "materialised": lambda: materialised_k_means_pp(g, h, k, torch.Generator().manual_seed(1)),
        "albench": lambda: k_means_pp(g, h, k, torch.Generator().manual_seed(1)),
    }
    table.compare("badge", both, device=CPU)


# Everything else ----------------------------------------------------------------------------------------------------


def raw_outputs(task, images, batch=32):
    """What a trained SSD300 gives: background nearly everywhere, and boxes around three objects an image."""
    rng, grid = torch.Generator().manual_seed(0), default_boxes(task.grids)
    for begin in range(0, images, batch):
        count = min(batch, images - begin)
        corner = torch.rand(count, 3, 2, generator=rng) * 250 + 1
        targets = {
            "image": torch.zeros(count, 3, 8, 8, dtype=torch.uint8),
            "boxes": torch.cat([corner, corner + 30 + torch.rand(count, 3, 2, generator=rng) * 200], 2),
            "labels": torch.randint(0, 20, (count, 3), generator=rng),
            "difficult": torch.rand(count, 3, generator=rng) < 0.1,
            "size": torch.full((count, 2), 500),
        }
        ready = {**targets, **task._encoded(*task._truth(targets))}
        logits = torch.randn(count, len(grid), 21, generator=rng)
        logits[..., 0] += 8
        matched = ready["matched"][..., None]
        logits.scatter_add_(2, matched.clamp_min(0), torch.where(matched > 0, 8.0, 0.0))
        offsets = ready["offsets"] + 0.3 * torch.randn(ready["offsets"].shape, generator=rng)
        yield {"logits": logits, "offsets": offsets}, ready


def test_mean_average_precision(table):
    """The same 320 images again and again, so that what is timed is not the making of them; by the clock, as the target
    is, so that it wants a machine with nothing else to do."""
    task, images = PascalVoc(network="ssd300-vgg16"), 4952 if table.enabled else 4
    made = list(raw_outputs(task, min(images, 320)))
    batches = [made[i % len(made)] for i in range(-(-images // 32))]
    classes = [str(label) for label in range(20)]

    def seconds():
        start = time.perf_counter()
        task.measure(batches, classes)
        return time.perf_counter() - start

    with Numerics(threads=2).in_force():
        table.compare("map", {"albench": seconds}, device=CPU)


FIRST_STEP = """
import os, sys
from albench import training
fit = training.fit
def first(setup, stage, labelled, start=None, on_update=None, *rest, **options):
    done = 7 if "torch._dynamo" not in sys.modules else 8  # torch's compiler, which takes longer than all of albench
    return fit(setup, stage, labelled, start, lambda update, updates: os._exit(done), *rest, **options)
training.fit = first
from albench import api
api.run(sys.argv[1], out=sys.argv[2], device="cpu", jobs=1)
"""
TINY = """
name = "tiny"
seeds = 1
stages = 2
budget = 8
recipe = { updates = 4, batch = 8 }
strategies = ["random"]

[tasks.digit-scenes]
"""


def test_second_start(table, tmp_path):
    """A process of its own, from its start to the first training step; its data lie in the cache."""
    (tmp_path / "tiny.toml").write_text(TINY)
    command = [sys.executable, "-c", FIRST_STEP, str(tmp_path / "tiny.toml"), str(tmp_path / "run")]

    def start():
        assert subprocess.run(command, capture_output=True, check=False).returncode == 7

    table.compare("second-start", {"albench": start}, device=CPU)


def test_overhead(table, tmp_path):
    """One seed of `quick`, in one process: what is no training, evaluation, scoring or selection of its wall time.

    Diagnoses evaluate the scores on the test set for the report: once they count as evaluation, once they do not.
    """
    small = {} if table.enabled else {"tasks": ["digits"], "strategies": ["random"], "stages": 2}
    small |= {} if table.enabled else {"settings": ["recipe={updates=2,batch=8}", "tasks.digits.params={samples=120}"]}
    run = functools.partial(albench.run, "quick", seeds=1, jobs=1, device="cpu", out=tmp_path / "run", **small)
    start = time.perf_counter()
    _, failed = run()
    wall = time.perf_counter() - start
    assert failed == []
    store, spent, seen = Store(tmp_path / "run"), Counter(), set()
    for trial in store.trials():
        for record in store.records(trial):
            if record["kind"] == "trained" and record["identity"] in seen:
                continue  # shared: its seconds were spent once
            seen.add(record.get("identity"))
            spent.update({(trial.task, what): s for what, s in record.get("seconds", {}).items()})
    assert 0 < spent.total() < wall
    diagnoses = sum(seconds for (_, what), seconds in spent.items() if what == "diagnose")
    table.keep("overhead", {"albench": 100 * (wall - spent.total()) / wall}, "%", device=CPU)
    table.keep("overhead-all", {"albench": 100 * (wall - spent.total() + diagnoses) / wall}, "%", device=CPU)
    for (task, what), seconds in sorted(spent.items()):
        print(f"{task}: {what} {seconds:.1f} s")
