"""Outcomes of a real, tiny run, measured again on resampled test sets."""

import shutil

import numpy as np
import pytest

import albench
from albench.report import words, write
from albench.report.outcomes import other_test_sets, remeasured
from albench.report.runs import gather, read
from albench.report.tables import summaries, with_test_sets


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcomes") / "tiny"
    settings = ["tasks.digits.recipe.updates=5", "tasks.digits.budget=10"]
    names = ["random", "entropy"]
    options = {"settings": settings, "jobs": 1, "device": "cpu", "out": folder}
    albench.run("quick", tasks=["digits"], strategies=names, seeds=2, stages=2, **options)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "tiny")


def test_every_trial_is_measured_again_and_the_first_row_is_what_was_recorded(folder):
    run = read(folder, "tiny")
    found = remeasured(run, "digits", replicates=20)
    assert found.notes == []
    assert found.labelled.tolist() == [10, 20]
    recorded = run.primary("digits").set_index(["strategy", "seed", "labelled"])["value"]
    assert set(found.values) == {(name, seed) for name in ("random", "entropy") for seed in (0, 1)}
    for (strategy, seed), values in found.values.items():
        assert values.shape == (21, 2)
        assert values[0].tolist() == [recorded[strategy, seed, labelled] for labelled in (10, 20)]
        assert len(np.unique(values[1:, 1])) > 5
    assert np.array_equal(found.values["random", 0][:, 0], found.values["entropy", 0][:, 0])  # stage 0 is shared
    table, notes = other_test_sets(run, "digits", replicates=20)
    assert notes == []
    assert table[["strategy", "of", "pairs"]].to_numpy().tolist() == [["entropy", "aubc", 2], ["entropy", "final", 2]]
    assert (table["sd_samples"] >= 0).all()


def test_pooled_runs_are_measured_from_the_outcomes_of_both(folder, tmp_path):
    settings = ["tasks.digits.recipe.updates=5", "tasks.digits.budget=10", "seed=1"]
    names, other = ["random", "entropy"], tmp_path / "other"
    options = {"settings": settings, "jobs": 1, "device": "cpu", "out": other}
    albench.run("quick", tasks=["digits"], strategies=names, seeds=1, stages=2, **options)
    (run,) = gather([folder, other], pool=True)
    found = remeasured(run, "digits", replicates=20)
    assert found.notes == []
    alone = [remeasured(read(path, path.name), "digits", replicates=20).values for path in (folder, other)]
    assert set(found.values) == {(name, seed) for name in names for seed in (0, 1, 2)}
    for name in names:
        assert np.array_equal(found.values[name, 1], alone[0][name, 1])
        assert np.array_equal(found.values[name, 2], alone[1][name, 0])
    assert set(other_test_sets(run, "digits", replicates=20, bounded=True)[0]["pairs"]) == {3}
    assert dict(words.switches(run))["seeds"] == "3, 1 of them added later (suite seed 0 and 1)"
    shutil.rmtree(other / "trained")
    assert set(remeasured(run, "digits", replicates=5).values) == {(name, seed) for name in names for seed in (0, 1)}


def test_missing_outcomes_are_said_and_the_others_are_used(folder):
    trainings = read(folder, "tiny").trainings.set_index(["strategy", "seed", "stage"])["identity"]
    (folder / "trained" / f"{trainings['entropy', 1, 1]}.npz").unlink()
    found = remeasured(read(folder, "tiny"), "digits", replicates=5)
    assert ("entropy", 1) not in found.values
    assert ("entropy", 0) in found.values
    (note,) = found.notes
    assert "1 of 6 trainings left out" in note
    assert "\n" not in note


def test_outcomes_of_something_else_are_not_used(folder):
    trainings = read(folder, "tiny").trainings.set_index(["strategy", "seed", "stage"])["identity"]
    source, target = (folder / "trained" / f"{trainings['random', 0, stage]}.npz" for stage in (0, 1))
    shutil.copy(source, target)
    found = remeasured(read(folder, "tiny"), "digits", replicates=5)
    assert ("random", 0) not in found.values
    assert found.notes == ["digits: 1 trial left out: outcomes that are not those of the results"]


def test_runs_of_an_older_version_or_with_names_from_elsewhere_are_left_out_with_a_sentence(folder, make_run):
    table, notes = other_test_sets(read(make_run(), "old"), "digits")
    assert table.empty
    assert "older albench" in notes[0]
    run = read(folder, "tiny")
    run.trainings["identity"] = "../../etc/passwd"
    table, notes = other_test_sets(run, "digits")
    assert table.empty
    assert "is no identity" in notes[0]
    run.tasks["digits"]["task"] = "nowhere"
    assert "nowhere" in other_test_sets(run, "digits")[1][0]


def test_seeds_added_after_looking_are_known_to_the_report(folder):
    run = read(folder, "tiny")
    assert run.planned["seeds"] == run.suite["seeds"] == 2


@pytest.mark.usefixtures("unsaved")
def test_the_report_shows_the_second_interval_and_says_what_lacks(folder):
    table, _ = other_test_sets(read(folder, "tiny"), "digits", bounded=True)
    row = table[table["of"] == "aubc"].iloc[0]
    text = write([folder]).with_name("report.md").read_text().replace("\\", "")
    low, high = (f"{row[end]:+.4f}".replace("-", "−") for end in ("low", "high"))
    assert f"[{low}, {high}]" in " ".join(text.split())
    assert "Had the test set been another one, too (200 draws of its samples)" in text
    assert "What is missing" not in text
    shutil.rmtree(folder / "trained")
    rows = with_test_sets(summaries([read(folder, "tiny")], "digits"), {})
    assert words.another_test_set(rows, 0.05) == ""


def test_a_report_bounds_what_it_counts(folder, monkeypatch):
    run = read(folder, "tiny")
    samples = run.tasks["digits"]["test"] * 6  # trainings
    monkeypatch.setattr("albench.report.outcomes.WORK", 60 * samples)
    assert set(other_test_sets(run, "digits", bounded=True)[0]["replicates"]) == {60}
    monkeypatch.setattr("albench.report.outcomes.WORK", 49 * samples)
    table, (note,) = other_test_sets(run, "digits", bounded=True)
    assert table.empty
    assert "longer than a report should" in note
