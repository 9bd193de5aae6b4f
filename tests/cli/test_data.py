"""`albench data` on tasks that tests bring along, so that no data set is needed."""

import errno
import os
import time

import click
import pytest
from click.testing import CliRunner

from albench import AlbenchError
from albench.cli import main
from albench.cli.data import parse_settings

PLUGIN = """
from pathlib import Path

import torch

import albench
from albench.recipe import Recipe


@albench.register_task("dots-{tag}")
class Dots(albench.Task):
    '''Coloured dots.'''

    metric = "accuracy"
    recipe = Recipe(updates=1)
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


SUITE = """
name = "two"
budget = 2
strategies = ["random"]
[tasks.few]
task = "{name}"
params = {{ count = 3 }}
source = "dots of a friend's"
[tasks.many]
task = "{name}"
params = {{ count = 9 }}
"""


def test_a_suite_s_name_stands_for_its_tasks_with_their_parameters(dots, tmp_path):
    name, plugin = dots
    (tmp_path / "two.toml").write_text(SUITE.format(name=name))
    missing = call("verify", tmp_path / "two.toml", "--plugin", plugin, "--data-root", tmp_path / "data")
    assert missing.exit_code == 1
    assert missing.stderr.count("Error: no dots.txt") == 2
    result = call("prepare", tmp_path / "two.toml", "--plugin", plugin, "--data-root", tmp_path / "data")
    assert result.exit_code == 0
    assert "few: 3 in the pool" in result.output
    assert "many: 9 in the pool" in result.output
    assert "into" in result.output.splitlines()[0]
    assert result.output.splitlines()[0].endswith("(dots of a friend's)")
    unknown = call("verify", "ll4al-vocc", "--data-root", tmp_path)
    assert unknown.exit_code == 2
    assert "no task or suite is called 'll4al-vocc'. Did you mean 'll4al-voc'?" in unknown.stderr


def test_problems_are_listed_then_the_exit_code_says_so(tmp_path):
    from albench.tasks.detection.voc import PascalVoc

    PascalVoc.miniature(tmp_path / "set")
    for name in ("000004", "000007"):
        file = tmp_path / "set" / "JPEGImages" / f"{name}.jpg"
        file.write_bytes(file.read_bytes()[:500])
    (tmp_path / "set" / "Annotations" / "000009.xml").write_text("<annotation>")
    result = call("verify", "voc", "--data-root", tmp_path, "--set", "folder=set", "--set", "size=48")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert [name in line for name, line in zip(("000009", "000004", "000007"), lines, strict=True)] == [True] * 3
    assert result.stderr == (
        "Error: voc: 3 problems, a line for each above; "
        "what is survived with a note was not looked for: mend them first\n"
    )


def test_notes_are_told_beside_problems_that_do_not_stop_the_reading(dots, tmp_path):
    name, plugin = dots
    with (tmp_path / "plugin.py").open("a") as file:
        file.write("\n    def problems(self, root):\n        yield 'dot7.png is not the official one'\n")
    (tmp_path / "dots.txt").touch()
    result = call("verify", name, "--plugin", plugin, "--data-root", tmp_path)
    assert result.exit_code == 1
    assert result.stdout.startswith("dot7.png is not the official one\n")
    assert "dot3.png: truncated, left out" in result.stdout
    assert result.stderr == f"Error: {name}: 1 problem, a line for each above\n"


def test_verify_approves_no_cached_image_unread(tmp_path, monkeypatch):
    from albench.tasks.detection.voc import PascalVoc

    monkeypatch.setenv("ALBENCH_CACHE", str(tmp_path / "cache"))
    PascalVoc.miniature(tmp_path)
    verify = ("verify", "voc", "--data-root", tmp_path, "--set", "folder=.", "--set", "size=48")
    sound = call(*verify)
    (file,) = (tmp_path / "cache").glob("*/pool.npy")
    times = file.stat().st_mtime_ns
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    os.utime(file, ns=(times, times))  # a failing disk leaves no trace
    again = call(*verify)
    assert again.exit_code == 0
    assert again.stdout == sound.stdout
    assert "damaged" in again.stderr


def test_whoever_closes_the_pipe_is_told_nothing(dots, tmp_path, monkeypatch):
    name, plugin = dots
    (tmp_path / "dots.txt").touch()

    def closed(*_, **__):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("albench.cli.data._print_contents", closed)
    result = call("verify", name, "--plugin", plugin, "--data-root", tmp_path)
    assert (result.exit_code, result.output) == (1, "")


def test_a_task_is_blamed_for_its_problems_and_not_for_the_pipe_they_are_printed_to(dots, tmp_path, monkeypatch):
    name, plugin = dots
    with (tmp_path / "plugin.py").open("a") as file:
        file.write("\n    def problems(self, root):\n        yield 'dot7.png is odd'\n        raise ValueError('oh')\n")
    verify = ("verify", name, "--plugin", plugin, "--data-root", tmp_path)
    assert f"task '{name}': problems() failed" in call(*verify).stderr

    echo = click.echo

    def closed(line, err=False):
        if not err:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        echo(line, err=True)

    monkeypatch.setattr("albench.cli.data.click.echo", closed)
    result = call(*verify)
    assert (result.exit_code, result.output) == (1, "")


def another_s(entry):
    raise PermissionError(errno.EACCES, "Permission denied", str(entry))


def test_the_cache_is_listed_and_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("ALBENCH_CACHE", str(tmp_path / "cache"))
    assert call("cache").stdout == f"{tmp_path}/cache: 0 entries, 0.00 GB\n"
    call("verify", "digit-scenes", "--set", "pool=30", "--set", "test=10")
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    old = time.time() - 3 * 86_400
    os.utime(entry, (old, old))
    assert call("cache").stdout.splitlines()[1].endswith("0.00 GB  digit-scenes, last used 3 days ago")
    (tmp_path / "cache" / f"{entry.name}left.tmp").mkdir()
    with monkeypatch.context() as shared:
        shared.setattr("albench.cache.remove", another_s)
        assert call("cache", "--clear").stdout.endswith("ago: cannot be removed (Permission denied)\n")
    assert call("cache", "--clear").stdout.endswith("ago: removed\n")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


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


def said(*words):
    """What `verify` says of a sound set, by the first word of each line."""
    result = call("verify", *words)
    assert result.exit_code == 0, result.output
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) > 1}


def test_verify_says_what_its_numbers_are(dots, tmp_path):
    from albench.tasks.detection.voc import PascalVoc
    from albench.tasks.pose.coco import CocoKeypoints

    PascalVoc.miniature(tmp_path / "set")
    voc = said("voc", "--data-root", tmp_path, "--set", "folder=set", "--set", "size=48")
    assert voc["voc:"] == "24 in the pool, 8 in the test set"
    assert voc["images"] == "kept at 56 × 56 pixels, colour"
    assert voc["originals"] == "96 × 72 pixels"
    assert voc["objects"].endswith("in the test set, 2 the most in an image; 1 of them difficult")
    digits = said("digits", "--set", "samples=100")
    assert digits["images"].endswith("pixels, grey")
    assert digits["labels"].endswith("images a class in the pool")
    CocoKeypoints.miniature(tmp_path)
    result = call("verify", "coco-keypoints", "--data-root", tmp_path)  # the sizes are not the official ones
    assert "joints       17 a person, 15.0 of them annotated (mean)" in result.stdout
    name, plugin = dots
    (tmp_path / "dots.txt").touch()
    plain = said(name, "--plugin", plugin, "--data-root", tmp_path)
    assert plain["annotations"] == "label (a number a sample)"
