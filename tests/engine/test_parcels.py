"""Where workers do not see the run folder, trials travel as parcels, and the results come home to the bit."""

import functools
from dataclasses import replace

import pytest

import albench
from albench import execute, parcel, training, worker
from albench.dispatch import Dispatch
from albench.store import Store, Trial

from .conftest import TINY


def blind(job):
    """A worker on a machine where the run folder is not: what is at its path has another token."""
    return worker.work(replace(job, token="elsewhere"))


@pytest.fixture
def away(run):
    """Run with workers that see nothing of the run folder."""

    def call(**options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(execute, "Dispatch", functools.partial(Dispatch, work=blind))
            return run(**options)

    return call


def files(folder, *names):
    return [(folder / f"{name}.csv").read_bytes() for name in names]


@pytest.mark.parametrize("settings", [[], ["warm_start=true", "ceiling=1"]])
def test_where_no_folder_is_shared_the_results_come_home_to_the_bit(run, away, settings):
    here, _, _ = run(out="here", settings=settings)
    there, failed, _ = away(out="there", settings=settings)
    assert failed == []
    names = ("results", "selections", "diagnostics", "trainings")
    assert files(here, *names) == files(there, *names)
    kept = [{p.name for p in (folder / "trained").iterdir()} for folder in (here, there)]
    assert kept[0] == kept[1]
    for trial in Store(here).trials():
        kinds = [[(r["kind"], r["stage"]) for r in Store(folder).records(trial)] for folder in (here, there)]
        assert kinds[0] == kinds[1]


def test_away_a_stage_0_is_trained_once_and_what_was_finished_goes_along(run, away):
    """Trainings that are shared have one time to the last digit."""
    folder, _, _ = away(stages=2)
    away(stages=3)
    seconds = {
        trial.strategy: Store(folder).records(trial)[0]["seconds"]["train"]
        for trial in Store(folder).trials()
        if trial.seed == 0
    }
    assert seconds["random"] == seconds["entropy"] != seconds["learning-loss"]
    whole, _, _ = run(out="whole")
    assert files(folder, "results", "selections") == files(whole, "results", "selections")


def test_away_trials_that_train_alike_share_it_too(tiny, run, away):
    text = TINY.replace('strategies = ["random", "entropy", "learning-loss"]', "")
    replay = '[strategies.replay]\nparams = { source = "this run", strategy = "entropy" }\n'
    tiny.write_text(f'{text}[strategies.entropy]\n[strategies.again]\nstrategy = "entropy"\n{replay}')
    folder, failed, _ = away(seeds=1)
    assert failed == []
    seconds = [
        [r["seconds"]["train"] for r in Store(folder).records(trial) if r["kind"] == "trained"]
        for trial in Store(folder).trials()
    ]
    assert seconds[0] == seconds[1] == seconds[2]
    assert len(list((folder / "trained").glob("*.json"))) == 3
    here, _, _ = run(out="here", seeds=1)
    assert files(folder, "results", "selections") == files(here, "results", "selections")
    assert {p.name for p in (folder / "trained").iterdir()} == {p.name for p in (here / "trained").iterdir()}


def test_away_other_data_are_refused(away, monkeypatch):
    from albench.tasks.classification.digits import Digits

    original, loads = Digits.load, []

    def changed(self, root):
        loads.append(root)
        data = original(self, root)
        if len(loads) > 1:
            data.pool.images[0] = 255 - data.pool.images[0]
        return data

    monkeypatch.setattr(worker, "data_on", worker.data_on.__wrapped__)
    monkeypatch.setattr(Digits, "load", changed)
    monkeypatch.setattr(worker, "_fingerprint", worker._fingerprint.__wrapped__)
    monkeypatch.setattr(execute, "data_on", worker.data_on)
    monkeypatch.setattr(worker.data_on, "cache_clear", lambda: None, raising=False)
    _, failed, _ = away(strategies=["random"], seeds=1)
    assert "are not those of the machine that began the run" in failed[0].error


def test_a_trial_that_fails_away_brings_its_records_home(away, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import albench\n\n@albench.register_strategy('away-broken')\nclass Broken(albench.Strategy):\n"
        "    def select(self, pool, k, rng):\n"
        "        if pool.stage == 1:\n            raise ValueError('broken')\n"
        "        return super().select(pool, k, rng)\n"
        "    def observe(self, outputs):\n        return {'score': outputs.prediction.entropy()}\n"
    )
    folder, failed, _ = away(strategies=["away-broken"], seeds=1, plugins=[plugin])
    assert [o.error for o in failed] == ["strategy 'away-broken': select() failed at broken.py:7: ValueError: broken"]
    assert sorted(albench.load_results(folder).query("metric == 'accuracy'").stage) == [0, 1]


def test_away_a_killed_worker_costs_what_came_after_its_checkpoint(run, away, monkeypatch):
    whole, _, _ = run(strategies=["random"], seeds=1, out="whole")
    real, calls = training._update, []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) == 7:  # the third of stage 1
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "_update", dies)
    options = {"strategies": ["random"], "seeds": 1, "checkpoint_minutes": 1e-9}
    with pytest.raises(KeyboardInterrupt):
        away(**options)
    folder, failed, _ = away(**options)
    assert failed == []
    records = Store(folder).records(Trial("digits", "random", 0))
    assert [r["resumed"] for r in records if r["kind"] == "trained"] == [[], [2], []]
    assert files(folder, "results", "selections") == files(whole, "results", "selections")


def test_a_plugin_that_a_machine_lacks_keeps_its_name_there(tmp_path):
    path = tmp_path / "gone.py"
    content = b"import albench\n\n@albench.register_strategy('gone-plugin')\nclass Gone(albench.Strategy):\n    pass\n"
    worker._load(path, content)
    path.write_bytes(content)
    assert albench.registry.load_plugin(path) == ["gone-plugin"]


def test_parcels_write_no_file_outside_the_trainings(tmp_path):
    home, trial = Store(tmp_path / "run"), Trial("digits", "random", 0)
    (tmp_path / "run").mkdir()
    keep = tmp_path / "run" / "manifest.json"
    keep.write_text("{}")
    parcel.receive(parcel.Parcel(b"", {"../evil.json": b"x"}, ("../manifest.json",)), home, trial)
    assert keep.exists()
    assert not list(tmp_path.rglob("evil*"))
