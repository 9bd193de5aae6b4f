"""Bad input is one line before anything runs; a trial that fails stops no other; a kill loses nothing."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

import albench
from albench import store
from albench.errors import AlbenchError
from albench.store import Store, failures

PLUGIN = '''
import os, signal
from pathlib import Path
import torch
import albench
from albench import Companion, Strategy

KILLS = Path(__file__).with_name("kills")

def maybe_kill(point):
    """Kill this process at a point that is still on the list, once."""
    points = KILLS.read_text().split() if KILLS.exists() else []
    if point in points:
        points.remove(point)
        KILLS.write_text(" ".join(points))
        os.kill(os.getpid(), signal.SIGKILL)

@albench.register_companion("{prefix}mortal")
class Mortal(Companion):
    def __init__(self, example):
        super().__init__()
        self.layer = torch.nn.Linear(example.embedding.shape[1], 1)

    def loss(self, outputs, losses, progress):
        maybe_kill(f"train{{progress:.2f}}")
        return self.layer(outputs.embedding).square().mean()

@albench.register_strategy("{prefix}fragile")
class Fragile(Strategy):
    companion = "{prefix}mortal"

    def observe(self, outputs):
        maybe_kill("observe")
        return {{"score": outputs.prediction.entropy()}}

    def select(self, pool, k, rng):
        maybe_kill(f"select{{pool.stage}}")
        return super().select(pool, k, rng)

@albench.register_strategy("{prefix}raises")
class Raises(Strategy):
    def select(self, pool, k, rng):
        if pool.stage == 1:
            raise ValueError("I am broken")
        return torch.randperm(len(pool), generator=rng)[:k]
'''


@pytest.fixture
def plugin(tmp_path):
    prefix = f"{tmp_path.name.replace('_', '-')}-"
    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN.format(prefix=prefix))
    return path, prefix


def command(suite, out, *more):
    arguments = ["run", str(suite), "--out", str(out), "--device", "cpu", "--no-report", *map(str, more)]
    return subprocess.run([sys.executable, "-m", "albench", *arguments], capture_output=True, text=True, timeout=120)


def test_killed_anywhere_a_run_goes_on_to_the_same_numbers(tiny, tmp_path, plugin):
    path, prefix = plugin
    options = ("--plugin", path, "--strategies", f"random,{prefix}fragile", "--seeds", 1, "--jobs", 1)
    whole = command(tiny, tmp_path / "whole", *options)
    assert whole.returncode == 0, whole.stderr
    kills = ["train0.25", "observe", "select0", "select1"]
    (tmp_path / "kills").write_text(" ".join(kills))
    codes = [command(tiny, tmp_path / "killed", *options).returncode for _ in range(len(kills) + 1)]
    assert codes == [-9] * len(kills) + [0]
    for name in ("results", "selections", "diagnostics"):
        files = [(tmp_path / folder / f"{name}.csv").read_bytes() for folder in ("whole", "killed")]
        assert files[0] == files[1]
    for trial in Store(tmp_path / "killed").trials():
        kinds = [(r["kind"], r["stage"]) for r in Store(tmp_path / "killed").records(trial)]
        assert len(kinds) == len(set(kinds)) == 2 * 3


def test_a_worker_killed_once_costs_nothing(tiny, tmp_path, plugin):
    path, prefix = plugin
    (tmp_path / "kills").write_text("select0")
    done = command(tiny, tmp_path / "run", "--plugin", path, "--strategies", f"random,{prefix}fragile", "--jobs", 2)
    assert done.returncode == 0, done.stderr


def test_a_trial_that_kills_its_worker_takes_no_other_with_it(tiny, tmp_path, plugin):
    path, prefix = plugin
    (tmp_path / "kills").write_text("select0 " * 100)
    done = command(tiny, tmp_path / "run", "--plugin", path, "--strategies", f"random,{prefix}fragile", "--jobs", 2)
    assert done.returncode == 1
    assert {f["trial"] for f in failures(tmp_path / "run")} == {f"digits--{prefix}fragile--seed{k}" for k in (0, 1)}
    assert "its worker process was killed" in done.stderr
    stages = albench.load_results(tmp_path / "run").query("metric == 'accuracy' and strategy == 'random'")
    assert sorted(stages.stage) == [0, 0, 1, 1, 2, 2]


def test_a_strategy_that_raises_stops_no_other_and_loses_no_training(run, plugin):
    path, prefix = plugin
    strategies = ["random", f"{prefix}raises"]
    folder, failed, said = run(strategies=strategies, plugins=[path], seeds=1)
    assert [str(f.trial) for f in failed] == [f"digits--{prefix}raises--seed0"]
    assert f"strategy '{prefix}raises': select() failed at plugin.py:" in failed[0].error
    assert failed[0].error.endswith(": ValueError: I am broken")
    assert "I am broken" in said
    assert "Traceback" in (folder / "failures" / f"{failed[0].trial}.txt").read_text()
    assert failures(folder) == [{"trial": str(failed[0].trial), "error": failed[0].error}]
    stages = albench.load_results(folder).query("metric == 'accuracy'").groupby("strategy").stage.apply(list)
    assert stages["random"] == [0, 1, 2]
    assert stages[f"{prefix}raises"] == [0, 1]


def test_other_settings_on_the_same_folder_are_refused_and_shown(run):
    run(strategies=["random"], seeds=1)
    with pytest.raises(AlbenchError, match=r"other settings.*tasks.digits.recipe.updates: 4 → 5"):
        run(strategies=["random"], seeds=1, settings=["tasks.digits.recipe.updates=5"])


def test_a_changed_plugin_is_refused(run, plugin):
    path, prefix = plugin
    run(strategies=["random", f"{prefix}raises"], plugins=[path], seeds=1, stages=1)
    path.write_text(path.read_text() + "\n# changed")
    with pytest.raises(AlbenchError, match=f"its content has changed, and digits--{prefix}raises--seed0 has selected"):
        run(strategies=["random", f"{prefix}raises"], plugins=[path], seeds=1)


def test_a_plugin_of_which_nothing_was_recorded_may_be_mended(run, tmp_path, plugin):
    path, prefix = plugin
    right, name = path.read_text(), f"{prefix}raises"
    path.write_text(right.replace("pool.stage == 1", "True"))
    folder, failed, _ = run(strategies=["random", name], plugins=[path], seeds=1)
    assert f"strategy {name!r}: select() failed at plugin.py:" in failed[0].error
    path.write_text(right.replace("pool.stage == 1", "False"))
    folder, failed, said = run(strategies=["random", name], plugins=[path], seeds=1)
    assert failed == []
    assert "plugin.py has changed; nothing of this run came from it yet" in " ".join(said.split())
    assert Store(folder).manifest()["sessions"][-1]["mended"] == [str(path)]
    mended = (folder / "results.csv").read_bytes()
    shutil.rmtree(folder)
    folder, failed, _ = run(strategies=["random", name], plugins=[path], seeds=1)
    assert (folder / "results.csv").read_bytes() == mended


def test_a_mended_companion_is_refused_once_it_was_trained_with(run, plugin):
    path, prefix = plugin
    run(strategies=["random", f"{prefix}fragile"], plugins=[path], seeds=1, stages=1)
    path.write_text(path.read_text() + "\n# changed")
    with pytest.raises(AlbenchError, match=f"digits--{prefix}fragile--seed0 was trained with what it registers"):
        run(strategies=["random", f"{prefix}fragile"], plugins=[path], seeds=1)


def test_more_labels_than_samples_are_refused_before_anything_runs(run, tmp_path):
    with pytest.raises(AlbenchError, match=r"3 stages need 90 labels \(30 \+ 2 × 30\), but the pool has 80"):
        run(settings=["budget=30"])
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_subset_smaller_than_the_budget_is_refused(run):
    with pytest.raises(AlbenchError, match="subset 4 is smaller than the budget 8"):
        run(settings=["subset=4"])


def test_two_runs_on_one_folder_are_refused(run, tmp_path):
    (tmp_path / "run" / ".locks").mkdir(parents=True)
    with (
        FileLock(tmp_path / "run" / ".locks" / "run"),
        pytest.raises(AlbenchError, match="another albench run works on this folder"),
    ):
        run()


RUNNING = """
import socket, sys, time
from pathlib import Path
socket.gethostname = lambda: "elsewhere"
from albench import store
store.LEASE = 2.0
with store.Store(Path(sys.argv[1])).lock("run"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_on_another_host_that_shares_no_locks_is_seen_and_a_dead_one_is_waited_out(run, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    call = [sys.executable, "-c", RUNNING, str(tmp_path / "run")]
    other = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
    other.stdout.readline()
    monkeypatch.setattr(store, "LEASE", 2.0)
    with pytest.raises(AlbenchError, match="another albench run works on this folder"):
        run(strategies=["random"], seeds=1, stages=1)
    other.kill()
    other.wait()
    _, failed, said = run(strategies=["random"], seeds=1, stages=1)
    assert failed == []
    assert "does a run on another machine work on it?" in said


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x"])
def test_a_wrong_device_is_said(run, device):
    with pytest.raises(AlbenchError, match=f"device '{device}'"):
        run(device=device)


def test_other_data_on_the_same_folder_are_refused(run, tmp_path, monkeypatch):
    from albench.tasks.classification.digits import Digits

    run(strategies=["random"], seeds=1, stages=1)
    original = Digits.load

    def changed(self, root):
        data = original(self, root)
        data.pool.images[0] = 255 - data.pool.images[0]
        return data

    monkeypatch.setattr(Digits, "load", changed)
    from albench.worker import data_on

    data_on.cache_clear()
    with pytest.raises(AlbenchError, match="the data are not those this run was made with"):
        run(strategies=["random"], seeds=1, stages=2)
    data_on.cache_clear()


def test_one_process_loads_the_data_of_a_task_once(run, monkeypatch):
    from albench.tasks.classification.digits import Digits

    original, loads = Digits.load, []
    monkeypatch.setattr(Digits, "load", lambda self, root: loads.append(root) or original(self, root))
    run(strategies=["random", "entropy"], seeds=2, stages=1)
    assert len(loads) == 1


def test_a_nan_loss_fails_the_trial_in_one_line(run):
    _, failed, _ = run(strategies=["random"], seeds=1, settings=["recipe.learning_rate=1e30"])
    assert "not finite at update" in failed[0].error


def test_a_missing_companion_is_one_line(run, tiny):
    tiny.write_text(
        tiny.read_text().replace("strategies = [", "# [") + '[strategies.x]\nstrategy="random"\ncompanion="nix"\n'
    )
    with pytest.raises(AlbenchError, match="no companion is called 'nix'"):
        run()


def test_the_manifest_says_what_ran_on_what(run):
    folder, _, _ = run(strategies=["random"], seeds=1)
    manifest = Store(folder).manifest()
    session = manifest["sessions"][0]
    assert {"torch", "python", "cpu", "gpu", "git", "started", "command", "device"} <= set(session)
    task = manifest["tasks"]["digits"]
    assert (task["pool"], task["test"], task["metric"]) == (80, 40, "accuracy")
    assert manifest["suite"]["tasks"]["digits"]["recipe"]["updates"] == 4
    run(strategies=["random", "entropy"], seeds=2)
    grown = Store(folder).manifest()
    assert (grown["suite"]["seeds"], len(grown["sessions"])) == (2, 2)
    assert grown["planned"] == {"seeds": 1, "stages": grown["suite"]["stages"], "strategies": ["random"]}
    older = {key: value for key, value in grown.items() if key not in ("planned", "checksum")} | {"planned_seeds": 1}
    Store(folder).save_manifest(older)
    run(strategies=["random", "entropy", "margin"], seeds=2)
    assert Store(folder).manifest()["planned"] == {"seeds": 1}  # what came later is not known, and not made up


def test_an_interrupt_leaves_tables_and_a_hint(tiny, tmp_path):
    arguments = ["run", str(tiny), "--out", str(tmp_path / "run"), "--jobs", "1", "--set", "recipe.updates=4000"]
    process = subprocess.Popen([sys.executable, "-m", "albench", *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120  # imports alone take many seconds on a busy machine
    while not list(Path(tmp_path / "run").glob("progress/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(2)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 130, said
    assert "The same command carries on" in said
    assert (tmp_path / "run" / "results.csv").is_file()


def test_a_full_disk_is_one_line_and_keeps_what_was_written(run, monkeypatch):
    import errno

    from albench import store

    run(strategies=["random"], seeds=1, stages=1)
    real = store._sync
    writes = []

    def full(file):
        writes.append(file.name)
        if ".json@" in str(file.name) and "manifest" not in str(file.name):
            raise OSError(errno.ENOSPC, "No space left on device", file.name)
        real(file)

    monkeypatch.setattr(store, "_sync", full)
    folder, failed, _ = run(strategies=["random"], seeds=1)
    assert "No space left on device" in failed[0].error
    monkeypatch.setattr(store, "_sync", real)
    assert albench.load_results(folder).stage.max() == 0
    _, failed, _ = run(strategies=["random"], seeds=1)
    assert failed == []
    whole, _, _ = run(strategies=["random"], seeds=1, out="whole")
    assert (folder / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()


def test_a_damaged_trial_file_fails_that_trial_alone(run):
    folder, _, _ = run(strategies=["random"], stages=2)
    path = folder / "trials" / "digits--random--seed0.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"stage":0', b'"stage":7', 1))
    _, failed, _ = run(strategies=["random"], stages=3)
    assert [str(f.trial) for f in failed] == ["digits--random--seed0"]
    assert "line 1: a damaged record" in failed[0].error
    assert set(albench.load_results(folder).seed) == {1}


def test_another_device_on_the_same_folder_is_refused(run, monkeypatch):
    folder, _, _ = run(strategies=["random"], seeds=1, stages=1)
    store = Store(folder)
    manifest = store.manifest()
    manifest["sessions"][-1] |= {"device": "cuda", "gpu": "NVIDIA H200"}
    store.save_manifest(manifest)
    with pytest.raises(AlbenchError, match="device: NVIDIA H200 → cpu"):
        run(strategies=["random"], seeds=1)


def test_other_versions_are_said(run):
    folder, _, _ = run(strategies=["random"], seeds=1, stages=1)
    store = Store(folder)
    manifest = store.manifest()
    manifest["sessions"][-1]["torch"] = "1.0"
    store.save_manifest(manifest)
    _, _, said = run(strategies=["random"], seeds=1)
    assert "torch 1.0 → " in said


def test_a_replayed_cheat_stays_marked(run, tiny):
    source, _, _ = run(strategies=["true-loss"], out="source")
    tiny.write_text(
        tiny.read_text().replace("strategies = [", "# [") + f'[strategies.replay]\nparams = {{ source = "{source}" }}\n'
    )
    folder, failed, _ = run(out="replayed")
    assert failed == []
    assert Store(folder).manifest()["strategies"]["replay"]["cheats"] is True


def test_a_file_as_run_folder_is_one_line(run, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(AlbenchError, match="is a file; name a folder"):
        run()


def test_a_folder_that_cannot_be_written_is_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AlbenchError, match=r"file.*: Not a directory; what was written stays"):
        run(out="file/run")
