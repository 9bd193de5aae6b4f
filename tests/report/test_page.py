"""The page, Markdown and LaTeX as text: any name stands as it is, every table can be sorted and compiled."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albench.analysis.curves import curves, difference_curve
from albench.report import charts, latex, markdown, page
from albench.report.blocks import Checklist, Document, Finding, Folder, Item, Picture, Section, Table, Text
from albench.report.looks import COLOURS, GREYS, Look, _contrast, on_dark, to_rgb
from albench.report.numbers import p_value

EVIL = """</script><b>"ö' & _x_ $5 50% #1 {~^} \\ | 学習"""
CHARTED = charts.Chart(
    "labelled samples",
    EVIL,
    [charts.Series(EVIL, "#0072B2", "#0072B2", "o", "-", [1, 2], [0.1, None], [0, None], [0.2, None], ["a", EVIL])],
    [1, 2],
    [charts.Line(0.3, EVIL)],
)


def document(*blocks, **changes):
    """A report of one section."""
    facts = {"title": EVIL, "subtitle": EVIL, "banner": EVIL, "lede": [EVIL], "closing": EVIL, "settings": EVIL}
    facts["findings"] = [Finding(EVIL, EVIL, "a", EVIL, [EVIL])]
    facts["sections"] = [Section(EVIL, "a", list(blocks), EVIL)]
    return Document(**facts | changes)


def everything():
    """Every kind of block, with names that are hard to show."""
    table = Table(
        EVIL, [EVIL, EVIL], [[EVIL, "1"], ["b", EVIL]], [EVIL], "tables/x.csv", [("#000000", "●")] * 2,
        frozenset({(0, 1)}), marks={(0, 1): "*"},
    )  # fmt: skip
    picture = Picture(EVIL, "figures/a.png", b"", EVIL, EVIL, "tables/a.csv", column=True, chart=CHARTED)
    items = [Item(state, EVIL, EVIL) for state in ("ok", "attention", "missing")]
    return [Text(EVIL), picture, table, Checklist(EVIL, items)]


def test_no_name_becomes_markup():
    html = page.render(document(*everything()))
    assert '<b>"ö' not in html
    assert html.count("</script>") == 2  # the chart's data and the page's script
    data = re.search(r'<script type="application/json">(.*?)</script>', html, re.S).group(1)
    assert json.loads(data) == CHARTED.specification()
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")  # the name of SVG's elements, fetched by nobody


@given(st.text())
def test_json_in_a_script_cannot_end_it(text):
    embedded = str(page.embedded({"name": text}))
    assert not re.search(r"[<>&\u2028\u2029]", embedded)
    assert json.loads(embedded) == {"name": text}


def test_states_are_words_and_groups_are_listed():
    html = page.render(document(*everything()))
    for state in ("ok", "attention", "missing"):
        assert f'<span class="state {state}">{state}</span>' in html
    one = [Section(name, name, [Text("x")], "Tasks") for name in ("t1", "t2")]
    listed = document(sections=[Section("First", "first", []), *one, Section("Last", "last", [])])
    assert [(g, [s.title for s in sections]) for g, sections in listed.contents()] == [
        ("", ["First"]),
        ("Tasks", ["t1", "t2"]),
        ("", ["Last"]),
    ]
    html = page.render(listed)
    assert html.index('href="#first"') < html.index('href="#t2"') < html.index('href="#last"')


def test_cells_sort_by_the_number_they_mean():
    table = Table(
        "t",
        ["name", "value"],
        [["a", "−0.5 ± 0.1"], ["b", "1,200"], ["c", "not reached"], ["d", "reference"]],
        values={(3, 1): 0.0},
    )
    assert [table.value(r, 1) for r in range(4)] == [-0.5, 1200, None, 0]
    html = page.render(document(table))
    assert re.findall(r'data-value="([^"]*)"', html) == ["-0.5", "1200.0", "0.0"]
    assert ' sortable"' not in page.render(document(Table("t", ["", ""], [["a", "1"], ["b", "2"]], numeric=False)))


def test_markdown_shows_every_block():
    text = markdown.render(document(*everything()))
    for wanted in ("**✓ ok**", "**○ missing**", "[CSV](tables/a.csv)", "[PDF, one column](figures/a-column.pdf)"):
        assert wanted in text
    assert "**1\\***" in text
    assert "<b>" not in text.replace("\\<b>", "")


def test_latex_escapes_what_it_must():
    assert latex.escaped("a_b & 5% #1 {x} ~^\\$") == (
        r"a\_b \& 5\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}\$"
    )
    assert latex.escaped("run --jobs 2") == "run -{}-jobs 2"
    assert latex.escaped("−1 ± 2 ⚠ ρ") == r"$-$1 $\pm$ 2 (!) $\rho$"
    assert latex.escaped("Ünal, Žižek, naïve") == r"{\"U}nal, {\v{Z}}i{\v{z}}ek, na{\"i}ve"
    assert "\x00" not in latex.escaped("a\x00b\u0301")


def test_tables_are_saved_under_names_of_their_own(tmp_path):
    tables = [Table("One", ["a"], [["1"]], data="tables/x.csv"), Table("Two", ["a"], [["1"]], data="tables/x.csv")]
    saved = latex.save(document(Text("t"), *tables, Table("", ["", ""], [["a", "b"]], numeric=False)), Folder(tmp_path))
    names = [block.tex for block in saved.sections[0].blocks[1:]]
    assert names.pop() is None  # facts without headings are no table of a paper
    assert names == ["tables/x.tex", "tables/x-2.tex"]
    text = (tmp_path / "tables" / "x.tex").read_text()
    assert r"\toprule" in text
    assert r"\label{tab:x}" in text
    assert all(f'href="{name}"' in page.render(saved) for name in names)


def test_bold_marks_and_notes_reach_latex():
    table = Table("T", ["a", "b"], [["x", "−1"]], ["* p below .05"], strong=frozenset({(0, 1)}), marks={(0, 1): "*"})
    text = latex.render(table, "t", "caption")
    assert r"x & \textbf{{\boldmath$-$}1}\textsuperscript{*} \\" in text
    assert "* p below .05" in text


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    characters = "".join(
        chr(n) for n in [*range(32, 0x250), *range(0x391, 0x3CA), *range(0x2010, 0x2050), 0x4E2D, 0x1F600]
    )
    tables = [
        everything()[2],
        Table("f", ["", ""], [["a", EVIL], ["[b] *", "[c]"]], numeric=False),
        Table("all", ["a", "b"], [[f"{i}", characters[i : i + 24]] for i in range(0, len(characters), 24)]),
    ]
    tables.append(Table("wide", ["a"] * 20, [["−1.2345 [−6.7890, +1.2345]"] * 20]))
    body = "\n".join(latex.render(table, f"t{i}", EVIL) for i, table in enumerate(tables))
    source = (
        f"\\documentclass{{article}}\\usepackage{{booktabs,graphicx}}\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-1500:]
    assert "Overfull" not in log


def test_colours_can_be_told_from_a_dark_page():
    for colour in (*COLOURS, *GREYS):
        assert _contrast(to_rgb(on_dark(colour)), to_rgb("#1c1f24")) >= 4
    assert len({on_dark(colour) for colour in (*COLOURS, *GREYS)}) == len(COLOURS) + len(GREYS)


def test_a_dollar_in_bold_is_no_formula():
    table = Table("T", ["a"], [["p$q$r −1"]], strong=frozenset({(0, 0)}))
    assert r"\textbf{p\$q\$r {\boldmath$-$}1}" in latex.render(table, "t", "caption")


def test_the_smallest_p_sorts_first():
    ps = [0.5, 0.0001, 0.9999, 0.001, 0.04]
    table = Table("T", ["name", "p"], [["x", p_value(p)] for p in ps])
    values = [table.value(row, 1) for row in range(len(ps))]
    assert np.argsort(values).tolist() == np.argsort(ps).tolist()


def test_charts_hold_the_numbers_of_the_figures():
    rows = [("t", s, seed, k, 10 * (k + 1), "accuracy", 0.5 + 0.1 * k + 0.02 * seed + (0.05 if s == "b" else 0))
            for s in "ab" for seed in range(3) for k in range(2)]  # fmt: skip
    results = pd.DataFrame(rows, columns=["task", "strategy", "seed", "stage", "labelled", "metric", "value"])
    styles = {"a": Look("a", "#6E6E6E", "o"), "b": Look("b", "#0072B2", "s")}
    published = pd.DataFrame({"strategy": ["a"], "labelled": [20], "value": [0.6], "uncertainty": [0.003]})
    chart = charts.learning_chart(curves(results), styles, "accuracy", (0.9, "whole pool"), published, "a paper")
    assert chart.ticks == [10, 20]
    assert chart.series[0].mean == pytest.approx([0.52, 0.62])
    assert chart.series[0].low == pytest.approx([0.5, 0.6])
    assert chart.series[0].text[0] == "0.5200 ± 0.0200 (n = 3)"
    assert (chart.series[2].name, chart.series[2].published) == ("a, a paper", True)
    assert chart.lines == [charts.Line(0.9, "whole pool")]
    paired = charts.difference_chart(difference_curve(results, "accuracy", "a"), styles, "accuracy − a", "a")
    assert [series.name for series in paired.series] == ["b"]
    assert paired.series[0].mean == pytest.approx([0.05, 0.05])
    assert paired.series[0].text[0].startswith("+0.0500")
