r"""Tables for papers: booktabs, the best in bold, marks explained in a note; compiles with pdfLaTeX as it is.

The preamble needs \usepackage{booktabs,graphicx}: what is wider than the text is scaled down to it. A table is put in
with \input{tables/NAME}.
"""

import re
import textwrap
import unicodedata
from dataclasses import replace
from itertools import count, zip_longest

from albench.report.blocks import Document, Folder, Section, Table

SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"},
    **{'"': "''", "`": r"\textasciigrave{}"},  # \textquotedbl needs another font encoding
    **{"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "÷": r"$\div$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$"},
    **{"·": r"$\cdot$", "°": r"$^\circ$", "²": "$^2$", "³": "$^3$", "¹": "$^1$", "→": r"$\to$", "∞": r"$\infty$"},
    **{"–": "--", "—": "---", "…": r"\dots{}", "“": "``", "”": "''", "‘": "`", "’": "'", "•": r"\textbullet{}"},
    **{"†": r"\dag{}", "‡": r"\ddag{}", "⚠": r"(!)", "✓": "yes", "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}"},
    **{"æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}"},
    **{"\u00a0": "~", "\u202f": r"\,", "\u2009": r"\,", "\u200b": "{}", "\u00ad": r"\-", "µ": r"$\mu$"},
}
ACCENTS = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": "."},
    **{"\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0323": "d"},
}
GREEK = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta"},
    **{"θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi"},
    **{"π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "varphi", "χ": "chi"},
    **{"ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi"},
    **{"Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega"},
}


ONE_COLUMN = 48  # letters of a 3.3 inch column in \small
SIZES = (
    (100, r"\small"),
    (118, r"\footnotesize\setlength{\tabcolsep}{4pt}"),
    (150, r"\scriptsize\setlength{\tabcolsep}{3pt}"),
    (float("inf"), r"\tiny\setlength{\tabcolsep}{2pt}"),
)


def save(document: Document, folder: Folder) -> Document:
    """Write every table with headings as tables/NAME.tex; returns the document with the tables' addresses.

    NAME is the table's own, that of its CSV, or made from section and title; a number tells those of one name apart.
    """
    taken: set[str] = set()

    def written(table: Table, section: Section) -> Table:
        stem = table.name or (table.data.removeprefix("tables/").removesuffix(".csv") if table.data else "")
        stem = _slug(stem or f"{section.anchor}-{table.title}")
        name = next(n for i in count(1) if (n := stem if i == 1 else f"{stem}-{i}") not in taken)
        taken.add(name)
        caption = f"{section.title}: {table.title}" if table.title else section.title
        folder.text(f"tables/{name}.tex", render(table, name, caption))
        return replace(table, tex=f"tables/{name}.tex")

    sections = [
        # facts and notes have no headings, and no paper prints them
        replace(
            section,
            blocks=[written(b, section) if isinstance(b, Table) and any(b.columns) else b for b in section.blocks],
        )
        for section in document.sections
    ]
    return replace(document, sections=sections)


def render(table: Table, name: str, caption: str) -> str:
    """A table environment, labelled tab:NAME; notes below the rule; across both columns where one is too narrow."""
    columns = max((len(row) for row in table.rows), default=len(table.columns))
    if table.numeric:
        layout = "l" + "r" * (columns - 1)
    else:
        rest = 0.65 / max(columns - 1, 1)
        parts = (
            [r"p{.94\linewidth}"]
            if columns == 1
            else [r"p{.25\linewidth}", *[f"p{{{rest:.3f}\\linewidth}}"] * (columns - 1)]
        )
        layout = "".join(parts)
    heads = [_lines(heading, table, column) for column, heading in enumerate(table.columns)]
    letters = _letters(table, heads)
    environment = "table*" if letters > ONE_COLUMN else "table"
    size = next(size for limit, size in SIZES if letters <= limit)
    said = " ".join(map(escaped, table.notes))
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        rf"\begin{{{environment}}}[tbp]",
        rf"\centering{size}",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{name}}}",
        rf"\sbox0{{\begin{{tabular}}{{@{{}}{layout}@{{}}}}",
        r"\toprule",
        *([" & ".join(map(_heading, heads, layout)) + r" \\", r"\midrule"] if any(table.columns) else []),
        *(_row(row, table, r) for r, row in enumerate(table.rows)),
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
        *([rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {said}}}"] if said else []),
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def _lines(heading: str, table: Table, column: int) -> list[str]:
    """A heading in lines about as long as what stands below it."""
    longest = max((len(row[column]) for row in table.rows if column < len(row)), default=0)
    return textwrap.wrap(heading, max(longest, 12), break_long_words=False) or [""]


def _heading(lines: list[str], side: str) -> str:
    if len(lines) == 1:
        return escaped(lines[0])
    inside = r" \\ ".join(map(escaped, lines))
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{inside}\end{{tabular}}"


def _letters(table: Table, heads: list[list[str]]) -> int:
    """How wide a table is, in letters; one of paragraphs fits any column."""
    if not table.numeric:
        return 0
    cells = [[max(map(len, lines)) for lines in heads], *([len(cell) for cell in row] for row in table.rows)]
    return sum(max(column, default=0) + 2 for column in zip_longest(*cells, fillvalue=0))


def _row(row: list[str], table: Table, number: int) -> str:
    cells = []
    for column, text in enumerate(row):
        cell = escaped(text)
        if (number, column) in table.strong:
            cell = rf"\textbf{{{_bold_math(cell)}}}"
        mark = table.marks.get((number, column))
        cells.append(cell + (rf"\textsuperscript{{{escaped(mark)}}}" if mark else ""))
    return " & ".join(cells) + r" \\"


def _bold_math(text: str) -> str:
    """Within \\textbf, signs set as mathematics would stay light."""
    return re.sub(r"(?<!\\)\$(.*?)(?<!\\)\$", r"{\\boldmath$\1$}", text)


def escaped(text: str) -> str:
    r"""Text that LaTeX sets as it is.

    >>> print(escaped("50 % of a_b & Müller: −0.1 ± 0.2"))
    50 \% of a\_b \& M{\"u}ller: $-$0.1 $\pm$ 0.2
    """
    apart = unicodedata.normalize("NFC", text).replace("--", "-\u200b-")  # two hyphens would be set as a dash
    return "".join(map(_character, apart))


def _character(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isspace():
        return " "
    if " " <= character <= "~":
        return character
    if character in GREEK:
        return f"$\\{GREEK[character]}$"
    base, *accents = list(unicodedata.normalize("NFD", character))
    if base.isascii() and base.isalpha() and len(accents) == 1 and accents[0] in ACCENTS:
        accent = ACCENTS[accents[0]]
        return f"{{\\{accent}{{{base}}}}}" if accent.isalpha() else f"{{\\{accent}{base}}}"
    if unicodedata.category(character).startswith("C") or unicodedata.combining(character):
        return ""
    # other scripts need XeLaTeX or LuaLaTeX and a font; pdfLaTeX gets the number of the character
    return f"\\ifdefined\\Umathchar {character}\\else U+{ord(character):04X}\\fi{{}}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+@-]+", "-", text).strip("-") or "table"
