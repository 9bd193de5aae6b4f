"""Names: built in and from files, aliases, collisions, and what a wrong one is told."""

import subprocess
import sys

import pytest

from albench import registry
from albench.errors import AlbenchError

PLUGIN = """
import albench
from albench import Strategy

@albench.register_strategy("{name}")
class Mine(Strategy):
    def observe(self, outputs):
        return {{"score": outputs.prediction.entropy()}}
"""


def test_listing_names_imports_no_torch():
    code = "import sys, albench.registry as r; r.strategies.names(); r.tasks.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_aliases_resolve_to_the_registered_name():
    assert registry.strategies.resolve("coreset") == registry.strategies.resolve("k-center") == "core-set"
    assert registry.strategies.resolve("ll4al") == "learning-loss"
    assert registry.strategies.get("coreset") is registry.strategies.get("core-set")


def test_a_wrong_name_gets_a_suggestion():
    with pytest.raises(AlbenchError, match="no strategy is called 'entopy'. Did you mean 'entropy'"):
        registry.strategies.get("entopy")


def test_every_registered_name_loads():
    for kind in (registry.tasks, registry.strategies, registry.companions):
        assert all(isinstance(kind.get(name), type) for name in kind.names())


def test_a_plugin_file_registers_and_loads_once(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.format(name="test-plugin-a"))
    assert registry.load_plugin(file) == ["test-plugin-a"]
    assert registry.load_plugin(file) == ["test-plugin-a"]
    assert registry.strategies.get("test-plugin-a").__name__ == "Mine"


def test_a_taken_name_is_an_error(tmp_path):
    file = tmp_path / "taken.py"
    file.write_text(PLUGIN.format(name="entropy"))
    with pytest.raises(AlbenchError, match="'entropy' is taken"):
        registry.load_plugin(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import albench\n1 / 0", "line 2: ZeroDivisionError"),
        ("def (", "line 1: SyntaxError"),
        ("import albench\n@albench.register_strategy('x')\nclass X: pass", "must be a class derived from Strategy"),
    ],
)
def test_a_broken_plugin_says_where(tmp_path, content, message):
    file = tmp_path / "broken.py"
    file.write_text(content)
    with pytest.raises(AlbenchError, match=message):
        registry.load_plugin(file)


def test_a_plugin_that_failed_can_be_mended_and_loaded_again(tmp_path):
    file = tmp_path / "mended.py"
    file.write_text(PLUGIN.format(name="test-mended") + "\n1 / 0\n")
    with pytest.raises(AlbenchError, match="ZeroDivisionError"):
        registry.load_plugin(file)
    assert "test-mended" not in registry.strategies.names()
    file.write_text(PLUGIN.format(name="test-mended"))
    assert registry.load_plugin(file) == ["test-mended"]


def test_a_missing_plugin_is_said(tmp_path):
    with pytest.raises(AlbenchError, match="no such file"):
        registry.load_plugin(tmp_path / "nowhere.py")
