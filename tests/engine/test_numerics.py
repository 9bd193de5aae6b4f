"""How the network computes: chosen, resolved once, recorded, and put back afterwards."""

import json
import os

import pytest
import torch
from click.testing import CliRunner

from albench import numerics as module
from albench.api import planned, run
from albench.cli.run import command
from albench.errors import AlbenchError
from albench.facts import facts
from albench.numerics import Numerics
from albench.recipe import Recipe
from albench.store import Store
from albench.suite import read, resolve

AUTO = Numerics(precision="auto", compile="auto")


@pytest.mark.parametrize(("faster", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_suits_the_device(monkeypatch, faster, precision):
    monkeypatch.setattr(module, "_bf16_is_faster", lambda device: faster)
    assert AUTO.resolved("cpu") == Numerics(precision=precision, compile="off")
    assert AUTO.resolved("cuda:1") == Numerics(precision=precision, compile="graphs")


def test_auto_is_what_the_run_began_with():
    before = Numerics(precision="bf16", compile="graphs")
    assert AUTO.resolved("cuda", before) == before
    assert Numerics(compile="on").resolved("cpu", before) == Numerics(compile="on")


def test_the_probe_of_a_cpu_answers():
    assert module._bf16_is_faster("cpu") in (True, False)


@pytest.mark.parametrize("compile", ["graphs", "eager-graphs"])
def test_graphs_need_a_gpu(compile):
    with pytest.raises(AlbenchError, match=f"compile = '{compile}' needs a GPU"):
        Numerics(compile=compile).resolved("cpu")


def test_identities_of_older_runs_are_kept():
    assert facts(Numerics()) == {"precision": "fp32", "threads": 1, "scoring_batch": 256}
    assert facts(Numerics(compile="on", deterministic=True)) == Numerics(compile="on", deterministic=True).model_dump()
    assert "nesterov" not in facts(Recipe(updates=1))
    assert facts(Recipe(updates=1, nesterov=True))["nesterov"] is True


def test_a_run_that_knew_fewer_settings_is_carried_on(tmp_path):
    options = {"tasks": ["digits"], "strategies": ["random"], "seeds": 1, "jobs": 1, "out": tmp_path, "device": "cpu"}
    options["settings"] = ["tasks.digits.recipe.updates=2", "tasks.digits.params.samples=300", "ceiling=0"]
    run("quick", stages=2, **options)
    (trial,), before = Store(tmp_path).trials(), Store(tmp_path).manifest()
    records = Store(tmp_path).records(trial)[:-1]  # the last says that it is finished
    assert before["suite"]["tasks"]["digits"]["params"].pop("augmentation") == "crop-flip"
    assert before["suite"]["tasks"]["digits"]["recipe"].pop("nesterov") is False
    Store(tmp_path).save_manifest({k: v for k, v in before.items() if k != "checksum"})
    assert run("quick", stages=3, **options)[1] == []
    assert Store(tmp_path).records(trial)[: len(records)] == records
    options["settings"].append('tasks.digits.params.augmentation="crop-flip-colour-cutout"')
    with pytest.raises(AlbenchError, match="augmentation: 'crop-flip' → 'crop-flip-colour-cutout'"):
        run("quick", stages=3, **options)


def test_global_settings_are_put_back(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def settings():
        backends = torch.backends
        return (
            *(backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, backends.cudnn.benchmark),
            *(backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()),
        )

    before = settings()
    with Numerics(threads=2).in_force():
        assert settings() == (False, False, False, False, False, 2)
        with Numerics().equal_shapes():  # in training, where cuDNN looks for the fastest convolutions once
            assert settings() == (False, False, True, False, False, 2)
        assert settings() == (False, False, False, False, False, 2)
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with Numerics(deterministic=True).in_force():
        with Numerics(deterministic=True).equal_shapes():
            assert settings() == (False, False, False, True, True, 1)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        torch.empty(3)
    assert settings() == before


def test_the_papers_suites_leave_it_open_and_others_do_not():
    assert read("ll4al-cifar10-short").numerics.precision == read("ll4al-voc").numerics.compile == "auto"
    assert read("quick").numerics == Numerics()
    assert resolve(read("ll4al-cifar10")).numerics.precision == "auto"  # of no device yet
    assert resolve(read("ll4al-cifar10"), "cpu").numerics.compile == "off"


def test_switches_reach_the_run_and_wrong_ones_are_said():
    chosen = planned("quick", precision="bf16", compile="on", deterministic=True).suite.numerics
    assert chosen == Numerics(precision="bf16", compile="on", deterministic=True)
    with pytest.raises(AlbenchError, match="numerics: precision: .*'fp32'"):
        planned("quick", precision="fp16")


def test_the_manifest_says_what_was_taken_and_another_is_refused(tmp_path):
    options = {
        "tasks": ["digits"],
        "strategies": ["random"],
        "seeds": 1,
        "stages": 1,
        "jobs": 1,
        "device": "cpu",
        "out": tmp_path / "run",
    }
    options["settings"] = ["tasks.digits.recipe.updates=2", "ceiling=0", "tasks.digits.params.samples=200"]
    folder, failed = run("quick", **options, precision="bf16", deterministic=True)
    assert failed == []
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["suite"]["numerics"]["precision"] == "bf16"
    assert (manifest["sessions"][-1]["deterministic"], manifest["sessions"][-1]["tf32"]) == (True, False)
    run("quick", **options, precision="auto", deterministic=True)  # auto: as it was begun
    with pytest.raises(AlbenchError, match="numerics.precision: 'bf16' → 'fp32'"):
        run("quick", **options, deterministic=True)


def test_the_command_line_has_them(tmp_path):
    done = CliRunner().invoke(
        command, ["quick", "--compile", "graphs", "--device", "cpu", "--out", str(tmp_path / "x")]
    )
    assert isinstance(done.exception, AlbenchError)
    assert "needs a GPU" in str(done.exception)
