"""Two runs of one suite: paired and Welch tests, verdicts, what counts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from albench.analysis.changes import changes, welch

COLUMNS = ["task", "strategy", "seed", "stage", "labelled", "metric", "value"]


def run(level, seeds=range(5), stages=3, strategies=("random", "entropy"), noise=0.01, key=0):
    rng = np.random.default_rng(key)
    seed_noise = {seed: np.random.default_rng(seed).normal(0, 0.05) for seed in range(50)}
    rows = [
        ("t", strategy, seed, stage, 10 * (stage + 1), "m", 0.5 + level + seed_noise[seed] + rng.normal(0, noise))
        for strategy in strategies
        for seed in seeds
        for stage in range(stages)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_a_run_and_its_copy_are_identical_to_the_bit():
    one = run(0)
    table = changes(one, one.copy(), {"t": "m"})
    assert set(table["verdict"]) == {"identical to the bit"}
    assert (table["difference"] == 0).all()
    last_bit = one.copy()
    last_bit.loc[0, "value"] = np.nextafter(last_bit.loc[0, "value"], 1)
    nearly = changes(one, last_bit, {"t": "m"}).set_index(["strategy", "of"])["verdict"]
    assert nearly["random", "aubc"] == "not told from seed noise"
    assert nearly["entropy", "aubc"] == "identical to the bit"


def test_pairing_finds_what_welch_cannot():
    a, b = run(0, noise=0.004, key=1), run(0.02, noise=0.004, key=2)
    paired, apart = (changes(a, b, {"t": "m"}, paired=p) for p in (True, False))
    assert set(paired.query("of == 'aubc'")["verdict"]) == {"more than seed noise"}
    assert set(apart["verdict"]) == {"not told from seed noise"}
    assert set(paired["test"]) == {"paired"}
    assert set(apart["test"]) == {"Welch"}
    assert paired["difference"].to_numpy() == pytest.approx(apart["difference"].to_numpy())


def test_numbers_are_those_of_scipy_and_holm_is_over_all_rows():
    a, b = run(0, key=1), run(0.005, key=2)
    table = changes(a, b, {"t": "m"})
    final = [part.query("strategy == 'random' and stage == 2")["value"].to_numpy() for part in (b, a)]
    row = table.query("strategy == 'random' and of == 'final'").iloc[0]
    assert row["p"] == pytest.approx(stats.ttest_rel(*final).pvalue)
    ordered = np.sort(table["p"])
    assert table["p_holm"].min() == pytest.approx(min(ordered[0] * len(table), 1))


def test_welch_is_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 7), rng.normal(0.4, 3, 4)
    expected = stats.ttest_ind(x, y, equal_var=False)
    interval = expected.confidence_interval(0.9)
    assert welch(x, y, 0.9) == pytest.approx((interval.low, interval.high, expected.pvalue))
    assert np.isnan(welch(x, y[:1])).all()
    assert welch(np.ones(3), np.ones(2)) == (0, 0, 1)
    assert welch(np.ones(3), np.zeros(2)) == (1, 1, 0)


def test_only_shared_seeds_and_labels_count():
    a, b = run(0, seeds=range(5), stages=3), run(0, seeds=range(2, 8), stages=4)
    table = changes(a, b, {"t": "m"})
    assert set(table["labelled"]) == {30}
    assert set(table["seeds_a"]) == set(table["seeds_b"]) == {3}
    apart = changes(run(0, seeds=range(3)), run(0, seeds=range(3, 7)), {"t": "m"})
    assert set(apart["test"]) == {"Welch"}
    assert set(apart["seeds_b"]) == {4}


def test_one_seed_decides_nothing_unless_it_is_identical():
    one, other = run(0, seeds=[0], key=1), run(0, seeds=[0], key=2)
    assert set(changes(one, other, {"t": "m"})["verdict"]) == {"undecided: fewer than two seeds"}
    assert set(changes(one, one, {"t": "m"})["verdict"]) == {"identical to the bit"}


def test_what_is_not_in_both_is_left_out():
    b = run(0, strategies=("random", "badge"))
    assert set(changes(run(0), b, {"t": "m"})["strategy"]) == {"random"}
    elsewhere = b.assign(labelled=b["labelled"] + 5)
    assert changes(run(0), elsewhere, {"t": "m"}).empty


def test_equal_runs_differ_no_more_often_than_they_may():
    rejected = [
        (changes(run(0, key=2 * k), run(0, key=2 * k + 1), {"t": "m"})["verdict"] == "more than seed noise").any()
        for k in range(100)
    ]
    assert np.mean(rejected) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)
