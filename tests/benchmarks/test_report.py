"""What the report of a large run costs: 10,000 trials of 10 stages (4 tasks, 25 strategies, 100 seeds).

    pytest tests/benchmarks/test_report.py --benchmark-enable

The run folder is as `albench run` leaves it: records, tables, per-class metrics, costs, class counts, 25 selections a
stage; a fifth of the strategies score, so that they have diagnoses. Making it is outside the timing. The report runs
in a process of its own, as the command does, so that the time holds starting and importing, and memory is that of all
its processes together.
"""

import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
import psutil
import pytest
import torch

from albench import tables
from albench.store import Store, _seal

CPU = torch.device("cpu")

CLASSES = [str(digit) for digit in range(10)]
POOL, BUDGET, TEST = 1198, 25, 100
SCORED = 5  # every so many strategies has diagnoses


@pytest.fixture(scope="module")
def large(tmp_path_factory, request):
    """The run folder; only where benchmarks are asked for."""
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("--benchmark-enable")
    return written(tmp_path_factory.mktemp("large") / "run", tasks=4, strategies=25, seeds=100, stages=10)


def written(folder, tasks, strategies, seeds, stages):
    """Write a run folder of made-up records, and its tables."""
    rng = np.random.default_rng(0)
    names = ["random", *(f"strategy-{i}" for i in range(1, strategies))]
    labels = [f"digits-{i}" for i in range(tasks)]
    (folder / "trials").mkdir(parents=True)
    for task in labels:
        for seed in range(seeds):
            start = rng.normal(0.5, 0.02)
            for place, name in enumerate(names):
                lines = list(records(rng, start + 0.001 * place, stages, scores=place % SCORED == 1))
                (folder / "trials" / f"{task}--{name}--seed{seed}.jsonl").write_bytes(b"".join(map(_seal, lines)))
    store = Store(folder)
    store.save_manifest(manifest(labels, names, seeds, stages))
    tables.write(store)
    return folder


def records(rng, start, stages, scores):
    """A trial's records, as the cycle runner writes them."""
    order = rng.permutation(POOL)
    for stage in range(stages):
        value = start + 0.03 * stage + rng.normal(0, 0.01)
        metrics = {"accuracy": value} | {f"accuracy/{c}": value + rng.normal(0, 0.05) for c in CLASSES}
        yield {
            **{"kind": "trained", "identity": rng.bytes(16).hex(), "stage": stage, "labelled": (stage + 1) * BUDGET},
            **{"metrics": metrics | {"nll": 1 - value, "ece": 0.1}, "objective": 0.01},
            **{"seconds": {"train": rng.uniform(1, 2), "evaluate": 0.1}, "peak_memory": 3 * 10**8, "device": "cpu"},
            **({} if stage else {"initial": order[:BUDGET].tolist()}),
            **{"updates": 140, "descent": np.geomspace(2, 0.01, 20).round(4).tolist()},
            "contents": rng.multinomial((stage + 1) * BUDGET, [0.1] * 10).tolist(),
        }
        last = stage == stages - 1
        record = {"kind": "finished" if last else "selected", "stage": stage}
        if not last:
            record["indices"] = order[(stage + 1) * BUDGET : (stage + 2) * BUDGET].tolist()
            record["seconds"] = {"observe": 0.1, "select": 0.01}
            record["character"] = {"metric": value - 0.2, "distance": rng.uniform(0.8, 1.2)}
        if scores:
            worth = {"ranking-accuracy": rng.uniform(0.6, 0.7), "spearman": rng.uniform(0.2, 0.4)}
            scatter = rng.exponential(1, (TEST, 2)).round(4).tolist()
            found = {"predictors": dict.fromkeys(("score", "entropy", "margin", "trivial"), worth), "scatter": scatter}
            record["diagnosis"] = {"candidates": found | {"scatter": []}, "test": found}
        yield record


def manifest(labels, names, seeds, stages):
    """What the engine writes of such a run."""
    entry = {"task": "digits", "params": {}, "recipe": {"updates": 140, "batch": 12}, "budget": BUDGET, "subset": 0}
    facts = {"task": "digits", "metric": "accuracy", "pool": POOL, "test": 599, "classes": CLASSES, "fingerprint": None}
    facts |= {"notes": [], "parameters": 12345, "source": "made up", "contents": [POOL // 10] * 10}
    strategies = {name: {"strategy": name, "companion": None, "params": {}} for name in names}
    session = {"started": datetime.now(UTC).isoformat(), "command": ["albench", "run", "large"], "device": "cpu"}
    return {
        **{"format": 1, "albench": "0.1.0", "data_root": None, "plugins": {}, "sessions": [session]},
        "suite": {
            **{"name": "large", "description": "Made up.", "seed": 0, "seeds": seeds, "stages": stages, "subset": 0},
            **{"primary": {"reference": "random", "effect": 0.005}, "tasks": dict.fromkeys(labels, entry)},
            "strategies": strategies,
        },
        "tasks": dict.fromkeys(labels, facts),
        "strategies": {name: facts | {"cheats": False} for name, facts in strategies.items()},
    }


def most_memory(process):
    """Bytes: the peak of what a process and its children hold together, shared pages once.

    Looked at every 200 ms, and never while they are timed: a look takes up to 50 ms of their time.
    """
    most, parent = 0, psutil.Process(process.pid)
    while process.poll() is None:
        held = 0
        for one in [parent, *parent.children(recursive=True)]:
            try:
                held += one.memory_full_info().pss
            except psutil.Error:
                continue
        most = max(most, held)
        time.sleep(0.2)
    return most


def test_ten_thousand_trials_are_reported(benchmark, table, large, tmp_path):
    command = [sys.executable, "-m", "albench", "report", str(large), "--out", str(tmp_path / "report")]
    benchmark.pedantic(lambda: subprocess.run(command, check=True), rounds=3)
    peak = most_memory(process := subprocess.Popen(command))
    assert process.returncode == 0
    benchmark.extra_info |= {"trials": 10_000, "stages": 10, "peak_GB": round(peak / 1e9, 2)}
    table.keep("report", {"albench": table.shown(benchmark.stats.stats.data)}, "s", device=CPU)
    table.keep("report-memory", {"albench": peak / 1e9}, "GB", device=CPU)
    files = [path.name for path in (tmp_path / "report" / "figures").iterdir()]
    assert {"curve-digits-0.png", "curve-digits-0.pdf", "curve-digits-0.svg"} <= set(files)
