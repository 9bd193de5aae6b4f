"""What was recorded comes out again, and an edited number does not pass."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from albench import manifest
from albench import store as sealing
from albench.cli import main
from albench.store import Store, Trial

PLUGIN = """
import albench

@albench.register_strategy("{name}")
class Mine(albench.Strategy):
    def observe(self, outputs):
        return {{"score": outputs.prediction.entropy()}}
"""


def verify(folder, *arguments):
    return CliRunner().invoke(main, ["verify", str(folder), *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def edited(folder: Path, trial: Trial, kind: str, stage: int, change) -> None:
    path, lines = folder / "trials" / f"{trial}.jsonl", []
    for line in path.read_bytes().splitlines():
        record = json.loads(line.partition(b" ")[2])
        if (record["kind"], record["stage"]) == (kind, stage):
            change(record)
        lines.append(sealing._seal(record))
    path.write_bytes(b"".join(lines))


def test_a_run_repeats_to_the_bit_and_is_left_alone(run):
    folder, _, _ = run(seeds=1, settings=["ceiling=1"])
    before = contents(folder)
    done = verify(folder, "--stages", 99)
    assert done.exit_code == 0, done.output
    basis, *lines = done.stdout.splitlines()
    assert "the same CPU, versions and settings" in basis
    assert len(lines) == 3 * 3 + 1
    assert all(": same (accuracy 0." in line for line in lines)
    assert sum("8 of 8 selected samples are the same" in line for line in lines) == 3 * 2
    assert contents(folder) == before


def test_a_warm_start_repeats_through_its_chain(run):
    folder, _, _ = run(seeds=1, strategies=["learning-loss"], settings=["warm_start=true"])
    assert verify(folder, "--stages", 9).exit_code == 0


def test_the_sample_of_stages_is_its_seeds(run):
    folder, _, _ = run(strategies=["random"])
    chosen = [[line.partition(":")[0] for line in verify(folder, "--stages", 3, "--seed", s).stdout.splitlines()[1:]]
              for s in (1, 1, 2)]  # fmt: skip
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("trained", lambda r: r["metrics"].update(accuracy=0.99), "metrics.accuracy: 0.99 was recorded, 0."),
        ("trained", lambda r: r.update(objective=r["objective"] * (1 + 1e-12)), "objective: "),
        ("selected", lambda r: r["indices"].reverse(), "the selection's order differs"),
        ("selected", lambda r: r["diagnosis"]["test"]["predictors"]["score"].update(spearman=1.0), "spearman: 1.0 was"),
    ],
)
def test_an_edited_record_differs(run, kind, change, said):
    folder, _, _ = run(strategies=["entropy"], seeds=1)
    edited(folder, Trial("digits", "entropy", 0), kind, 1, change)
    done = verify(folder, "--stages", 9)
    assert done.exit_code == 1
    wrong = [line for line in done.stdout.splitlines() if "DIFFERS" in line]
    assert len(wrong) == 1
    assert said in wrong[0]


def test_elsewhere_a_tolerance_is_stated_and_kept(run):
    folder, _, _ = run(strategies=["entropy"])
    store = Store(folder)
    facts = store.manifest()
    facts["sessions"][0]["torch"] = "1.0"
    store.save_manifest(facts)
    trial = Trial("digits", "entropy", 0)
    edited(folder, trial, "trained", 1, lambda r: r.update(objective=r["objective"] + 1e-6))
    done = verify(folder, "--stages", 9)
    assert done.exit_code == 0, done.output
    assert "torch 1.0, " in done.stdout
    assert "standard deviation over the run's seeds" in done.stdout
    edited(folder, trial, "trained", 1, lambda r: r["metrics"].update(accuracy=5.0))
    assert "beyond the tolerance" in verify(folder, "--stages", 9).stdout


def test_other_data_are_said(run, monkeypatch):
    from albench.samples import Data

    folder, _, _ = run(strategies=["random"], seeds=1)
    monkeypatch.setattr(Data, "fingerprint", lambda self: "other")
    done = verify(folder)
    assert done.exit_code == 1
    assert "the data of task 'digits' are not those of the run" in done.stdout


def test_a_plugin_runs_only_where_it_is_named(run, tmp_path, monkeypatch):
    from albench import registry

    path, name = tmp_path / "mine.py", f"{tmp_path.name.replace('_', '-')}-mine"
    path.write_text(PLUGIN.format(name=name))
    folder, failed, _ = run(strategies=[name], seeds=1, plugins=[path])
    assert failed == []
    assert verify(folder, "--plugin", path).exit_code == 0
    monkeypatch.setattr(registry.strategies, "_plugins", {})
    done = verify(folder)
    assert done.exit_code == 2
    assert f"no strategy is called '{name}'" in done.stderr
    assert f"had the plug-ins {path}: name one with --plugin" in done.stderr


def test_a_task_of_a_plugin_is_asked_for_and_not_called_different(run, tmp_path, monkeypatch):
    from albench import registry

    path, name = tmp_path / "task.py", f"{tmp_path.name.replace('_', '-')}-task"
    path.write_text(
        "import albench\nfrom albench.tasks.classification.digits import Digits\n\n"
        f"@albench.register_task('{name}')\nclass Mine(Digits):\n    pass\n"
    )
    settings = [f"tasks.{name}.params.samples=60", f"tasks.{name}.params.width=4"]
    folder, failed, _ = run(tasks=[name], strategies=["random"], seeds=1, stages=1, plugins=[path], settings=settings)
    assert failed == []
    monkeypatch.setattr(registry.tasks, "_plugins", {})
    done = verify(folder)
    assert done.exit_code == 2
    assert f"no task is called '{name}'" in done.stderr
    assert f"had the plug-ins {path}: name one with --plugin" in done.stderr
    assert "DIFFERS" not in done.output


def test_what_is_no_run_is_one_line(tmp_path, run):
    assert "no manifest.json" in verify(tmp_path).stderr
    folder, _, _ = run(strategies=["random"], seeds=1, stages=1)
    shutil.rmtree(folder / "trials")
    assert "no finished stage is recorded yet" in verify(folder).stderr


def test_a_session_says_every_circumstance_that_is_compared():
    from albench.verify import CIRCUMSTANCES

    assert set(CIRCUMSTANCES) <= set(manifest.session("cpu", []))


def test_a_metric_that_is_measured_no_longer_is_said(run):
    folder, _, _ = run(strategies=["random"], seeds=1)
    edited(folder, Trial("digits", "random", 0), "trained", 1, lambda r: r["metrics"].update(old=0.5))
    done = verify(folder, "--stages", 9)
    assert done.exit_code == 0
    assert "old: recorded, and not measured by this albench" in done.stdout
