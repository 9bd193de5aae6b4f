"""Measured beside published: differences with the reading's uncertainty, the published order, departures."""

import numpy as np
import pandas as pd
import pytest

from albench.analysis.curves import aubc, t_interval
from albench.analysis.published import (
    Published,
    against_published,
    bundled,
    curves_for,
    of,
    protocol_differences,
    published_order,
    read,
)
from albench.errors import AlbenchError

HEADER = "task,metric,strategy,labelled,value,reading,uncertainty\n"
LABELS = [10, 20, 40]


def published(curves, uncertainty=0.0):
    rows = [
        ("t", "m", strategy, labelled, value, "figure", uncertainty)
        for strategy, values in curves.items()
        for labelled, value in zip(LABELS, values, strict=False)
    ]
    return pd.DataFrame(rows, columns=HEADER.strip().split(","))


def tidy(curves, labels=LABELS):
    """curves: strategy → list of curves, one a seed."""
    rows = [
        ("mine", strategy, seed, stage, labelled, "m", value)
        for strategy, seeds in curves.items()
        for seed, values in enumerate(seeds)
        for stage, (labelled, value) in enumerate(zip(labels, values, strict=True))
    ]
    return pd.DataFrame(rows, columns=["task", "strategy", "seed", "stage", "labelled", "metric", "value"])


def source(**changes):
    return Published(file="x", task="t", metric="m", measured="m", **changes)


def test_the_papers_numbers_come_with_albench():
    table = read("ll4al")
    assert "ll4al" in bundled()
    last = table[table["labelled"] == 10_000].set_index(["task", "strategy"])["value"]
    assert last["cifar10", "learning-loss"] == 0.9101
    assert (table.groupby(["task", "strategy"])["labelled"].count() == 10).all()


def test_a_difference_has_the_seeds_interval_widened_by_the_readings_uncertainty():
    results = tidy({"random": [[0.5, 0.6, 0.7], [0.52, 0.6, 0.7], [0.54, 0.6, 0.7]]})
    table = against_published(results, published({"random": [0.5, 0.61, 0.7]}, 0.003), source(), effect=0.005)
    low, high = t_interval(np.array([0.5, 0.52, 0.54]))
    first = table.iloc[0]
    assert first["difference"] == pytest.approx(0.02)
    assert first["low"] == pytest.approx(low - 0.5 - 0.003)
    assert first["high"] == pytest.approx(high - 0.5 + 0.003)
    assert table["n"].tolist() == [3, 3, 3]
    assert table["verdict"].tolist() == ["undecided", "lower", "equivalent"]


def test_one_seed_has_a_difference_and_no_verdict():
    table = against_published(tidy({"random": [[0.9, 0.9, 0.9]]}), published({"random": [0.5, 0.5, 0.5]}), source())
    assert table["difference"].tolist() == pytest.approx([0.4] * 3)
    assert table["low"].isna().all()
    assert set(table["verdict"]) == {"undecided"}


def test_only_shared_labels_and_mapped_strategies_are_held_side_by_side():
    results = tidy({"mine-random": [[0.1, 0.2]], "other": [[0.1, 0.2]]}, labels=[20, 30])
    theirs = published({"random": [0.5, 0.6, 0.7]})
    table = against_published(results, theirs, source(strategies={"mine-random": "random"}))
    assert table[["strategy", "labelled", "published"]].values.tolist() == [["mine-random", 20, 0.6]]
    assert against_published(results, theirs, source()).empty
    both = curves_for(theirs, source(strategies={"a": "random", "b": "random"}), ["a", "b", "c"])
    assert both.groupby("strategy")["labelled"].count().to_dict() == {"a": 3, "b": 3}


def seeds(level, noise=0.0005):
    """Five curves around a level; no two strategies share their noise."""
    rng = np.random.default_rng(abs(hash(level)) % 1000)
    return [[level + rng.normal(0, noise)] * 3 for _ in range(5)]


@pytest.mark.parametrize(
    ("lead", "uncertainty", "measured", "claim", "verdict"),
    [
        (0.05, 0.001, 0.04, "above", "reproduced"),
        (0.05, 0.001, -0.04, "above", "contradicted"),
        (0.05, 0.001, 0.001, "above", "contradicted"),  # certainly below the smallest effect of interest
        (0.001, 0.001, 0.001, "equal", "reproduced"),
        (0.001, 0.001, 0.04, "equal", "contradicted"),
        (0.001, 0.001, -0.04, "equal", "contradicted"),
        (0.011, 0.004, 0.04, "unclear", "reproduced"),
        (0.011, 0.004, -0.04, "unclear", "contradicted"),
        (0.011, 0.004, 0.001, "unclear", "undecided"),
        (0.004, 0.004, 0.04, "unclear", "undecided"),  # the reading does not tell who leads
    ],
)
def test_a_pair_of_the_published_order(lead, uncertainty, measured, claim, verdict):
    theirs = published({"low": [0.5] * 3, "high": [0.5 + lead] * 3}, uncertainty)
    results = tidy({"low": seeds(0.6), "high": seeds(0.6 + measured)})
    row = published_order(results, theirs, source(), effect=0.01).iloc[0]
    assert (row["above"], row["below"], row["claim"], row["verdict"]) == ("high", "low", claim, verdict)
    assert row["lead"] == pytest.approx(lead)
    assert row["uncertainty"] == pytest.approx(2 * uncertainty)
    assert row["low"] <= row["mean"] <= row["high"]
    assert row["mean"] == pytest.approx(measured, abs=0.002)


@pytest.mark.parametrize(("measured", "verdict"), [(0.04, "agrees"), (-0.04, "disagrees"), (0.008, "undecided")])
def test_another_experiment_agrees_or_disagrees(measured, verdict):
    theirs = published({"low": [0.5] * 3, "high": [0.55] * 3}, 0.001)
    results = tidy({"low": seeds(0.6, 0.005), "high": seeds(0.6 + measured, 0.005)})
    row = published_order(results, theirs, source(), effect=0.01, same=False).iloc[0]
    assert row["verdict"] == verdict


def test_an_order_of_what_was_not_learned_is_not_judged():
    theirs = published({"low": [0.5, 0.55, 0.6], "high": [0.6, 0.65, 0.7]}, 0.001)
    rng = np.random.default_rng(0)

    def judged(rise, **kwargs):
        low = [[0.3 + rng.normal(0, 0.001) + rise * stage for stage in range(3)] for _ in range(5)]
        high = [[value - 0.05 for value in curve] for curve in low]
        results = tidy({"low": low, "high": high})
        return published_order(results, theirs, source(), **kwargs).iloc[0]["verdict"]

    assert judged(0.02, reference="low") == "contradicted"
    assert judged(0.0, reference="low") == judged(-0.02, reference="low") == "not judged"
    assert judged(0.02, reference="low", higher_is_better=False) == "not judged"
    assert judged(-0.02, reference="low", higher_is_better=False) == "contradicted"
    assert judged(0.0) == "contradicted"
    assert judged(0.02, reference="not there") == "not judged"


def test_noise_decides_nothing():
    theirs = published({"low": [0.5] * 3, "high": [0.55] * 3})
    results = tidy({"low": seeds(0.6, 0.05), "high": seeds(0.61, 0.05)})
    assert published_order(results, theirs, source()).iloc[0]["verdict"] == "undecided"


def test_both_sides_are_scored_over_the_same_labels():
    theirs = published({"a": [0.1, 0.5, 0.9], "b": [0.9, 0.5, 0.4]})
    results = tidy({"a": [[0.1, 0.5]] * 2, "b": [[0.9, 0.5]] * 2}, labels=[10, 20])
    row = published_order(results, theirs, source()).iloc[0]
    assert (row["above"], row["lead"]) == ("b", pytest.approx(aubc([10, 20], [0.9, 0.5]) - aubc([10, 20], [0.1, 0.5])))
    row = published_order(results, theirs, source(), score="final").iloc[0]
    assert row["lead"] == 0
    assert published_order(results[results["labelled"] == 10], theirs, source()).empty
    with pytest.raises(AlbenchError, match="'aubc' or their 'final'"):
        published_order(results, theirs, source(), score="best")


def test_on_its_own_numbers_the_paper_is_reproduced():
    """Each seed is the published curve and a little noise: every claim beyond the reading's error comes back."""
    theirs, rng = read("ll4al"), np.random.default_rng(0)
    mapping = Published(file="ll4al").resolved("cifar10", "accuracy")
    rows = of(theirs, "cifar10")
    curves = {name: part["value"].to_numpy() for name, part in rows.groupby("strategy", sort=False)}
    results = tidy(
        {name: [curve + rng.normal(0, 3e-4, 10) for _ in range(5)] for name, curve in curves.items()},
        labels=range(1000, 10_001, 1000),
    ).replace({"m": "accuracy"})
    order = published_order(results, theirs, mapping)
    assert len(order) == 10
    assert set(order.loc[order["claim"] == "above", "verdict"]) == {"reproduced"}
    assert order.iloc[0][["above", "below"]].tolist() == ["learning-loss", "entropy"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task,metric\nt,m\n", "no column strategy, labelled, value, reading, uncertainty"),
        (HEADER + "t,m,random,10,high,figure,0\n", "column value, line 2: 'high'"),
        (HEADER + "t,m,random,10,0.5,figure,-1\n", "column uncertainty, line 2"),
        (HEADER + "t,m,random,10,0.5,figure,0\n" * 2, "line 3 gives a point that is there already"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(AlbenchError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file": "ll4la"}, "neither a file nor bundled .*Did you mean 'll4al'"),
        ({"file": "ll4al", "task": "cifar"}, "no task 'cifar' in the file. Did you mean 'cifar10'"),
        ({"file": "ll4al", "metric": "f1"}, "no metric 'f1'; it has: accuracy"),
        ({"file": "ll4al", "strategies": {"mine": "entopy"}}, "no strategy 'entopy' .* Did you mean 'entropy'"),
    ],
)
def test_a_mapping_is_checked(entry, message):
    with pytest.raises(AlbenchError, match=message):
        Published(**entry).resolved("cifar10", "accuracy")


def suite(**changes):
    task = {
        "task": "cifar10",
        "params": {"pad": 4},
        "recipe": {"epochs": 200, "batch": 128},
        "companions": {},
        "budget": 1000,
        "subset": 10_000,
        "price": None,
        "published": None,
    }
    learning = {"strategy": "learning-loss", "params": {}, "companion": "loss", "companion_params": {"weight": 1.0}}
    base = {
        **{"name": "protocol", "seeds": 5, "stages": 10, "warm_start": False, "numerics": {"precision": "fp32"}},
        "tasks": {"cifar10": task},
        "strategies": {"learning-loss": learning},
    }
    return base | changes


def test_departures_from_the_protocol():
    theirs = suite()
    assert protocol_differences(suite(name="mine", price=3), "cifar10", theirs, "cifar10") == []
    task = theirs["tasks"]["cifar10"]
    mine = task | {"recipe": {"epochs": 20, "batch": 128}, "companions": {"loss": {"weight": 0.5, "cut": 0.6}}}
    learning = theirs["strategies"]["learning-loss"] | {"companion_params": {}}
    other = suite(seeds=3, tasks={"mine": mine}, strategies={"learning-loss": learning, "extra": learning})
    assert protocol_differences(other, "mine", theirs, "cifar10") == [
        "recipe.epochs: 200 → 20",
        "seeds: 5 → 3",
        "strategies.learning-loss.companion_params.weight: 1.0 → 0.5",
    ]
    with pytest.raises(AlbenchError, match="has no task 'voc'"):
        protocol_differences(other, "voc", theirs, "cifar10")
