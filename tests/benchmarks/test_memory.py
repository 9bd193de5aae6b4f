"""Peak memory of the paper-size networks: a training step with the module beside it, and scoring.

    pytest tests/benchmarks/test_memory.py --benchmark-enable -s

On a CPU the peak is the process's, libraries and all.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from .table import TARGETS

BATCHES = {"cifar": 128, "voc": 32, "pose": 6}


@pytest.fixture(autouse=True)
def _only_where_it_is_asked_for(request):
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("--benchmark-enable")


def kept(table, row, *work):
    """Say the peak, and keep it where it has a row."""
    command = [sys.executable, str(Path(__file__).with_name("peak.py")), *map(str, work)]
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"\n{row}: {peak:.2f} GiB")
    if row in TARGETS:
        table.keep(row, {"albench": peak}, "GiB")
    return peak


@pytest.mark.parametrize("made", BATCHES)
def test_training_step(table, made):
    kept(table, f"memory-train-{made}", "train", made, BATCHES[made])


@pytest.mark.parametrize("made", BATCHES)
def test_scoring_a_pool(table, made):
    """Four times the samples, the same peak but for the images themselves (and what an allocator may waste)."""
    few, many = (kept(table, f"memory-score-{made}-{count}", "score", made, count) for count in (16, 64))
    assert many < few + 0.25
