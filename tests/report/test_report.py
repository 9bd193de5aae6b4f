"""The report as files: what is in them for whole, partial, single-seed, cheating and colliding runs."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from albench import AlbenchError
from albench.analysis.curves import summary
from albench.cli import main
from albench.report import write
from albench.report.blocks import Document, Folder
from albench.report.runs import gather
from albench.tasks.classification.task import Classification


class Reader(HTMLParser):
    """Collects text, pictures, links and every tag that is opened."""

    VOID = ("meta", "img", "link", "br", "source")

    def __init__(self, page):
        super().__init__()
        self.text, self.images, self.links, self.open = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            self.images.append(attrs)
        if tag == "a":
            self.links.append(attrs["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.text.append(data)


def report(*folders, **options):
    """The page of a report, read, with its whitespace joined in `page.words`."""
    index = write(list(folders), **options)
    page = Reader(index.read_text(encoding="utf-8"))
    assert not page.open
    page.words = " ".join(" ".join(page.text).split())
    page.folder = index.parent
    return page


def test_everything_is_written_and_the_page_stands_alone(make_run):
    run = make_run(demonstration=True)
    page = report(run)
    assert page.folder == run / "report"
    for name in ("curve", "ranking", "scatter", "gallery"):
        assert (page.folder / "figures" / f"{name}-digits.png").stat().st_size > 5000
        assert (page.folder / "figures" / f"{name}-digits.pdf").read_bytes().startswith(b"%PDF")
    drawn = [path for path in (page.folder / "figures").glob("*.png") if not path.stem.endswith("-column")]
    assert len(page.images) == len(drawn) > 4
    assert all(image["src"].startswith("data:image/webp;base64,") and len(image["alt"]) > 30 for image in page.images)
    files = [link for link in page.links if not link.startswith("#")]
    assert len(files) >= 6
    assert all((page.folder / link).is_file() for link in files)
    anchors = re.findall(r'id="([^"]+)"', (page.folder / "index.html").read_text())
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(anchors)
    html = re.sub(r"base64,[^\"]+", "", (page.folder / "index.html").read_text())
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")  # a namespace: a name, not an address
    assert "A demonstration, not evidence" in page.words
    assert "significantly" not in page.words
    markdown = (page.folder / "report.md").read_text(encoding="utf-8")
    assert "A demonstration, not evidence" in markdown
    for link in re.findall(r"\]\(([^)]+)\)", markdown):
        assert (page.folder / link).is_file(), link


@pytest.mark.usefixtures("unsaved")
def test_numbers_are_those_of_the_analysis(make_run):
    run = make_run()
    page = report(run)
    expected = summary(pd.read_csv(run / "results.csv"), "accuracy")
    saved = pd.read_csv(page.folder / "tables" / "summary-digits.csv")
    pd.testing.assert_series_equal(saved["aubc_mean"], expected["aubc_mean"], rtol=1e-5)
    fair = expected[expected["strategy"] != "true-loss"]
    best = fair.loc[fair["aubc_mean"].idxmax()]
    assert f"{best['strategy']} has the highest mean AUBC of accuracy, {best['aubc_mean']:.4f}" in page.words
    assert f"{best['aubc_mean']:.4f} ± {best['aubc_std']:.4f}" in page.words


@pytest.mark.usefixtures("unsaved")
def test_those_that_cheat_are_marked_and_never_lead(make_run):
    run = make_run(strategies=("random", "true-loss"))
    page = report(run)
    assert "true-loss ⚠" in page.words
    assert "sees hidden labels" in page.words
    assert "true-loss has the highest" not in page.words
    assert "random has the highest" in page.words


@pytest.mark.usefixtures("unsaved")
def test_partial_runs_and_failures_are_said(make_run, monkeypatch):
    alike = {("digits", "core-set", seed) for seed in (0, 2)} | {("digits", "learning-loss", seed) for seed in (0, 2)}
    run = make_run(short={("digits", "entropy", 1), *alike})
    names = ("digits--entropy--seed1", "digits--core-set--seed0", "digits--core-set--seed2")
    errors = ("loss is <NaN> at step 3", "out of memory", "out of memory")
    failed = [{"trial": name, "error": error} for name, error in zip(names, errors, strict=True)]
    monkeypatch.setattr("albench.report.runs.failures", lambda folder: failed)
    page = report(run)
    assert "10 of them complete, so this is a partial report" in page.words
    assert "5 of 15 not finished, 3 failed: see below." in page.words
    assert "digits 2 of 5 entropy (1); core-set and learning-loss (0, 2)" in page.words
    assert "seed 1 not counted" in page.words
    assert "core-set, learning-loss: seed 0, 2 not counted" in page.words
    assert "the curve of core-set is not whole" not in page.words  # it would say that again
    assert "2 trials: digits--core-set--seed0, digits--core-set--seed2 out of memory" in page.words
    assert "loss is <NaN> at step 3" in page.words


@pytest.mark.usefixtures("unsaved")
def test_one_seed_has_no_spread(make_run):
    page = report(make_run(seeds=1, strategies=("random", "entropy")))
    assert "One seed." in page.words
    assert "nan" not in page.words.lower()


@pytest.mark.usefixtures("unsaved")
def test_strategies_that_nothing_tells_apart_have_a_sentence_and_no_empty_map(make_run):
    run = make_run(strategies=("random", "entropy", "core-set"))
    table = pd.read_csv(run / "results.csv")
    mine = table["metric"] == "accuracy"
    table.loc[mine, "value"] = 0.5 + 0.01 * table["seed"] + 0.02 * table["stage"]
    table.to_csv(run / "results.csv", index=False)
    page = report(run)
    assert "are not drawn: no strategy beats another at any number of labels" in page.words
    assert not any("Penalty matrix" in image["alt"] for image in page.images)


@pytest.mark.usefixtures("unsaved")
def test_one_stage_or_nothing_yet(make_run):
    assert "no strategy has a complete curve" in report(make_run("one", stages=1)).words
    empty = make_run("empty")
    for table in ("results", "costs", "selections", "diagnostics"):
        head = (empty / f"{table}.csv").read_text().partition("\n")[0]
        (empty / f"{table}.csv").write_text(head + "\n")
    assert "Nothing was measured on this task yet" in report(empty).words


@pytest.mark.usefixtures("unsaved")
def test_pictures_that_cannot_be_drawn_are_explained(make_run, tmp_path):
    run = make_run()
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["tasks"]["digits"]["fingerprint"] = "of other data"
    (run / "manifest.json").write_text(json.dumps(manifest))
    page = report(run)
    assert "Pictures of selected samples are missing: the data found now are not those of the run" in page.words
    manifest["tasks"]["digits"]["task"] = "somebody-elses"
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert "no task is called 'somebody-elses'" in report(run).words


def test_pictures_that_fail_only_when_they_are_saved_are_explained_too(make_run, monkeypatch):
    from matplotlib.text import Text

    class Broken(Text):
        def draw(self, renderer):
            raise RuntimeError("no such ink")

    draw = Classification.draw
    monkeypatch.setattr(
        Classification,
        "draw",
        lambda self, axes, *args, **more: (draw(self, axes, *args, **more), axes.add_artist(Broken())),
    )
    page = report(make_run(strategies=("random", "entropy")))
    assert "missing: drawing failed, RuntimeError: no such ink." in page.words
    assert "The primary test" in page.words


@pytest.mark.usefixtures("unsaved")
def test_tasks_whose_names_differ_in_signs_alone_keep_their_own_tables(tmp_path):
    columns = ["task", "strategy", "seed", "stage", "labelled", "metric", "value"]
    names = ("a/b", "a-b", "цифры", "рецензии")
    rows = [
        (task, strategy, seed, stage, 10 * (stage + 1), "acc", place + 0.1 * stage + 0.01 * seed)
        for place, task in enumerate(names)
        for strategy in ("random", "x")
        for seed in (0, 1)
        for stage in (0, 1)
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "mine.csv", index=False)
    folder = write([tmp_path / "mine.csv"]).parent
    found = [pd.read_csv(file) for file in sorted((folder / "tables").glob("curve-*.csv"))]
    assert sorted(table["mean"].min().round() for table in found) == [0, 1, 2, 3]
    page = (folder / "index.html").read_text()
    anchors = re.findall(r'id="(task-[^"]+)"', page)
    assert len(set(anchors)) == len(anchors) >= 4


def test_names_are_text(make_run):
    run = make_run(strategies=("random", "entropy"))
    for file in run.iterdir():
        if file.is_file():
            file.write_text(file.read_text().replace("entropy", "<b>ö 'q' & |"))
    page = report(run)
    assert "<b>ö 'q' & |" in page.words
    assert "b" not in page.open


@pytest.mark.usefixtures("unsaved")
def test_the_seeds_behind_curves_without_bands_are_all_said(make_run, tmp_path):
    whole, part = make_run("whole"), make_run("part", short={("digits", "entropy", 1), ("digits", "core-set", 0)})
    words = report(whole, part, out=tmp_path / "both").words
    assert "Mean over 2 to 3 seeds. With so many strategies" in words


@pytest.mark.usefixtures("unsaved")
def test_two_runs_side_by_side(make_run, tmp_path):
    first, second = make_run("first", strategies=("random", "entropy")), make_run("second", strategies=("random",))
    page = report(first, second, out=tmp_path / "both")
    assert page.folder == tmp_path / "both"
    for label in ("first/random", "second/random", "entropy"):
        assert label in page.words
    assert "first/entropy" not in page.words
    assert (page.folder / "index.html").read_text().count(">Learning curves</h3>") == 1


def test_tasks_of_one_name_and_other_data_are_kept_apart(make_run):
    first, second = make_run("first"), make_run("second")
    manifest = json.loads((second / "manifest.json").read_text())
    manifest["tasks"]["digits"]["fingerprint"] = "of other data"
    (second / "manifest.json").write_text(json.dumps(manifest))
    runs = gather([first, second])
    assert [list(run.tasks) for run in runs] == [["first/digits"], ["second/digits"]]
    assert "random" in runs[0].strategies  # no collision: they meet on no task
    assert set(runs[1].results["task"]) == {"second/digits"}


@pytest.mark.parametrize("damage", ["no manifest", "torn manifest", "no results", "no column", "twice"])
def test_a_folder_that_is_no_run_is_said_in_a_line(make_run, damage):
    run = make_run()
    folders = [run]
    if damage == "no manifest":
        (run / "manifest.json").unlink()
    elif damage == "torn manifest":
        (run / "manifest.json").write_text('{"format": 1,')
    elif damage == "no results":
        (run / "results.csv").unlink()
    elif damage == "no column":
        (run / "results.csv").write_text("task,strategy\n")
    else:
        folders *= 2
    result = CliRunner().invoke(main, ["report", *map(str, folders)])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("unsaved")
def test_what_an_earlier_report_left_goes_and_what_others_put_there_stays(make_run, tmp_path):
    report = write([make_run("two", tasks=("digits", "figures"))], tmp_path / "report").parent
    (tmp_path / "results.csv").touch()
    for stranger in ("figures/mine.png", "notes.txt"):
        (report / stranger).write_text("mine")
    with (report / "files.txt").open("a") as listing:
        listing.write("../results.csv\nfigures/../../results.csv\n")
    write([make_run("one")], report)
    assert not [path.name for part in ("figures", "tables") for path in (report / part).glob("*-figures*")]
    assert all((report / name).is_file() for name in ("figures/mine.png", "notes.txt", "../results.csv"))
    listed = (report / "files.txt").read_text().split()
    assert sorted(listed) == listed
    assert "tables/curve-digits.csv" in listed


def test_an_out_folder_that_cannot_be_written(make_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AlbenchError, match="cannot be written"):
        write([make_run()], out=tmp_path / "file")


def test_the_callers_matplotlib_is_left_alone(make_run):
    before = dict(matplotlib.rcParams)
    result = CliRunner().invoke(main, ["report", str(make_run(strategies=("random",)))])
    assert result.exit_code == 0, result.output
    assert result.stderr == "Writing the report of 3 trials…\n"  # and nothing that moves, where that is no terminal
    assert dict(matplotlib.rcParams) == before


def test_a_folder_knows_how_many_of_its_figures_are_saved(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "b.png").touch()
    os.utime(tmp_path / "figures" / "b.png", (1, 1))  # of an earlier report
    folder = Folder(tmp_path, later=True)
    assert folder.progress() == (0, 0)
    folder.picture(Figure((2, 2)), "a", "", "", "", None)
    folder.picture(lambda width: Figure((width, 2)), "b", "", "", "", None, column=True)
    assert folder.progress() == (1, 3)  # what was drawn already is saved at once
    folder.finished(Document("", "", None, [], [], "", [], ""))
    assert folder.progress() == (3, 3)


def test_the_same_results_give_the_same_page(make_run, tmp_path):
    run = make_run(strategies=("random", "entropy"))
    pages = [write([run], out=tmp_path / name) for name in ("a", "b")]
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_pyplot_is_never_imported(make_run):
    """Its global state is slow to import and wants a display."""
    run = str(make_run(strategies=("random", "entropy", "core-set"), seeds=2))
    code = f"import sys; from albench.report import write; write([{run!r}]); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "matplotlib.figure" in modules
    assert "matplotlib.pyplot" not in modules


def test_a_sign_flip_of_drawn_patterns_is_not_called_exact(make_run, unsaved):
    few, many = (report(make_run(f"of-{seeds}", strategies=("random", "entropy"), seeds=seeds)) for seeds in (16, 17))
    assert "Wilcoxon and sign-flip are exact and cannot fall below the least attainable p." in few.words
    assert "Wilcoxon is exact and cannot fall below the least attainable p. Sign-flip is so up to 16" in many.words
    assert "20,000 random sign patterns are drawn, so that it cannot fall below 1/20,001." in many.words
    for page, floors in ((few, [2**-15, 2**-15]), (many, [2**-16, 1 / 20_001])):
        row = pd.read_csv(page.folder / "tables" / "exploratory-digits.csv").iloc[0]
        assert [row["attainable"], row["attainable_sign_flip"]] == pytest.approx(floors)
        assert row["sign_flip"] >= row["attainable_sign_flip"] * (1 - 1e-9)
