"""The committed A/A run: what its README states is what its results say."""

import re
from pathlib import Path

import pytest

from albench.analysis.comparison import against_reference, budgets
from albench.analysis.tidy import read

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.fixture(scope="module")
def results():
    """random and random-b on digits, 20 seeds."""
    return read(REFERENCE / "a-a" / "results.csv")


def stated(what):
    """(rejected, tests) as the README has them."""
    found = re.search(rf"{what}: (\d+) of (\d+) rejected", (REFERENCE / "README.md").read_text(encoding="utf-8"))
    return int(found[1]), int(found[2])


def test_rejections_of_the_primary_test_are_those_stated(results):
    table = against_reference(results, "accuracy")
    assert (table["pairs"] == 20).all()
    assert ((table["p_holm"] < 0.05).sum(), len(table)) == stated("primary test")
    assert list(table["verdict"]) == ["undecided"]


def test_rejections_of_the_exploratory_tests_are_those_stated(results):
    whole = against_reference(results, "accuracy")[["wilcoxon", "sign_flip"]].to_numpy().ravel()
    single = budgets(results, "accuracy")
    single = single.loc[single["labelled"] > single["labelled"].min(), "p_holm"]  # the start is shared: no test
    p = [*whole, *single]
    assert (sum(value < 0.05 for value in p), len(p)) == stated("exploratory tests")
