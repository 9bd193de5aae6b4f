"""What the README shows must work as it stands there."""

import io
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

import albench
from albench.checking import Bench, check
from albench.cli import main
from albench.suite import read, resolve

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def names(kind):
    """What is registered by packages; other tests' plug-ins are in the registry too."""
    return sorted(entry.name for entry in entry_points(group=f"albench.{kind}"))


def block(start):
    return next(text for _, text in BLOCKS if start in text)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    path = tmp_path_factory.mktemp("readme") / "my_strategy.py"
    path.write_text(block("# my_strategy.py"))
    return path


def test_the_example_strategy_is_about_ten_lines():
    code = [line for line in block("# my_strategy.py").splitlines() if line.strip()]
    assert len(code) <= 10


@pytest.mark.parametrize("task", names("tasks"))
def test_the_example_strategy_keeps_the_contract(example, task, tmp_path):
    albench.registry.load_plugin(example)
    findings = list(check("my-margin", Bench(task, tmp_path)))
    assert findings
    assert [f for f in findings if f.passed is False] == []


def test_the_example_strategy_runs_beside_random(example, tmp_path):
    small = ["recipe.updates=2", "recipe.batch=4", "tasks.digits.params.samples=100"]
    folder, failed = albench.run(
        "quick", tasks=["digits"], strategies=["random", "my-margin"], plugins=[example], seeds=1, stages=2, jobs=1,
        device="cpu", settings=small, out=tmp_path / "run", console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert failed == []
    assert set(albench.load_results(folder).strategy) == {"random", "my-margin"}


def test_the_example_suite_is_valid(tmp_path):
    path = tmp_path / "cells.toml"
    path.write_text(block('name = "cells"'))
    assert resolve(read(str(path))).tasks["cells"].task == "voc"


def own(example, tmp_path):
    """A task of "Your own data" in the suite that stands there first, with the parameters as they are shown."""
    path = tmp_path / "own.toml"
    suite = block('name = "cells"')
    path.write_text(suite[: suite.index("[tasks.cells]")] + block(example))
    (entry,) = resolve(read(str(path))).tasks.values()
    return albench.registry.tasks.get(entry.task)(**entry.params)


def arrange(miniature, folder, name, **places):
    """A miniature in COCO's layout with other names: each of `places` (old → new), photos of all in one folder."""
    (folder / miniature).rename(folder / name)
    for old, new in places.items():
        (folder / name / "annotations" / f"{old}.json").rename(folder / name / new)
    (folder / name / "photos").mkdir()
    for file in (folder / name).glob("*2017/*.jpg"):
        file.rename(folder / name / "photos" / file.name)


def test_own_data_in_coco_s_format_are_read_as_shown(tmp_path):
    shown = own("[tasks.traffic]", tmp_path)
    type(shown).miniature(tmp_path)
    arrange("coco", tmp_path, "traffic", instances_train2017="train.json", instances_val2017="test.json")
    data = shown.load(tmp_path)
    assert (len(data.pool), len(data.test)) == (24, 8)
    assert list(shown.problems(tmp_path)) == []


def test_own_keypoints_are_read_as_shown(tmp_path):
    shown = own("[tasks.hands]", tmp_path)
    type(shown).miniature(tmp_path)
    arrange("coco", tmp_path, "hands", person_keypoints_train2017="all.json")
    file = tmp_path / "hands" / "all.json"
    file.write_text(file.read_text().replace("right_", "other_"))  # no longer COCO's
    data = shown.load(tmp_path)
    assert len(data.pool) + len(data.test) == 24
    assert "other ankle" in data.classes
    assert list(shown.problems(tmp_path)) == []


def test_the_example_of_a_folder_per_class_is_read_as_shown(tmp_path):
    shown = own("[tasks.leaves]", tmp_path)
    type(shown).miniature(tmp_path)
    (tmp_path / "images").rename(tmp_path / "leaves")
    assert len(shown.load(tmp_path).pool) == 24


@pytest.mark.parametrize("name", [*names("tasks"), *names("strategies")])
def test_every_task_and_strategy_is_named(name):
    assert f"`{name}`" in README


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The README's CSV, which has one seed, with five more like it."""
    import pandas as pd

    shown = pd.read_csv(io.StringIO(block("task,strategy,seed")))
    seeds = [shown.assign(seed=s, value=shown["value"] + 0.01 * s + 0.001 * s * shown["stage"]) for s in range(6)]
    monkeypatch.chdir(tmp_path)
    pd.concat(seeds).to_csv("other.csv", index=False)


def test_the_example_of_other_results_says_which_strategy_is_better(table, capsys):
    found = {}
    exec(block("from albench import analysis"), found)
    assert found["tests"].set_index("strategy")["verdict"].to_dict() == {"entropy": "better"}
    assert (found["saved"]["saved"] > 5).all()  # inf: random itself does not arrive
    assert found["means"]["strategy"].tolist() == ["random", "entropy"]
    assert "verdict" in capsys.readouterr().out


def test_the_commands_for_other_results_do_as_shown(table):
    for line in block("albench report other.csv").strip().splitlines():
        command, _, said = line.partition("#")
        done = CliRunner().invoke(main, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
        if "index.html" in said:
            assert Path(said.split(";")[0].strip()).is_file()
