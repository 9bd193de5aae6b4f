"""Killed anywhere, on one worker and on two, a run ends with what it would have ended with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killing.py")


def kill(folder, seeds, *series):
    options = [part for one in series for part in ("--series", one)]
    options += ["--seeds", str(seeds), "--out", str(folder / "runs"), "--table", str(folder / "kills.md")]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    print((folder / "kills.md").read_text())
    for row in rows:
        assert (row["different"], row["missing"], row["leftover"]) == (0, 0, 0), done.stderr
        assert row["excess"] == 0  # a kill costs at most the update that each worker was at
    return sum(row["killed"] for row in rows)


def test_a_run_that_is_killed_ends_as_one_that_was_not(tmp_path):
    assert kill(tmp_path, 1, "moment:1:2", "half:1:1", "whole:1:1", "moment:2:2") == 6


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(tmp_path):
    series = ("moment:1:40", "half:1:20", "whole:1:10", "moment:2:20", "half:2:10")
    assert kill(tmp_path, 2, *series) == 100
