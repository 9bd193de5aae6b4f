"""What was selected: hand-worked balances and overlaps."""

import numpy as np
import pandas as pd
import pytest

from albench.analysis.selections import balance, companion_pairs, imbalance, overlap

TIDY = ["task", "strategy", "seed", "stage", "labelled", "metric", "value"]


def labels(rows):
    """(strategy, seed, stage, cats, dogs) → labels.csv."""
    return pd.DataFrame(
        [
            ("t", strategy, seed, stage, cats + dogs, part, count)
            for strategy, seed, stage, cats, dogs in rows
            for part, count in (("cat", cats), ("dog", dogs))
        ],
        columns=TIDY,
    )


def picks(sets):
    """{(strategy, seed, stage): indices} → selections.csv."""
    rows = [("t", *key, order, index) for key, indices in sets.items() for order, index in enumerate(indices)]
    return pd.DataFrame(rows, columns=["task", "strategy", "seed", "stage", "order", "index"])


def test_balance_is_of_what_was_bought_after_the_first_labels():
    table = balance(labels([("mine", 0, 0, 9, 1), ("mine", 0, 1, 10, 4)]), {"cat": 50, "dog": 50})
    cats, dogs = (table[table["part"] == part].iloc[0] for part in ("cat", "dog"))
    assert (cats["share"], dogs["share"]) == (0.25, 0.75)
    assert (cats["ratio"], dogs["ratio"]) == (0.5, 1.5)
    assert dogs["selected"] == 3
    assert imbalance(table)["mine"] == pytest.approx(0.25)


def test_balance_averages_seeds_and_leaves_out_who_selected_nothing():
    table = balance(
        labels([("a", 0, 0, 1, 1), ("a", 0, 1, 3, 1), ("a", 1, 0, 1, 1), ("a", 1, 1, 1, 3), ("b", 0, 0, 2, 0)]),
        {"cat": 30, "dog": 10, "emu": 5},
    )
    assert set(table["strategy"]) == {"a"}
    assert table.set_index("part")["share"].to_dict() == {"cat": 0.5, "dog": 0.5}
    assert balance(labels([("b", 0, 0, 2, 0)]), {"cat": 3}).empty


def test_a_part_that_the_pool_has_not_got_is_left_out():
    table = balance(labels([("a", 0, 0, 1, 1), ("a", 0, 1, 3, 2)]), {"cat": 10, "dog": 0})
    assert table["part"].tolist() == ["cat"]


def test_overlap_is_cumulative_and_without_the_first_labels():
    sets = {
        ("a", 0, 0): [100, 101],
        ("b", 0, 0): [100, 101],
        ("a", 0, 1): [1, 2],
        ("b", 0, 1): [2, 3],
        ("a", 0, 2): [3, 4],
        ("b", 0, 2): [1, 5],
    }
    table = overlap(picks(sets), ["a", "b"])
    assert table[["stage", "jaccard"]].to_numpy().tolist() == [[1, pytest.approx(1 / 3)], [2, pytest.approx(3 / 5)]]


def test_overlap_averages_only_the_seeds_that_both_have():
    sets = {("a", 0, 1): [1], ("b", 0, 1): [1], ("a", 1, 1): [1], ("b", 1, 1): [2], ("a", 2, 1): [7]}
    row = overlap(picks(sets), ["a", "b"]).iloc[0]
    assert (row["jaccard"], row["seeds"]) == (0.5, 2)
    assert overlap(picks(sets), ["a", "c"]).empty


def test_overlap_is_that_of_plain_sets():
    rng = np.random.default_rng(0)
    names, last = ["a", "b", "c"], {("c", 1): 2}  # one trial that did not finish
    sets = {}
    for name in names:
        for seed in range(2):
            order = rng.permutation(30)
            for stage in range(1, last.get((name, seed), 4) + 1):
                sets[name, seed, stage] = order[4 * stage : 4 * stage + 4].tolist()
    table = overlap(picks(sets), names).set_index(["a", "b", "stage"])
    for (a, b, stage), row in table.iterrows():
        found = []
        for seed in range(2):
            if (a, seed, stage) in sets and (b, seed, stage) in sets:
                A, B = (set().union(*(sets[n, seed, s] for s in range(1, stage + 1))) for n in (a, b))
                found.append(len(A & B) / len(A | B))
        assert (row["jaccard"], row["seeds"]) == (pytest.approx(np.mean(found)), len(found))
    assert len(table) == 3 * 4


def test_companion_pairs_are_the_same_selection_with_and_without():
    strategies = {
        "random": {"strategy": "random", "companion": None},
        "random+module": {"strategy": "random", "companion": "loss-prediction"},
        "learning-loss": {"strategy": "learning-loss", "companion": "loss-prediction"},
    }
    assert companion_pairs(strategies) == [("random+module", "random")]
