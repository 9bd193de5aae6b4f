"""`albench new-strategy` writes a file that works, and its test passes."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from albench.cli import main


def new(*arguments):
    return CliRunner().invoke(main, ["new-strategy", *map(str, arguments)])


def test_what_it_writes_keeps_the_contract(tmp_path):
    result = new("my-2nd-margin", "--out", tmp_path / "mine")
    assert result.exit_code == 0, result.output
    assert "--strategies random,my-2nd-margin" in result.output
    folder = tmp_path / "mine"
    assert sorted(file.name for file in folder.iterdir()) == ["my_2nd_margin.py", "test_my_2nd_margin.py"]
    text = (folder / "my_2nd_margin.py").read_text()
    assert "class My2ndMargin(albench.Strategy)" in text
    assert "{NAME}" not in text
    # In a process of its own, as a user would: nothing stays registered in this one.
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "digits or figures", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "test_mine.py").write_text("mine")
    result = new("mine", "--out", tmp_path)
    assert result.exit_code == 2
    assert "test_mine.py is there already" in result.output
    assert [file.name for file in tmp_path.iterdir()] == ["test_mine.py"]
    assert (tmp_path / "test_mine.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Mine", "lower-case words with hyphens"),
        ("../mine", "lower-case words with hyphens"),
        ("my_own", "lower-case words with hyphens"),
        ("lambda", "word of Python's"),
        ("entropy", "is taken"),
        ("coreset", "is taken"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path, name, says):
    result = new(name, "--out", tmp_path)
    assert result.exit_code == 2
    assert says in result.output
    assert list(tmp_path.iterdir()) == []
