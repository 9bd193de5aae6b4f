"""A report and a plan from a CSV that albench did not make."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from albench import analysis
from albench.cli import main

GAINS = {"uniform": 0.0, "mine": 0.03, "theirs": 0.001}
COLUMNS = ["task", "strategy", "seed", "stage", "labelled", "metric", "value"]


def tidy(metric="nll", sign=-1, tasks=("reviews",)):
    """Falling errors of seeds 1 to 6, whose stages are numbered from 1."""
    rng, rows = np.random.default_rng(0), []
    for task in tasks:
        for seed in range(1, 7):
            of_seed = rng.normal(0, 0.02)
            for strategy, gain in GAINS.items():
                for stage, labelled in enumerate((100, 200, 400, 800), 1):
                    value = 0.3 + 0.15 * stage + gain + of_seed + rng.normal(0, 0.006)
                    rows.append((task, strategy, seed, stage, labelled, metric, sign * value + (sign < 0)))
    return pd.DataFrame(rows, columns=COLUMNS)


def albench(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def reported(csv, *arguments):
    """The words of `albench report` on a table, which ends well and beside it."""
    done = albench("report", csv, *arguments)
    assert done.exit_code == 0, done.output
    return (csv.parent / "other" / "report" / "report.md").read_text()


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "other.csv"
    tidy().to_csv(path, index=False)
    return path


def test_a_table_is_reported_with_what_it_says_and_no_more(csv):
    done = albench("report", csv, "--reference", "uniform", "--lower-is-better", "--effect", "0.01")
    assert done.exit_code == 0, done.output
    folder = csv.parent / "other" / "report"
    assert str(folder / "index.html") in done.stdout
    words = (folder / "report.md").read_text()
    assert "From a CSV (other.csv): nothing about how it was made is known to albench." in words
    assert "holds 3 strategies (uniform, mine and theirs) on 1 task (reviews): 18 curves of up to 4 stages" in words
    assert "mine has the lowest mean AUBC of nll" in words
    assert "better: mine" in words
    assert "smaller than ±0.01" in words
    for claim in (
        "share the initial labelled set",
        "set before the run",
        "albench run",
        "random",
        "pictures of",
        "torch",
    ):
        assert claim not in words, claim
    saved = pd.read_csv(folder / "tables" / "summary-reviews.csv").set_index("strategy")
    own = analysis.against_reference(analysis.read(csv), "nll", "uniform", effect=0.01, higher_is_better=False)
    assert saved["verdict"].dropna().to_dict() == own.set_index("strategy")["verdict"].to_dict()


def test_short_curves_and_per_cents_are_said(tmp_path):
    path = tmp_path / "per.cent.csv"
    table = tidy("accuracy", 1).assign(value=lambda rows: 100 * rows["value"])
    table[~((table["strategy"] == "mine") & (table["seed"] == 6) & (table["labelled"] == 800))].to_csv(
        path, index=False
    )
    done = albench("report", path, "--reference", "uniform", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    words = (tmp_path / "out" / "report.md").read_text()
    assert "1 curve not whole" in words
    assert "half a point is an effect of 0.5" in words


def test_few_seeds_of_a_table_are_said(tmp_path):
    def asked(seeds):
        path = tmp_path / f"{seeds}.csv"
        tidy()[lambda rows: rows["seed"] <= seeds].to_csv(path, index=False)
        done = albench("report", path, "--reference", "uniform", "--out", tmp_path / str(seeds))
        assert done.exit_code == 0, done.output
        return (tmp_path / str(seeds) / "report.md").read_text()

    assert "3 seeds at most: few. Only very large differences" in asked(3)
    assert "1 seed at most: nothing can be told from chance." in asked(1)
    assert "at most:" not in asked(6)


def test_a_table_beside_a_run_keeps_to_itself(csv, make_run):
    tidy("accuracy", 1, tasks=("digits",)).to_csv(csv, index=False)
    run = make_run(seeds=2)
    done = albench("report", run, csv, "--reference", "uniform", "--out", csv.parent / "out")
    assert done.exit_code == 0, done.output
    words = (csv.parent / "out" / "report.md").read_text()
    assert "## other.csv/digits" in words
    assert "From a CSV (other.csv)" in words
    assert "Share of pairs" in words or "share of pairs" in words  # the run's own diagnoses stay


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t, [], "no strategy 'random' to compare with; name one of its own with --reference"),
        (lambda t: t, ["--reference", "unifrom"], "Did you mean 'uniform'"),
        (lambda t: t, ["--metric", "nl", "--reference", "uniform"], "reviews has no metric 'nl'. Did you mean 'nll'"),
        (lambda t: t, ["--effect", "-1", "--reference", "uniform"], "cannot be negative"),
        (lambda t: t, ["--effect", "nan", "--reference", "uniform"], "--effect nan: the smallest effect of interest"),
        (
            lambda t: pd.concat([t, t.assign(metric="f1")]),
            ["--reference", "uniform"],
            "name one with --metric: nll, f1",
        ),
        (lambda t: t.iloc[:0], [], "holds no measurements"),
        (lambda t: t.drop(columns="seed"), [], "no column seed"),
    ],
)
def test_what_a_table_lacks_is_one_line(csv, change, options, message):
    change(tidy()).to_csv(csv, index=False)
    done = albench("report", csv, *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_options_of_tables_are_for_tables(csv, make_run):
    run = make_run(seeds=2)
    assert "a run folder says its own" in albench("report", run, "--reference", "entropy").stderr
    assert "--pool is for run folders" in albench("report", run, csv, "--pool", "--reference", "uniform").stderr


def test_seeds_are_planned_from_a_table(csv):
    done = albench("power", csv, "--reference", "uniform", "--lower-is-better", "--effect", "0.005")
    assert done.exit_code == 0, done.output
    assert "Plan " in done.stdout
    assert "albench run" not in done.stdout
    assert "may be chance" not in done.stdout  # the error fell, which is a rise
    needed = analysis.plan(analysis.read(csv), "nll", "uniform", effect=0.005)["seeds_needed"].max()
    assert f"Plan {needed:.0f} seeds" in done.stdout


def test_albenchs_own_results_need_no_metric_named(make_run):
    folder = make_run(seeds=2)
    done = albench("report", folder / "results.csv", "--out", folder / "again")
    assert done.exit_code == 0, done.output
    metrics = json.loads((folder / "manifest.json").read_text())["tasks"]["digits"]["metric"]
    assert f"highest mean AUBC of {metrics}" in (folder / "again" / "report.md").read_text()


@pytest.mark.usefixtures("unsaved")
def test_strategies_may_be_called_like_columns(csv):
    names = {"uniform": "seed", "mine": "labelled", "theirs": "value"}
    tidy("accuracy", 1).replace({"strategy": names}).to_csv(csv, index=False)
    assert "better: labelled" in reported(csv, "--reference", "seed")


def split(table, column, kinds=("A100", "H100")):
    """Seeds up to 3 are of the one kind, the others of the other."""
    return table.assign(**{column: np.where(table["seed"] < 4, *kinds)})


@pytest.mark.usefixtures("unsaved")
@pytest.mark.parametrize("column", ["device", "gpu"], ids="column-{}".format)
def test_devices_are_mixed_when_told_and_the_report_says_so(csv, column):
    split(tidy("accuracy", 1), column).to_csv(csv, index=False)
    refused = albench("report", csv, "--reference", "uniform")
    assert refused.exit_code == 2
    assert f"column {column}: accuracy of reviews mixes 'A100' (uniform, seed 1) and 'H100'" in refused.stderr
    assert "--mixed-devices" in refused.stderr
    assert "mixed=True" not in refused.stderr
    words = reported(csv, "--reference", "uniform", "--mixed-devices")
    assert "known to albench. other.csv: trials ran on A100 and H100, and the device alone can change a" in words
    assert "Device: Trials ran on A100 and H100" in words


@pytest.mark.usefixtures("unsaved")
def test_a_table_of_one_device_is_not_said_to_mix(csv):
    both = pd.concat([tidy("accuracy", 1).assign(gpu="A100"), tidy("accuracy", 1, tasks=["u"]).assign(gpu="H100")])
    both.to_csv(csv, index=False)
    assert "ran on" not in reported(csv, "--reference", "uniform")


A, CPU, H = ("cuda", "A100"), ("cpu", None), ("cuda", "H100")


@pytest.mark.usefixtures("unsaved")
@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ((A, H), "A100 and H100"),
        ((A, CPU), "A100 and cpu"),
        ((A, ("cpu", "A100")), "A100 (cuda) and A100 (cpu)"),
    ],
)
def test_the_devices_that_a_task_mixes_are_each_named_once_and_no_others(csv, kinds, said):
    mixed, alone = tidy("accuracy", 1), tidy("accuracy", 1, tasks=["u"])
    for position, column in enumerate(("device", "gpu")):
        mixed[column] = [kinds[seed > 3][position] for seed in mixed["seed"]]
    pd.concat([alone.assign(device="cuda", gpu="T4"), mixed]).to_csv(csv, index=False)
    words = reported(csv, "--reference", "uniform", "--mixed-devices")
    assert f"other.csv: trials ran on {said}, and the device alone" in words


@pytest.mark.parametrize("command", ["report", "power"])
def test_mixed_devices_do_not_allow_mixed_suites(csv, command):
    split(tidy("accuracy", 1), "suite", ("pilot", "main")).to_csv(csv, index=False)
    refused = albench(command, csv, "--reference", "uniform", "--mixed-devices")
    assert refused.exit_code == 2
    assert "column suite: accuracy of reviews mixes 'pilot' (uniform, seed 1) and 'main'" in refused.stderr
    assert "put the rows of each suite into a file of its own" in refused.stderr


@pytest.fixture
def two_directions(csv):
    """A share that rises, with a second metric, and an error that falls; mine is best in both."""
    share = tidy("accuracy", 1, tasks=["cls"])
    tables = [share, share.assign(metric="f1"), tidy("rmse", tasks=["reg"]), tidy("mae", tasks=["reg"])]
    pd.concat(tables).to_csv(csv, index=False)
    return csv


@pytest.mark.usefixtures("unsaved")
def test_metric_and_direction_may_be_said_of_one_task(two_directions):
    said = ["--reference", "uniform", "--metric", "cls=accuracy", "--metric", "reg=rmse", "--lower", "rmse"]
    done = albench("report", two_directions, *said)
    assert done.exit_code == 0, done.output
    folder = two_directions.parent / "other" / "report"
    words = (folder / "report.md").read_text()
    assert "mine has the highest mean AUBC of accuracy" in words
    assert "mine has the lowest mean AUBC of rmse" in words
    assert "accuracy; higher is better, as albench was told" in words
    assert "rmse; lower is better, as albench was told" in words
    for task in ("cls", "reg"):
        saved = pd.read_csv(folder / "tables" / f"summary-{task}.csv").set_index("strategy")
        assert saved.loc["mine", "verdict"] == "better"
    assert albench("power", two_directions, *said).exit_code == 0


@pytest.mark.usefixtures("unsaved")
def test_what_is_said_of_a_task_goes_before_what_is_said_of_all(two_directions):
    table = pd.read_csv(two_directions).replace({"metric": {"mae": "f1"}})
    table.to_csv(two_directions, index=False)
    words = reported(two_directions, "--reference", "uniform", "--metric", "f1", "--metric", "reg=rmse")
    assert "mean AUBC of f1" in words
    assert "mean AUBC of rmse" in words


@pytest.mark.usefixtures("unsaved")
def test_a_task_may_be_in_another_table_and_names_may_hold_an_equals_sign(tmp_path):
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    share = tidy("ap@iou=0.5", 1, tasks=["cls"])
    pd.concat([share, share.assign(metric="ap")]).to_csv(a, index=False)
    pd.concat([tidy(metric, tasks=["reg", "reg=2"]) for metric in ("rmse", "mae")]).to_csv(b, index=False)
    metrics = ["--metric", "ap@iou=0.5", "--metric", "reg=rmse", "--metric", "reg=2=mae"]
    said = [*metrics, "--lower", "mae", "--lower", "rmse", "--out", tmp_path / "out"]
    done = albench("report", a, b, "--reference", "uniform", *said)
    assert done.exit_code == 0, done.output
    words = (tmp_path / "out" / "report.md").read_text()
    assert "highest mean AUBC of AP@iou=0.5" in words
    assert "lowest mean AUBC of rmse" in words
    assert "lowest mean AUBC of mae" in words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "cls=f1", "--metric", "rge=rmse"], "with --metric: rmse, mae (rge=rmse names no task here)"),
        (["--metric", "cls=f1", "--metric", "reg=rsme"], "reg has no metric 'rsme'. Did you mean 'rmse'"),
        (
            ["--metric", "cls=f1", "--metric", "reg=mae", "--metric", "cls=accuracy"],
            "--metric cls=f1 and --metric cls=accuracy: a task is compared by one metric; name one",
        ),
        (["--metric", "f1", "--metric", "rmse"], "--metric f1 and --metric rmse: of one task's alone say"),
        (
            ["--metric", "cls=f1", "--metric", "reg=mae", "--metric", "rge=rmse"],
            "--metric rge=rmse: there is no task 'rge'. Did you mean 'reg'? There are: cls, reg",
        ),
        (
            ["--metric", "cls=f1", "--metric", "reg=mae", "--lower", "rmse"],
            "--lower rmse: no task is compared by a metric of that name",
        ),
    ],
)
def test_an_unknown_task_or_metric_is_one_line(two_directions, options, message):
    done = albench("report", two_directions, "--reference", "uniform", *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_task_without_a_finite_value_is_one_sentence(csv):
    """NaN and infinity are allowed; the other task and the other metric are reported."""
    rows = tidy("accuracy", 1, tasks=("reviews", "letters"))
    broken = rows["task"] == "letters"
    other = rows[broken].assign(metric="f1")
    broken_rows = rows["value"].mask(broken, np.nan).mask(broken & (rows["seed"] == 2), np.inf)
    pd.concat([rows.assign(value=broken_rows), other]).to_csv(csv, index=False)
    words = reported(csv, "--reference", "uniform", "--metric", "accuracy")
    assert "mine has the highest mean AUBC of accuracy" in words
    of_task = words.split("\n## letters\n")[1].split("\n## ")[0]
    assert "No finite value of accuracy was measured on this task: there is nothing to compare." in of_task
    assert "f1" in of_task
    assert "![Learning curves" not in of_task


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reference_without_a_finite_value_is_said(csv, value):
    rows = tidy("accuracy", 1)
    rows.assign(value=rows["value"].mask(rows["strategy"] == "uniform", value)).to_csv(csv, index=False)
    words = reported(csv, "--reference", "uniform")
    assert "uniform has no complete curve to compare with" in words
    assert "24 values not finite" in words
