"""The command line as a user meets it: fast, short, and clear about what is wrong."""

import json
import subprocess
import sys
import time
from importlib.metadata import entry_points

import pytest
from click.testing import CliRunner

from albench import AlbenchError
from albench.cli import COMMANDS, main
from albench.cli.describe import as_text, described
from albench.cli.list import source_file, suites
from albench.registry import companions, strategies, tasks

LAZY = """
import sys
sys.argv = ["albench", *{args!r}]
from albench.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"torch", "pandas", "matplotlib", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""

PLUGIN = """
import albench

@albench.register_strategy("mine-for-list")
class Mine(albench.Strategy):
    '''Picks what I like.'''
"""


@pytest.mark.parametrize("args", [["--help"], ["list"], ["list", "strategies", "--json"], ["--version"]])
def test_light_commands_import_nothing_heavy_and_answer_at_once(args):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", LAZY.format(args=args)], check=True, capture_output=True)
    assert time.perf_counter() - start < 2  # 0.1 s on a quiet machine; the bound is for a busy one


def test_list_shows_names_aliases_and_descriptions():
    out = CliRunner().invoke(main, ["list"]).output
    assert "core-set" in out
    assert "k-center" in out
    assert "digit-scenes" in out
    assert "Suites" in out


def test_list_as_json():
    entries = json.loads(CliRunner().invoke(main, ["list", "strategies", "--json"]).output)
    core_set = next(entry for entry in entries if entry["name"] == "core-set")
    assert core_set["aliases"] == ["coreset", "k-center", "k-center-greedy"]
    assert core_set["source"] == "albench"
    assert list(json.loads(CliRunner().invoke(main, ["list", "--json"]).output)) == ["tasks", "strategies", "suites"]


def test_list_shows_a_plugin(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    entries = json.loads(CliRunner().invoke(main, ["list", "strategies", "--json", "--plugin", str(file)]).output)
    mine = next(entry for entry in entries if entry["name"] == "mine-for-list")
    assert mine["description"] == "Picks what I like"
    assert mine["source"] == str(file)


def test_list_describes_what_is_named():
    shown = CliRunner().invoke(main, ["list", "image-folder"]).output
    assert shown.startswith("task image-folder\n\n")
    assert "[tasks.image-folder] params = { … } in a suite" in shown
    assert "  size: int = 64  # side of the square, pixels\n" in shown
    shown = CliRunner().invoke(main, ["list", "k-center"]).output
    assert shown.startswith("strategy core-set\n")
    assert "also called: coreset, k-center, k-center-greedy" in shown
    assert "it sees hidden labels" in CliRunner().invoke(main, ["list", "true-loss"]).output
    shown = CliRunner().invoke(main, ["list", "quick"]).output
    assert "tasks: digits, figures, digit-scenes\n" in shown
    (one,) = json.loads(CliRunner().invoke(main, ["list", "loss-prediction", "--json"]).output)
    assert [(p["name"], p["type"]) for p in one["parameters"][1:]] == [
        ("margin", "float"),
        ("cut", "float"),
        ("width", "int"),
    ]
    assert "0.6 is epoch 120 of 200" in one["parameters"][2]["meaning"]
    wrong = CliRunner().invoke(main, ["list", "vocc"])
    assert wrong.exit_code == 2
    assert "Did you mean 'voc'?" in wrong.output


def test_everything_registered_can_be_described():
    installed = [entry.name for kind in (tasks, strategies, companions) for entry in entry_points(group=kind.group)]
    for name in [*installed, *(suite.name for suite in suites())]:  # other tests' plug-ins are registered, too
        for one in described(name):
            assert one.text, name
            assert as_text(one)


def test_source_files_are_found_without_importing_parents(tmp_path, monkeypatch):
    package = tmp_path / "heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('imported')")
    (package / "inner.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert source_file("heavy_package.inner") == package / "inner.py"
    assert source_file("heavy_package.absent") is None
    assert source_file("no_such_package.inner") is None


def test_every_command_has_a_line_of_help():
    out = CliRunner().invoke(main, ["--help"]).output
    assert all(name in out for name in COMMANDS)


def test_unknown_command_gets_a_suggestion():
    result = CliRunner().invoke(main, ["reprot"])
    assert result.exit_code == 2
    assert "Did you mean 'report'?" in result.output


def test_what_a_user_can_mend_is_one_line(monkeypatch):
    def broken(registry):
        raise AlbenchError("two packages register it; uninstall one")

    monkeypatch.setattr("albench.cli.list.registered", broken)
    result = CliRunner().invoke(main, ["list"])
    assert result.exit_code == 2
    assert result.stderr == "Error: two packages register it; uninstall one\n"


def test_interrupt_is_130(monkeypatch):
    def interrupted(registry):
        raise KeyboardInterrupt

    monkeypatch.setattr("albench.cli.list.registered", interrupted)
    assert CliRunner().invoke(main, ["list"]).exit_code == 130


def test_a_reader_that_leaves_early_is_no_traceback():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c 'from albench.cli import main; main()' list --json | head -1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


def test_a_suite_says_what_its_publication_leaves_open():
    text = CliRunner().invoke(main, ["list", "ll4al-voc"]).output
    assert "open in voc, params.rule: Which rule the mAP follows could not be checked" in text
    assert "open in" not in CliRunner().invoke(main, ["list", "quick"]).output
