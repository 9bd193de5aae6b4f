"""A suite that trains in moments: digits, few and small, a handful of updates."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import albench

TINY = """
name = "tiny"
seeds = 2
stages = 3
budget = 8
recipe = { updates = 4, batch = 8 }
strategies = ["random", "entropy", "learning-loss"]

[tasks.digits]
params = { samples = 120, width = 4, blocks = [1, 1] }
"""


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A suite file to run or to edit."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def run(tiny, tmp_path):
    """Run a suite in this process; returns (folder, failed trials, what was printed)."""

    def call(suite=tiny, out="run", **options):
        console = Console(file=io.StringIO(), width=200)
        options = {"jobs": 1, "device": "cpu"} | options
        folder, failed = albench.run(suite, out=tmp_path / out, console=console, **options)
        return folder, failed, console.file.getvalue()

    return call
