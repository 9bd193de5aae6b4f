"""The harness of the targets' table: ways measured in turns, the first round left out, kept as JSON by machine."""

import json
import os
import platform
import re
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

import albench
from albench.manifest import _cpu
from albench.pools import cores

KEPT = Path(__file__).parents[2] / "results" / "reference" / "benchmarks"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine(device):
    """What a number is true of: "NVIDIA H200", or the CPU with its cores."""
    return torch.cuda.get_device_name() if device.type == "cuda" else f"{_cpu()}, {cores()} cores"


class Table:
    """Rows of this session. A row's id is one of `table.TARGETS`."""

    def __init__(self, enabled):
        self.enabled, self.rows = enabled, {}

    def compare(self, row, ways, unit="s", work=None, rounds=3, device=DEVICE):
        """Measure ways (name → call; the last is albench's) in turns. With `work`, numbers are work per second.

        A call that returns a float was timed by another process: those are its seconds.
        A ratio is of medians. On a CPU a second is one of a core. Where benchmarks are not enabled, each way is run
        once and nothing is kept.
        """
        seconds = {name: [] for name in ways}
        for turn in range(rounds + 1 if self.enabled else 1):
            for name, way in ways.items():
                start = self._clock(device)
                told = way()
                taken = told if isinstance(told, float) else self._clock(device) - start
                if turn:  # the first warms up
                    seconds[name].append(taken)
        if self.enabled:
            values = {name: [work / s if work else s for s in taken] for name, taken in seconds.items()}
            shown = {name: self.shown(v) for name, v in values.items()}
            medians = [statistics.median(v) for v in values.values()]
            ratio = (medians[-1] / medians[0] if work else medians[0] / medians[-1]) if len(ways) > 1 else None
            self.keep(row, shown, unit, ratio, device)

    def keep(self, row, shown, unit, ratio=None, device=DEVICE):
        """Keep numbers that were measured otherwise: name → {"median", "least", "most"} or a single number."""
        if self.enabled:
            shown = {k: v if isinstance(v, dict) else {"median": v} for k, v in shown.items()}
            self.rows[row] = {"ways": shown, "unit": unit, "ratio": ratio, "machine": machine(device)}
            print(f"\n{row}: {shown} {unit}, ratio {ratio}")

    @staticmethod
    def shown(values):
        """What is kept of several measurements."""
        return {"median": statistics.median(values), "least": min(values), "most": max(values), "rounds": len(values)}

    @staticmethod
    def _clock(device):
        """Seconds; on a CPU those of its cores, of this process and its children: others may be at work beside it."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            return time.perf_counter()
        return sum(os.times()[:4])

    def save(self):
        for name in {row["machine"] for row in self.rows.values()}:
            path = KEPT / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
            kept = json.loads(path.read_text()) if path.is_file() else {"machine": name, "rows": {}}
            circumstances = {
                "measured": datetime.now(UTC).isoformat(timespec="minutes"),
                "albench": albench.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "threads": torch.get_num_threads(),
                "load": round(os.getloadavg()[0], 1),  # of the machine: others may have been at work
            }
            kept["rows"] |= {k: row | circumstances for k, row in self.rows.items() if row["machine"] == name}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


@pytest.fixture(scope="session")
def table(request):
    rows = Table(request.config.getoption("--benchmark-enable"))
    yield rows
    rows.save()
