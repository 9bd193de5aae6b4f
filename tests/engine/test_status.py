"""What a run is doing, read from its folder."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from albench import status
from albench.cli import main
from albench.errors import AlbenchError
from albench.progress import PULSE, Heartbeat
from albench.store import Store, Trial

TRIAL = Trial("digits", "entropy", 0)


def command(*arguments):
    return CliRunner().invoke(main, ["status", *map(str, arguments)])


@pytest.fixture
def half(run):
    """A finished run of two stages, of which three are wanted now."""
    folder, _, _ = run(stages=2)
    store = Store(folder)
    manifest = store.manifest()
    manifest["suite"]["stages"] = 3
    store.save_manifest(manifest)
    return folder


def beat(folder, **changes):
    """A heartbeat of this process, with changes."""
    heart = Heartbeat(folder, TRIAL, "cuda:1")
    heart(2, "training", 0.25)
    content = json.loads(heart.path.read_text()) | changes
    heart.end()
    heart.path.write_text(json.dumps(content))


def test_a_finished_run_is_done(run):
    folder, _, _ = run(settings=["ceiling=1"])
    found = status.read(folder)
    assert found.counts == {"done": 7, "running": 0, "failed": 0, "waiting": 0}
    assert (found.stages, found.stages_done, found.seconds_of_work) == (19, 19, 0.0)
    assert "19 of 19 stages; trials: 7 done" in command(folder).stdout


def test_a_live_process_is_running_where_it_says(half):
    beat(half)
    found = status.read(half)
    (mine,) = [t for t in found.trials if t.state == "running"]
    assert (mine.task, mine.strategy, mine.seed, mine.stages_done) == ("digits", "entropy", 0, 1)
    where = mine.running
    assert (where.host, where.pid, where.device) == (socket.gethostname(), os.getpid(), "cuda:1")
    assert (where.stage, where.what, where.fraction) == (2, "training", 0.25)
    assert time.time() - 60 < where.started <= where.since <= where.time <= time.time()
    assert found.workers == 1
    assert found.seconds_left == found.seconds_of_work > 0
    said = command(half).stdout
    assert f"stage 3/3 training 25% on {socket.gethostname()}, process {os.getpid()}, cuda:1, since" in said
    assert "left with 1 workers" in said


def test_a_process_that_is_gone_is_said_to_be(half):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    beat(half, pid=gone.pid)
    found = status.read(half)
    assert (found.counts["running"], found.counts["waiting"], found.workers, found.seconds_left) == (0, 6, 0, None)
    said = command(half).stdout
    assert f"entropy · seed 0: its process {gone.pid} is gone" in said
    assert "nobody works on it" in said


@pytest.mark.parametrize(("age", "alive"), [(PULSE, True), (1e5, False)])
def test_another_host_is_alive_until_it_is_silent(half, age, alive):
    beat(half, host="elsewhere", time=time.time() - age)
    found = status.read(half)
    assert found.counts["running"] == alive
    if not alive:
        assert "no sign of life for" in command(half).stdout


def test_the_time_left_is_that_of_the_measured_stages(half):
    store, cost = Store(half), []
    for trial in store.trials():
        cost.append(sum(sum(r.get("seconds", {}).values()) for r in store.records(trial)) / 2)
    # each trial lacks the selection after its second stage, and its third stage
    assert status.read(half).seconds_of_work == pytest.approx(sum(c * 2 for c in cost))


def test_a_failure_is_shown_with_its_line(half):
    Store(half).save_failure(TRIAL, "ValueError: no luck", "trace")
    found = status.read(half)
    assert found.counts["failed"] == 1
    assert "Failed: digits · entropy · seed 0: ValueError: no luck" in command(half).stdout


def test_damaged_records_are_an_error_of_their_trial(half):
    path = half / "trials" / f"{TRIAL}.jsonl"
    path.write_bytes(b"x" + path.read_bytes())
    (mine,) = [t for t in status.read(half).trials if t.error]
    assert mine.state == "failed"
    assert "line 1: a damaged record" in mine.error


def test_a_damaged_heartbeat_is_none(half):
    beat(half)
    (half / "progress" / f"{TRIAL}.json").write_text('{"stage": ')
    assert status.read(half).counts["running"] == 0


def test_the_json_is_as_its_schema_says(half):
    beat(half)
    found = json.loads(command(half, "--json").stdout)
    schema = json.loads(command("--schema").stdout)
    assert set(found) == set(schema["properties"]) == set(schema["required"])
    assert set(found["trials"][0]) == set(schema["$defs"]["TrialStatus"]["properties"])
    running = next(t["running"] for t in found["trials"] if t["running"])
    assert set(running) == set(schema["$defs"]["Running"]["properties"])


def test_no_run_is_one_line(tmp_path):
    done = command(tmp_path)
    assert done.exit_code == 2
    assert "no manifest.json" in done.stderr
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(AlbenchError, match="is none of albench's"):
        status.read(tmp_path)


def test_a_heartbeat_goes_on_through_a_long_silence(tmp_path, monkeypatch):
    monkeypatch.setattr("albench.progress.PULSE", 0.02)
    heart = Heartbeat(tmp_path, TRIAL)
    heart(0, "observing", 0.0)
    first = json.loads(heart.path.read_text())
    deadline = time.monotonic() + 20
    while json.loads(heart.path.read_text())["time"] == first["time"] and time.monotonic() < deadline:
        time.sleep(0.01)
    later = json.loads(heart.path.read_text())
    assert later["time"] > first["time"]
    assert later["since"] == first["since"]
    heart.end()
    time.sleep(0.1)
    assert not heart.path.exists()
