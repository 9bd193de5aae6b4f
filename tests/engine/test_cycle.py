"""The loop that every trial goes through: pairing, label counts, what is trained when, what is recorded."""

import json

import pandas as pd
import pytest

import albench
from albench import tables, training
from albench.store import Store, Trial

from .conftest import TINY


def selections(folder):
    return tables.table(folder, "selections")


def test_every_strategy_of_a_seed_starts_with_the_same_labels_and_numbers(run):
    folder, failed, _ = run()
    assert failed == []
    results, picks = albench.load_results(folder), selections(folder)
    first = picks[picks.stage == 0].groupby(["strategy", "seed"])["index"].apply(tuple)
    assert first.groupby("seed").nunique().tolist() == [1, 1]
    assert first.nunique() == 2
    accuracy = results[(results.metric == "accuracy") & (results.stage == 0)].pivot(
        index="seed", columns="strategy", values="value"
    )
    assert (accuracy["random"] == accuracy["entropy"]).all()


def test_label_counts_grow_by_the_budget_and_no_sample_is_paid_twice(run):
    folder, _, _ = run()
    results, picks = albench.load_results(folder), selections(folder)
    assert sorted(results[results.metric == "accuracy"].labelled.unique()) == [8, 16, 24]
    for _, group in picks.groupby(["strategy", "seed"]):
        assert group["index"].is_unique
        assert group.groupby("stage").size().tolist() == [8, 8, 8]
        assert group["index"].between(0, 79).all()


def test_stage_0_is_trained_once_for_strategies_that_train_alike(run):
    folder, _, _ = run()
    trained = [json.loads(p.read_text().partition(" ")[2]) for p in (folder / "trained").glob("*.json")]
    # random and entropy share stage 0; learning-loss has a companion: 2 + 1 stages 0, … per seed
    assert sum(r["stage"] == 0 for r in trained) == 2 * 2
    assert sum(r["stage"] == 1 for r in trained) == 2 * 3


def test_a_strategy_added_later_equals_one_that_was_there_from_the_start(run):
    run(strategies=["random", "learning-loss"], out="grown")
    grown, _, said = run(out="grown")
    assert "4 of 6 trials are finished already" in said
    whole, _, _ = run(out="whole")
    assert (grown / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()


def test_more_stages_and_seeds_later_equal_the_whole_run(run):
    run(stages=2, seeds=1, out="grown")
    grown, _, _ = run(stages=3, seeds=2, out="grown")
    whole, _, _ = run(out="whole")
    for name in ("results", "selections", "diagnostics"):
        assert (grown / f"{name}.csv").read_bytes() == (whole / f"{name}.csv").read_bytes()


def test_two_workers_and_one_give_the_same(run):
    serial, _, _ = run(out="serial")
    parallel, failed, _ = run(out="parallel", jobs=2)
    assert failed == []
    assert (serial / "results.csv").read_bytes() == (parallel / "results.csv").read_bytes()


def test_random_twins_share_the_start_and_nothing_else(run):
    folder, _, _ = run(strategies=["random", "random-b"])
    picks = selections(folder).pivot(index=["seed", "stage", "order"], columns="strategy", values="index")
    same = picks["random"] == picks["random-b"]
    assert same.loc[(slice(None), 0)].all()
    assert same.loc[(slice(None), 1)].mean() < 0.5


def test_the_same_selection_with_and_without_a_companion_labels_the_same(run, tiny):
    text = TINY.replace('strategies = ["random", "entropy", "learning-loss"]', "")
    tiny.write_text(text + '[strategies.random]\n[strategies.both]\nstrategy="random"\ncompanion="loss-prediction"\n')
    folder, _, _ = run()
    picks = selections(folder).pivot(index=["seed", "stage", "order"], columns="strategy", values="index")
    assert (picks["random"] == picks["both"]).all()
    results = albench.load_results(folder)
    accuracy = results[results.metric == "objective"].pivot(index=["seed", "stage"], columns="strategy", values="value")
    assert (accuracy["random"] != accuracy["both"]).all()


def test_how_the_objective_went_down_is_kept_of_the_first_and_the_last_stage(run):
    folder, _, _ = run(strategies=["random"], stages=3, seeds=1, settings=["recipe={updates=50}"])
    descent = tables.table(folder, "descent")
    twenty = [*range(3, 31, 3), *range(32, 51, 2)]  # parts of 50 updates
    assert descent.groupby("stage")["update"].apply(list).to_dict() == {0: twenty, 2: twenty}
    results = albench.load_results(folder).query("metric == 'objective'").set_index("stage").value
    for stage, rows in descent.groupby("stage"):
        assert rows.objective.iloc[-2:].mean() == pytest.approx(results[stage], rel=0.05)  # the last tenth
        assert rows.objective.iloc[0] > 1.1 * rows.objective.iloc[-1]


def test_replay_labels_what_was_recorded_and_trains_it_without_the_module(run, tiny):
    source, _, _ = run(out="source")
    tiny.write_text(
        TINY.replace('strategies = ["random", "entropy", "learning-loss"]', "")
        + f'[strategies.replay]\nparams = {{ source = "{source}", strategy = "learning-loss" }}\n'
    )
    folder, failed, _ = run(out="replayed")
    assert failed == []
    picks, wanted = selections(folder), selections(source)
    columns = ["seed", "stage", "order", "index"]
    wanted = wanted[wanted.strategy == "learning-loss"][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(picks[columns].reset_index(drop=True), wanted)


def test_scores_are_diagnosed_on_candidates_and_test_set_and_others_are_not(run):
    folder, _, _ = run()
    results = albench.load_results(folder)
    diagnosed = results[results.metric.str.startswith("ranking-accuracy/")]
    assert set(diagnosed.strategy) == {"entropy", "learning-loss"}
    where = diagnosed[diagnosed.strategy == "learning-loss"].groupby("metric").stage.apply(list)
    for predictor in ("score", "entropy", "margin", "trivial"):
        assert where[f"ranking-accuracy/test/{predictor}"] == [0, 1, 2] * 2
        assert where[f"ranking-accuracy/candidates/{predictor}"] == [0, 1] * 2
    assert diagnosed.value.between(0, 1).all()
    pairs = tables.table(folder, "diagnostics")
    assert set(pairs["where"]) == {"test", "candidates"}


def test_the_true_loss_ranks_itself_and_is_marked(run):
    folder, _, _ = run(strategies=["true-loss"])
    results = albench.load_results(folder)
    own = results[results.metric == "ranking-accuracy/candidates/score"]
    assert own.value.tolist() == [1.0] * len(own)
    assert Store(folder).manifest()["strategies"]["true-loss"]["cheats"] is True


def test_a_subset_limits_the_candidates(run):
    folder, _, _ = run(settings=["subset=8"], strategies=["entropy", "random"])
    picks = selections(folder)
    stage_1 = picks[picks.stage == 1].groupby(["seed", "strategy"])["index"].apply(set).unstack()
    assert (stage_1["entropy"] == stage_1["random"]).all()  # eight candidates, eight picks: no choice


def test_continuing_differs_from_restarting_after_stage_0_and_resumes(run):
    restart, _, _ = run(strategies=["random"], out="a")
    whole, _, _ = run(strategies=["random"], settings=["warm_start=true"], out="b")
    run(strategies=["random"], settings=["warm_start=true"], stages=2, out="c")
    grown, _, _ = run(strategies=["random"], settings=["warm_start=true"], out="c")
    assert (whole / "results.csv").read_bytes() == (grown / "results.csv").read_bytes()
    frames = [albench.load_results(f).query("metric == 'objective'").set_index(["seed", "stage"]).value
              for f in (restart, whole)]  # fmt: skip
    same = frames[0] == frames[1]
    assert same.loc[(slice(None), 0)].all()
    assert not same.loc[(slice(None), 2)].any()


def test_outcomes_per_test_sample_are_kept(run):
    folder, _, _ = run(strategies=["random"], seeds=1)
    store = Store(folder)
    for record in store.records(Trial("digits", "random", 0)):
        if record["kind"] == "trained":
            outcomes = store.outcomes(record["identity"])
            assert set(outcomes) >= {"predicted", "loss"}
            assert len(outcomes["loss"]) == 40


def test_weights_stay_for_stage_0_and_the_last_stage_only(run):
    folder, _, _ = run(strategies=["random"], seeds=1)
    records = [r for r in Store(folder).records(Trial("digits", "random", 0)) if r["kind"] == "trained"]
    kept = [Store(folder).weights(r["identity"]) is not None for r in records]
    assert kept == [True, False, True]


@pytest.mark.parametrize("budget", [1, 26])
def test_extreme_budgets_work(run, budget):
    folder, failed, _ = run(settings=[f"budget={budget}"])
    assert failed == []
    assert albench.load_results(folder).labelled.max() == 3 * budget


def test_the_ceiling_is_trained_on_the_whole_pool_and_stays_out_of_the_curves(run, tiny):
    tiny.write_text("ceiling = 1\n" + TINY)
    folder, failed, _ = run(strategies=["random"])
    assert failed == []
    ceiling = tables.table(folder, "ceiling")
    assert set(ceiling.strategy) == {"full-data"}
    assert set(ceiling.labelled) == {80}
    assert albench.load_results(folder).labelled.max() == 24
    run(strategies=["random"])  # a finished ceiling is not trained again
    assert len(list((folder / "trained").glob("*.json"))) == 2 * 3 + 1


def test_a_ceiling_may_be_added_to_a_finished_run(run, tiny):
    run(strategies=["random"], seeds=1)
    tiny.write_text("ceiling = 1\n" + TINY)
    folder, failed, _ = run(strategies=["random"], seeds=1)
    assert failed == []
    assert len(tables.table(folder, "ceiling"))


def test_the_labelled_sets_contents_and_the_character_of_selections_are_recorded(run):
    folder, _, _ = run(strategies=["random", "entropy"])
    labels = tables.table(folder, "labels")
    total = labels.groupby(["strategy", "seed", "labelled"])["value"].sum().reset_index()
    assert (total["value"] == total["labelled"]).all()  # one class a sample
    results = albench.load_results(folder)
    for metric in ("selected/loss", "selected/distance"):
        found = results[results.metric == metric]
        assert len(found) == 2 * 2
        assert set(found["strategy"]) == {"entropy"}  # random looks at nothing
        assert (found["value"] > 0).all()


def test_every_stage_names_its_training_and_device(run):
    folder, _, _ = run()
    trainings = tables.table(folder, "trainings")
    assert len(trainings) == 3 * 2 * 3
    assert set(trainings.device) == {"cpu"}
    assert all((folder / "trained" / f"{identity}.json").is_file() for identity in trainings.identity)
    shared = trainings[trainings.stage == 0].groupby("seed")["identity"].nunique()
    assert shared.tolist() == [2, 2]  # random and entropy share theirs


@pytest.fixture
def counted(monkeypatch):
    """How often something was trained, and how many samples went forward through a network outside of training."""
    count = {"fits": 0, "scored": 0}
    fit, built = training.fit, training.build

    def fitting(*args, **options):
        count["fits"] += 1
        return fit(*args, **options)

    def building(*args):
        def passed(module, inputs, outputs):
            count["scored"] += 0 if module.training else len(inputs[0])

        fitted = built(*args)
        fitted.model.register_forward_hook(passed)
        return fitted

    monkeypatch.setattr(training, "fit", fitting)
    monkeypatch.setattr(training, "build", building)
    return count


def strategies(tiny, text):
    tiny.write_text(TINY.replace('strategies = ["random", "entropy", "learning-loss"]', "") + text)


REPLAY = '[strategies.replay]\nparams = { source = "this run", strategy = "%s" }\n'


def test_a_replay_of_this_run_trains_nothing_again(run, tiny, counted):
    strategies(tiny, "[strategies.random]\n" + REPLAY % "random")
    folder, failed, _ = run(seeds=1)
    assert failed == []
    assert counted["fits"] == 3 == len(list((folder / "trained").glob("*.json")))
    results = albench.load_results(folder).pivot(index=["stage", "metric"], columns="strategy", values="value")
    assert (results["random"] == results["replay"]).all()


def test_strategies_that_train_alike_share_it_also_where_they_look_at_the_model(run, tiny, counted):
    strategies(tiny, '[strategies.entropy]\n[strategies.again]\nstrategy = "entropy"\n' + REPLAY % "entropy")
    folder, failed, _ = run(seeds=1)
    assert failed == []
    assert counted["fits"] == 3
    identities = {r["identity"] for r in Store(folder).records(Trial("digits", "again", 0)) if r["kind"] == "trained"}
    kept = {path.stem for path in (folder / "trained").glob("*.safetensors")}
    assert len(kept) == 2  # the last to pass a stage drops its weights: stage 0 and the last one stay, as ever
    assert kept < identities


def test_a_resumed_run_trains_nothing_again(run, tiny, counted):
    strategies(tiny, '[strategies.entropy]\n[strategies.again]\nstrategy = "entropy"\n')
    run(seeds=1, stages=2)
    folder, _, _ = run(seeds=1)
    assert counted["fits"] == 3 == len(list((folder / "trained").glob("*.json")))


def test_random_twins_for_an_a_a_test_train_stage_0_once(run, counted):
    run(strategies=["random", "random-b"], seeds=1)
    assert counted["fits"] == 1 + 2 * 2


def test_a_companion_is_diagnosed_also_where_nothing_is_selected_by_it(run, tiny):
    """What joint training makes of the module under random selection is the control's whole point."""
    both = '[strategies.{}]\nstrategy = "{}"\ncompanion = "loss-prediction"\n'
    controls = "".join(both.format(f"{name}-with", name) for name in ("random", "entropy"))
    strategies(tiny, controls + "[strategies.learning-loss]\n")
    folder, _, _ = run(seeds=1)
    results = albench.load_results(folder)
    found = results[results.metric.str.endswith("/companion")].groupby(["strategy", "metric"]).stage.apply(list)
    assert found["random-with", "ranking-accuracy/test/companion"] == [0, 1, 2]
    assert found["entropy-with", "spearman/test/companion"] == [0, 1, 2]
    assert found["entropy-with", "spearman/candidates/companion"] == [0, 1]
    assert set(found.index.get_level_values(0)) == {"random-with", "entropy-with"}  # learning loss's is its score
    first = results[results.stage == 0].set_index(["strategy", "metric"]).value
    assert first["random-with", "spearman/test/companion"] == first["learning-loss", "spearman/test/score"]


def test_one_pass_gives_all_that_is_asked_and_random_costs_none(run, tiny, counted):
    strategies(tiny, "[strategies.random]\n")
    run(seeds=1, out="random")
    test, pool = 40, 80
    evaluation = 3 * 40 + 2 * 8  # and a look at each selection
    assert counted["scored"] == evaluation
    counted["scored"] = 0
    strategies(tiny, "[strategies.core-set]\n")  # candidates and labelled together: the whole pool, once a selection
    run(seeds=1, out="core-set")
    assert counted["scored"] == evaluation + 2 * pool + 2  # two test samples tell that it has no score
    counted["scored"] = 0
    strategies(tiny, "[strategies.learning-loss]\n")  # score, entropy, trivial, true loss, character, and the test set
    run(seeds=1, out="learning-loss")
    assert counted["scored"] == evaluation + (80 - 8) + (80 - 16) + 3 * test + 2


HISTORY = """
import json
from pathlib import Path
import torch
import albench

@albench.register_strategy("{name}")
class Historian(albench.Strategy):
    def select(self, pool, k, rng):
        assert torch.equal(torch.cat(pool.history), pool.labelled_index)
        assert all(len(column) == len(pool.labelled_index) for column in pool.targets.values())
        file = Path(__file__).with_name(f"stage{{pool.stage}}.json")
        file.write_text(json.dumps([part.tolist() for part in pool.history]))
        return torch.randperm(len(pool), generator=rng)[:k]
"""


def test_a_strategy_sees_what_was_labelled_stage_by_stage(run, tmp_path):
    name = tmp_path.name.replace("_", "-")
    path = tmp_path / "historian.py"
    path.write_text(HISTORY.format(name=name))
    folder, failed, _ = run(strategies=[name], plugins=[path], seeds=1)
    assert failed == []
    records = Store(folder).records(Store(folder).trials()[0])
    parts = [record["initial"] for record in records if "initial" in record]
    parts += [record["indices"] for record in records if record["kind"] == "selected"]
    assert len(parts) == 3
    for stage in (0, 1):
        assert json.loads((tmp_path / f"stage{stage}.json").read_text()) == parts[: stage + 1]
