"""`albench power` on run folders."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner

from albench.analysis.power import plan
from albench.cli import main
from albench.report.runs import read


def call(*args):
    return CliRunner().invoke(main, ["power", *map(str, args)])


def needed(folder, effect):
    run = read(folder, "x")
    plans = [plan(run.primary(t), run.tasks[t]["metric"], "random", effect, leave_out=run.cheats) for t in run.tasks]
    return max(int(table["seeds_needed"].max()) for table in plans)


def test_the_seeds_to_plan_and_the_command_that_runs_them(make_run):
    folder = make_run(tasks=("digits", "figures"), seeds=4)
    result = call(folder, "--effect", 0.02)
    assert result.exit_code == 0, result.output
    assert "digits: AUBC of accuracy against random" in result.output
    assert "figures: AUBC of PCK@0.2 against random" in result.output
    assert f"`albench run quick --out {folder} --seeds {needed(folder, 0.02)}` carries this run on" in result.output
    assert "true-loss" not in result.output  # it cheats, so it is no comparison of the family


def test_the_command_keeps_the_runs_own_options(make_run):
    folder = make_run(seeds=3)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    command = ["albench", "run", "my suite.toml", "--seeds", "3", "--out", "moved", "--data-root", "d", "--seeds=4"]
    manifest["sessions"][-1]["command"] = command
    path.write_text(json.dumps(manifest))
    output = call(folder, "--effect", 0.02).output
    assert f"`albench run 'my suite.toml' --data-root d --out {folder} --seeds " in output


PYTHON = ["python", "/there/albench/__main__.py"], ["python", "-m", "albench"], ["python3", "/venv/bin/albench"]


@pytest.mark.parametrize("program", [*PYTHON, ["/venv/bin/albench"]])
def test_however_albench_was_called_its_options_are_kept(recorded, program):
    folder = recorded([*program, "run", "quick", "--tasks", "digits", "--jobs", "2", "--seeds=2", "--out", "there"])
    output = call(folder, "--effect", 0.02).output
    assert f"`albench run quick --tasks digits --jobs 2 --out {folder} --seeds " in output


def test_a_run_that_grew_by_sessions_is_carried_on_as_a_whole(recorded):
    command = ["albench", "run", "quick", "--tasks=figures", "--strategies", "entropy", "--no-report"]
    folder = recorded(command, tasks=("digits", "figures"), strategies=("random", "entropy"))
    kept = "--tasks digits,figures --strategies random,entropy --no-report"
    assert f"`albench run quick {kept} --out {folder} --seeds " in call(folder).output


def test_no_command_is_made_up_for_a_run_that_another_program_made(recorded):
    output = call(recorded(["python", "mine.py", "run", "fast"]), "--effect", 0.02).output
    assert ": `python mine.py run fast`, with seeds = " in output
    assert "albench run" not in output


@pytest.fixture
def recorded(make_run):
    """`recorded(command, …)`: a run folder that says it was made by that command."""

    def make(command, **options):
        folder = make_run(**options)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["sessions"][-1]["command"] = command
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return make


def test_comparisons_without_a_spread_are_in_the_table_and_said_to_be_left_out_of_the_plan(make_run):
    folder = make_run(tasks=("digits", "figures"), seeds=4)
    keep_seeds(folder, {"learning-loss": 0, ("core-set", "digits"): 1})
    output = call(folder, "--effect", 0.02).output
    rows = [line.split("│")[1:3] for line in output.splitlines() if "learning-loss" in line and "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [["learning-loss", "0"]] * 2
    assert "in 80% of cases, by what is known of entropy and core-set (figures): `albench run" in output
    assert "Of core-set (digits) and learning-loss no spread is known yet: with two seeds of each" in output
    assert "no spread is known" not in call(make_run("whole", seeds=4)).output


def test_where_no_comparison_that_counts_has_a_spread_there_is_no_plan(make_run):
    folder = make_run(tasks=("digits", "figures"), strategies=("random", "entropy"), seeds=3)
    keep_seeds(folder, {("entropy", "figures"): 1})
    table = pd.read_csv(folder / "results.csv")
    table.loc[table["metric"] == "accuracy", "value"] = 0.5
    table.to_csv(folder / "results.csv", index=False)
    result = call(folder)
    assert result.exit_code == 0, result.output
    assert "digits: All values are 0.5000: nothing was learned" in result.output
    assert "Of entropy no spread is known yet" in result.output
    assert "Plan " not in result.output
    assert "enough" not in result.output


def test_a_task_that_has_not_begun_does_not_hide_the_others_plan(make_run):
    folder = make_run(tasks=("digits", "figures"), seeds=4)
    table = pd.read_csv(folder / "results.csv")
    table[table["task"] == "digits"].to_csv(folder / "results.csv", index=False)
    output = call(folder, "--effect", 0.02).output
    assert "figures: random has no results yet" in output
    assert "Plan " in output


def test_seeds_may_mend_a_rise_that_is_not_shown(make_run):
    folder = make_run(seeds=3)
    table = pd.read_csv(folder / "results.csv")
    first = (table["metric"] == "accuracy") & (table["stage"] == 0)
    table.loc[first, "value"] = 0.4 + 0.3 * (table.loc[first, "seed"] - 1)
    table.to_csv(folder / "results.csv", index=False)
    output = call(folder, "--effect", 0.02).output
    assert "may be chance: it is not shown" in output
    assert "Seeds do not mend that" not in output
    assert "More seeds may show it" in output
    assert "Plan " in output


def keep_seeds(folder, kept):
    """Of a strategy, or of (strategy, task), only so many seeds have results."""
    table = pd.read_csv(folder / "results.csv")
    for who, seeds in kept.items():
        strategy, task = who if isinstance(who, tuple) else (who, None)
        own = (table["strategy"] == strategy) & ((table["task"] == task) | (task is None))
        table = table[~(own & (table["seed"] >= seeds))]
    table.to_csv(folder / "results.csv", index=False)


def test_seeds_of_two_devices_are_used_together_only_when_told(make_run, two_devices):
    folder = make_run(seeds=4)
    two_devices(folder)
    refused = call(folder)
    assert refused.exit_code == 2
    assert "--mixed-devices" in refused.stderr
    assert call(folder, "--mixed-devices").exit_code == 0


def test_enough_is_said_to_be_enough_and_too_little_too_little(make_run):
    folder = make_run(seeds=4)
    assert "4 seeds are enough" in call(folder, "--effect", 0.5).output
    assert "More than 1,000 seeds" in call(folder, "--effect", 0.00001).output


def test_a_detectable_difference_beyond_what_a_share_can_have_is_said_in_words(make_run):
    folder = make_run(seeds=2)
    table = pd.read_csv(folder / "results.csv")
    wild = (table["metric"] == "accuracy") & (table["strategy"] == "entropy")
    table.loc[wild, "value"] = 0.1 + 0.8 * (table["seed"] % 2)
    table.to_csv(folder / "results.csv", index=False)
    run = read(folder, "x")
    assert plan(run.primary("digits"), "accuracy", "random")["detectable"].max() > 1  # the number is kept
    result = call(folder)
    row = next(line for line in result.output.splitlines() if "entropy" in line)
    assert "more than any" in row
    assert "“more than any difference” (digits): what these seeds find in 80% of cases is larger" in result.output
    assert "with 2 seeds not even the largest possible one is." in result.output
    table.loc[table["metric"] == "accuracy", "value"] *= 100  # per cents, say: what they can differ by is not known
    table.to_csv(folder / "results.csv", index=False)
    assert "more than any" not in call(folder).output
    assert "more than any" not in call(make_run("calm", seeds=4)).output


def test_no_possible_difference_is_said_of_those_tasks_alone_of_which_it_is_true(tmp_path):
    rows = ["task,strategy,seed,stage,labelled,metric,value"]
    for task, metric, values in (
        ("share", "acc", {"random": (0.2, 0.8, 0.7, 0.3), "x": (0.4, 0.9, 0.2, 0.4)}),
        ("loss", "nll", {"random": (4.6, 3.6, 5.3, 3.9), "x": (5.2, 3.6, 5.0, 4.2)}),
    ):
        for strategy, own in values.items():
            rows += [f"{task},{strategy},{i // 2},{i % 2},{10 + i % 2},{metric},{v}" for i, v in enumerate(own)]
    csv = tmp_path / "two.csv"
    csv.write_text("\n".join(rows))
    output = call(csv, "--lower", "nll").output
    detectable = plan(pd.read_csv(csv).query("task == 'loss'"), "nll")["detectable"].max()
    said = f"with 2 seeds one of {detectable:.3g} is on loss, on share not even the largest possible one is."
    assert said in output
    assert "with 2 seeds not even the largest possible one is." in call(csv, "--tasks", "share").output
    assert f"with 2 seeds one of {detectable:.3g} is." in call(csv, "--tasks", "loss").output


def test_names_are_printed_as_they_are_and_not_read_as_markup(make_run, tmp_path):
    table = pd.read_csv(make_run(seeds=4) / "results.csv").query("metric == 'accuracy' and task == 'digits'")
    names = {"entropy": "a[/b]", "core-set": "[bold]c", "learning-loss": "d:x:"}
    csv = tmp_path / "marked.csv"
    table.replace({"strategy": names, "task": {"digits": "t[x]:x:"}}).to_csv(csv, index=False)
    result = call(csv)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("t[x]:x:: AUBC of accuracy against random\n")
    strategies = [line.split("│")[1].strip() for line in result.output.splitlines() if line.startswith("│")]
    assert {"a[/b]", "[bold]c", "d:x:"} <= set(strategies)


def test_a_task_on_which_nothing_was_learned_is_not_said_to_have_seeds_enough(make_run):
    folder = make_run(seeds=4)
    table = pd.read_csv(folder / "results.csv")
    table.loc[table["metric"] == "accuracy", "value"] = 0.0
    table.to_csv(folder / "results.csv", index=False)
    output = " ".join(call(folder).output.split())
    assert "digits: All values are 0.0000: nothing was learned that strategies could differ in." in output
    assert "seeds are enough" not in output


def test_the_suites_effect_is_the_default_and_tasks_can_be_chosen(make_run):
    folder = make_run(tasks=("digits", "figures"), primary={"reference": "random", "effect": 0.25})
    result = call(folder, "--tasks", "figures")
    assert "difference of 0.25" in result.output
    assert "digits" not in result.output


def test_seeds_added_later_are_flagged(make_run):
    folder = make_run(seeds=5)
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"planned_seeds": 3}))
    assert "3 seeds were planned and 2 added later" in call(folder).output
    assert "added later" not in call(make_run("other", seeds=5)).output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--effect", "0"), "effect = 0"),
        (("--effect", "-1"), "effect = -1"),
        (("--power", "1.5"), "power = 1.5"),
        (("--effect", "inf"), "effect = inf"),
        (("--alpha", "0"), "alpha = 0"),
        (("--tasks", "digit"), "Did you mean 'digits'?"),
    ],
)
def test_wrong_options_are_one_line(make_run, options, said):
    result = call(make_run(), *options)
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_one_seed_no_reference_or_no_run_is_one_line(make_run, tmp_path):
    alone = make_run("alone", strategies=("entropy", "core-set"))
    for folder, said in (
        (make_run("one", seeds=1), "no spread to plan from"),
        (alone, "'random'"),
        (tmp_path / "none", "no manifest.json"),
    ):
        result = call(folder)
        assert result.exit_code == 2
        assert said in result.output
        assert len(result.output.strip().splitlines()) == 1
