"""Every registered strategy passes the contract suite on every task; broken ones are caught, each by its rule."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from albench import checking, registry
from albench.cli import main

BROKEN = Path(__file__).with_name("broken.py")
CAUGHT_BY = {
    "broken-duplicates": "each once",
    "broken-nan": "numbers",
    "broken-too-few": "exactly k",
    "broken-peeking": "hidden labels",
    "broken-global-seed": "random state",
    "broken-state": "no state",
    "broken-device": "device",
    "broken-array": "candidates",
    "broken-outer-draw": "random state",
    "broken-peeking-step": "hidden labels",
    "broken-order": "order",
    "broken-counter": "repeats",
    "broken-frame": "hidden labels",
    "broken-crash": "runs",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A function: the bench of a task, made once; its models serve all strategies without a companion."""
    made = {}

    def get(task):
        if task not in made:
            made[task] = checking.Bench(task, tmp_path_factory.mktemp(task))
        return made[task]

    return get


@pytest.fixture(scope="module")
def plugins():
    """What a test registers from a file is forgotten after this module."""
    before = {r: dict(r._plugins) for r in (registry.strategies, registry.companions)}
    modules = set(sys.modules)
    yield registry.load_plugin
    for one, known in before.items():
        one._plugins = known
    for name in set(sys.modules) - modules:
        if name.startswith("albench_plugin_"):
            del sys.modules[name]


@pytest.mark.parametrize("task", registry.tasks.names())
@pytest.mark.parametrize("strategy", registry.strategies.names())
def test_every_registered_strategy_keeps_the_contract(strategy, task, bench):
    if strategy == "replay":
        pytest.skip("replay needs a recording; tests/strategies/test_replay.py has some")
    findings = list(checking.check(strategy, bench(task)))
    assert [f for f in findings if f.passed is False] == []
    if findings[0].check == "defined":
        pytest.skip(findings[0].text)
    assert len(findings) == len(checking.CHECKS)
    cheats = registry.strategies.get(strategy).cheats
    assert next(f.passed for f in findings if f.check == "hidden labels") is (None if cheats else True)


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_a_broken_strategy_is_caught_by_its_rule(name, bench, plugins):
    assert sorted(plugins(BROKEN)) == sorted(CAUGHT_BY)
    failed = [finding.check for finding in checking.check(name, bench("digits")) if finding.passed is False]
    assert failed == [CAUGHT_BY[name]]


def test_hidden_labels_are_put_back(bench):
    digits = bench("digits")
    before = digits.data.fingerprint()
    labelled = digits.data.pool.targets["label"][digits.labelled(1)].clone()
    restore = digits.exchange_hidden()
    assert digits.data.fingerprint() != before
    assert digits.data.pool.targets["label"][digits.labelled(1)].equal(labelled)
    restore()
    assert digits.data.fingerprint() == before


@pytest.fixture
def on_digits_alone(monkeypatch):
    monkeypatch.setattr(registry.tasks, "names", lambda: ["digits"])


def test_command_passes_a_good_strategy(on_digits_alone):
    result = CliRunner().invoke(main, ["check-strategy", "margin"])
    assert result.exit_code == 0, result.output
    assert "✓ digits: 11 checks pass\n" in result.output
    assert "hidden labels" not in result.output
    assert "✓ digits · hidden labels" in CliRunner().invoke(main, ["check-strategy", "margin", "--verbose"]).output
    drawn = CliRunner().invoke(main, ["check-strategy", "random"]).output
    assert "checks pass (order: it draws at random)" in drawn


def test_the_command_leaves_nothing_in_the_cache_and_others_go_on_using_it(monkeypatch, tmp_path):
    monkeypatch.setattr(registry.tasks, "names", lambda: ["image-folder", "lsp", "voc"])
    monkeypatch.setenv("ALBENCH_CACHE", str(tmp_path / "cache"))
    result = CliRunner().invoke(main, ["check-strategy", "random"])
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "cache").exists()
    registry.tasks.get("lsp").miniature(tmp_path / "lsp").load(tmp_path / "lsp")
    assert len([entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]) == 1


def test_command_says_what_a_file_breaks(on_digits_alone, plugins):
    result = CliRunner().invoke(main, ["check-strategy", str(BROKEN)])
    assert result.exit_code == 1, result.output
    assert "✗ digits · each once: select() at k = 4 answers 1 positions twice" in result.output
    assert "checks failed" in result.output


def test_command_says_where_a_strategy_is_not_defined(on_digits_alone, monkeypatch):
    monkeypatch.setattr(registry.tasks.get("digits"), "can", frozenset())
    result = CliRunner().invoke(main, ["check-strategy", "bald"])
    assert result.exit_code == 0
    assert "not defined on task digits: needs dropout" in result.output


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("entopy", "Did you mean 'entropy'"),
        ("nowhere.py", "there is no such file"),
        ("replay", "no default for source"),
    ],
)
def test_command_refuses_what_it_cannot_try(name, says):
    result = CliRunner().invoke(main, ["check-strategy", name])
    assert result.exit_code == 2
    assert says in result.output


def test_command_refuses_a_file_without_strategies(tmp_path):
    file = tmp_path / "empty.py"
    file.write_text("x = 1\n")
    result = CliRunner().invoke(main, ["check-strategy", str(file)])
    assert result.exit_code == 2
    assert "registers no strategy" in result.output
