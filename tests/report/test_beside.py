"""A report that holds measured curves beside published ones."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from albench.report import write
from albench.suite import read as read_suite
from albench.suite import resolve

pytestmark = pytest.mark.usefixtures("unsaved")


@pytest.fixture
def published(tmp_path):
    """`published(**curves)` writes a CSV: strategy → values at 25, 50, … labels."""

    def build(metric="accuracy", **curves):
        rows = [
            ("theirs", metric, strategy, 25 * (stage + 1), value, "figure", 0.002)
            for strategy, values in curves.items()
            for stage, value in enumerate(values)
        ]
        columns = ["task", "metric", "strategy", "labelled", "value", "reading", "uncertainty"]
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "theirs.csv", index=False)
        return str(tmp_path / "theirs.csv")

    return build


def naming(run, file, measured="accuracy", **more):
    """The run, its digits task naming published curves as the engine resolves them."""
    source = {"file": file, "task": "theirs", "metric": "accuracy", "measured": measured} | more
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["suite"]["tasks"]["digits"]["published"] = source
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def read(run):
    write([run])
    report = run / "report"
    return report, (report / "report.md").read_text(encoding="utf-8")


def test_published_curves_stand_dashed_in_the_curve_and_their_order_is_judged(make_run, published):
    file = published(random=[0.1, 0.2, 0.3, 0.4, 0.5], entropy=[0.2, 0.3, 0.4, 0.5, 0.6])
    report, text = read(naming(make_run(), file))
    assert "Dashed: published (theirs)" in text
    assert "Is the published order found here, too? (whether it is the same experiment is not known)" in text
    assert "Not known, as the suite names no protocol to compare with." in text
    order = pd.read_csv(report / "tables" / "published-order-digits.csv")
    assert order[["above", "below", "claim"]].values.tolist() == [["entropy", "random", "above"]]
    apart = pd.read_csv(report / "tables" / "published-difference-digits.csv")
    assert sorted(set(apart["strategy"])) == ["entropy", "random"]
    assert apart["labelled"].nunique() == 5
    curve = pd.read_csv(report / "tables" / "curve-digits.csv").set_index(["strategy", "labelled"])["mean"]
    first = apart.iloc[0]
    measured = curve[first["strategy"], first["labelled"]]
    assert first["difference"] == pytest.approx(measured - first["published"], abs=1e-5)


TWO = ("random", "learning-loss")


def following(run, changes=()):
    """A run of `digits` as one of the protocol ll4al-cifar10, but for `changes` (of the manifest's suite)."""
    suite = resolve(read_suite("ll4al-cifar10")).model_dump(mode="json")
    manifest = json.loads((run / "manifest.json").read_text())
    entry = suite["tasks"]["cifar10"]
    manifest["suite"] |= {key: suite[key] for key in ("stages", "warm_start", "numerics")}
    manifest["suite"]["strategies"] = {name: suite["strategies"][name] for name in TWO}
    manifest["suite"]["tasks"]["digits"] = entry | {"budget": 1000}
    manifest["suite"]["numerics"]["precision"] = "fp32"
    for path, value in changes:
        table = manifest["suite"]
        *above, last = path.split(".")
        for key in above:
            table = table[key]
        table[last] = value
    (run / "manifest.json").write_text(json.dumps(manifest))
    results = pd.read_csv(run / "results.csv")
    results["labelled"] *= 40
    results.to_csv(run / "results.csv", index=False)
    source = {"task": "cifar10", "protocol": "ll4al-cifar10", "protocol_task": "cifar10"}
    return naming(run, "ll4al", **source)


FEWER = ("seeds", 3)
OPEN = ("tasks.digits.params.pad", 4)
FASTER = ("numerics.precision", "bf16")
SHORTER = [("tasks.digits.recipe.epochs", 40), ("stages", 5)]


@pytest.mark.parametrize(
    ("changes", "heading", "note"),
    [
        (
            [FEWER, OPEN, FASTER],
            r"Was the published order reproduced\? \d reproduced, \d contradicted, \d undecided",
            "",
        ),
        (
            [FEWER, OPEN, FASTER, *SHORTER],
            r"Is the published order found here, too\? \(the same protocol at another length: 5 settings differ, "
            r"below\) agrees: \d, disagrees: \d, undecided: \d",
            "This is the same protocol at another length (recipe.epochs: 200 → 40; stages: 10 → 5): the table says",
        ),
        (
            [FEWER, *SHORTER, ("tasks.digits.params.width", 4)],
            r"Is the published order found here, too\? \(another experiment: 4 settings differ, below\) "
            r"agrees: \d, disagrees: \d, undecided: \d",
            "This is another experiment (params.width: 64 → 4; recipe.epochs: 200 → 40; stages: 10 → 5): the table",
        ),
    ],
)
def test_only_the_published_experiment_reproduces_or_contradicts_its_order(make_run, changes, heading, note):
    report, text = read(following(make_run(strategies=TWO), changes))
    (line,) = [line.removeprefix("### ") for line in text.splitlines() if "published order" in line and line[0] == "#"]
    assert re.fullmatch(heading, line)
    assert note in text.replace("\\", "")
    verdicts = set(pd.read_csv(report / "tables" / "published-order-digits.csv")["verdict"])
    assert verdicts <= ({"agrees", "disagrees", "undecided"} if note else {"reproduced", "contradicted", "undecided"})
    page = (report / "index.html").read_text(encoding="utf-8")
    assert not note or not re.search("is (reproduced|contradicted)|[0-9] contradicted", text + page)


def test_the_published_order_of_what_was_not_learned_is_not_judged(make_run):
    run = following(make_run(strategies=TWO))
    results = pd.read_csv(run / "results.csv")
    own = results["metric"] == "accuracy"
    rng = np.random.default_rng(0)
    results.loc[own, "value"] = 0.1 + rng.normal(0, 1e-3, own.sum())
    results.to_csv(run / "results.csv", index=False)
    report, text = read(run)
    assert "The published order is not judged: it is not shown that random learned anything" in text
    assert "From the first to the last labels no rise of random is shown" in text
    assert set(pd.read_csv(report / "tables" / "published-order-digits.csv")["verdict"]) == {"not judged"}


def test_published_ranking_accuracies_stand_beside_the_measured_ones(make_run, published):
    file = published(random=[0.1, 0.2], entropy=[0.2, 0.3])
    _, text = read(naming(make_run(), file, ranking={"learning-loss": 0.9074, "random": 0.5}))
    (line,) = [line for line in text.splitlines() if line.startswith("Published ranking accuracy")]
    assert re.fullmatch(r"Published ranking accuracy: learning-loss \.?0?\.9074, here 0?\.\d{4} at 125 labels\.", line)


def test_another_metric_has_a_figure_of_its_own(make_run, published):
    file = published(random=[0.1, 0.2], entropy=[0.2, 0.3])
    report, text = read(naming(make_run(), file, measured="objective"))
    assert (report / "figures" / "published-digits.png").is_file()
    assert "Dashed: published" not in text


def test_no_shared_number_of_labels_is_said(make_run, published, tmp_path):
    table = pd.read_csv(published(random=[0.1, 0.2]))
    table.assign(labelled=table["labelled"] + 7).to_csv(tmp_path / "theirs.csv", index=False)
    _, text = read(naming(make_run(), str(tmp_path / "theirs.csv")))
    assert "No number of labels was both measured and published" in text


def test_a_metric_that_nobody_measured_is_named(make_run, published):
    _, text = read(naming(make_run(), published(random=[0.1, 0.2]), measured="acuracy"))
    assert "The metric acuracy, which would stand beside the published one, was not measured; there are: acc" in text
    assert "No number of labels" not in text


def test_a_file_that_is_gone_is_said_and_the_report_is_whole(make_run):
    _, text = read(naming(make_run(), "/nowhere/theirs.csv"))
    assert "cannot be shown" in text
    assert "/nowhere/theirs.csv" in text
    assert "Comparison with the reference" in text


def test_two_runs_keep_their_published_curves(make_run, published):
    file = published(random=[0.1, 0.2, 0.3], entropy=[0.2, 0.3, 0.4])
    runs = [naming(make_run(name), file) for name in ("one", "two")]
    write(runs, out=runs[0].parent / "both")
    order = pd.read_csv(runs[0].parent / "both" / "tables" / "published-order-digits-one.csv")
    assert order[["above", "below"]].values.tolist() == [["one/entropy", "one/random"]]


def test_departures_from_the_protocol_are_listed(make_run):
    source = {"task": "cifar10", "protocol": "ll4al-cifar10", "protocol_task": "cifar10"}
    _, text = read(naming(make_run(), "ll4al", **source))
    assert "Departures from the published protocol (ll4al-cifar10)" in text
    assert re.search(r"digits differs from ll4al-cifar10 in \d+ settings\. They are listed", text)
    assert "stages: 10 → 5" in text


def test_what_the_protocol_itself_leaves_open_is_listed_with_both_values(make_run):
    source = {"task": "cifar10", "protocol": "ll4al-cifar10", "protocol_task": "cifar10"}
    run = naming(make_run(), "ll4al", **source)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["suite"]["tasks"]["digits"]["params"] = {"pad": 1}
    (run / "manifest.json").write_text(json.dumps(manifest))
    report, text = read(run)
    assert "What the publication leaves open (ll4al-cifar10 has its likeliest value)" in text
    lines = [line.replace("\\", "").split("|") for line in text.splitlines()]
    rows = {cells[1].strip(): cells[2].strip() for cells in lines if len(cells) == 5}
    assert rows["params.pad"] == "2 → 1"
    assert rows["warm_start"].startswith("False")
    assert rows["strategies.entropy"] == ""
    assert rows["strategies.core-set.params.whole_pool"] == "False → not here"
    assert "every public code has 4" in text
    assert "every public code has 4" in (report / "index.html").read_text(encoding="utf-8")
