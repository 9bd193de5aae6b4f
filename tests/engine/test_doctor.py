"""Whatever happens to a run folder, the doctor finds it; after a repair the run goes on to the same numbers."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import albench
from albench import store as sealing
from albench import tables
from albench.cli import main
from albench.doctor import examine, repair
from albench.errors import AlbenchError
from albench.store import Store, Trial
from albench.tables import NOTE

from .conftest import TINY

SUITE = TINY.replace("seeds = 2", "seeds = 1\nceiling = 1\nsubset = 24").replace('"learning-loss"', '"core-set"')
TRIAL = Trial("digits", "entropy", 0)
TABLES = ("results", "selections", "diagnostics", "labels", "ceiling")  # equal for equal runs, to the bit


def run(suite: Path, folder: Path) -> list:
    _, failed = albench.run(suite, out=folder, jobs=1, device="cpu", console=Console(file=io.StringIO()))
    return failed


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """A suite file and its finished run, never to be changed."""
    place = tmp_path_factory.mktemp("whole")
    (place / "tiny.toml").write_text(SUITE)
    assert run(place / "tiny.toml", place / "run") == []
    return place / "tiny.toml", place / "run"


@pytest.fixture
def hurt(whole, tmp_path) -> Path:
    """A copy of the run to be damaged."""
    return Path(shutil.copytree(whole[1], tmp_path / "run"))


def trial_file(folder: Path, trial: Trial = TRIAL) -> Path:
    return folder / "trials" / f"{trial}.jsonl"


def edited(folder: Path, kind: str, stage: int, change) -> None:
    """Change a record and seal it again: what no checksum finds."""
    lines = []
    for line in trial_file(folder).read_bytes().splitlines():
        record = json.loads(line.partition(b" ")[2])
        if (record["kind"], record["stage"]) == (kind, stage):
            change(record)
        lines.append(sealing._seal(record))
    trial_file(folder).write_bytes(b"".join(lines))


def identity(folder: Path, stage: int) -> str:
    return next(r["identity"] for r in Store(folder).records(TRIAL) if (r["kind"], r["stage"]) == ("trained", stage))


def drop_lines(*numbers):
    def damage(folder):
        lines = trial_file(folder).read_bytes().splitlines(keepends=True)
        trial_file(folder).write_bytes(b"".join(line for n, line in enumerate(lines) if n not in numbers))

    return damage


def line_twice(number):
    def damage(folder):
        lines = trial_file(folder).read_bytes().splitlines(keepends=True)
        trial_file(folder).write_bytes(b"".join([*lines[: number + 1], lines[number], *lines[number + 1 :]]))

    return damage


def flip(where):
    def damage(folder):
        content = bytearray(trial_file(folder).read_bytes())
        content[int(where * (len(content) - 1))] ^= 4
        trial_file(folder).write_bytes(content)

    return damage


def record(kind, stage, /, **changes):
    def damage(folder):
        edited(folder, kind, stage, lambda r: r.update({k: v(r[k]) for k, v in changes.items()}))

    return damage


def trained_file(suffix, stage, change):
    def damage(folder):
        path = folder / "trained" / f"{identity(folder, stage)}{suffix}"
        content = None if change is None else change(path.read_bytes())
        path.unlink() if content is None else path.write_bytes(content)

    return damage


def resealed(content: bytes) -> bytes:
    values = json.loads(content.partition(b" ")[2])
    return sealing._seal(values | {"metrics": {"accuracy": 0.999}})


def short_outcomes(_content: bytes) -> bytes:
    return sealing._npz({"correct": np.zeros(3)})


def of_file(name, change):
    def damage(folder):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return damage


def in_last_digit(content: bytes) -> bytes:
    end = max(m.start() for m in re.finditer(rb"[0-9]", content))
    return content[:end] + (b"1" if content[end : end + 1] != b"1" else b"2") + content[end + 1 :]


DAMAGES = {
    "flip in the first record": (flip(0.02), "line 1: a damaged record"),
    "flip in the middle": (flip(0.5), "a damaged record"),
    "flip in the last record": (flip(0.99), "a damaged record"),
    "torn": (of_file(f"trials/{TRIAL}.jsonl", lambda c: c[:-9]), "torn record"),
    "emptied": (of_file(f"trials/{TRIAL}.jsonl", lambda c: b""), "differs from the records"),
    "training dropped": (drop_lines(2), "stage 1 has no training"),
    "selection dropped": (drop_lines(1), "stage 0 has no selection"),
    "end dropped": (drop_lines(3, 4, 5), "differs from the records"),
    "line twice": (line_twice(2), "stage 1 is trained twice"),
    "foreign record": (record("trained", 1, kind=lambda k: "evil"), "no record of albench"),
    "K - 1 selected": (record("selected", 1, indices=lambda i: i[1:]), "selected 7 samples, not K = 8"),
    "selected twice": (record("selected", 1, indices=lambda i: [i[0], *i[:-1]]), r"selected sample \d+ twice"),
    "outside the pool": (record("selected", 1, indices=lambda i: [80, *i[1:]]), "selected sample 80, and the pool"),
    "other initial set": (record("trained", 0, initial=lambda i: [*range(8)]), "initial set is not the one"),
    "wrong label count": (record("trained", 1, labelled=lambda n: n + 1), "trained on 17 labels; the plan says 16"),
    "not finite": (record("trained", 1, metrics=lambda m: {"accuracy": float("nan")}), "accuracy is not finite"),
    "edited metric": (record("trained", 1, metrics=lambda m: {"accuracy": 0.99}), "differs from trained/"),
    "edited identity": (record("trained", 1, identity=lambda i: "0" * 32), "trained from something else"),
    "training damaged": (trained_file(".json", 1, in_last_digit), "is damaged; it is trained again"),
    "training lost": (trained_file(".json", 1, None), "is missing; it is trained again"),
    "training edited": (trained_file(".json", 1, resealed), "differs from trained/"),
    "outcomes lost": (trained_file(".npz", 1, None), "outcomes per test sample are missing"),
    "outcomes damaged": (trained_file(".npz", 1, lambda c: c[:99] + b"!!!" + c[102:]), "outcomes cannot be read"),
    "outcomes short": (trained_file(".npz", 1, short_outcomes), "the test set has 40 samples"),
    "weights truncated": (trained_file(".safetensors", 2, lambda c: c[:-99]), "weights are damaged"),
    "a weight flipped": (trained_file(".safetensors", 2, lambda c: c[:-9] + b"\x01" + c[-8:]), "weights are damaged"),
    "results edited": (of_file("results.csv", in_last_digit), "results.csv, line .* differs from the records"),
    "selections edited": (of_file("selections.csv", in_last_digit), "selections.csv, line"),
    "manifest torn": (of_file("manifest.json", lambda c: c[:-99]), "manifest.json: is damaged"),
    "manifest edited": (of_file("manifest.json", lambda c: c.replace(b'"pool": 80', b'"pool": 81')), "its checksum"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_and_repaired_to_the_same_numbers(whole, hurt, damage):
    do, message = DAMAGES[damage]
    do(hurt)
    health = examine(hurt)
    assert any(re.search(message, str(problem)) for problem in health.problems()), health.findings
    assert all("\n" not in str(finding) for finding in health.findings)
    repair(hurt, health)
    assert run(whole[0], hurt) == []
    assert_healed(whole[1], hurt)


def assert_healed(whole: Path, hurt: Path) -> None:
    assert examine(hurt).problems() == []
    for name in TABLES:
        assert (hurt / f"{name}.csv").read_bytes() == (whole / f"{name}.csv").read_bytes(), name
    for trial in Store(whole).trials():
        assert len(Store(hurt).records(trial)) == len(Store(whole).records(trial))


def test_a_run_grows_alike_from_damaged_weights(whole, hurt, tmp_path):
    trained_file(".safetensors", 2, lambda c: c[:-9] + b"\x01" + c[-8:])(hurt)
    grown = Path(shutil.copytree(whole[1], tmp_path / "grown"))
    (tmp_path / "more.toml").write_text(SUITE.replace("stages = 3", "stages = 4"))
    for folder in (hurt, grown):
        assert run(tmp_path / "more.toml", folder) == []
    assert (hurt / "results.csv").read_bytes() == (grown / "results.csv").read_bytes()


def test_a_sound_run_is_sound(whole):
    assert examine(whole[1]).findings == []


def test_tables_that_a_kill_left_behind_are_no_problem(hurt):
    (hurt / NOTE).unlink()
    for name in tables.TABLES:
        (hurt / f"{name}.csv").unlink()
    health = examine(hurt)  # killed before any table was written
    assert health.problems() == []
    assert ["lack the newest records" in str(finding) for finding in health.findings] == [True]
    trial = Store(hurt).trials()[-1]
    path = hurt / "trials" / f"{trial}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    tables.write(Store(hurt))
    path.write_bytes(whole)  # killed after two more records
    health = examine(hurt)
    assert health.problems() == []
    assert any("lack the newest records" in str(finding) for finding in health.findings)
    of_file("results.csv", in_last_digit)(hurt)
    assert any("differs from the records" in str(problem) for problem in examine(hurt).problems())


def test_samples_that_were_no_candidates_are_found(hurt):
    strangers = {}

    def change(r):
        import torch

        from albench.seeds import generator

        order = torch.randperm(80, generator=generator(0, 0, "digits", 0, "candidates")).tolist()
        strangers["last"] = next(i for i in reversed(order) if i not in r["indices"])
        r["indices"][0] = strangers["last"]

    edited(hurt, "selected", 0, change)
    assert "none of the stage's candidates" in str(examine(hurt).problems()[0])


def test_swapped_selections_are_found_by_the_trainings_behind_them(hurt):
    taken = {}
    edited(hurt, "selected", 0, lambda r: taken.update(other=r["indices"][0]))
    edited(
        hurt, "selected", 1, lambda r: taken.update(mine=r["indices"][0]) or r["indices"].__setitem__(0, taken["other"])
    )
    edited(hurt, "selected", 0, lambda r: r["indices"].__setitem__(0, taken["mine"]))
    assert examine(hurt).problems()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_is_found(whole, tmp_path_factory, data):
    folder = Path(shutil.copytree(whole[1], tmp_path_factory.mktemp("flip") / "run"))
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and ".locks" not in p.parts)
    path = folder / data.draw(
        st.sampled_from([n for n in names if n != NOTE and (not n.startswith("trained/") or n.endswith(".json"))])
    )
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        same = json.loads(content) == json.loads((whole[1] / path.relative_to(folder)).read_bytes())
    except ValueError:
        same = False
    assert same or examine(folder).problems(), path
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize("files", ["trained/*.json", "trials/*.jsonl"])
def test_a_flipped_byte_that_reads_as_a_space_is_found(hurt, files):
    path = next(hurt.glob(files))
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    assert examine(hurt).problems()


def test_bad_records_are_set_aside_not_deleted(hurt):
    before = trial_file(hurt).read_bytes()
    flip(0.5)(hurt)
    damaged = trial_file(hurt).read_bytes()
    assert damaged != before
    repair(hurt, examine(hurt))
    (aside,) = (hurt / "set-aside").glob("*/trials/*.jsonl")
    assert aside.read_bytes() == damaged


def test_a_run_at_work_is_not_repaired(hurt):
    flip(0.5)(hurt)
    with FileLock(hurt / ".locks" / "run"):
        health = examine(hurt)
        assert "a run is at work here" in str(health.findings[0])
        with pytest.raises(AlbenchError, match="a run is at work on this folder"):
            repair(hurt, health)


def test_a_run_on_another_host_is_seen_and_a_dead_one_is_waited_out(hurt, monkeypatch):
    flip(0.5)(hurt)
    monkeypatch.setattr(sealing, "LEASE", 2.5)
    lease, said = hurt / ".locks" / "run.lease", []
    with Store(hurt).lock("run"):
        marker = lease.read_text()
    lease.write_text(re.sub("host=.*", "host=elsewhere", marker))  # its lock of the kernel's is not seen here
    health = examine(hurt)
    assert "a run is at work here" in str(health.findings[0])
    assert repair(hurt, health, said.append)
    assert "does a run on another machine work on it?" in said[0]
    assert not lease.exists()


def test_leftovers_are_notes(hurt):
    (hurt / "trained" / ".x.json.99.tmp").write_bytes(b"half")
    health = examine(hurt)
    assert health.problems() == []
    assert "a killed process left this unfinished" in str(health.findings[0])
    repair(hurt, health)
    assert examine(hurt).findings == []


def test_the_command_says_it_line_by_line(hurt):
    def command(*arguments):
        return CliRunner().invoke(main, ["doctor", *map(str, arguments)])

    sound = command(hurt)
    assert (sound.exit_code, sound.stdout) == (0, f"{hurt}: sound\n")
    flip(0.5)(hurt)
    found = command(hurt)
    assert found.exit_code == 1
    assert re.search(rf"^trials/{TRIAL}.jsonl, line \d: a damaged record", found.stdout)
    mended = command(hurt, "--repair")
    assert mended.exit_code == 0
    assert "`albench run` with the same suite and --out carries on" in mended.stdout
    nothing = command(hurt / "nowhere")
    assert nothing.exit_code == 2
    assert "neither manifest.json nor trials/" in nothing.stderr


def test_results_are_read_from_the_records(whole, hurt):
    right = albench.load_results(whole[1])
    of_file("results.csv", in_last_digit)(hurt)
    assert albench.load_results(hurt).equals(right)
    shutil.rmtree(hurt / "trials")  # a folder that keeps its tables alone
    (hurt / "results.csv").write_text("task,strategy\n")
    with pytest.raises(AlbenchError, match="its columns are not task, strategy, seed"):
        albench.load_results(hurt)
