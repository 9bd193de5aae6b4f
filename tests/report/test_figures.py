"""What figures promise: one look per strategy, names that do not overlap, panels for any count."""

import io
import re
from functools import partial
from itertools import combinations, pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from albench.analysis.curves import curves
from albench.report import charts, diagrams, figures, gallery, lettering, looks, matrices, panels, words
from albench.report.blocks import Folder
from albench.report.numbers import metric_name, number
from albench.report.runs import gather
from albench.report.tables import summaries


def test_looks_follow_the_suite_and_tell_strategies_apart(make_run):
    styles = looks.looks(gather([make_run()]))
    assert list(styles) == ["random", "entropy", "core-set", "learning-loss", "true-loss"]
    assert styles["random"].colour in looks.GREYS
    assert styles["entropy"].colour == looks.COLOURS[0]
    assert styles["true-loss"].name == "true-loss ⚠"
    assert len({look.colour for look in styles.values()}) == len({look.marker for look in styles.values()}) == 5


def test_strategies_look_the_same_whatever_stands_beside_them(make_run):
    few = looks.looks(gather([make_run("few", strategies=("random", "core-set", "entropy"))]))
    many = gather([make_run("many", strategies=("learning-loss", "random", "entropy", "core-set"))])[0]
    many.strategies |= {f"other-{i}": {"strategy": f"other-{i}"} for i in range(6)}
    found = looks.looks([many])
    assert {name: found[name] for name in few} == few
    assert len({(look.colour, look.dashes) for look in found.values()}) == len(found)


def test_the_usual_strategies_have_looks_of_their_own(make_run):
    usual = ("entropy", "core-set", "learning-loss", "learning-loss-mse", "margin", "badge", "bald")
    run = gather([make_run()])[0]
    run.strategies = {name: {"strategy": name} for name in ("random", *usual)}
    alone = {name: looks._place(name) for name in usual}
    assert len(set(alone.values())) == len(usual)
    assert {looks.looks([run])[name].colour for name in usual} == set(looks.COLOURS)


def test_the_reference_and_its_variants_are_grey(make_run):
    run = gather([make_run()])[0]
    variant = {"strategy": "random-b", "companion": None, "cheats": False}
    many = {f"other-{i}": {"strategy": f"other-{i}"} for i in range(20)}
    run.strategies |= {"twin": variant, "random+module": {"strategy": "random"}} | many
    styles = looks.looks([run])
    assert {styles[s].colour for s in ("random", "twin", "random+module")} == set(looks.GREYS)
    assert len({(look.colour, look.marker, look.dashes) for look in styles.values()}) == len(styles)


@pytest.mark.parametrize("count", [1, 2, 5, 18])
def test_names_keep_their_order_and_distance(count):
    wanted = np.sort(np.random.default_rng(count).uniform(0.4, 0.6, count))
    places = lettering.spread(wanted, 0.05)
    assert (places >= 0).all()
    assert (places <= 1 + 1e-9).all()
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(places))
    assert lettering.spread(np.array([0.1, 0.9]), 0.05).tolist() == [0.1, 0.9]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_panels_lie_within_the_figure_apart(count):
    legend = lettering.Legend([("a", {}), ("b", {})], 6.9)
    figure, axes, _ = panels._panels(["t"] * count, "y", "x", 6.9, True, legend)
    boxes = [a.get_position() for a in axes]
    assert all(0 < b.x0 < b.x1 < 1 and 0 < b.y0 < b.y1 < 1 for b in boxes)
    assert len(figure.axes) == count


def test_a_curve_with_many_strategies_and_stages_is_drawn():
    rows = [
        ("t", f"s{i}", seed, stage, 10 * (stage + 1), "accuracy", stage / 20 + i / 100)
        for i in range(25)
        for seed in range(2)
        for stage in range(20)
    ]
    table = curves(pd.DataFrame(rows, columns=["task", "strategy", "seed", "stage", "labelled", "metric", "value"]))
    styles = {f"s{i}": looks.Look(f"s{i}", "#0072B2", "o") for i in range(25)}
    figure = figures.learning_curve(table, styles, "accuracy", reference="s3", width=looks.ONE_COLUMN)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    # the reference and the best, in the suite's order along rows, where matplotlib fills columns; the others in grey
    assert set(legend) == {"s3", *(f"s{i}" for i in range(19, 25)), "18 others"}
    assert legend[:2] != ["s3", "s19"]
    axes = figure.axes[0]
    assert axes.get_xlabel() == "labelled samples"
    assert sum(line.get_color() == figures.CROWD["color"] for line in axes.lines) == 18
    assert set(figures.leading(table[table["strategy"] < "s2"], styles)) == {f"s{i}" for i in range(14, 20)}


def test_numbers_and_metrics_as_they_are_written():
    assert number(-0.01234, 3, sign=True) == "−0.012"
    assert number(float("nan")) == "–"
    assert [metric_name(m) for m in ("accuracy", "map", "map@11pt", "pckh-neck@0.5")] == [
        *("accuracy", "mAP", "mAP@11pt", "PCKh-neck@0.5")
    ]


def test_findings_describe_every_situation(make_run):
    run = gather([make_run()])[0]
    rows = summaries([run], "digits")
    assert "95\u202f% interval" in words.finding(rows, "accuracy", 0.05)
    alone = rows[rows["strategy"] == "random"].reset_index(drop=True)
    assert "nothing else has a complete curve" in words.finding(alone, "accuracy", 0.05)
    other = rows[rows["strategy"] == "entropy"].reset_index(drop=True).assign(difference=np.nan)
    assert "there is no reference" in words.finding(other, "accuracy", 0.05)
    single = rows.assign(low=np.nan, high=np.nan, pairs=1)
    assert "so there is no interval" in words.finding(single, "accuracy", 0.05)


def test_the_legend_of_the_ranking_names_what_is_drawn():
    """The score of entropy is its own baseline, and no candidates were measured."""
    rows = [("entropy", f"spearman/test/{k}", n, v) for k, v in [("score", 0.4), ("entropy", 0.4), ("trivial", 0.1)]
            for n in (10, 20)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["strategy", "metric", "labelled", "mean"]).assign(std=0.01)
    styles = {name: looks.Look(name, "#0072B2", "o") for name in ("entropy", "ll")}

    def named(table):
        return {text.get_text() for text in panels.ranking(table, styles, "spearman").legends[0].get_texts()}

    assert named(table) == {"score, test set", "trivial, test set"}
    other = table.assign(strategy="ll", mean=table["mean"].where(table["metric"] != "spearman/test/score", 0.3))
    assert named(pd.concat([table, other])) == {"score, test set", "entropy, test set", "trivial, test set"}
    control = other.assign(metric=other["metric"].str.replace("score", "companion"))
    assert named(control) == {"companion, test set", "entropy, test set", "trivial, test set"}


NAMES = ["random", "entropy", "a strategy whose name_is_long+with-parts/of-its-own", "core-set", "true-loss"]
WIDTHS = (looks.TWO_COLUMNS, looks.ONE_COLUMN)


def drawings():
    """Every kind of figure, with a long name, as functions of the width."""
    rng = np.random.default_rng(0)
    styles = {n: looks.Look(n, looks.COLOURS[i], looks.MARKERS[i]) for i, n in enumerate(NAMES)}
    at = pd.MultiIndex.from_product([NAMES, range(100, 600, 100)], names=["strategy", "labelled"])
    at = at.to_frame(index=False)
    curve = at.assign(mean=rng.uniform(0.4, 0.9, len(at)), std=0.02, n=3, low=0.3, high=0.95)
    published = at.assign(value=0.7, uncertainty=0.003)
    square = pd.DataFrame(rng.normal(0, 0.02, (5, 5)), NAMES, NAMES)
    tests = pd.DataFrame({"strategy": NAMES[1:], "mean": [0.01, -0.02, 0.0, np.nan]})
    tests = tests.assign(low=tests["mean"] - 0.01, high=tests["mean"] + 0.01, verdict="undecided")
    both = pd.concat([tests.assign(task="digits"), tests.assign(task="figures")])
    low, high = [-40, -np.inf, 20, np.nan], [300, -5, np.inf, np.nan]
    saved = tests.assign(mean=[120, -np.inf, np.inf, np.nan], low=low, high=high)
    ranking = pd.concat([curve.assign(metric=f"ranking-accuracy/test/{k}") for k in ("score", "entropy")])
    scores = pd.DataFrame({"strategy": NAMES * 20, "predicted": rng.normal(size=100), "true": rng.exponential(1, 100)})
    descent = at.rename(columns={"labelled": "update"}).assign(stage=0, labelled=100, objective=rng.exponential(1, 25))
    ranks = dict(zip(NAMES, [5, 3, 2.5, 1, 3.5], strict=True))
    return {
        "curve": partial(figures.learning_curve, curve, styles, "accuracy", (0.9, "whole pool"), published, "a paper"),
        "difference": partial(figures.difference_curve, curve, styles, "accuracy − random", "random"),
        "ranking": partial(panels.ranking, ranking, styles),
        "descent": partial(panels.descent, pd.concat([descent, descent.assign(stage=4, labelled=500)]), styles),
        "scatter": partial(panels.scatter, scores, styles),
        "significance": partial(matrices.significance, square, square.abs(), 0.01, "difference of AUBC"),
        "penalties": partial(matrices.penalties, square.abs(), square.abs().mean()),
        "balance": partial(matrices.balance, np.exp(20 * square)),
        "overlap": partial(matrices.overlap, square.abs()),
        "overlap of two": partial(matrices.overlap, square.iloc[1:3, 1:3].abs()),  # a bar taller than the map
        "forest": partial(diagrams.forest, both, styles, "AUBC − random", 0.005),
        "efficiency": partial(diagrams.efficiency, saved, styles, "labels saved against random", 500),
        "ranks": partial(diagrams.critical_difference, ranks, styles, 1.2),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", list(drawings()))
def test_no_text_is_clipped_or_too_small(kind, width):
    with looks.style(width):
        figure = drawings()[kind](width=width)
        figure.draw_without_rendering()
        box = figure.get_tightbbox()  # inches, of all that is drawn
        texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
    assert figure.get_figwidth() <= width + 1e-9
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < figure.get_figwidth() + 0.02
    assert box.y1 < figure.get_figheight() + 0.02
    assert min(text.get_fontsize() for text in texts) >= 7
    said = {re.sub(r"\s|\(\d.*\)", "", text.get_text()) for text in texts}
    assert re.sub(r"\s", "", NAMES[2]) in said  # in several lines, perhaps, but whole


def test_a_figure_for_one_column_is_left_out_where_nothing_could_be_read_in_it(tmp_path):
    folder = Folder(tmp_path)
    folder.one_column = False
    assert not folder.picture(drawings()["forest"], "forest", "", "", "", None, column=True).column
    assert not list((tmp_path / "figures").glob("*column*"))


def test_files_are_the_same_every_time_and_hold_text(tmp_path):
    folders = [Folder(tmp_path / name) for name in "ab"]
    for folder in folders:
        folder.picture(drawings()["forest"], "forest", "", "", "", None, column=True)
    names = sorted(path.name for path in (tmp_path / "a" / "figures").iterdir())
    assert names == [f"forest{part}.{kind}" for part in ("-column", "") for kind in ("pdf", "png", "svg")]
    for name in names:
        assert len({(folder.path / "figures" / name).read_bytes() for folder in folders}) == 1, name
    svg = (tmp_path / "a" / "figures" / "forest.svg").read_text()
    assert ">entropy<" in svg
    assert b"/FontFile2" in (tmp_path / "a" / "figures" / "forest.pdf").read_bytes()  # TrueType: text stays text


def test_a_dollar_is_no_formula():
    table = drawings()["curve"].args[0].replace({"strategy": {"entropy": "$x_1$"}})
    with looks.style():
        figure = figures.learning_curve(table, {"$x_1$": looks.Look("$x_1$", "#0072B2", "o")}, "accuracy")
        texts = [text for text in figure.findobj(Text) if text.get_text() == "$x_1$"]
        assert texts
        assert not any(text.get_parse_math() for text in texts)


def test_intervals_of_two_seeds_do_not_press_the_curves_flat():
    at = pd.DataFrame({"strategy": "a", "labelled": [10, 20, 30], "mean": [0.0, 0.02, -0.01]})
    wide = at.assign(low=at["mean"] - 1.5, high=at["mean"] + 1.5)
    styles = {"a": looks.Look("a", "#0072B2", "o")}
    forest = pd.DataFrame({"strategy": ["a"], "mean": [0.01], "low": [-1.5], "high": [1.5], "pairs": [2]})
    with looks.style():
        ends = {n: figures.difference_curve(wide.assign(n=n), styles, "y", "random").axes[0].get_ylim() for n in (2, 3)}
        across = diagrams.forest(forest, styles, "x", 0.005).axes[0].get_xlim()
        none = figures.difference_curve(wide.assign(mean=0.0, low=0.0, high=0.0, n=3), styles, "y", "random")
    assert ends[2] == pytest.approx((-0.088, 0.088))
    assert ends[3][1] > 1.5  # an interval of three is drawn whole
    assert across[1] < 0.05
    assert none.axes[0].get_ylim()[1] <= 0.01  # not ± 0.055, as of itself
    chart = charts.difference_chart(wide.assign(n=2), styles, "y", "random")
    assert chart.specification()["frame"] == pytest.approx((-0.08, 0.08))


def test_a_single_panel_takes_the_whole_width():
    table = pd.DataFrame({"strategy": "a", "predicted": [1.0, 2.0], "true": [0.1, 0.2]})
    with looks.style():
        (axes,) = panels.scatter(table, {"a": looks.Look("a", "#0072B2", "o")}).axes
    assert axes.get_position().width > 0.85


@given(st.lists(st.integers(10, 60), min_size=1, max_size=8), st.integers(0, 30))
def test_bars_join_what_differs_by_no_more_than_the_critical_difference(tenths, cd):
    ranks = np.sort(np.array(tenths, float))
    joined = {(i, j) for i in range(len(ranks)) for j in range(i + 1, len(ranks)) if ranks[j] - ranks[i] <= cd}
    bars = diagrams.cliques(ranks, cd)
    assert {(i, j) for a, b in bars for i in range(a, b + 1) for j in range(i + 1, b + 1)} == joined
    assert not any(c <= a and b <= d for (a, b) in bars for (c, d) in bars if (a, b) != (c, d))


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60), st.floats(0.3, 3))
def test_wrapped_names_lose_nothing(name, inches):
    lines = lettering.wrapped(name, inches, 8).split("\n")
    assert "".join(lines) == name
    assert all(lettering.breadth(line, 8) <= inches or len(line) <= 1 for line in lines)


def test_marks_stand_where_numbers_do_not_fit():
    many = [f"s{i}" for i in range(30)]
    square = pd.DataFrame(np.ones((30, 30)), many, many)
    p = pd.DataFrame(np.where(np.eye(30), 1.0, 0.001), many, many)
    with looks.style():
        axes = matrices.significance(square, p).axes[0]
    assert not axes.texts
    marked = {(x, y) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}
    assert marked == {(x, y) for x in range(30) for y in range(30) if x != y}


def scribble(size, title=""):
    """A task's `draw`: an image of a size, with a title."""

    def draw(axes, samples, row, classes):
        axes.imshow(np.zeros(size))
        axes.set_title(title, fontsize=7)

    return draw


@pytest.mark.parametrize("width", [looks.TWO_COLUMNS, looks.ONE_COLUMN])
@pytest.mark.parametrize(("size", "title"), [((30, 40), ""), ((40, 30), ""), ((8, 8), "3 → 5")])
def test_a_gallery_has_room_for_its_pictures_and_no_more(size, title, width):
    styles = {name: looks.Look(name, "#0072B2", "o") for name in ("random", "a-long-name-of-a-strategy")}
    head = ["strategy", "seed", "stage", "order", "index", "answer"]
    picks = pd.DataFrame([(name, 0, 1, order, order, None) for name in styles for order in range(8)], columns=head)
    task = SimpleNamespace(pictures=5, draw=scribble(size, title), legend=lambda classes: {"cell": "#112233"})
    with looks.style(width):
        figure = gallery.draw(picks, styles, task, SimpleNamespace(pool=None, classes=["cell"]), width)
        figure.savefig(io.BytesIO())
    assert len(figure.axes) == 2 * (5 if width == looks.TWO_COLUMNS else 3)
    whole = figure.bbox
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    shown = boxes + [text.get_window_extent() for text in figure.texts]
    assert all(whole.contains(*box.min) and whole.contains(*box.max) for box in shown)
    assert not any(a.overlaps(b) for a, b in combinations(shown, 2))
    images = sum(axes.get_window_extent().height for axes in figure.axes[:: len(figure.axes) // 2])
    assert images > (0.75 if width == looks.TWO_COLUMNS else 0.55) * whole.height


def test_what_a_companion_predicts_is_not_called_a_score():
    table = pd.DataFrame({"strategy": ["a", "a", "b", "b"], "predicted": [1, 2, 3, 4.0], "true": [1, 2, 2, 1.0]})
    styles = {name: looks.Look(name, "#0072B2", "o") for name in ("a", "b")}
    figure = panels.scatter(table, styles, frozenset({"b"}))
    assert [axes.get_xlabel() for axes in figure.axes] == ["score", "companion"]


@pytest.mark.parametrize(("losses", "scale"), [([0.0, 0.01, 0.1, 1.0, 5.0], "log"), ([1.0, 1.2, 1.4, 2.0], "linear")])
def test_losses_that_span_magnitudes_have_a_logarithmic_axis(losses, scale):
    table = pd.DataFrame({"strategy": "a", "predicted": range(len(losses)), "true": losses})
    (axes,) = panels.scatter(table, {"a": looks.Look("a", "#0072B2", "o")}).axes
    assert axes.get_yscale() == scale
    assert panels.spans_magnitudes(table["true"]) == (scale == "log")


def test_a_gallery_shows_all_of_few_strategies_and_the_first_of_many():
    for many, shown in ((gallery.ROWS, gallery.ROWS), (gallery.ROWS + 1, gallery.OF_MANY)):
        names = [f"s{number}" for number in range(many)]
        found = gallery.rows(pd.DataFrame({"strategy": names}), dict.fromkeys(names))
        assert found == names[:shown]
