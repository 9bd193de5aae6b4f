"""Seeds of several runs as those of one, and runs side by side that are not alike."""

import json

import pandas as pd
import pytest

from albench import AlbenchError
from albench.report.pooled import settings
from albench.report.runs import gather

FEW = {"strategies": ("random", "entropy"), "stages": 3}


def changed(folder, change):
    """The manifest of a run folder, changed."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return folder


def test_pooled_seeds_are_numbered_on_and_stay_paired(make_run):
    folders = [make_run("one", seeds=2, **FEW), make_run("two", seeds=3, seed=1, **FEW)]
    alone = [gather([folder])[0] for folder in folders]
    (run,) = gather(folders, pool=True)
    assert run.suite["seeds"] == 5
    assert run.planned["seeds"] == 2  # the others count as added later
    assert not run.shortfall()
    late = run.results[run.results["seed"] >= 2]
    pd.testing.assert_frame_equal(
        late.assign(seed=late["seed"] - 2).reset_index(drop=True), alone[1].results.reset_index(drop=True)
    )
    assert len(run.selections) == sum(len(part.selections) for part in alone)


def test_what_is_no_repetition_is_not_pooled(make_run):
    first = make_run("one", seeds=2, **FEW)
    with pytest.raises(AlbenchError, match=r"one and .*same cannot be pooled: both have the suite seed 0"):
        gather([first, make_run("same", seeds=2, **FEW)], pool=True)
    other = changed(
        make_run("recipe", seeds=2, seed=1, **FEW), lambda m: m["suite"]["tasks"]["digits"]["recipe"].update(batch=99)
    )
    with pytest.raises(AlbenchError, match=r"since they differ: tasks.digits.recipe.batch: 12 → 99; without --pool"):
        gather([first, other], pool=True)
    data = changed(make_run("data", seeds=2, seed=1, **FEW), lambda m: m["tasks"]["digits"].update(fingerprint="abc"))
    with pytest.raises(AlbenchError, match="fingerprint of digits: None → 'abc'"):
        gather([first, data], pool=True)


def test_gpu_models_are_pooled_only_where_that_is_said(make_run):
    gpu = changed(make_run("gpu", seeds=2, seed=1, **FEW), lambda m: m["sessions"][0].update(gpu="NVIDIA H200"))
    folders = [make_run("one", seeds=2, **FEW), gpu]
    with pytest.raises(AlbenchError, match=r"one \+ gpu: trials ran on cpu and NVIDIA H200.*--mixed-devices"):
        gather(folders, pool=True)
    assert len(gather(folders, mixed=True, pool=True)) == 1


def test_runs_side_by_side_say_what_they_set_otherwise(make_run):
    other = changed(
        make_run("two", seeds=2, **FEW), lambda m: m["suite"]["tasks"]["digits"]["recipe"].update(updates=200)
    )
    runs = gather([make_run("one", seeds=2, **FEW), other])
    assert settings(runs, "digits") == ["one → two: recipe.updates: 140 → 200"]
    assert settings(runs[:1], "digits") == []


def test_runs_that_judge_otherwise_have_sections_of_their_own(make_run):
    stricter = {"reference": "random", "effect": 0.02}
    runs = gather([make_run("one", seeds=2, **FEW), make_run("two", seeds=2, primary=stricter, **FEW)])
    assert [list(run.tasks) for run in runs] == [["one/digits"], ["two/digits"]]
