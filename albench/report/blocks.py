"""What a report is made of: text, pictures, tables, checklists in sections. Page and Markdown show the same blocks."""

import contextlib
import math
import re
import time
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from albench.errors import AlbenchError
from albench.report.charts import Chart
from albench.report.looks import ONE_COLUMN, TWO_COLUMNS
from albench.report.press import Drawn, Press, breadth

NUMBER = re.compile(r"([<>]\s)?([+−-]?(\d[\d,]*(\.\d+)?|\.\d+)(e[+-]?\d+)?)")
LISTING, OURS = "files.txt", re.compile(r"(figures|tables)/[^/\\]+\.(png|pdf|svg|csv|tex)")


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A figure: `file` and `data` (the CSV behind it) are relative to the report's folder.

    The PDF and SVG lie beside `file` under the same name; column: so do the three of NAME-column, drawn for one column.
    chart: the same as an interactive chart, which the page shows in its place where scripts run.
    """

    title: str
    file: str
    image: bytes = field(repr=False)  # WebP, as the page holds it
    alt: str
    caption: str
    data: str | None = None
    width: float = 7.0  # inches, as drawn
    column: bool = False
    chart: Chart | None = None
    narrow: bytes | None = field(default=None, repr=False)  # the same of one column, for narrow screens

    @property
    def files(self) -> dict[str, str]:
        """Links to the drawn files, by what a reader calls them."""
        stem = self.file.removesuffix(".png")
        found = {"PDF": f"{stem}.pdf", "SVG": f"{stem}.svg"}
        return found | ({"PDF, one column": f"{stem}-column.pdf"} if self.column else {})


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; the first column names the row, `swatches` are (colour, glyph) beside it.

    strong: (row, column) of cells in bold, which a note explains. marks: (row, column) to a mark that is appended,
    such as "*", which a note explains. values: (row, column) to the number that sorting uses; without one it is the
    number that a cell begins with. name: of the LaTeX file; by default that of `data`, or made from the title.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    data: str | None = None
    swatches: list[tuple[str, str]] = field(default_factory=list)
    strong: frozenset[tuple[int, int]] = frozenset()
    numeric: bool = True  # right-aligned columns after the first
    folded: bool = False  # shown on the page when asked for: long, and seldom what one came for
    marks: dict[tuple[int, int], str] = field(default_factory=dict)
    values: dict[tuple[int, int], float] = field(default_factory=dict)
    name: str | None = None
    tex: str | None = None  # its address, once `latex.save` has written it

    @property
    def files(self) -> dict[str, str]:
        """Links to other forms of it, by what a reader calls them."""
        return {"LaTeX": self.tex} if self.tex else {}

    def value(self, row: int, column: int) -> float | None:
        """The number that sorting uses: the one in `values`, or that which the cell begins with; None without one.

        >>> [Table("", ["a", "b"], [["x", text]]).value(0, 1) for text in ("−1,200.5 ± 3", "–", "12 %", "digits", ".5")]
        [-1200.5, None, 12.0, None, 0.5]
        >>> Table("", ["a", "p"], [["x", "< .001"]]).value(0, 1) < 0.001
        True
        """
        if (row, column) in self.values:
            value = self.values[row, column]
            return value if math.isfinite(value) else None
        found = NUMBER.match(self.rows[row][column])
        if not found:
            return None
        value = float(found[2].replace("−", "-").replace(",", ""))
        return math.nextafter(value, math.inf if found[1][0] == ">" else -math.inf) if found[1] else value


@dataclass(frozen=True)
class Item:
    """A line of a checklist. name: what is asked; text: what was found, or only stated by the suite."""

    state: Literal["ok", "attention", "missing", "stated"]
    name: str
    text: str


@dataclass(frozen=True)
class Checklist:
    """What a reviewer asks of a comparison, and the answers; the state is said in a word, not by colour alone."""

    title: str
    items: list[Item]


Block = Text | Picture | Table | Checklist


@dataclass(frozen=True)
class Section:
    """A heading with its blocks; `anchor` is its address within the page.

    group: the contents list sections of one group, such as "Tasks", together under its name.
    """

    title: str
    anchor: str
    blocks: list[Block]
    group: str = ""


@dataclass(frozen=True)
class Finding:
    """What can be said of a task in a sentence; `anchor` is its section.

    verdict: a word or two in a frame (better, undecided); details: further sentences (certainty, cost).
    """

    task: str
    text: str
    anchor: str
    verdict: str = ""
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """A whole report. banner: a warning above all; lede: paragraphs; findings: one line a task."""

    title: str
    subtitle: str
    banner: str | None
    lede: list[str]
    findings: list[Finding]
    closing: str
    sections: list[Section]
    settings: str  # the resolved suites and sessions, JSON

    def contents(self) -> list[tuple[str, list[Section]]]:
        """Sections in order; neighbours of one group together, with its name."""
        return [(group, list(sections)) for group, sections in groupby(self.sections, key=lambda s: s.group)]


class Folder:
    """Where a report is written: index.html, report.md, figures/ and tables/.

    later: figures need not be there before `finished`, so that other processes can draw them; warm: which have started
    (see `press.warmed_up`). one_column: whether figures are drawn for one column, too; of many strategies nothing could
    be read there.
    """

    one_column = True

    def __init__(self, path: Path, later: bool = False, warm: bool = False) -> None:
        self.path, self._later, self._press = path, later, Press(warm)
        self._written: set[str] = set()
        self._begun, self._figures, self._unsaved = time.time(), 0, set[Path]()
        try:
            for name in ("figures", "tables"):
                (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AlbenchError(f"the report cannot be written to {path}: {error}") from error

    def picture(
        self,
        draw: Drawn | dict[float, Figure],
        name: str,
        title: str,
        alt: str,
        caption: str,
        data: str | None,
        *,
        chart: Chart | None = None,
        column: bool = False,
    ) -> Picture:
        """Save figures/NAME.png, .pdf and .svg, two columns wide; column: also NAME-column, one column wide, unless the
        folder has none.

        Args:
            draw: a figure, or a function from a width in inches to a figure, or figures by width (`column` needs both).
            chart: what the page shows instead of the figure where scripts run.
        """
        path = self.path / "figures"
        drawn = draw if isinstance(draw, dict) else {TWO_COLUMNS: draw, ONE_COLUMN: draw}
        self._press.add(drawn[TWO_COLUMNS], path / name, TWO_COLUMNS)
        column = column and self.one_column
        if column:
            self._press.add(drawn[ONE_COLUMN], path / f"{name}-column", ONE_COLUMN)
        stems = (name, f"{name}-column") if column else (name,)
        self._figures += len(stems)
        self._unsaved |= {path / f"{stem}.png" for stem in stems}
        self._written |= {f"figures/{stem}.{kind}" for stem in stems for kind in ("png", "pdf", "svg")}
        picture = Picture(title, f"figures/{name}.png", b"", alt, caption, data, column=column, chart=chart)
        if self._later:
            return picture
        self._press.finish()
        return self._with_image(picture)

    def progress(self) -> tuple[int, int]:
        """How many figures are saved, and of how many that were asked for so far."""
        for file in list(self._unsaved):  # written last, by whatever process
            with contextlib.suppress(OSError):
                if file.stat().st_mtime >= self._begun:
                    self._unsaved.discard(file)
        return self._figures - len(self._unsaved), self._figures

    def finished(self, document: Document) -> Document:
        """The document with the images of its pictures, once all are drawn."""
        self._press.finish()
        sections = [
            replace(section, blocks=[self._with_image(b) if isinstance(b, Picture) else b for b in section.blocks])
            for section in document.sections
        ]
        return replace(document, sections=sections)

    def _with_image(self, picture: Picture) -> Picture:
        file, images = self.path / picture.file, self._press.images
        path = file.with_name(file.name.removesuffix(".png"))
        narrow = images[path.with_name(f"{path.name}-column")] if picture.column else None
        return replace(picture, image=images[path], width=breadth(file.read_bytes()), narrow=narrow)

    def csv(self, table: pd.DataFrame, name: str) -> str:
        """Save a table as tables/NAME.csv; returns its address within the folder."""
        table.to_csv(self.path / "tables" / f"{name}.csv", index=False, float_format="%.6g")
        self._written.add(f"tables/{name}.csv")
        return f"tables/{name}.csv"

    def text(self, name: str, content: str) -> Path:
        """Save a text file."""
        (self.path / name).write_text(content, encoding="utf-8")
        self._written.add(name)
        return self.path / name

    def clear(self) -> None:
        """Take away the figures and tables of the report before that are not in this one; others' files stay."""
        listing, home = self.path / LISTING, self.path.resolve()
        before = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
        for name in set(before) - self._written:
            if OURS.fullmatch(name) and (home / name).parent.resolve().parent == home:  # not by a link elsewhere
                (home / name).unlink(missing_ok=True)
        self.text(LISTING, "\n".join(sorted(self._written)) + "\n")
