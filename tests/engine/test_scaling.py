"""What a stage costs the scheduler and the file system does not grow with the number of trials (scaling.py)."""

import importlib.util
import io
import json
import sys
import tracemalloc
from pathlib import Path

import pytest
from rich.console import Console

from albench.progress import Display, Heartbeat
from albench.store import Store, Trial

spec = importlib.util.spec_from_file_location("scaling", Path(__file__).with_name("scaling.py"))
scaling = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scaling)
sys.addaudithook(scaling.count)


@pytest.mark.parametrize("away", [False, True])
def test_a_stage_opens_no_more_files_in_a_large_run_than_in_a_small_one(tmp_path, away):
    opened = []
    for trials in (10, 30):
        (tmp_path / f"{trials}").mkdir()
        found = scaling.simulate(tmp_path / f"{trials}", trials, 4, 2, 0.0, away)
        opened.append(found["per stage"]["opened"])
        home = Store(tmp_path / f"{trials}" / "run")
        assert len(home.trials()) == found["trials"] == trials
        assert all(len(home.records(trial)) == 4 for trial in home.trials())
    assert opened[1] < 1.2 * opened[0]


def test_memory_does_not_grow_with_the_trials_that_are_done(tmp_path, monkeypatch):
    sizes = []

    class Measured(scaling.Immediate):
        def submit(self, trial, call):
            super().submit(trial, call)
            sizes.append(tracemalloc.get_traced_memory()[0])

    monkeypatch.setattr(scaling, "Immediate", Measured)
    tracemalloc.start()
    try:
        scaling.simulate(tmp_path, 3000, 100, 2, 0.0, away=True, empty=True)
    finally:
        tracemalloc.stop()
    assert len(sizes) == 3000
    assert sizes[-200] - sizes[500] < 100_000  # bytes


def test_the_live_view_reads_what_runs_and_not_what_waits(tmp_path):
    trials = [Trial("digits", "random", seed) for seed in range(500)]
    display = Display(tmp_path, trials, 3, Console(file=io.StringIO()), 1500)
    beats = [Heartbeat(tmp_path, trials[seed]) for seed in (3, 400)]
    scaling.counts.clear()
    assert [(trial.seed, beat["what"]) for trial, beat in display._running()] == [(3, "loading"), (400, "loading")]
    assert scaling.counts["opened"] <= 4
    for beat in beats:
        beat.end()


@pytest.mark.slow
@pytest.mark.parametrize("away", [False, True])
def test_a_thousand_trials_on_a_hundred_workers(tmp_path, away):
    found = scaling.simulate(tmp_path, 1000, 100, 5, 2.0, away)
    print(json.dumps(found, indent=1))
    assert found["dispatcher's cpu per stage, ms"] < 50
