"""Seeds needed: against statsmodels, the published examples of the definitions, and simulation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from albench.analysis.power import detectable, plan, power_of, seeds_needed, upper_sd
from albench.errors import AlbenchError


def results_of(differences, task="t"):
    """Two stages; AUBC of `better` − AUBC of `random` is the difference given per seed."""
    rows = []
    for seed, difference in enumerate(differences):
        for strategy, extra in (("random", 0.0), ("better", difference)):
            rows += [(task, strategy, seed, stage, 10 * (stage + 1), "m", 0.5 + extra) for stage in range(2)]
    return pd.DataFrame(rows, columns=["task", "strategy", "seed", "stage", "labelled", "metric", "value"])


def test_at_an_effect_of_one_sd_ten_seeds_do_for_one_comparison_and_sixteen_for_one_of_six():
    assert seeds_needed(1, 1, 0.05) == 10
    assert seeds_needed(1, 1, 0.05 / 6) == 16


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("effect", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_power_is_that_of_statsmodels(n, effect, alpha):
    assert power_of(n, effect, 1.0, alpha) == pytest.approx(TTestPower().power(effect, n, alpha), abs=1e-8)


def test_power_is_finite_where_the_distribution_underflows():
    for shift in (30, 38, 60, 500):
        for n in (5, 100, 517, 1000):
            assert power_of(n, shift / np.sqrt(n), 1.0) == pytest.approx(1, abs=1e-9)


def test_power_is_the_share_of_rejections_in_simulation():
    d = np.random.default_rng(0).normal(0.6, 1.0, (20_000, 12))
    rejected = (stats.ttest_1samp(d, 0, axis=1).pvalue < 0.05).mean()
    assert power_of(12, 0.6, 1.0) == pytest.approx(rejected, abs=4 * np.sqrt(0.25 / 20_000))


@given(st.floats(0.02, 5), st.floats(0.001, 0.2), st.floats(0.5, 0.95))
def test_the_seeds_needed_are_the_fewest_that_do(ratio, alpha, power):
    needed = seeds_needed(ratio, 1.0, alpha, power)
    if np.isinf(needed):
        assert power_of(1000, ratio, 1.0, alpha) < power
    else:
        assert power_of(needed, ratio, 1.0, alpha) >= power
        assert needed == 2 or power_of(needed - 1, ratio, 1.0, alpha) < power


@given(st.integers(2, 60), st.floats(0.001, 0.1))
def test_the_detectable_effect_has_just_the_power_asked_for(n, sd):
    assert power_of(n, detectable(n, sd, 0.01, 0.9), sd, 0.01) == pytest.approx(0.9, abs=1e-6)


def test_the_upper_bound_of_a_spread_covers_the_true_one_as_often_as_it_says():
    seen = np.random.default_rng(1).normal(0, 2.0, (4000, 5)).std(axis=1, ddof=1)
    covered = np.mean([upper_sd(sd, 5, 0.8) >= 2.0 for sd in seen])
    assert covered == pytest.approx(0.8, abs=0.02)


def test_without_spread_two_seeds_do_and_one_seed_says_nothing():
    assert seeds_needed(0.005, 0.0) == 2
    assert power_of(1, 5.0, 1.0) == 0
    assert np.isnan(upper_sd(0.1, 1))
    assert np.isnan(seeds_needed(0.005, float("nan")))
    assert np.isnan(detectable(1, 0.1))


def test_a_plan_uses_the_upper_bound_and_never_the_observed_effect():
    noise = np.array([-0.01, 0.0, 0.01, 0.02, -0.02])
    row = plan(results_of(noise), "m", effect=0.01).iloc[0]
    assert row["pairs"] == 5
    assert row["sd"] == pytest.approx(noise.std(ddof=1))
    assert row["sd_upper"] == pytest.approx(upper_sd(noise.std(ddof=1), 5))
    assert row["seeds_needed"] == seeds_needed(0.01, row["sd_upper"])
    far = plan(results_of(noise + 0.3), "m", effect=0.01).iloc[0]
    assert far["seeds_needed"] == row["seeds_needed"]
    assert far["detectable"] == pytest.approx(row["detectable"])


def test_a_plan_shares_alpha_over_the_comparisons_that_count():
    table = results_of([0.0, 0.01, 0.03])
    twice = pd.concat([table, table[table["strategy"] == "better"].assign(strategy="cheat")])
    assert set(plan(twice, "m")["alpha"]) == {0.025}
    only = plan(twice, "m", leave_out=["cheat"])
    assert list(only["strategy"]) == ["better"]
    assert set(only["alpha"]) == {0.05}


def test_a_planned_comparison_that_nothing_is_known_of_has_a_row_and_its_share_of_alpha():
    table = plan(results_of([0.0, 0.01, 0.03]), "m", planned=["later", "better"]).set_index("strategy")
    assert list(table.index) == ["later", "better"]
    assert set(table["alpha"]) == {0.025}
    assert table.loc["later", "pairs"] == 0
    assert table.loc["later", ["sd", "sd_upper", "seeds_needed", "detectable"]].isna().all()
    assert table.loc["better", "pairs"] == 3


def test_seeds_are_matched_by_seed():
    table = results_of([0.0, 0.01, 0.03])
    table = table[~((table["strategy"] == "better") & (table["seed"] == 1))]
    assert plan(table, "m")["pairs"].item() == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"effect": 0}, "effect = 0"),
        ({"effect": -0.1}, "effect = -0.1"),
        ({"power": 1.0}, "power = 1.0"),
        ({"alpha": 5}, "alpha = 5"),
        ({"reference": "randon"}, "'randon'"),
        ({"metric": "n"}, "'n'"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(options, said):
    with pytest.raises(AlbenchError, match=said) as caught:
        plan(results_of([0.0, 0.01]), **{"metric": "m"} | options)
    assert "\n" not in str(caught.value)


def test_a_plan_is_of_one_task():
    with pytest.raises(AlbenchError, match="one task"):
        plan(pd.concat([results_of([0, 0.1]), results_of([0, 0.1], task="u")]), "m")
