"""`albench compare` on run folders."""

import json
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from albench.cli import main


def call(*args):
    return CliRunner().invoke(main, ["compare", *map(str, args)])


def change(folder, edit):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


@pytest.fixture
def runs(make_run, tmp_path):
    first = make_run("first", tasks=("digits", "figures"), strategies=("random", "entropy"))
    return first, shutil.copytree(first, tmp_path / "second")


def test_a_copy_is_identical(runs, tmp_path):
    result = call(*runs, "--csv", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert "the same" in result.output
    assert "digits: accuracy up to 125 labels" in result.output
    table = pd.read_csv(tmp_path / "out.csv")
    assert len(table) == 2 * 2 * 2
    assert set(table["verdict"]) == {"identical to the bit"}


def test_names_are_printed_as_they_are_and_not_read_as_markup(runs):
    for folder in runs:
        for name in ("results.csv", "manifest.json"):
            text = (folder / name).read_text()
            (folder / name).write_text(text.replace("entropy", "a[/b]").replace("figures", "t[x]:x:"))
    result = call(*runs)
    assert result.exit_code == 0, result.output
    assert "a[/b]" in result.output
    assert "t[x]:x:: PCK@0.2 up to 180 labels" in result.output


def test_what_differs_is_said_with_its_size(runs):
    first, second = runs
    results = pd.read_csv(second / "results.csv")
    later = (results["strategy"] == "entropy") & (results["metric"] == "accuracy") & (results["stage"] > 0)
    results.loc[later, "value"] += 0.1 + 0.001 * results["seed"]
    results = results[~((results["seed"] == 2) & (results["strategy"] == "random") & (results["task"] == "figures"))]
    results.to_csv(second / "results.csv", index=False)

    def edit(manifest):
        manifest["suite"]["tasks"]["digits"]["recipe"]["updates"] = 200
        manifest["sessions"][-1] |= {"torch": "2.16.0", "gpu": "NVIDIA H200", "device": "cuda"}

    change(second, edit)
    output = call(first, second).output
    assert "tasks.digits.recipe.updates: 140 → 200" in output
    assert "torch: 2.15.0 → 2.16.0" in output
    assert "gpu: None → NVIDIA H200" in output
    assert "only first has seed 2 of random on figures" in output
    assert "more than seed noise" in output
    assert "+0.10" in output


def test_other_suite_seeds_are_not_paired(runs):
    change(runs[1], lambda manifest: manifest["suite"].update(seed=7))
    output = call(*runs).output
    assert "nothing is paired" in output
    assert "3, 3 (Welch)" in output
    assert "identical" not in output


def test_what_only_one_has_is_listed(make_run):
    a = make_run("a", tasks=("digits",), strategies=("random", "entropy"))
    b = make_run("b", tasks=("digits", "figures"), strategies=("random", "core-set"))
    output = call(a, b).output
    assert "only a has entropy on digits" in output
    assert "only b has core-set on digits" in output
    assert "only b has task figures" in output


def test_what_cannot_be_compared_is_one_line(make_run, tmp_path):
    a, b = make_run("a"), make_run("b", tasks=("figures",))
    for args, said in (
        ((a, tmp_path / "none"), "no manifest.json"),
        ((a, a), "compared with itself"),
        ((a, b), "in common"),
        ((a, make_run("c"), "--csv", tmp_path / "no" / "x.csv"), "cannot be written"),
    ):
        result = call(*args)
        assert result.exit_code == 2
        assert said in result.output
        assert result.output.startswith("Error: ")
        assert len(result.output.strip().splitlines()) == 1


def test_a_run_on_two_devices_is_compared_only_when_told(runs, two_devices):
    two_devices(runs[1])
    refused = call(*runs)
    assert refused.exit_code == 2
    assert "second: trials ran on A100 and H100" in refused.stderr
    assert call(*runs, "--mixed-devices").exit_code == 0
