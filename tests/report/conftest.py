"""A run folder as `albench run` leaves it, made up: real tasks' names and data, invented numbers."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from albench.report import press

STRATEGIES = {
    "random": {"strategy": "random", "companion": None, "cheats": False},
    "entropy": {"strategy": "entropy", "companion": None, "cheats": False},
    "core-set": {"strategy": "core-set", "companion": None, "cheats": False},
    "learning-loss": {"strategy": "learning-loss", "companion": "loss-prediction", "cheats": False},
    "true-loss": {"strategy": "true-loss", "companion": None, "cheats": True},
}
PARTS = {
    "accuracy": [],
    "pck@0.2": ["pck@0.2/left knee", "pck@0.2/head top", "pckh-neck@0.5"],
    "map": ["map@11pt", "ap/0", "ap/1"],
}
TASKS = {"digits": ("accuracy", 1200, 25), "figures": ("pck@0.2", 600, 36), "digit-scenes": ("map", 600, 40)}
SCORING = ("entropy", "learning-loss", "true-loss")
TIDY = ["task", "strategy", "seed", "stage", "labelled", "metric", "value"]


def facts(strategy):
    """What the manifest says of a strategy, also of one that nobody knows."""
    return STRATEGIES.get(strategy, {"strategy": strategy, "companion": None, "cheats": False})


def fabricate(folder, tasks=("digits",), strategies=tuple(STRATEGIES), seeds=3, stages=5, short=(), **suite):
    """Write a run folder; `short` names (task, strategy, seed) that stop after two stages."""
    rng = np.random.default_rng(0)
    results, costs, selections, pairs, descent = [], [], [], [], []
    for task in tasks:
        metric, pool, budget = TASKS[task]
        start, gain = rng.uniform(0.3, 0.5), rng.uniform(0.2, 0.3)
        for seed in range(seeds):
            first = start + rng.normal(0, 0.02)
            for number, strategy in enumerate(strategies):
                order = rng.permutation(pool)
                for stage in range(2 if (task, strategy, seed) in short else stages):
                    head = (task, strategy, seed, stage, budget * (stage + 1))
                    better = 0.012 * number * stage / stages
                    value = first + gain * (1 - np.exp(-0.6 * stage)) + better + rng.normal(0, 0.01) * (stage > 0)
                    results += [(*head, metric, value), (*head, "objective", 2 * (1 - value))]
                    results += [(*head, part, value * rng.uniform(0.8, 1.1)) for part in PARTS[metric]]
                    results += diagnosis(rng, head, strategy)
                    costs += [
                        (*head, f"seconds/{name}", abs(rng.normal(mean, mean / 9)))
                        for name, mean in [("train", 2.1), ("evaluate", 0.2), ("observe", 0.5), ("select", 0.03)]
                    ]
                    costs.append((*head, "peak-memory/train", 3.1e8))
                    if stage in (0, stages - 1):
                        descent += [(*head, 7 * part, 3 / part + value) for part in range(1, 21)]
                    chosen = order[stage * budget : (stage + 1) * budget]
                    selections += [(task, strategy, seed, stage, place, index) for place, index in enumerate(chosen)]
                    if strategy in SCORING:
                        true = rng.exponential(1, 60) ** 2
                        predicted = np.log(true) + rng.normal(0, 1, 60)
                        pairs += [(*head[:4], "test", a, b) for a, b in zip(predicted, true, strict=True)]
    folder.mkdir(parents=True)
    pd.DataFrame(results, columns=TIDY).to_csv(folder / "results.csv", index=False)
    pd.DataFrame(costs, columns=TIDY).to_csv(folder / "costs.csv", index=False)
    columns = ["task", "strategy", "seed", "stage", "order", "index"]
    pd.DataFrame(selections, columns=columns).to_csv(folder / "selections.csv", index=False)
    columns = ["task", "strategy", "seed", "stage", "where", "predicted", "true"]
    pd.DataFrame(pairs, columns=columns).to_csv(folder / "diagnostics.csv", index=False)
    columns = ["task", "strategy", "seed", "stage", "labelled", "update", "objective"]
    pd.DataFrame(descent, columns=columns).to_csv(folder / "descent.csv", index=False)
    manifest = manifest_of(folder.name, tasks, strategies, seeds, stages) | {"data_root": None, "plugins": {}}
    manifest["suite"] |= suite
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def diagnosis(rng, head, strategy):
    """Ranking accuracies of a strategy that scores."""
    if strategy not in SCORING:
        return []
    level = {"entropy": 0.62, "learning-loss": 0.7, "true-loss": 0.99}[strategy]
    rows = []
    for where in ("test", "candidates"):
        for name, mean in [("score", level), ("entropy", 0.62), ("margin", 0.6), ("trivial", 0.52)]:
            value = min(1.0, mean + rng.normal(0, 0.015) + 0.01 * head[3])
            rows += [
                (*head, f"ranking-accuracy/{where}/{name}", value),
                (*head, f"spearman/{where}/{name}", value - 0.4),
            ]
    return rows


def manifest_of(name, tasks, strategies, seeds, stages):
    """What the engine writes of a run."""
    session = {
        "started": "2026-01-02T03:04:05+00:00",
        "command": ["albench", "run", name],
        "albench": "0.1.0",
        "python": "3.11.7",
        "torch": "2.15.0",
        "torchvision": "0.30.0",
        "platform": "Linux",
        "cpu": "AMD EPYC",
        "cores": 2,
        "gpu": None,
        "device": "cpu",
        "git": {"commit": "0123456789abcdef", "changed": True},
    }
    return {
        "format": 1,
        "albench": "0.1.0",
        "suite": {
            "name": name,
            "description": "Three tasks that need no download.",
            "demonstration": False,
            "seed": 0,
            "seeds": seeds,
            "stages": stages,
            "warm_start": False,
            "subset": 0,
            "primary": {"reference": "random", "effect": 0.005},
            "tasks": {
                t: {
                    "task": t,
                    "params": {},
                    "recipe": {"updates": 140, "batch": 12},
                    "initial": None,
                    "budget": TASKS[t][2],
                    "subset": 0,
                }
                for t in tasks
            },
            "strategies": {s: {"strategy": s, "companion": facts(s)["companion"], "params": {}} for s in strategies},
        },
        "tasks": {
            t: {
                "task": t,
                "metric": TASKS[t][0],
                "pool": TASKS[t][1],
                "test": 500,
                "classes": ["a", "b"],
                "fingerprint": None,
                "notes": [f"{t}-17: an empty box was left out"],
                "parameters": 12345,
                "source": "made up",
            }
            for t in tasks
        },
        "strategies": {s: facts(s) for s in strategies},
        "sessions": [session],
    }


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name, …)` writes a run folder and returns it."""
    return lambda name="quick", **options: fabricate(tmp_path / name, **options)


@pytest.fixture
def two_devices():
    """`two_devices(folder)` makes two seeds of a run's random selection come from two models of GPU."""

    def change(folder):
        heading = "task,strategy,seed,stage,labelled,identity,device"
        rows = (f"digits,random,{seed},0,100,{seed},{model}" for seed, model in enumerate(("A100", "H100")))
        (folder / "trainings.csv").write_text("\n".join([heading, *rows]) + "\n")

    return change


@pytest.fixture
def unsaved(monkeypatch):
    """Figures are drawn, but their files hold a dot: saving takes most of a report's time, and few tests look."""

    def dot(draw, path, width):
        with press.style(width):
            assert isinstance(draw if isinstance(draw, Figure) else draw(width), Figure)
        Image.new("RGB", (1, 1)).save(f"{path}.png")
        return b""

    monkeypatch.setattr(press, "save", dot)
    monkeypatch.setattr(press, "FEW", 10**6)  # here, not in other processes
