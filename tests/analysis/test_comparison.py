"""Who beats whom: tables of tests against scipy, statsmodels and hand-worked numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from albench import AlbenchError
from albench.analysis.comparison import (
    against_reference,
    all_pairs,
    budgets,
    holm,
    holm_in_groups,
    sign_flip,
    sign_flip_max_t,
    wilcoxon,
)
from albench.analysis.tidy import COLUMNS

LABELS = (10, 20, 40)


def tidy(values, task="digits"):
    """Curves by (strategy, seed) at 10, 20 and 40 labels."""
    rows = [
        (task, strategy, seed, stage, LABELS[stage], "accuracy", value)
        for (strategy, seed), curve in values.items()
        for stage, value in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def drawn(gains, seeds=6, spread=0.01, seed=0):
    """Curves of several strategies: a rise, an effect of the seed, noise, and each strategy's gain."""
    rng = np.random.default_rng(seed)
    of_seed = rng.normal(0, 0.02, seeds)
    return tidy(
        {
            (name, s): tuple(0.5 + 0.1 * np.arange(3) + of_seed[s] + gain + rng.normal(0, spread, 3))
            for name, gain in gains.items()
            for s in range(seeds)
        }
    )


def test_holm_in_groups_by_hand():
    # the first pair has two budgets and counts until .04 is passed; then the second stands alone
    found = holm_in_groups(np.array([0.01, 0.04, 0.03, 0.5]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(found, [0.02, 0.08, 0.06, 0.5])


@given(st.lists(st.floats(0, 1) | st.just(np.nan), max_size=12).map(np.array))
def test_groups_of_one_are_holm(p):
    np.testing.assert_allclose(holm_in_groups(p, np.arange(len(p))), holm(p))


def test_against_reference_by_hand():
    # areas over 30 labels, of 0: .4 .6 .8 → 19/30, of 1: .5 .7 .7 → 20/30; mine: 20/30 and 23.5/30
    results = tidy(
        {
            ("random", 0): (0.4, 0.6, 0.8),
            ("random", 1): (0.5, 0.7, 0.7),
            ("mine", 1): (0.5, 0.8, 0.9),
            ("mine", 0): (0.4, 0.6, 0.9),
        }
    )
    row = against_reference(results, "accuracy").iloc[0]
    d = np.array([1, 3.5]) / 30
    assert (row["strategy"], row["reference"], row["pairs"], row["dropped"]) == ("mine", "random", 2, "")
    assert (row["mean"], row["sd"]) == pytest.approx((d.mean(), d.std(ddof=1)))
    assert row["p"] == row["p_holm"] == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert row["attainable"] == 0.5
    areas = np.array([[19, 20], [20, 23.5]]) / 30
    assert row["variance_ratio"] == pytest.approx(d.var(ddof=1) / areas.var(axis=1, ddof=1).sum())
    final = against_reference(results, "accuracy", of="final").iloc[0]
    assert final["mean"] == pytest.approx(0.15)


def test_against_reference_is_holm_over_the_plain_tests():
    results = drawn({"random": 0, "a": 0.05, "b": 0.001, "c": -0.05})
    table = against_reference(results, "accuracy", effect=0.03).set_index("strategy")
    scores = results.groupby(["strategy", "seed"])["value"].apply(
        lambda v: (10 * (v[:2].sum()) / 2 + 10 * v[1:].sum()) / 30
    )
    plain = {name: stats.ttest_rel(scores[name], scores["random"]) for name in table.index}
    np.testing.assert_allclose(table["p"], [plain[name].pvalue for name in table.index])
    np.testing.assert_allclose(table["p_holm"], multipletests(table["p"], method="holm")[1])
    np.testing.assert_allclose(table["p_equivalence_holm"], multipletests(table["p_equivalence"], method="holm")[1])
    interval = plain["a"].confidence_interval(0.95)
    assert (table.loc["a", "low"], table.loc["a", "high"]) == pytest.approx((interval.low, interval.high))
    assert table["verdict"].to_dict() == {"a": "better", "b": "equivalent", "c": "worse"}
    d = (scores["a"] - scores["random"]).to_numpy()
    assert table.loc["a", "wilcoxon"] == wilcoxon(d)
    assert table.loc["a", "sign_flip"] == sign_flip(d)
    assert (table["variance_ratio"] < 1).all()  # the seed's effect is shared


def test_seeds_are_matched_whatever_the_order_of_rows_and_drops_are_said():
    results = drawn({"random": 0, "a": 0.05})
    expected = against_reference(results, "accuracy")
    mixed = results.groupby("strategy", sort=False).sample(frac=1, random_state=5)
    pd.testing.assert_frame_equal(against_reference(mixed, "accuracy"), expected)
    absent = ~((results["strategy"] == "random") & results["seed"].isin([0, 4]))
    short = ~((results["strategy"] == "a") & (results["seed"] == 2) & (results["stage"] == 2))
    row = against_reference(results[absent & short], "accuracy").iloc[0]
    assert row["pairs"] == 3
    assert row["dropped"] == (
        "seed 2: the curve of a is not whole, ends at 20 of 40 labels; seeds 0, 4: random has no such seed"
    )
    whole = results[results["seed"].isin([1, 3, 5])]
    assert row["p"] == pytest.approx(against_reference(whole, "accuracy").iloc[0]["p"])


def test_strategies_that_cheat_are_outside_the_family():
    results = drawn({"random": 0, "a": 0.01, "oracle": 0.2})
    table = against_reference(results, "accuracy", leave_out={"oracle"}).set_index("strategy")
    assert table.loc["a", "p_holm"] == table.loc["a", "p"]
    assert table.loc["oracle", "p"] < 0.001
    assert np.isnan(table.loc["oracle", ["p_holm", "p_equivalence_holm"]].astype(float)).all()
    assert table.loc["oracle", "verdict"] == ""
    pairs = all_pairs(results, "accuracy", leave_out={"oracle"})
    assert (pairs["verdict"] == "").tolist() == [False, True, True]


def test_planned_comparisons_that_cannot_be_made_yet_count_in_the_family():
    results = drawn({"random": 0, "a": 0.02, "b": 0.01})
    whole = against_reference(results, "accuracy").set_index("strategy")
    begun = results[(results["strategy"] != "b") | (results["seed"] == 0)]
    assert against_reference(begun, "accuracy").set_index("strategy").loc["a", "p_holm"] == 2 * whole.loc["a", "p"]
    alone = results[results["strategy"] != "b"]
    assert against_reference(alone, "accuracy").iloc[0]["p_holm"] == whole.loc["a", "p"]
    (row,) = against_reference(alone, "accuracy", comparisons=3).to_dict("records")
    assert row["p_holm"] == 3 * row["p"]
    half = stats.t.ppf(1 - 0.05 / 6, 5) * row["sd"] / np.sqrt(6)
    assert [row["verdict_low"], row["verdict_high"]] == pytest.approx([row["mean"] - half, row["mean"] + half])


def test_one_seed_decides_nothing():
    results = drawn({"random": 0, "a": 0.3}, seeds=1)
    row = against_reference(results, "accuracy").iloc[0]
    assert (row["pairs"], row["verdict"]) == (1, "undecided")
    assert np.isnan([row["p"], row["p_holm"], row["low"], row["variance_ratio"]]).all()


def test_equal_strategies_are_equivalent_without_a_warning():
    results = drawn({"random": 0})
    both = pd.concat([results, results.assign(strategy="random-b")])
    row = against_reference(both, "accuracy").iloc[0]
    assert (row["mean"], row["sd"], row["t"], row["p"], row["verdict"]) == (0, 0, 0, 1, "equivalent")


def test_all_pairs_are_holm_over_pairs_and_agree_with_the_reference():
    results = drawn({"random": 0, "a": 0.01, "b": 0.05})
    pairs = all_pairs(results, "accuracy")
    assert list(zip(pairs["a"], pairs["b"], strict=True)) == [("random", "a"), ("random", "b"), ("a", "b")]
    against = against_reference(results, "accuracy")
    np.testing.assert_allclose(pairs["mean"][:2], -against["mean"])
    np.testing.assert_allclose(pairs["p"][:2], against["p"])
    np.testing.assert_allclose(pairs["p_holm"], multipletests(pairs["p"], method="holm")[1])


def test_single_budgets():
    results = drawn({"random": 0, "a": 0.03, "b": 0}, seeds=8)
    start = results[(results["strategy"] == "random") & (results["stage"] == 0)].set_index("seed")["value"]
    results.loc[results["stage"] == 0, "value"] = results.loc[results["stage"] == 0, "seed"].map(start)
    table = budgets(results, "accuracy")
    wide = results.pivot(index="seed", columns=["strategy", "labelled"], values="value")
    for (a, b), rows in table.groupby(["a", "b"]):
        assert rows["labelled"].tolist() == list(LABELS)
        D = (wide[a] - wide[b])[list(LABELS)].to_numpy()
        np.testing.assert_allclose(rows["p"], sign_flip_max_t(D))
        np.testing.assert_allclose(rows["mean"], D.mean(0))
        np.testing.assert_allclose(rows["t"][1:], stats.ttest_1samp(D[:, 1:], 0).statistic)
    assert (table.loc[table["labelled"] == 10, ["p", "p_holm", "pairs"]] == [1, 1, 8]).all(axis=None)
    assert (table["p_holm"] >= table["p"]).all()
    found = set(table.loc[table["p_holm"] < 0.05, ["a", "b"]].itertuples(index=False, name=None))
    assert found == {("random", "a"), ("a", "b")}


def test_budgets_are_of_the_seeds_with_whole_curves():
    results = drawn({"random": 0, "a": 0.03})
    gap = ~((results["strategy"] == "a") & (results["seed"] == 1) & (results["stage"] == 1))
    short = ~((results["strategy"] == "a") & (results["seed"] == 3) & (results["stage"] > 0))
    table = budgets(results[gap & short], "accuracy")
    assert table["labelled"].tolist() == [10, 20, 40]
    assert table["pairs"].tolist() == [4, 4, 4]
    assert budgets(results[results["strategy"] == "a"], "accuracy").empty


def test_user_errors_are_one_line():
    results = drawn({"random": 0, "a": 0.01})
    with pytest.raises(AlbenchError, match="'entropy'.*there are: random, a"):
        against_reference(results, "accuracy", reference="entropy")
    with pytest.raises(AlbenchError, match="no results of the metric 'acuracy'. Did you mean 'accuracy'"):
        against_reference(results, "acuracy")
    with pytest.raises(AlbenchError, match="of one task, not of digits, figures"):
        all_pairs(pd.concat([results, results.assign(task="figures")]), "accuracy")
    with pytest.raises(AlbenchError, match="of='area'"):
        against_reference(results, "accuracy", of="area")


@pytest.mark.parametrize("seed", range(6))
def test_the_interval_of_the_verdict_never_contradicts_it(seed):
    gains = {"random": 0.0, "up": 0.03, "little": 0.012, "same": 0.0, "down": -0.02, "oracle": 0.1}
    results = drawn(gains, seeds=8, spread=0.012, seed=seed)
    table = against_reference(results, "accuracy", effect=0.015, leave_out={"oracle"}).set_index("strategy")
    assert np.isnan(table.loc["oracle", ["verdict_low", "verdict_high"]].astype(float)).all()
    words = set()
    for row in table.drop("oracle").to_dict("records"):
        low, high = row["verdict_low"], row["verdict_high"]
        within, beside = low > -0.015 and high < 0.015, low > 0 or high < 0
        assert low <= row["mean"] <= high
        if row["verdict"] == "equivalent":
            assert within
        else:
            assert beside == (row["verdict"] in ("better", "worse"))
            assert row["verdict"] != "undecided" or not within
        words.add(row["verdict"])
    assert len(words) > 1
