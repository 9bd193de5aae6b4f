"""A task that is scored by an error: its report names the lowest best, and no verdict is turned round."""

import json

import pandas as pd
import pytest

from albench import report


def error(folder):
    """The same run with every accuracy x told as the error 1 − x."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tasks"]["digits"] |= {"metric": "error", "higher_is_better": False}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    table = pd.read_csv(folder / "results.csv")
    own = table["metric"] == "accuracy"
    table.loc[own, "value"] = 1 - table["value"]
    table.loc[own, "metric"] = "error"
    table.to_csv(folder / "results.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    from tests.report.conftest import fabricate

    folder = tmp_path_factory.mktemp("runs")
    written = {}
    for name, make in (("accuracy", lambda run: run), ("error", error)):
        run = make(fabricate(folder / name, seeds=6, strategies=("random", "entropy", "core-set", "learning-loss")))
        report.write([run])
        written[name] = run / "report"
    return written


def tables(pages, stem):
    return [pd.read_csv(pages[name] / "tables" / f"{stem}.csv") for name in ("accuracy", "error")]


def test_verdicts_and_leaders_are_those_of_the_accuracy(pages):
    up, down = tables(pages, "summary-digits")
    assert "better" in set(up["verdict"])
    assert list(up["verdict"].fillna("")) == list(down["verdict"].fillna(""))
    best = up.loc[up["aubc_mean"].idxmax(), "strategy"]
    words = (pages["error"] / "report.md").read_text()
    assert f"{best} has the lowest mean AUBC of error" in words
    assert "Lower is better: error" in words
    assert "bold: the lowest mean AUBC" in words
    assert "Lower is better" not in (pages["accuracy"] / "report.md").read_text()


@pytest.mark.parametrize(
    ("stem", "columns"),
    [
        ("efficiency-labels-digits", ["pairs", "labels", "saved", "not_reached", "at_once", "told"]),
        ("below-digits", ["worse", "share"]),
        ("verdicts-accuracy", ["better", "worse", "probability_of_improvement"]),
        ("penalties-accuracy", ["random", "learning-loss"]),
    ],
)
def test_what_is_counted_is_equal(pages, stem, columns):
    files = [pages["accuracy"] / "tables" / f"{stem}.csv"]
    files.append(pages["error"] / "tables" / f"{stem.replace('-accuracy', '-error')}.csv")
    up, down = (pd.read_csv(file) for file in files)
    pd.testing.assert_frame_equal(up[columns], down[columns], atol=1e-6)
