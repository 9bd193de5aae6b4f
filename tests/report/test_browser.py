"""The page in a real browser: nothing is fetched, nothing fails, and what moves does what it says."""

import json
import re
import shutil

import pandas as pd
import pytest

from albench.analysis.curves import curves
from albench.report import charts, page, write
from albench.report.blocks import Checklist, Document, Folder, Item, Section, Table
from albench.report.figures import learning_curve
from albench.report.looks import Look, on_dark
from tests.report.conftest import fabricate

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install albench[dev])")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

EVIL = """</script><img src=x onerror=alert(1)> "ö' 学習"""
NAMES = ("random", EVIL)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page with a chart of two strategies, a table and a checklist."""
    folder = Folder(tmp_path_factory.mktemp("report"))
    rows = [
        ("t", name, seed, k, 1000 * (k + 1), "accuracy", 0.5 + 0.1 * k + 0.01 * seed + 0.05 * i * k)
        for i, name in enumerate(NAMES) for seed in range(3) for k in range(4)
    ]  # fmt: skip
    table = curves(pd.DataFrame(rows, columns=["task", "strategy", "seed", "stage", "labelled", "metric", "value"]))
    styles = {NAMES[0]: Look(NAMES[0], "#6E6E6E", "o"), EVIL: Look(EVIL, "#0072B2", "s")}
    ceiling = (0.97, "whole pool")
    chart = charts.learning_chart(table, styles, "accuracy", ceiling)
    figure = learning_curve(table, styles, "accuracy", ceiling)
    picture = folder.picture(figure, "curve", "Learning curves", "alternative text", "caption", None, chart=chart)
    cells = [["b", "9.5 ± 1"], [EVIL, "10.25"], ["reference", "reference"], ["a", "−3"]]
    sortable = Table("Table", ["name", "value"], cells, swatches=[("#000000", "●")] * 4)
    blocks = [picture, sortable, Checklist("Checklist", [Item("ok", EVIL, EVIL)])]
    document = Document(EVIL, "", None, [], [], "", [Section(EVIL, "task", blocks)], EVIL)
    return folder.text("index.html", page.render(document))


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, written):
    """The page as opened from disk; afterwards: no error, no request beyond the file itself."""
    context = browser.new_context(viewport={"width": 1000, "height": 1200})
    tab, wrong, asked = context.new_page(), [], []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(written.as_uri())
    yield tab
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]
    context.close()


def plot(tab):
    return tab.locator(".chart > svg")


def point(tab, labelled, moved=(0, 0)):
    """Where the chart shows a number of labels, in pixels of the window."""
    at = tab.evaluate(
        "text => { const t = [...document.querySelectorAll('.chart > svg text')].find(t => t.textContent === text);"
        " const r = t.getBoundingClientRect(); return [r.x + r.width / 2, r.y - 60]; }",
        f"{labelled:,}",
    )
    return at[0] + moved[0], at[1] + moved[1]


def ticks(tab):
    return tab.locator(".chart > svg text").all_text_contents()


def test_names_are_shown_as_text(tab):
    assert tab.locator("h1").inner_text() == EVIL
    assert tab.locator(".legend button").nth(1).inner_text() == EVIL
    assert tab.locator("tbody .name").nth(1).inner_text().endswith(EVIL)
    assert tab.locator("img").count() == 1  # the figure behind the chart


def test_pointing_shows_exact_values_of_all_strategies(tab):
    tab.mouse.move(*point(tab, 3000, (6, 0)))
    tip = tab.locator(".tip")
    assert tip.is_visible()
    lines = tip.inner_text().split("\n")
    assert lines[0] == "3,000 labelled samples"
    text = tip.inner_text()
    assert text.index(EVIL) < text.index("random")  # the higher first
    assert "0.8100 ± 0.0100 (n = 3)" in text
    assert "0.7100 ± 0.0100 (n = 3)" in text
    box, chart = tip.bounding_box(), tab.locator(".chart").bounding_box()
    assert chart["x"] <= box["x"]
    assert box["x"] + box["width"] <= chart["x"] + chart["width"]
    tab.mouse.move(1, 1)
    assert tip.is_hidden()


def test_the_keyboard_reaches_every_budget(tab):
    plot(tab).focus()
    said = []
    for key in ("Home", "ArrowRight", "ArrowRight", "End", "ArrowRight"):
        tab.keyboard.press(key)
        said.append(tab.locator(".tip caption").inner_text())
    assert said == [f"{n},000 labelled samples" for n in (1, 2, 3, 4, 4)]
    tab.keyboard.press("Escape")
    assert tab.locator(".tip").is_hidden()
    assert plot(tab).get_attribute("aria-label") == "alternative text"


def test_a_name_hides_its_curve_and_shows_it_again(tab):
    button = tab.locator(".legend button").first
    curves = tab.locator(".chart > svg .series .line")
    assert (button.get_attribute("aria-pressed"), curves.count()) == ("true", 2)
    button.click()
    assert (button.get_attribute("aria-pressed"), curves.count()) == ("false", 1)
    tab.mouse.move(*point(tab, 2000))
    assert "random" not in tab.locator(".tip").inner_text()
    button.click()
    assert (button.get_attribute("aria-pressed"), curves.count()) == ("true", 2)


@pytest.mark.parametrize("reset", ["button", "double click", "key"])
def test_dragging_zooms_and_everything_comes_back(tab, reset):
    before = ticks(tab)
    x, y = point(tab, 2000, (-20, 0))
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 100, y - 100)
    assert tab.locator(".chart .frame").count() == 1
    tab.mouse.move(*point(tab, 3000, (20, -150)))
    tab.mouse.up()
    after = ticks(tab)
    assert "2,000" in after
    assert "1,000" not in after
    if reset == "button":
        tab.get_by_role("button", name="Show everything").click()
    elif reset == "double click":
        plot(tab).dblclick()
    else:
        plot(tab).press("0")
    assert ticks(tab) == before


def test_buttons_zoom_about_what_is_looked_at(tab):
    plot(tab).focus()
    tab.keyboard.press("End")
    tab.keyboard.press("+")
    assert "4,000" in ticks(tab)
    assert "1,000" not in ticks(tab)
    tab.get_by_role("button", name="Zoom out").click()
    assert "1,000" in ticks(tab)


def test_tables_sort_by_value_and_go_back(tab):
    head = tab.locator("thead th").nth(1)
    names = tab.locator("tbody .name")

    def order():
        return [re.sub(r"^●", "", name) for name in names.all_text_contents()]

    first = order()
    orders = [order() for _ in range(3) if head.get_by_role("button").click() is None]
    assert (
        [[name[:3] for name in found] for found in orders]
        == [
            [EVIL[:3], "b", "a", "ref"],  # 10.25 before 9.5; what has no number is last
            ["a", "b", EVIL[:3], "ref"],
            [name[:3] for name in first],
        ]
    )
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    tab.locator("thead th button").first.click()
    assert order()[-2:] == ["b", "reference"]
    assert head.get_attribute("aria-sort") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(browser, written, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(written.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert plot(tab).bounding_box()["width"] > 0.8 * min(width, 900)
    colour = tab.evaluate("getComputedStyle(document.querySelector('.chart .line')).stroke")
    wanted = on_dark("#6E6E6E") if scheme == "dark" else "#6E6E6E"
    assert colour == "rgb({}, {}, {})".format(*bytes.fromhex(wanted[1:]))
    context.close()


def test_a_touch_shows_values(browser, written):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    tab = context.new_page()
    tab.goto(written.as_uri())
    plot(tab).scroll_into_view_if_needed()
    tab.touchscreen.tap(*point(tab, 4000))
    assert "4,000 labelled samples" in tab.locator(".tip").inner_text()
    context.close()


def test_without_scripts_and_in_print_the_figure_stands_there(browser, written):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(written.as_uri())
    assert tab.locator(".sheet img").is_visible()
    assert tab.locator(".chart").is_hidden()
    assert tab.locator("thead").inner_text().split() == ["name", "value"]
    context.close()
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(written.as_uri())
    assert tab.locator(".sheet img").is_hidden()
    tab.emulate_media(media="print")
    assert tab.locator(".sheet img").is_visible()
    assert tab.locator(".chart").is_hidden()
    context.close()


STRATEGIES = ("random", "entropy", "core-set", "learning-loss", "true-loss")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole report of a run whose strategy has a name that is hard to show."""
    folder = fabricate(tmp_path_factory.mktemp("whole") / "run", strategies=STRATEGIES)
    for file in folder.glob("*.csv"):
        table = pd.read_csv(file)
        table.replace({"strategy": {"core-set": EVIL}}).to_csv(file, index=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    for part in (manifest["strategies"], manifest["suite"]["strategies"]):
        part[EVIL] = part.pop("core-set")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return write([folder])


@pytest.fixture
def opened(browser, whole):
    """The whole report in a window of a width; afterwards: no error, no request beyond the file itself."""
    contexts, wrong, asked = [], [], []

    def window(width, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(whole.as_uri())
        return tab

    yield window
    assert wrong == []
    assert {url for url in asked if not url.startswith("data:")} == {whole.as_uri()}
    for context in contexts:
        context.close()


def primary_table(tab):
    return tab.get_by_role("region", name="Comparison with the reference")


def test_a_whole_report_sorts_and_tells_values_under_any_name(opened):
    tab = opened(1280)
    assert tab.locator("figure.drawn").count() == tab.locator(".chart").count() > 1
    chart = tab.locator(".chart").first
    assert chart.locator(".legend button").nth(4).inner_text() == EVIL  # renamed, so last in the manifest
    chart.locator("> svg").scroll_into_view_if_needed()
    chart.locator("> svg").hover()
    assert EVIL in chart.locator(".tip").inner_text()
    table = primary_table(tab)
    head = table.locator("thead th").nth(4)
    assert "AUBC" in head.inner_text()
    head.get_by_role("button").click()
    values = [float(text.split()[0]) for text in table.locator("tbody td:nth-child(5)").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert len(values) == 5
    assert EVIL in table.inner_text()


def test_nothing_of_a_whole_report_is_cut_off(opened):
    wider = "[...document.querySelectorAll('.scroll, .sheet')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    named = f"{wider}.map(e => [e.ariaLabel, e.scrollWidth, e.clientWidth])"
    tab = opened(1280)
    tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert tab.evaluate(named) == []
    phone = opened(390)
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.evaluate(f"{wider}.filter(e => e.matches('.sheet')).length") == 0
    sources = phone.evaluate("[...document.querySelectorAll('.sheet img')].map(i => i.currentSrc === i.src)")
    assert not any(sources)  # all figures in their form for one column
    verdict = primary_table(phone).locator("tbody tr").nth(1).locator("td").first
    assert verdict.inner_text() in ("better", "worse", "equivalent", "undecided")
    box = verdict.bounding_box()
    assert box["x"] + box["width"] <= 390
