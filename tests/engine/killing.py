"""Kills runs and resumes them, again and again, and compares what they end with to the uninterrupted run.

    python tests/engine/killing.py --series moment:1:40 --series half:1:20 --series moment:2:10 --table kills.md

A series is HOW:WORKERS:KILLS. HOW: "moment", SIGKILL of the whole process group at a random moment; "half" and "whole",
in the middle of a random write, and after it but before the file has its name. torch is imported once, in this process;
every run is a fork of it.
"""

import argparse
import contextlib
import ctypes
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas  # noqa: F401 - what a run needs is imported before it is forked
import sklearn.datasets  # noqa: F401
import torch
from rich.console import Console

import albench
from albench.worker import TOKEN

SUITE = """
name = "kills"
seeds = SEEDS
stages = 3
budget = 8
recipe = { updates = 6, batch = 8 }
strategies = ["random", "entropy", "learning-loss"]

[tasks.digits]
params = { samples = 120, width = 4, blocks = [1, 1] }

[tasks.figures]
params = { pool = 40, test = 12, width = 8, dropout = 0.1 }
"""
PLUGIN = Path(__file__).with_name("kill_plugin.py")
WRITES = 150  # more than a process of a whole run makes; a write that does not come lets the run end
HOW = {
    "moment": "SIGKILL at a random moment",
    "half": "SIGKILL in the middle of a write",
    "whole": "SIGKILL between a write and its renaming",
}
VARYING = ("seconds", "peak_memory", "resumed")  # of a record: all else must be equal


def run(folder, workers, seconds=None, write=""):
    """A run in a process group of its own, killed after so many seconds; whether it came to its end.

    With several workers, which are no forks and import torch first, the seconds count from the first update.
    """
    before = sum(begun(folder).values()) if workers > 1 else -1
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            os.environ |= {"KILL_AT_WRITE": write, "KILL_LOG": str(folder.with_suffix(".updates"))}
            suite = folder.with_suffix(".toml")
            suite.write_text(SUITE.replace("SEEDS", os.environ["KILL_SEEDS"]))
            with folder.with_suffix(".out").open("a") as said:
                _, failed = albench.run(
                    suite,
                    out=folder,
                    device="cpu",
                    jobs=workers,
                    plugins=[PLUGIN],
                    checkpoint_minutes=1e-9,
                    console=Console(file=said, width=200),
                )
                code = 2 if failed else 0
        finally:
            os._exit(code)
    status, clock = None, time.monotonic()
    while status is None and (seconds is None or time.monotonic() < clock + seconds):
        done, status = os.waitpid(pid, os.WNOHANG)
        status = status if done else time.sleep(0.002)
        if before >= 0:
            clock, before = time.monotonic(), before if sum(begun(folder).values()) == before else -1
    with contextlib.suppress(ProcessLookupError):  # where it ended: idle workers, which its end did not stop
        os.killpg(pid, signal.SIGKILL)
    if status is None:
        _, status = os.waitpid(pid, 0)
    reap(pid)
    assert status == 0 or os.WIFSIGNALED(status), folder.with_suffix(".out").read_text()[-3000:]
    return status == 0


def reap(group):
    """Wait until every process of the group is gone: workers outlive the process that started them by a moment."""
    while True:
        try:
            os.waitpid(-group, 0)
        except ChildProcessError:
            return


def plain(record):
    return {key: value for key, value in record.items() if key not in VARYING}


def content(folder):
    """All that a run folder says, file by file, as far as it must not depend on kills."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if name.startswith(".locks") or name in ("costs.csv", ".tables.json", TOKEN):
            continue
        if path.suffix == ".jsonl":
            found[name] = [plain(json.loads(line.partition(b" ")[2])) for line in path.read_bytes().splitlines()]
        elif path.parent.name == "trained" and path.suffix == ".json":
            found[name] = plain(json.loads(path.read_bytes().partition(b" ")[2]))
        elif name == "manifest.json":
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("sessions", "checksum")}
        else:
            found[name] = path.read_bytes()
    return found


def begun(folder):
    """How often each update (identity, number) of a run was begun."""
    path = folder.with_suffix(".updates")
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def series(base, how, workers, kills, whole, seconds, rng):
    """Kill so often, in as many runs as it takes; what was lost by it."""
    found = Counter(kind=HOW[how], workers=workers, killed=0, runs=0, again=0, updates=0, different=0, leftover=0)
    for number in range(10 * kills):
        folder = base / f"{how}-{workers}-{number}"
        here, ended = 0, False
        while not ended:
            left = found["killed"] < kills
            moment = rng.uniform(0, 1) * seconds / workers if how == "moment" and left else None
            write = f"{rng.randint(1, WRITES // workers)} {how}" if how != "moment" and left else ""
            ended = run(folder, workers, moment, write)
            here += not ended
            found["killed"] += not ended
        updates = begun(folder)
        again = sum(updates.values()) - len(updates)
        found.update(runs=1, again=again, updates=len(updates))
        result = content(folder)
        found["different"] += sum(result[name] != whole[name] for name in whole if name in result)
        found["missing"] += len(set(whole) - set(result))
        found["leftover"] += len(set(result) - set(whole))
        found["excess"] += max(0, again - here * workers)
        if found["different"] or found["missing"] or found["leftover"]:
            names = [n for n in {*whole, *result} if whole.get(n) != result.get(n)]
            print(f"{folder}: not as the uninterrupted run: {sorted(names)}", file=sys.stderr)
        if found["killed"] >= kills:
            break
    return dict(found)


def table(rows):
    """The series as Markdown."""
    heads = [
        "kind of fault",
        "workers",
        "times",
        "runs",
        "updates begun again",
        "files different",
        "missing",
        "left over",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for row in rows:
        again = f"{row['again']} of {row['updates']:,}"
        cells = [row["kind"], row["workers"], row["killed"], row["runs"], again]
        cells += [row[key] for key in ("different", "missing", "leftover")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", action="append", required=True, metavar="HOW:WORKERS:KILLS")
    parser.add_argument("--seeds", type=int, default=2, help="of the suite; fewer are done sooner")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(36, 1)  # adopt workers whose parent was killed: a process nobody waits for looks alive
    torch.set_num_threads(1)
    base = options.out or Path(tempfile.mkdtemp())
    base.mkdir(parents=True, exist_ok=True)
    os.environ |= {"ALBENCH_CACHE": str(base / "cache"), "KILL_SEEDS": str(options.seeds)}
    rng, rows = random.Random(options.seed), []
    clock = time.monotonic()
    assert run(base / "whole", 1)
    seconds, whole = time.monotonic() - clock, content(base / "whole")
    for text in options.series:
        how, workers, kills = text.split(":")
        rows.append(series(base, how, int(workers), int(kills), whole, seconds, rng))
        print(json.dumps(rows[-1]), flush=True)
    if options.table:
        options.table.write_text(table(rows))


if __name__ == "__main__":
    main()
