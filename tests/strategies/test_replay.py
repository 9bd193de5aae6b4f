import io
import json

import pandas as pd
import pytest
from rich.console import Console

from albench import AlbenchError, load_results, run
from albench.strategies.replay import Replay

ROWS = """task,strategy,seed,stage,order,index
toy,entropy,0,0,0,1
toy,entropy,0,0,1,2
toy,entropy,0,1,1,12
toy,entropy,0,1,0,14
toy,entropy,0,2,0,10
toy,entropy,0,2,1,11
toy,random,0,1,0,10
toy,random,0,1,1,13
other,entropy,1,1,0,10
"""


@pytest.fixture
def source(tmp_path):
    (tmp_path / "selections.csv").write_text(ROWS)
    return tmp_path


@pytest.fixture
def pool(view):
    def make(stage=0, index=(10, 11, 12, 13, 14), labelled=(2, 1)):
        return view({}, stage=stage, index=index, labelled_index=labelled)

    return make


def test_answers_the_recorded_indices_in_order_as_positions(source, pool, rng):
    for path in (source, source / "selections.csv"):
        assert Replay(source=path, strategy="entropy").select(pool(), 2, rng).tolist() == [4, 2]
    later = pool(stage=1, index=(11, 13, 10), labelled=(1, 2, 14, 12))
    assert Replay(source=source, strategy="entropy").select(later, 2, rng).tolist() == [2, 0]
    assert Replay(source=source).whole_pool


def test_one_strategy_in_the_file_needs_no_name(tmp_path, pool, rng):
    file = tmp_path / "picks.csv"
    file.write_text("\n".join(line for line in ROWS.splitlines() if "entropy" not in line))
    assert Replay(source=file).select(pool(), 2, rng).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("strategy", "view_of", "k", "says"),
    [
        (None, {}, 2, "entropy, random; set `strategy`"),
        ("entopy", {}, 2, "Did you mean 'entropy'"),
        ("entropy", {}, 3, "records 2 selections for stage 1, not K = 3"),
        ("entropy", {"stage": 2}, 2, "records stages 0…2 .* stage 3 is not"),
        ("entropy", {"labelled": (1, 14)}, 2, "another initial set"),
        ("random", {"index": (10, 11)}, 2, "sample 13 for stage 1, which is not among the candidates"),
    ],
)
def test_what_does_not_fit_is_said(source, pool, rng, strategy, view_of, k, says):
    with pytest.raises(AlbenchError, match=says):
        Replay(source=source, strategy=strategy).select(pool(**view_of), k, rng)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("task,strategy,seed,stage,index\n", "no column 'order'"),
        ("task,strategy,seed,stage,order,index\n", "holds no selections"),
        ("task,strategy,seed,stage,order,index\ntoy,a,0,1,0,seven\n", "line 2: stage, order and index"),
        ("task,strategy,seed,stage,order,index\nlsp,a,0,1,0,7\n", "for task 'toy', seed 0; it has lsp seed 0"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, pool, rng, text, says):
    file = tmp_path / "picks.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(AlbenchError, match=says) as caught:
        Replay(source=file).select(pool(), 1, rng)
    assert "\n" not in str(caught.value)


SUITE = """
stages = 3
seeds = 2
budget = 6
subset = 20
recipe = {updates = 8, batch = 6}
[tasks.digits]
params = {samples = 90, width = 4, blocks = [1, 1]}
"""


def test_a_run_replayed_is_the_same_run(tmp_path):
    """Recorded sets, trained on again without a companion: `entropy` must come out equal to the bit."""

    def ran(name, strategies):
        suite = tmp_path / f"{name}.toml"
        suite.write_text(SUITE + strategies)
        folder, failed = run(suite, out=tmp_path / name, jobs=1, device="cpu", console=Console(file=io.StringIO()))
        assert not failed
        results = load_results(folder).query("metric == 'accuracy'")
        return results, pd.read_csv(folder / "selections.csv")

    def of(table, strategy):
        return table[table["strategy"] == strategy].drop(columns="strategy").reset_index(drop=True)

    results, selections = ran("first", "[strategies.entropy]\n[strategies.learning-loss]\n")
    replays = "".join(
        f"[strategies.again-{name}]\nstrategy = 'replay'\n"
        f"params = {{source = '{tmp_path / 'first'}', strategy = '{name}'}}\n"
        for name in ("entropy", "learning-loss")
    )
    results_again, selections_again = ran("second", replays)
    pd.testing.assert_frame_equal(of(results, "entropy"), of(results_again, "again-entropy"))
    for name in ("entropy", "learning-loss"):
        pd.testing.assert_frame_equal(of(selections, name), of(selections_again, f"again-{name}"))
    assert not of(results, "learning-loss").equals(of(results_again, "again-learning-loss"))  # no module beside it


WITHIN = """
name = "within"
seeds = 2
stages = 3
budget = 6
recipe = { updates = 3, batch = 6 }

[tasks.digits]
params = { samples = 120, width = 4, blocks = [1, 1] }

[strategies.plain]
strategy = "replay"
params = { source = "this run", strategy = "learning-loss" }

[strategies.learning-loss]

[strategies.random]
"""


def test_a_suite_replays_a_strategy_of_its_own_without_the_companion(tmp_path):
    """Listed first, it is run last; what it trains on is the same, how it trains is not."""
    suite = tmp_path / "within.toml"
    suite.write_text(WITHIN)
    folder, failed = run(suite, out=tmp_path / "run", device="cpu", jobs=2, console=Console(file=io.StringIO()))
    assert failed == []
    picks = pd.read_csv(folder / "selections.csv").set_index(["task", "seed", "stage", "order"])
    ours, theirs = (picks.loc[picks["strategy"] == name, "index"] for name in ("plain", "learning-loss"))
    pd.testing.assert_series_equal(ours.sort_index(), theirs.sort_index())
    trainings = pd.read_csv(folder / "trainings.csv").pivot(
        index=["seed", "stage"], columns="strategy", values="identity"
    )
    assert (trainings["plain"] != trainings["learning-loss"]).all()
    assert (trainings["plain"] == trainings["random"]).groupby("stage").all().to_dict() == {0: True, 1: False, 2: False}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            ('strategy = "learning-loss" }', 'strategy = "learning-lss" }'),
            "none of the suite's .*'learning-loss'",
        ),
        ((', strategy = "learning-loss"', ""), 'source = "this run" needs `strategy`'),
        (('strategy = "learning-loss" }', 'strategy = "plain" }'), "'plain', which follows another itself"),
    ],
)
def test_whom_it_follows_is_checked_before_anything_runs(tmp_path, change, says):
    suite = tmp_path / "within.toml"
    suite.write_text(WITHIN.replace(*change))
    with pytest.raises(AlbenchError, match=says):
        run(suite, out=tmp_path / "run", device="cpu", console=Console(file=io.StringIO()))


def test_replaying_a_cheat_is_marked(tmp_path):
    suite = tmp_path / "within.toml"
    suite.write_text(WITHIN.replace("learning-loss", "true-loss").replace("stages = 3", "stages = 1"))
    folder, _ = run(suite, out=tmp_path / "run", device="cpu", jobs=1, console=Console(file=io.StringIO()))
    marked = {
        name: facts["cheats"]
        for name, facts in json.loads((folder / "manifest.json").read_text())["strategies"].items()
    }
    assert marked == {"plain": True, "true-loss": True, "random": False}
