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


METHODS = """
    def {method}(self, *given):
        {body}

    @classmethod
    def miniature("""


@pytest.mark.parametrize(
    ("method", "body", "message"),
    [
        ("load", "return None", "load() returned None, not albench.samples.Data"),
        ("load", "return images(4)", "load() failed at stripes.py:LINE: TypeError: images() missing"),
        ("build", "return None", "build() returned None, not a torch.nn.Module"),
        ("build", "return torch.nn.Flatten()", "the model's forward() returned a Tensor [2, 256], not a dict of"),
        ("build", "return torch.nn.Linear(3, 3)", "the model's forward() failed: RuntimeError: mat1 and mat2 shapes"),
        ("prepare", "return given[0]['image']", "prepare() returned a Tensor [2, 1, 16, 16], not a batch with an"),
        ("prepare", "return {}['image']", "prepare() failed at stripes.py:LINE: KeyError: 'image'"),
        ("losses", "return torch.zeros(())", "losses() returned a Tensor [] for 2 samples, not a Tensor [2]"),
        ("losses", "return []", "losses() returned a list for 2 samples, not a Tensor [2]"),
        ("features", "return []", "features() returned a list for 2 samples, not a list of maps [2, ·"),
        (
            "features",
            "return torch.zeros(2, 3, 4, 4)",
            "features() returned a Tensor [2, 3, 4, 4] for 2 samples, not a",
        ),
        ("features", "return [torch.zeros(2, 3)]", "features() returned a Tensor [2, 3] for 2 samples, not a list"),
        ("embedding", "return given[0]['none']", "embedding() (forward() gives 'logits', 'features', 'embedding') f"),
        ("predict", "return given[0]['logits']", "predict() returned a Tensor [2, 2], not a Prediction with logp ["),
    ],
)
def test_a_method_of_a_task_that_is_wrong_is_told_in_a_line_before_anything_is_trained(
    plugin, tmp_path, method, body, message
):
    path, name = plugin("\n    @classmethod\n    def miniature(", METHODS.format(method=method, body=body))
    (tmp_path / "mine.toml").write_text(SUITE.replace("stripes", name))
    arguments = ["run", str(tmp_path / "mine.toml"), "--plugin", str(path), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, [*arguments, "--device", "cpu", "--jobs", "1"])
    assert done.exit_code == 2, done.output
    message = message.replace("LINE", str(path.read_text().splitlines().index(f"        {body}") + 1))
    assert f"Error: task '{name}': {message}" in done.output
    assert "Traceback" not in done.output
    assert not list((tmp_path / "run").glob("trials/*"))
    if method == "load":
        verified = CliRunner().invoke(main, ["data", "verify", name, "--plugin", str(path)])
        assert verified.exit_code == 1
        assert message.removeprefix("load()") in verified.output


def test_what_a_task_measures_is_a_number_or_told_in_a_line(plugin, tmp_path):
    as_tensor = (
        "found, outcomes = super().measure(*given); return {n: torch.tensor(v) for n, v in found.items()}, outcomes"
    )
    for body, message in ((as_tensor, ""), ("return {'accuracy': .5}", "measure() failed: ValueError: not enough")):
        path, name = plugin("\n    @classmethod\n    def miniature(", METHODS.format(method="measure", body=body))
        (tmp_path / "mine.toml").write_text(SUITE.replace("stripes", name))
        _, failed = albench.run(
            tmp_path / "mine.toml", plugins=[path], jobs=1, device="cpu", out=tmp_path / f"run{len(body)}",
            strategies=["random"], stages=1, console=Console(file=io.StringIO()),
        )  # fmt: skip
        assert [message in outcome.error for outcome in failed] == [True] * bool(message)
        tasks._plugins.pop(name)


def test_a_task_that_lacks_what_has_no_default_is_refused_when_it_is_registered(tmp_path):
    path = tmp_path / "bare.py"
    path.write_text(
        "import albench\n\n@albench.register_task('bare-task')\nclass Bare(albench.task.Task):\n"
        "    metric = 'accuracy'\n"
    )
    with pytest.raises(AlbenchError, match=r"task 'bare-task' \(Bare\) does not say its recipe"):
        load_plugin(path)
    assert "bare-task" not in tasks.names()
