"""The same suite on every backend with 1 and 2 workers: equal results? and how much of the workers' time is used?

    python tests/engine/efficiency.py --repeats 3 --table efficiency.md

Its strategy waits two seconds per selection, as for a GPU: so what is measured is what the backends cost, also on a
machine whose cores are busy with other things. Time is counted from the first selection's begin to the last one's end.
"""

import argparse
import io
import statistics
import tempfile
from pathlib import Path

from rich.console import Console

import albench

PLUGIN = '''
import os, time
from pathlib import Path
import albench

@albench.register_strategy("waits")
class Waits(albench.Strategy):
    """The entropy, after two seconds."""

    def observe(self, outputs):
        return {{"score": outputs.prediction.entropy()}}

    def select(self, pool, k, rng):
        begin = time.time()
        time.sleep(2.0)
        handle = os.open({times!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{{begin}} {{time.time()}}\\n".encode())
        os.close(handle)
        return super().select(pool, k, rng)
'''
SUITE = """
name = "waiting"
seeds = 4
stages = 4
budget = 8
recipe = { updates = 4, batch = 8 }
strategies = ["waits"]

[tasks.digits]
params = { samples = 120, width = 4, blocks = [1, 1] }
"""
SERIAL = ("serial", 1)


def run(base, backend, workers, number):
    """(seconds from the first selection to the last, the tables)."""
    times, console = base / "times", Console(file=io.StringIO())
    times.unlink(missing_ok=True)
    options = {} if backend == "serial" else {"backend": backend}
    options |= {"slurm": {"cluster": "local"}} if backend == "slurm" else {}
    folder, failed = albench.run(
        base / "suite.toml", out=base / f"{backend}-{workers}-{number}", device="cpu", jobs=workers, console=console,
        plugins=[base / "plugin.py"], **options,
    )  # fmt: skip
    assert not failed
    spans = [tuple(map(float, line.split())) for line in times.read_text().splitlines()]
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return seconds, [(folder / f"{name}.csv").read_bytes() for name in ("results", "selections", "diagnostics")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backends", default="loky,dask,ray,slurm")
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    lines = ["| backend | workers | seconds | efficiency | results |", "|---|---:|---:|---:|---|"]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "plugin.py").write_text(PLUGIN.format(times=str(base / "times")))
        (base / "suite.toml").write_text(SUITE)
        serial, tables = 0.0, []
        settings = [SERIAL, *((b, w) for b in options.backends.split(",") for w in (1, 2))]
        settings = [setting for setting in settings if setting != ("loky", 1)]  # that is the serial one
        for backend, workers in settings:
            runs = [run(base, backend, workers, number) for number in range(options.repeats)]
            seconds = statistics.median(s for s, _ in runs)
            if (backend, workers) == SERIAL:
                serial, tables = seconds, runs[0][1]
            equal = all(found == tables for _, found in runs)
            efficiency = f"{serial / (workers * seconds):.2f}"
            lines.append(f"| {backend} | {workers} | {seconds:.1f} | {efficiency} | {'equal' if equal else 'DIFFER'} |")
            print(lines[-1], flush=True)
    if options.table:
        options.table.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
