"""Curves and areas against hand-worked numbers and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import albench
from albench import AlbenchError
from albench.analysis.curves import (
    at_budget,
    aubc,
    curves,
    difference_curve,
    left_out,
    not_finite,
    paired_difference,
    per_seed,
    seed_scores,
    summary,
    t_interval,
    upright,
)
from albench.analysis.spans import shared
from albench.analysis.tidy import COLUMNS, read, validated

LABELS = (10, 20, 40)


def tidy(values: dict[tuple[str, int], tuple[float, ...]], task="digits", metric="accuracy"):
    """Curves by (strategy, seed) at 10, 20 and 40 labels."""
    rows = [
        (task, strategy, seed, stage, LABELS[stage], metric, value)
        for (strategy, seed), curve in values.items()
        for stage, value in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


TWO = tidy(
    {
        ("random", 0): (0.4, 0.6, 0.8),
        ("random", 1): (0.5, 0.7, 0.7),
        ("mine", 1): (0.5, 0.8, 0.9),
        ("mine", 0): (0.4, 0.6, 0.9),
    }
)

RANDOM = [(0.4, 0.5), (0.6, 0.7), (0.8, 0.7)]  # of TWO, by number of labels


def test_aubc_takes_the_true_spacing():
    assert aubc([10, 20, 40], [0.4, 0.6, 0.8]) == pytest.approx((10 * 0.5 + 20 * 0.7) / 30)
    assert aubc([40, 10, 20], [0.8, 0.4, 0.6]) == aubc([10, 20, 40], [0.4, 0.6, 0.8])
    assert aubc([10, 20, 40], [0.7, 0.7, 0.7]) == pytest.approx(0.7)
    assert np.isnan(aubc([10], [0.4]))
    assert np.isnan(aubc([10, 20, 40], [0.4, np.nan, 0.8]))


def test_curves_mean_std_and_interval():
    table = curves(TWO).set_index(["strategy", "labelled"])
    point = table.loc[("random", 20)]
    assert point["mean"] == pytest.approx(0.65)
    assert point["std"] == pytest.approx(np.std([0.6, 0.7], ddof=1))
    low, high = stats.t.interval(0.95, 1, 0.65, stats.sem([0.6, 0.7]))
    assert (point["low"], point["high"]) == pytest.approx((low, high))
    assert point["n"] == 2


def test_one_seed_has_no_spread_and_nan_is_left_out():
    table = curves(tidy({("random", 0): (0.4, 0.5, 0.6), ("random", 1): (np.nan, 0.7, np.inf)}))
    table = table.set_index("labelled")
    assert table["n"].tolist() == [1, 2, 1]
    assert table.loc[10, "mean"] == 0.4
    assert np.isnan(table.loc[10, ["std", "low", "high"]].astype(float)).all()


def test_per_seed_agrees_with_the_plain_area():
    table = per_seed(TWO)
    for row in table.itertuples():
        one = TWO[(TWO.strategy == row.strategy) & (TWO.seed == row.seed)]
        assert row.aubc == pytest.approx(aubc(one.labelled, one.value))
        assert row.final == one.value.iloc[-1]
    assert table.complete.all()


def test_shorter_and_broken_curves_are_not_complete():
    results = tidy({("random", 0): (0.4, 0.6, 0.8), ("random", 1): (0.4, 0.6), ("random", 2): (0.4, np.nan, 0.8)})
    table = per_seed(results).set_index("seed")
    assert table.complete.tolist() == [True, False, False]
    assert table.loc[1, "aubc"] == pytest.approx(0.5)  # of its own range
    assert np.isnan(table.loc[2, "aubc"])


def test_row_order_does_not_matter():
    mixed = TWO.sample(frac=1, random_state=3)
    expected = per_seed(TWO).sort_values(["strategy", "seed"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(per_seed(mixed).sort_values(["strategy", "seed"]).reset_index(drop=True), expected)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_t_interval_is_scipys(count):
    values = np.random.default_rng(count).normal(size=count)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((expected.low, expected.high))


def test_differences_are_paired_by_seed_not_by_row():
    ours = pd.Series([0.9, 0.8, 0.7], index=[2, 0, 5])
    theirs = pd.Series([0.5, 0.6, 0.1], index=[0, 2, 7])
    found = paired_difference(ours, theirs)
    assert found["mean"] == pytest.approx(0.3)  # (0.8 − 0.5 + 0.9 − 0.6) / 2
    assert (found["pairs"], found["unpaired"]) == (2, 2)
    expected = stats.ttest_rel([0.8, 0.9], [0.5, 0.61]).confidence_interval(0.95)
    again = paired_difference(pd.Series([0.8, 0.9]), pd.Series([0.5, 0.61]))
    assert (again["low"], again["high"]) == pytest.approx((expected.low, expected.high))


def test_summary_by_hand():
    table = summary(TWO, "accuracy").set_index("strategy")
    assert table.index.tolist() == ["random", "mine"]
    random, mine = table.loc["random"], table.loc["mine"]
    # areas of random: 19/30 and (10 · 0.6 + 20 · 0.7)/30 = 20/30; of mine: 20/30 and (6.5 + 17)/30
    assert random["aubc_mean"] == pytest.approx(19.5 / 30)
    assert mine["aubc_mean"] == pytest.approx((20 + 23.5) / 60)
    assert mine["final_mean"] == pytest.approx(0.9)
    assert mine["difference"] == pytest.approx((1 + 3.5) / 60)
    assert mine["pairs"] == 2
    assert np.isnan(random["difference"])
    assert mine["dropped"] == ""


def test_summary_says_what_it_dropped():
    results = tidy({("random", 0): (0.4, 0.6, 0.8), ("mine", 0): (0.4, 0.6, 0.9), ("mine", 3): (0.4, 0.6)})
    mine = summary(results, "accuracy").set_index("strategy").loc["mine"]
    assert mine["seeds"] == 1
    assert np.isnan(mine["aubc_std"])
    assert "seed 3 not counted" in mine["dropped"]


def test_summary_without_reference_or_rows():
    table = summary(TWO[TWO.strategy == "mine"], "accuracy")
    assert np.isnan(table["difference"]).all()
    assert summary(TWO.iloc[:0], "accuracy").empty
    with pytest.raises(AlbenchError, match="no results of the metric 'acuracy'. Did you mean 'accuracy'.*: accuracy$"):
        summary(TWO, "acuracy")
    with pytest.raises(AlbenchError, match="one task"):
        summary(pd.concat([TWO, tidy({("random", 0): (1.0,)}, task="figures")]), "accuracy")


def test_foreign_frames_are_checked(tmp_path):
    with pytest.raises(AlbenchError, match="no column labelled"):
        validated(TWO.drop(columns="labelled"))
    with pytest.raises(AlbenchError, match="column value, row 2: 'high' is not a number"):
        validated(TWO.astype({"value": object}).replace({"value": {0.6: "high"}}))
    with pytest.raises(AlbenchError, match="twice"):
        validated(pd.concat([TWO, TWO.tail(1)]))
    path = tmp_path / "results.csv"
    TWO.assign(extra=1).to_csv(path, index=False)
    pd.testing.assert_frame_equal(read(path), TWO, check_dtype=False)
    with pytest.raises(AlbenchError, match="cannot be read"):
        read(tmp_path / "absent.csv")


@pytest.mark.parametrize(("column", "value"), [("seed", 0.5), ("seed", np.inf), ("labelled", 10.7), ("stage", "first")])
def test_seeds_stages_and_labels_are_whole_numbers(column, value):
    frame = TWO.astype({column: object})
    frame.loc[4, column] = value
    with pytest.raises(AlbenchError, match=rf"somewhere.csv: column {column}, row 5: {value!r} is not a whole number$"):
        validated(frame, "somewhere.csv")
    assert validated(TWO.astype({column: float}))[column].dtype.kind == "i"  # 10.0 is whole


@pytest.mark.parametrize("value", [1e19, 2**63, -(10**30)])
def test_whole_numbers_that_a_cast_would_wrap_are_refused(value):
    seeds = pd.Series([value if seed else 0 for seed in TWO["seed"]], dtype=type(value) if value == 1e19 else object)
    with pytest.raises(AlbenchError, match=r"column seed, row 4: .* is not a whole number of 64 bits$"):
        validated(TWO.assign(seed=seeds))
    largest = TWO.assign(seed=TWO["seed"] + (2**63 - 2))
    assert validated(largest)["seed"].max() == 2**63 - 1


def test_a_share_of_the_pool_is_no_number_of_labels():
    frame = TWO.assign(labelled=TWO["labelled"] / 200)  # numbers of numpy's, which it would write np.float64(0.05)
    with pytest.raises(AlbenchError, match=r"row 1: 0\.05 is not a whole number; it is the number of labels, not a sh"):
        validated(frame)


@pytest.mark.parametrize("column", ["task", "strategy", "metric", "labelled"])
@pytest.mark.parametrize("nothing", ["", " ", "NA"])
def test_an_empty_cell_is_named(tmp_path, column, nothing):
    frame = TWO.astype({column: object})
    frame.loc[4, column] = nothing
    path = tmp_path / "other.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(AlbenchError, match=f"other.csv: column {column}, row 5: .*(empty|' ')"):
        read(path)


def test_upright_results_have_the_best_on_top():
    both = pd.concat([TWO, TWO.assign(task="errors")])
    turned = upright(both, {"errors": False})
    assert (turned["value"] * both["value"] < 0).to_numpy().tolist() == [False] * len(TWO) + [True] * len(TWO)
    assert upright(both).equals(both)
    assert (upright(TWO, False)["value"] == -TWO["value"]).all()


def test_a_curve_with_a_gap_is_not_complete():
    results = pd.concat([TWO, tidy({("mine", 5): (0.5, 0.6, 0.7)})])
    results = results[(results["seed"] != 5) | (results["labelled"] != 20)]
    table = per_seed(results).set_index(["strategy", "seed"])
    assert table["complete"].to_dict() == {(s, r): r != 5 for s, r in table.index}
    assert table.loc[("mine", 5), "lacks"] == "nothing measured at 20 labels"
    assert "seed 5 not counted: the curve is not whole, nothing measured at 20 labels" in left_out(results)["mine"]


def test_a_stage_that_one_strategy_alone_has_takes_nothing_from_the_others():
    extra = TWO[(TWO["strategy"] == "mine") & (TWO["stage"] == 2)].assign(stage=3, labelled=80, value=1.0)
    results = pd.concat([TWO, extra])
    plain, longer = (summary(frame, "accuracy") for frame in (TWO, results))
    pd.testing.assert_frame_equal(longer.drop(columns="dropped"), plain.drop(columns="dropped"))
    assert longer["dropped"].tolist() == [
        "",
        "its values at 80 labels are not counted: no more than half of the strategies have any",
    ]
    assert shared(results)["labelled"].max() == 40


def test_a_strategy_that_has_only_begun_does_not_cut_the_others():
    begun = tidy({("new", 0): (0.4,), ("new", 1): (0.5,)})
    table = summary(pd.concat([TWO, begun]), "accuracy").set_index("strategy")
    assert table["seeds"].to_dict() == {"random": 2, "mine": 2, "new": 0}
    assert table.loc["new", "dropped"].startswith("seed 0, 1 not counted: the curve is not whole, ends at 10 of 40")
    alone = summary(pd.concat([TWO[TWO["strategy"] == "random"], begun]), "accuracy").set_index("strategy")
    assert alone["labelled"].tolist() == [40, 40]


def test_curves_without_a_common_number_of_labels_are_not_compared():
    apart = TWO[TWO["strategy"] == "mine"]
    results = pd.concat([TWO[TWO["strategy"] == "random"], apart.assign(labelled=apart["labelled"] + 1)])
    table = summary(results, "accuracy")
    assert table["seeds"].tolist() == [2, 0]  # the first's are those that count
    assert "nothing measured at 10, 20, 40 labels" in table["dropped"].iloc[1]
    assert table["difference"].isna().all()
    begun = results.groupby("strategy").head(1)
    assert "shares no number of labels" in summary(begun, "accuracy")["dropped"].iloc[0]


def test_difference_curve_is_paired_by_seed():
    results = pd.concat([TWO, tidy({("other", 1): (0.6, np.nan), ("other", 7): (0.1, 0.2, 0.3)})])
    table = difference_curve(results, "accuracy")
    assert table["strategy"].tolist() == ["mine"] * 3 + ["other"]
    mine = table[table["strategy"] == "mine"]
    assert mine["labelled"].tolist() == list(LABELS)
    for row, ours, theirs in zip(mine.itertuples(), [(0.4, 0.5), (0.6, 0.8), (0.9, 0.9)], RANDOM, strict=True):
        expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95) if ours != theirs else (0, 0)
        assert (row.low, row.high) == pytest.approx(tuple(expected))
        assert row.n == 2
    other = table.iloc[-1]
    assert (other["labelled"], other["n"], other["mean"]) == (10, 1, pytest.approx(0.1))
    assert np.isnan([other["low"], other["high"]]).all()
    assert difference_curve(results, "accuracy", reference="absent").empty
    with pytest.raises(AlbenchError, match="one task"):
        difference_curve(pd.concat([TWO, TWO.assign(task="figures")]), "accuracy")


def test_any_budget_lies_on_each_seed_s_own_line():
    results = pd.concat([TWO, tidy({("short", 0): (0.6, 0.7, np.nan)}), tidy({("labelled", 5): (0.1, 0.3, 0.5)})])
    table = at_budget(results, "accuracy", 30).set_index("strategy")
    ours, theirs = np.array([0.75, 0.85]), np.array([0.7, 0.7])
    row = table.loc["mine"]
    assert (row["mean"], row["std"], row["n"]) == (pytest.approx(0.8), pytest.approx(np.std(ours, ddof=1)), 2)
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, 1, 0.8, stats.sem(ours)))
    assert row["difference"] == pytest.approx((ours - theirs).mean())
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(expected))
    assert table["n"].to_dict() == {"random": 2, "mine": 2, "short": 0, "labelled": 1}
    assert table["pairs"].to_dict() == {"random": 0, "mine": 2, "short": 0, "labelled": 0}
    measured = curves(TWO).set_index(["strategy", "labelled"])["mean"]
    assert at_budget(TWO, "accuracy", 20).set_index("strategy")["mean"]["mine"] == pytest.approx(measured["mine", 20])
    with pytest.raises(AlbenchError, match="no curve holds 41 labels; they lie between 10 and 40"):
        at_budget(TWO, "accuracy", 41)
    nothing = at_budget(TWO.iloc[:0].astype(object), "accuracy", 30)
    assert nothing.empty
    assert list(nothing) == ["strategy", *table]


def test_a_budget_where_nothing_finite_was_measured_is_not_said_to_be_out_of_range():
    with pytest.raises(AlbenchError, match="^nothing finite was measured of 'accuracy': all 12 values are NaN or inf"):
        at_budget(TWO.assign(value=np.nan), "accuracy", 20)
    late = TWO.assign(value=TWO["value"].where(TWO["labelled"] < 40))
    with pytest.raises(AlbenchError, match="no curve holds 40 labels; they lie between 10 and 20"):
        at_budget(late, "accuracy", 40)
    table = at_budget(TWO.assign(value=TWO["value"].where(TWO["strategy"] == "mine", np.inf)), "accuracy", 20)
    assert table[["strategy", "n", "pairs"]].to_numpy().tolist() == [["random", 0, 0], ["mine", 2, 0]]


def test_seed_scores_leave_out_what_is_not_complete():
    results = pd.concat([TWO, tidy({("other", 1): (0.6, 0.7)})])
    table = seed_scores(results, "accuracy", "final")
    assert table.columns.tolist() == ["random", "mine", "other"]
    assert table["random"].to_dict() == {0: 0.8, 1: 0.7}
    assert table["other"].isna().all()
    assert seed_scores(results, "accuracy").loc[1, "mine"] == pytest.approx(23.5 / 30)


def test_measurements_that_are_not_finite_are_listed():
    found = not_finite(tidy({("random", 0): (0.4, np.nan, 0.6), ("mine", 3): (np.inf, 0.7, 0.8)}))
    assert found.to_numpy().tolist() == [
        ["digits", "random", 0, 1, 20, "accuracy"],
        ["digits", "mine", 3, 0, 10, "accuracy"],
    ]


@pytest.mark.parametrize("column", ["suite", "device", "gpu"], ids="column-{}".format)
def test_suites_and_devices_are_not_mixed_unasked(column, tmp_path):
    kinds = TWO["seed"].map({0: "NVIDIA A100", 1: "NVIDIA H200"})
    with pytest.raises(AlbenchError, match=rf"column {column}: accuracy of digits mixes .*A100.*H200.*mixed=True"):
        validated(TWO.assign(**{column: kinds}))
    pd.testing.assert_frame_equal(validated(TWO.assign(**{column: kinds}), mixed=True), TWO, check_dtype=False)
    path = tmp_path / "results.csv"
    TWO.assign(**{column: kinds}).to_csv(path, index=False)
    assert len(read(path, mixed=True)) == len(TWO)
    with pytest.raises(AlbenchError, match=column):
        read(path)
    # strategies are compared seed by seed, so they must not differ in it either
    with pytest.raises(AlbenchError, match=r"mixes 'random' \(random, seed 0\) and 'mine' \(mine, seed 1\)"):
        validated(TWO.assign(**{column: TWO["strategy"]}))
    # nothing known is no other value
    validated(TWO.assign(**{column: kinds.where(TWO["seed"] == 0)}))


def test_results_are_loaded_from_a_file_too(tmp_path):
    TWO.assign(suite="mine").to_csv(tmp_path / "other.csv", index=False)
    pd.testing.assert_frame_equal(albench.load_results(tmp_path / "other.csv"), TWO)
    with pytest.raises(AlbenchError, match=r"nowhere: no results\.csv"):
        albench.load_results(tmp_path / "nowhere")
