"""What a suite will cost: counted as the run then does it, and never more than a look."""

import pandas as pd
import pytest
from click.testing import CliRunner

from albench import AlbenchError, step
from albench.api import estimate
from albench.cli import main
from albench.estimate import Estimate, clock, table

SUITE = """
name = "counted"
seeds = 2
stages = 3
budget = 8
ceiling = 1
recipe = { updates = 5, batch = 8 }

[tasks.digits]
params = { samples = 120, width = 4, blocks = [1, 1] }

[strategies.random]
[strategies.entropy]
[strategies.learning-loss]
[strategies.random-with-module]
strategy = "random"
companion = "loss-prediction"
[strategies.replay]
params = { source = "this run", strategy = "entropy" }
"""


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "counted.toml"
    path.write_text(SUITE)
    return path


def test_counts_are_those_of_the_run(suite, run):
    (part,) = estimate(suite, device="cpu")
    folder, failed, _ = run(suite)
    assert not failed
    trainings = pd.read_csv(folder / "trainings.csv")
    done = list((folder / "trained").glob("*.json"))
    assert part.trials == 2 * 5 + 1
    # two kinds of stage 0 (with the module and without), then every strategy by itself but the replay; and one ceiling
    assert part.trainings == 2 * (2 + 2 * 4) + 1 == len(done)
    assert trainings["identity"].nunique() == len(done) - 1
    assert part.steps == 5 * len(done)
    weights = sum(file.stat().st_size for file in (folder / "trained").glob("*.safetensors"))
    assert 0.5 < part.disk / weights < 2
    assert min(part.step, part.train, part.evaluate, part.observe, part.memory) > 0
    assert part.compile == 0
    assert part.seconds == pytest.approx(part.train + part.evaluate + part.observe)


def test_what_compiling_takes_is_counted_once_a_worker(suite, monkeypatch):
    monkeypatch.setattr(step, "BACKEND", "eager")
    monkeypatch.setattr(step, "_kept", {})
    (part,) = estimate(suite, compile="on")
    assert part.compile > 10 * part.step  # of two networks: with the module and without
    assert part.seconds == pytest.approx(part.train + part.evaluate + part.observe + part.compile)


def test_epochs_cost_more_as_labels_grow(suite):
    (part,) = estimate(suite, device="cpu", settings=["recipe={epochs=4,batch=8}"], strategies=["random"], seeds=1)
    assert part.steps == 4 * (1 + 2 + 3) + 4 * 10  # K = 8 a stage; the pool has 80


def test_what_would_stop_the_run_stops_the_estimate(suite):
    with pytest.raises(AlbenchError, match="40 stages need"):
        estimate(suite, device="cpu", stages=40)
    with pytest.raises(AlbenchError, match="Did you mean 'entropy'"):
        estimate(suite, strategies=["entopy"])


def test_the_command_shows_a_table_and_writes_nothing(suite, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["run", str(suite), "--estimate", "--device", "cpu", "--out", str(out)])
    assert result.exit_code == 0, result.output
    for words in ("training steps", "105", "peak memory", "disk", "trials at once"):
        assert words in " ".join(result.output.split())
    assert not out.exists()


def test_a_run_that_is_begun_is_counted_whole_and_that_is_said(suite, run):
    folder, failed, _ = run(suite, strategies=["random"], seeds=1)
    assert failed == []
    call = ["run", str(suite), "--estimate", "--device", "cpu", "--strategies", "random", "--out", str(folder)]
    output = CliRunner().invoke(main, call).output
    assert f"{folder} holds a run already" in output.replace("\n", "")


def test_every_worker_compiles():
    part = Estimate("x", 1, 1, 1, step=1, train=80, evaluate=0, observe=0, compile=60, memory=1, disk=1, jobs=8)
    assert "Together 2.3 min; at best 1.2 min with 8 trials" in str(table([part], 8).caption)


def test_what_needs_no_data_is_told_without_them(tmp_path):
    """The suite's description has the same number of steps."""
    given = ["run", "ll4al-mpii-short", "--estimate", "--device", "cpu", "--data-root", str(tmp_path)]
    result = CliRunner().invoke(main, given)
    assert result.exit_code != 0
    assert "mpii: 8 trials, 20 trainings of 44,000 training steps" in result.output
    assert "Error: " in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59, "59 s"), (90, "1.5 min"), (4000, "1.1 h"), (2e5, "2.3 days")]
)
def test_durations_are_said_as_people_do(seconds, said):
    assert clock(seconds) == said
