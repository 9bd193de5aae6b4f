"""The task that CONTRIBUTING.md shows works as it stands there, and one that breaks a rule is told so in a line."""

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

import albench
from albench import analysis
from albench.cli import main
from albench.errors import AlbenchError
from albench.registry import load_plugin, tasks

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
EXAMPLE = next(text for text in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "stripes.py" in text)
SUITE = """
name = "mine"
budget = 8
stages = 3
seeds = 1
recipe = { updates = 20, batch = 8 }
strategies = ["random", "entropy", "learning-loss"]
[tasks.stripes]
"""


@pytest.fixture
def plugin(tmp_path):
    """Writes the example with a change, under a name of its own; the file's path and the task's name."""

    def write(before="", after=""):
        assert before in EXAMPLE
        name = re.sub(r"\W+", "-", tmp_path.name)
        path = tmp_path / "stripes.py"
        path.write_text(EXAMPLE.replace(before, after).replace('"stripes"', f'"{name}"'))
        return path, name

    return write


def test_the_example_task_is_verified_and_runs(plugin, tmp_path):
    path, name = plugin()
    done = CliRunner().invoke(main, ["data", "verify", name, "--plugin", str(path)])
    assert done.exit_code == 0, done.output
    assert "Stripes across or down" in CliRunner().invoke(main, ["list", name, "--plugin", str(path)]).output
    (tmp_path / "mine.toml").write_text(SUITE.replace("stripes", name))
    folder, failed = albench.run(
        tmp_path / "mine.toml", plugins=[path], jobs=1, device="cpu", out=tmp_path / "run",
        console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert failed == []
    accuracy = albench.load_results(folder).query("metric == 'accuracy' and strategy == 'random'").value
    assert accuracy.max() > 0.7  # of two classes, with stripes that one can see


def test_a_task_scored_by_an_error_has_the_lowest_named_best(plugin, tmp_path):
    path, name = plugin("    flips = True\n", '    flips = True\n    metric, higher_is_better = "nll", False\n')
    (tmp_path / "mine.toml").write_text(SUITE.replace("stripes", name).replace("seeds = 1", "seeds = 2"))
    folder, failed = albench.run(
        tmp_path / "mine.toml", plugins=[path], jobs=1, device="cpu", out=tmp_path / "run",
        strategies=["random", "entropy"], console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert failed == []
    assert CliRunner().invoke(main, ["report", str(folder)]).exit_code == 0
    rows = analysis.summary(albench.load_results(folder), "nll")
    words = (folder / "report" / "report.md").read_text()
    assert f"{rows.loc[rows['aubc_mean'].idxmin(), 'strategy']} has the lowest mean AUBC of nll" in words
    tuned = [
        "tune",
        str(tmp_path / "mine.toml"),
        "--task",
        name,
        "--plugin",
        str(path),
        "--device",
        "cpu",
        "--seeds",
        "1",
    ]
    done = CliRunner().invoke(main, [*tuned, "--set", "budget=40", "--try", "recipe.updates=[1,60]"])
    assert done.exit_code == 0, done.output
    assert 'tuning = "recipe.updates=60: best of 2' in done.stdout  # whose loss is the lower


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            ".to(torch.uint8)",
            ".float()",
            r"images must be a uint8 tensor \[N, C, H, W\], not float32 \[600, 1, 16, 16\]",
        ),
        ('{"label": label}', '{"label": label.numpy()}', "target 'label' must be a tensor with a row for each of 600 "),
        ("for i in range(count)", "for i in range(3)", "there are 3 names for 600 images"),
    ],
)
def test_data_of_the_wrong_kind_are_told_in_a_line(plugin, before, after, message):
    path, name = plugin(before, after)
    load_plugin(path)
    with pytest.raises(AlbenchError, match=message):
        tasks.get(name)().load(None)
    done = CliRunner().invoke(main, ["data", "verify", name, "--plugin", str(path)])
    assert done.exit_code == 1  # the data are there, and wrong
    assert re.search(message, done.output.replace("\n", " "))


def test_a_task_that_lacks_what_has_no_default_is_refused_when_it_is_registered(tmp_path):
    path = tmp_path / "bare.py"
    path.write_text(
        "import albench\n\n@albench.register_task('bare-task')\nclass Bare(albench.task.Task):\n"
        "    metric = 'accuracy'\n"
    )
    with pytest.raises(AlbenchError, match=r"task 'bare-task' \(Bare\) does not say its recipe"):
        load_plugin(path)
    assert "bare-task" not in tasks.names()
