"""What a user installs holds everything: a link that was lost in a copy would drop a folder without a word."""

import doctest
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for room in ("albench", "strategies", "tasks") for path in sorted((ROOT / room).rglob("*.py"))]
EXAMPLES = [path for path in dict.fromkeys(FILES) if ">>> " in path.read_text()]


def test_the_links_stand():
    for name in ("strategies", "tasks"):
        link = ROOT / "albench" / name
        assert link.is_symlink()
        assert link.resolve() == ROOT / name
    assert (ROOT / "albench" / "published").resolve() == ROOT / "results" / "published"


@pytest.mark.parametrize("file", EXAMPLES)
def test_examples_in_docstrings_hold(file):
    name = ".".join(("albench", *file.relative_to(ROOT).with_suffix("").parts)).replace("albench.albench", "albench")
    tried = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert tried.attempted
    assert not tried.failed


@pytest.mark.parametrize("room", sorted(path.name for path in (ROOT / "tasks").iterdir() if path.is_dir()))
def test_a_kind_of_task_imports_no_other_and_no_strategy(room):
    for file in (ROOT / "tasks" / room).glob("*.py"):
        others = re.findall(rf"albench\.(?:tasks\.(?!{room}\b)|strategies\.)\w+", file.read_text())
        assert others == [], file.name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source") / "albench"
    ignored = shutil.ignore_patterns(".git", "build", "*.egg-info", ".venv", "results", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)  # setuptools builds in the tree
    shutil.copytree(ROOT / "results" / "published", source / "results" / "published")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(target)]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], capture_output=True, text=True)
    if "No module named 'setuptools'" in done.stderr or "BackendUnavailable" in done.stderr:
        pytest.skip("setuptools is not installed here, and a test must not need the network")
    assert done.returncode == 0, done.stderr
    return next(target.glob("*.whl"))


def test_the_wheel_holds_every_module_suite_and_template(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = [p for folder in ("albench", "strategies", "tasks") for p in (ROOT / folder).rglob("*")]
    wanted = {
        str(name if name.parts[0] == "albench" else Path("albench") / name)
        for name in (path.relative_to(ROOT) for path in sources)
        if name.suffix in {".py", ".toml", ".html", ".css", ".js", ".txt", ".typed"} and "__pycache__" not in name.parts
    }
    published = {f"albench/published/{path.name}" for path in (ROOT / "results" / "published").glob("*.csv")}
    assert (wanted | published) - inside == set()


def test_every_entry_point_of_albench_names_something_that_exists():
    for group in ("tasks", "strategies", "companions", "tasks.aliases", "strategies.aliases"):
        for entry in entry_points(group=f"albench.{group}"):
            assert isinstance(entry.load(), type)
