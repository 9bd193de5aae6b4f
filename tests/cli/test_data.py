"""`albench data` on tasks that tests bring along, so that no data set is needed."""

import pytest
from click.testing import CliRunner

from albench import AlbenchError
from albench.cli import main
from albench.cli.data import parse_settings

PLUGIN = """
from pathlib import Path

import torch

import albench


@albench.register_task("dots-{tag}")
class Dots(albench.Task):
    '''Coloured dots.'''

    metric = "accuracy"
    source = "dots.txt, by hand"
    count: int = 5

    def load(self, root):
        if root is None or not (root / "dots.txt").is_file():
            raise albench.AlbenchError(f"no dots.txt in {{root}}; run albench data prepare")
        images = torch.zeros(self.count, 3, 4, 4, dtype=torch.uint8)
        samples = albench.Samples(images, {{"label": torch.zeros(self.count)}}, ["dot"] * self.count)
        return albench.Data(samples, samples, ("red", "blue"), ["dot3.png: truncated, left out"])

    def fetch(self, root):
        (root / "dots.txt").write_text("dots")

    def build(self, classes):
        raise NotImplementedError

    miniature = prepare = augment = losses = predict = features = embedding = measure = draw = build
"""


@pytest.fixture
def dots(tmp_path, request):
    tag = str(abs(hash(request.node.name)))
    (tmp_path / "plugin.py").write_text(PLUGIN.format(tag=tag))
    return f"dots-{tag}", str(tmp_path / "plugin.py")


def call(*args):
    return CliRunner().invoke(main, ["data", *map(str, args)])


def test_prepare_fetches_and_verify_tells(dots, tmp_path):
    name, plugin = dots
    root = tmp_path / "data"
    missing = call("verify", name, "--plugin", plugin, "--data-root", root)
    assert missing.exit_code == 1
    assert missing.stderr.startswith("Error: no dots.txt")
    assert call("prepare", name, "--plugin", plugin, "--data-root", root, "--set", "count=7").exit_code == 0
    result = call("verify", name, "--plugin", plugin, "--data-root", root, "--set", "count=7")
    assert result.exit_code == 0
    for part in ("7 in the pool", "red, blue", "fingerprint", "dot3.png: truncated, left out"):
        assert part in result.output


def test_prepare_asks_where(dots):
    name, plugin = dots
    result = call("prepare", name, "--plugin", plugin)
    assert result.exit_code == 2
    assert "--data-root" in result.stderr


def test_wrong_parameter_names_those_there_are(dots):
    name, plugin = dots
    result = call("verify", name, "--plugin", plugin, "--set", "cuont=7")
    assert result.exit_code == 2
    assert "cuont" in result.stderr
    assert "count" in result.stderr


def test_list_names_the_source(dots):
    _, plugin = dots
    result = call("list", "--plugin", plugin)
    assert result.exit_code == 0
    assert "dots.txt, by hand" in result.output


def test_settings_are_toml_or_text():
    assert parse_settings(("folder=BCCD", "size=96", 'name="a b"', "list=[1, 2]")) == {
        "folder": "BCCD",
        "size": 96,
        "name": "a b",
        "list": [1, 2],
    }
    with pytest.raises(AlbenchError, match="key=value"):
        parse_settings(("folder",))
