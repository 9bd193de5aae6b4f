"""What a report says, without drawing: the checklist claims no more than was checked, sentences name the best."""

import re

import numpy as np
import pandas as pd
import pytest

from albench.analysis.curves import curves, seed_scores
from albench.report import checklist, methods, remarks, tables, words, write
from albench.report.blocks import Folder
from albench.report.character import first_stage_effects
from albench.report.looks import Look
from albench.report.numbers import number
from albench.report.runs import gather
from albench.report.savings import saving, speed
from albench.report.tables import summaries


@pytest.fixture
def run(make_run):
    return gather([make_run(tasks=("digits", "figures"))])[0]


def item(run, name):
    return next(item for item in checklist.checklist(run, [], []).items if item.name == name)


def test_what_only_the_suite_says_is_stated_not_ok(run):
    assert item(run, "Tuning").state == "missing"
    run.suite["tuning"] = "On seeds 100 and up."
    assert item(run, "Tuning").state == item(run, "Test set").state == "stated"
    assert "not checked" in item(run, "Tuning").text


def test_the_family_leaves_out_those_that_cheat_and_no_rate_is_claimed_over_tasks(run):
    text = item(run, "Primary test").text
    assert "Holm over 3 comparisons a task" in text  # five strategies: the reference, and one that cheats
    assert "over the 2 tasks together it is not" in methods.methods(run)
    assert " ," not in methods.methods(run)
    assert " ." not in methods.methods(run)


def test_stages_and_strategies_that_came_later_are_flagged(run):
    assert item(run, "Plan").state == "missing"  # a run of before that was kept
    run.planned = {"seeds": 3, "stages": 5, "strategies": list(run.strategies)}
    assert item(run, "Plan").state == "ok"
    run.planned = {"seeds": 3, "stages": 3, "strategies": ["random", "entropy", "learning-loss", "true-loss"]}
    assert item(run, "Plan").state == "attention"
    assert "2 stages and core-set" in item(run, "Plan").text
    assert dict(words.switches(run))["stages"] == "5, 2 of them added later"


def test_pairing_is_ok_only_where_it_could_be_checked(run):
    assert item(run, "Pairing").state == "ok"
    alone = run.results["strategy"].isin(["random", "learning-loss"])  # one trains alone, the other with a companion
    whole, run.results = run.results, run.results[alone]
    assert item(run, "Pairing").state == "stated"
    run.results = whole.copy()
    first = (run.results["stage"] == 0) & (run.results["strategy"] == "entropy") & (run.results["seed"] == 1)
    run.results.loc[first, "value"] = np.nan  # a lost value is no equal one
    assert item(run, "Pairing").state == "attention"


def test_data_without_a_fingerprint_are_not_vouched_for(run):
    assert item(run, "Data").state == "attention"
    assert "no fingerprint of the data of digits and figures" in item(run, "Data").text


def test_candidates_are_said_task_by_task_where_they_differ(run):
    assert dict(words.switches(run))["candidates"] == "the whole unlabelled pool"
    run.tasks["digits"]["entry"]["subset"] = 200
    assert dict(words.switches(run))["candidates"] == "digits: 200 drawn per stage; figures: the whole unlabelled pool"


def test_joint_training_is_told_apart_before_anything_is_selected(run):
    rows = (run.results["stage"] == 0) & (run.results["metric"] == "accuracy")
    run.results.loc[rows & (run.results["strategy"] == "learning-loss"), "value"] -= [0.09, 0.1, 0.11]
    (row,) = first_stage_effects(run, "digits").to_dict("records")
    half = 4.302653 * 0.01 / np.sqrt(3)
    assert (row["companion"], row["seeds"]) == ("loss-prediction", 3)
    assert [row["mean"], row["low"], row["high"]] == pytest.approx([-0.1, -0.1 - half, -0.1 + half], abs=1e-6)
    effects = first_stage_effects(run, "digits")
    start = "Before anything is selected, training loss-prediction beside the model changes accuracy by −0.1000"
    ends = f"{-0.1 - half:+.4f} to {-0.1 + half:+.4f}".replace("-", "−")
    assert words.joint_training(effects, "accuracy", 0.05) == f"{start} (95\u202f% interval {ends})."
    wide, one = effects.assign(high=0.01), effects.assign(low=np.nan, high=np.nan, seeds=1)
    assert words.joint_training(wide, "accuracy", 0.05).endswith("to +0.0100, which includes 0).")
    assert words.joint_training(one, "accuracy", 0.05) == f"{start} (1 seed, so there is no interval)."
    assert words.joint_training(effects.iloc[:0], "accuracy", 0.05) == ""


COLUMNS = ["task", "strategy", "seed", "stage", "labelled", "metric", "value"]


def test_a_baseline_that_beats_the_score_is_named_and_one_that_may_by_chance_is_not_told_apart():
    values = {"score": (0.60, 0.61, 0.62), "entropy": (0.70, 0.71, 0.73), "margin": (0.5, 0.7, 0.7)}
    rows = [
        ("t", "ll", seed, stage, 10 + stage, f"ranking-accuracy/test/{name}", value - 0.5 * (stage == 0))
        for name, own in values.items()
        for seed, value in enumerate(own)
        for stage in (0, 1)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    text = remarks.beaten_scores(table)
    assert "ordered better by entropy than by the score of ll (+0.103 [+0.089,\u00a0+0.118])." in text
    assert "Not told apart, though higher in the mean: the margin from the score of ll (+0.023 [" in text
    assert remarks.beaten_scores(table[table["metric"].str.endswith("score")]) == ""
    control = table.assign(metric=table["metric"].str.replace("score", "companion"))
    assert "by entropy than by the companion of ll" in remarks.beaten_scores(control)


def test_the_part_of_the_selection_is_told_against_the_control_with_the_same_companion(run):
    assert remarks.selection(remarks.selection_effects(run, "digits"), 0.05) == ""  # no control
    run.strategies["entropy"] = {"strategy": "random", "companion": "loss-prediction", "cheats": False}
    (row,) = remarks.selection_effects(run, "digits").to_dict("records")
    scores = seed_scores(run.primary("digits"), "accuracy")
    assert (row["strategy"], row["control"], row["seeds"]) == ("learning-loss", "entropy", 3)
    assert row["mean"] == pytest.approx((scores["learning-loss"] - scores["entropy"]).mean())
    text = remarks.selection(remarks.selection_effects(run, "digits"), 0.05)
    assert "the AUBC of learning-loss − entropy is " in text
    assert text.endswith("3 paired seeds): that is the part of the selection.")


def test_the_part_of_the_selection_claims_no_more_than_its_interval():
    def said(*rows):
        return remarks.selection(
            pd.DataFrame(rows, columns=["strategy", "control", "mean", "low", "high", "seeds"]), 0.05
        )

    ends = said(("ll", "plain", -0.0115, -0.0243, 0.0013, 3))
    assert "is −0.0115 [−0.0243,\u00a0+0.0013], which includes 0 (95\u202f% intervals, unadjusted" in ends
    assert "includes 0" not in said(("ll", "plain", -0.0115, -0.02, -0.0013, 3))
    one = ("mc", "plain", -0.0156, np.nan, np.nan, 1)
    assert said(one).endswith("is −0.0156 (1 paired seed, so there is no interval): that is the part of the selection.")
    both = said(one, ("ll", "plain", 0.01, 0.005, 0.015, 3))
    assert "(1 paired seed, so there is no interval); ll − plain is +0.0100 [" in both
    assert "intervals, unadjusted, 3 paired seeds)" in both


def test_seconds_are_compared_only_where_equal_work_took_equal_time():
    def costs(train, entropy=0.1):
        part = dict.fromkeys(train, 0.1) | {"entropy": entropy}
        rows = [(s, seed, f"seconds/{what}", value) for s, own in train.items() for seed, value in enumerate(own)
                for what, value in (("train", value), ("observe", part[s] * value))]  # fmt: skip
        return pd.DataFrame(rows, columns=["strategy", "seed", "metric", "value"])

    alike = {"random": "plain", "entropy": "plain"}
    quiet = costs({"random": (100, 101), "entropy": (102, 103)})
    assert remarks.cost(quiet, alike).startswith("A trial took (mean, training included): random 1.8\u202fmin, entropy")
    compiling = pd.DataFrame([("random", 0, "seconds/compile", 60.0)], columns=quiet.columns)  # once a process
    assert remarks.cost(pd.concat([quiet, compiling]), alike) == remarks.cost(quiet, alike)
    busy = remarks.cost(costs({"random": (100, 101), "entropy": (102, 200)}), alike)
    assert busy.startswith("Trials that do the same work trained for 1.7\u202fmin to 3.3\u202fmin: so seconds ")
    assert "took 10.0\u202f% of the seconds" in busy
    busy = remarks.cost(costs({"random": (100, 101), "entropy": (102, 200)}, entropy=0.2), alike)
    assert "took 10.0\u202f% (random) to 20.0\u202f% (entropy) of the seconds" in busy
    assert remarks.cost(quiet[quiet["metric"] == "none"], alike) == ""


def test_what_is_undecided_gets_a_next_step(run):
    rows = summaries([run], "digits")
    text = remarks.next_step(run, "digits", rows.assign(verdict="undecided"))
    assert text.startswith("To tell a difference of 0.005 in 80\u202f% of cases, ")
    assert "albench power RUN_DIR" in text
    assert remarks.next_step(run, "digits", rows.assign(verdict="better")) == ""
    one = rows.assign(verdict=rows["strategy"].map({"entropy": "undecided", "core-set": "worse"}))
    assert "of cases for what is undecided (entropy), " in remarks.next_step(run, "digits", one)
    assert "is known" not in text


def test_a_next_step_says_which_comparisons_it_knows_nothing_of(run):
    late = run.results["strategy"].eq("learning-loss") | (
        run.results["strategy"].eq("core-set") & run.results["seed"].gt(0)
    )
    run.results = run.results[~late]
    rows = summaries([run], "digits").assign(verdict="undecided")
    text = remarks.next_step(run, "digits", rows)
    assert "in 80\u202f% of cases, by what is known of entropy, " in text
    assert text.endswith(" Of core-set and learning-loss no spread is known yet.")


def test_seeds_without_a_partner_are_not_said_to_be_one_seed(run):
    run.results = run.results[run.results["strategy"].eq("random") | (run.results["seed"] == 0)]
    rows = summaries([run], "digits")
    text = remarks.next_step(run, "digits", rows[rows["strategy"].isin(["entropy", "core-set", "random"])])
    assert text.startswith("Of the 3 seeds planned, entropy and core-set have one in common with random yet, ")
    run.suite["seeds"] = 1
    assert remarks.next_step(run, "digits", rows).startswith("One seed shows no spread")


def test_seeds_that_agree_by_luck_do_not_make_the_test_samples_small(run):
    rows = summaries([run], "digits")
    rows = rows.assign(sampled_pairs=3, sampled_low=-0.02, sampled_high=0.01, replicates=200, verdict="undecided")
    rows = rows.assign(sd_seeds=0.0008, sd_samples=0.005)
    text = words.another_test_set(rows[rows["strategy"] == "entropy"], 0.05)
    assert "(standard errors: entropy 0.0050 against 0.0008); from so few seeds theirs is badly known." in text
    small = words.another_test_set(rows.assign(sd_seeds=0.06), 0.05)
    assert "far less than the seeds do" in small
    even = words.another_test_set(rows.assign(sd_seeds=0.006), 0.05)
    assert "standard error" not in even


def test_an_interval_that_its_verdict_does_not_follow_is_explained(run):
    rows = summaries([run], "digits")
    best = rows[~rows["cheats"]]["aubc_mean"].idxmax()
    rows.loc[best, ["low", "high", "verdict", "verdict_low", "verdict_high"]] = [0.01, 0.05, "undecided", -0.01, 0.07]
    text = words.finding(rows, "accuracy", 0.1)
    assert "(90\u202f% interval +0.0100 to +0.0500" in text
    assert "corrected for the number of comparisons the interval is −0.0100 to +0.0700" in text


def test_where_the_reference_leads_the_nearest_is_behind_it_by_the_paired_difference(run):
    rows = summaries([run], "digits")
    rows.loc[rows["strategy"] == "random", "aubc_mean"] = 0.99
    others = rows[~rows["cheats"] & (rows["strategy"] != "random")]
    row = others.loc[others["aubc_mean"].idxmax()]
    low, high = (number(row[side], 4, True) for side in ("low", "high"))
    apart = f"{number(abs(row['difference']))} {'above' if row['difference'] > 0 else 'below'} random"
    text = words.finding(rows, "accuracy", 0.05)
    assert f"the nearest is {row['strategy']}, {apart} (95\u202f% interval {low} to {high}, 3 paired seeds, p " in text


def leads(curves, tmp_path, name="mine.csv"):
    """The summary's sentence on a table of {strategy: {seed: value}}, constant lines at 10 and 20 labels."""
    rows = [
        ("t", strategy, seed, stage, 10 * (stage + 1), "acc", value + 0.1 * stage)
        for strategy, values in curves.items()
        for seed, value in values.items()
        for stage in (0, 1)
    ]
    columns = ["task", "strategy", "seed", "stage", "labelled", "metric", "value"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / name, index=False)
    text = write([tmp_path / name], out=tmp_path / "report").with_name("report.md").read_text()
    return next(line for line in text.splitlines() if line.startswith("- **t**")), text


@pytest.mark.usefixtures("unsaved")
def test_the_leader_is_found_seed_by_seed_where_strategies_have_not_the_same_seeds(tmp_path):
    easy = {0: 0.9, 1: 0.5, 2: 0.52}
    better = {seed: value + 0.02 + 0.001 * seed for seed, value in easy.items()}
    said, text = leads({"random": easy, "lucky": {0: 0.88}, "good": better}, tmp_path)
    assert "seed by seed, good leads in the AUBC of acc, 0.0210 above random" in said
    assert "their mean AUBCs do not compare" in said
    assert "| **good** |" in text
    assert "bold: the best difference, seed by seed" in text
    said, text = leads({"random": easy, "lucky": {0: 0.88}}, tmp_path)
    assert "seed by seed, no strategy exceeds random in the AUBC of acc, the nearest is lucky, 0.0200 below" in said
    assert "| **random** |" in text
    said, _ = leads({"random": {7: 0.9}, "lucky": {0: 0.88}}, tmp_path)
    assert "no other strategy has a complete curve of the same seed as random yet." in said
    assert said.startswith("- **t**: ")  # nothing was tested, so none is "not better"
    said, _ = leads({"random": easy, "good": better}, tmp_path)
    assert "good has the highest mean AUBC of acc, 0.7110, which is 0.0210 above random" in said


@pytest.mark.usefixtures("unsaved")
def test_a_reference_without_a_whole_curve_is_not_called_flat(tmp_path):
    easy = {0: 0.9, 1: 0.5}
    leads({"random": easy, "a": easy, "b": easy}, tmp_path)
    table = pd.read_csv(tmp_path / "mine.csv")
    behind = (table["strategy"] == "random") & (table["stage"] == 1)
    table[~behind].to_csv(tmp_path / "mine.csv", index=False)
    text = write([tmp_path / "mine.csv"], out=tmp_path / "report").with_name("report.md").read_text()
    assert "random has no complete curve to compare with" in text
    assert "no leader can be named" in text
    assert "does not rise" not in text


@pytest.mark.usefixtures("unsaved")
def test_seeds_that_were_there_with_the_first_labels_bound_what_is_saved(tmp_path):
    slow = {seed: 0.5 + 0.001 * seed for seed in range(8)}
    said, text = leads({"random": slow, "a": {seed: value + 0.2 for seed, value in slow.items()}}, tmp_path)
    assert "a needs at least " in said
    assert "(8 of its 8 seeds were there with the first labels)" in said
    assert "≥ A strategy's seeds were at the target with their first labels" in text


@pytest.mark.usefixtures("unsaved")
def test_a_control_of_which_nothing_was_measured_is_missing(run):
    run.strategies["random-with-module"] = run.strategies["random"] | {"companion": "loss-prediction"}
    assert item(run, "Controls").state == "missing"
    assert "Nothing was measured yet of random-with-module." in item(run, "Controls").text
    assert words.unmeasured(run, summaries([run], "digits")) == "Nothing was measured yet of random-with-module."


def test_runs_side_by_side_are_each_said_for_themselves(make_run, tmp_path):
    long, short = make_run("long", seeds=2), make_run("short", stages=3, seeds=2)
    results = pd.read_csv(short / "results.csv")
    results.loc[results["metric"] == "accuracy", "value"] += 0.2
    results.to_csv(short / "results.csv", index=False)
    text = write([long, short], out=tmp_path / "both").with_name("report.md").read_text()
    said = next(line for line in text.splitlines() if line.startswith("- **digits**"))
    assert said.count("has the highest mean AUBC of accuracy") == 2
    assert "long: long/" in said
    assert "short: short/" in said
    assert "accuracy at the last labels (how many)" in text
    assert " (75) | 2 |" in text
    assert " (125) | 2 |" in text


def test_no_infinity_is_printed():
    ends = (-np.inf, -5.0, np.nan, 5.0, np.inf)
    for mean, low, high in [(m, a, b) for m in ends for a in ends for b in ends]:
        for text in (saving(mean, low, high), speed(np.exp(mean), np.exp(low), np.exp(high))):
            assert "inf" not in text
            assert "∞" not in text
    assert saving(np.nan, -np.inf, np.inf) == "no estimate"
    assert saving(-np.inf, -np.inf, np.inf) == "not reached"


def test_a_partial_run_says_how_far_it_compares_and_prices_whole_trials_alone(make_run):
    """entropy stopped after two stages of five with every seed, core-set with one."""
    short = [("digits", "entropy", seed) for seed in range(3)] + [("digits", "core-set", 1)]
    names = ("random", "entropy", "core-set")
    run = gather([make_run(strategies=names, short=short)])[0]
    rows = summaries([run], "digits")
    assert run.labels_planned("digits") == 125
    assert words.so_far(rows, 125) == ""
    assert rows.set_index("strategy")["seeds"].to_dict() == {"random": 3, "entropy": 0, "core-set": 2}
    whole = run.whole_costs("digits")
    assert set(zip(whole["strategy"], whole["seed"], strict=True)) == {
        *(("random", seed) for seed in range(3)),
        *(("core-set", seed) for seed in (0, 2)),
    }
    run.results = run.results[run.results["strategy"] != "core-set"]
    rows = summaries([run], "digits")
    assert words.so_far(rows, 125).startswith("Compared up to 50 of 125 labels")
    # two comparisons were planned, and the one that there is pays for both
    (row,) = rows[rows["strategy"] == "entropy"].to_dict("records")
    assert row["p_holm"] == min(1, 2 * row["p"])


@pytest.mark.usefixtures("unsaved")
def test_one_seed_is_not_described_as_a_spread(make_run):
    run = gather([make_run(seeds=1)])[0]
    assert item(run, "Seeds").text == "1 seed planned: nothing can be told from chance."
    assert words.over_seeds(curves(run.primary("digits"))) == "One seed."
    text = write([run.folder]).with_name("report.md").read_text()
    assert "1 seeds" not in text
    assert "the same seed; one seed has no interval." in text
    assert not re.search(r"band is its|with 95\u202f% intervals", text)


def test_very_many_strategies_are_rows_of_the_table_of_metrics(tmp_path):
    def of(count):
        names = [f"s{i}" for i in range(count)]
        rows = [(s, m, 50, 0.1 * k, 0.01) for s in names for k, m in enumerate(("nll", "ece"))]
        table = pd.DataFrame(rows, columns=["strategy", "metric", "labelled", "mean", "std"])
        return tables.other_metrics(
            table, "accuracy", {s: Look(s, "#000000", "o") for s in names}, Folder(tmp_path), "m"
        )

    (few,), (many,) = of(3), of(9)
    assert few.columns == ["metric", "s0", "s1", "s2"]
    assert many.columns == ["strategy", "nll", "ece"]
    assert many.rows[8] == ["s8", "0.000 ±\u00a00.010", "0.100 ±\u00a00.010"]


def test_equality_of_what_nobody_learned_is_no_equivalence(run):
    """All at one floor, and a reference whose own rise may be chance: neither is a headline "equivalent"."""
    own = run.results["metric"] == "accuracy"
    rng = np.random.default_rng(0)
    noise = 0.3 + rng.normal(0, 0.001, own.sum())
    for values, chip, said in (
        (0.0, "nothing learned", "All values are 0.0000: nothing was learned that strategies could differ in."),
        (noise, "no rise shown", "may be chance: it is not shown that anything was learned"),
    ):
        run.results.loc[own, "value"] = values
        rows = summaries([run], "digits")
        assert set(rows["verdict"].dropna()) - {""} == {"equivalent"}
        assert words.leading_verdict(rows) == chip
        assert said in words.verdicts(rows, 0.05)
        table = tables.summary_table(rows, {s: Look(s, "#000000", "o") for s in run.strategies}, "accuracy", 0.05, "x")
        assert set(table.marks.values()) == {"†"}
    run.results.loc[own, "value"] = 0.0
    rows = summaries([run], "digits")
    assert words.finding(rows, "accuracy", 0.05) == "all values of accuracy are 0.0000, so no strategy leads."
    run.results.loc[own, "value"] = 0.3 + 0.1 * run.results.loc[own, "stage"] + noise / 100
    rows = summaries([run], "digits")
    assert words.leading_verdict(rows) in ("equivalent", "none better")
    assert words.unlearned(rows) == ""


def test_code_that_is_in_doubt_says_why(run):
    def said(*commits):
        run.sessions = [{"git": {"commit": commit, "changed": changed}} for commit, changed in commits]
        (item,) = (item for item in checklist.checklist(run, [], []).items if item.name == "Code")
        return item.state, item.text

    assert said(("a" * 40, False), ("a" * 40, False)) == ("ok", f"albench at commit {'a' * 12}.")
    state, text = said(("a" * 40, False), ("b" * 40, True))
    assert state == "attention"
    assert "sessions ran different code" in text
    assert "local changes are in no commit" in text
