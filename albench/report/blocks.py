"""What a report is made of: text, pictures and tables in sections. The page and the Markdown show the same blocks."""

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from albench.errors import AlbenchError

DPI = 200


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A figure: `file` and `data` (the CSV behind it) are relative to the report's folder."""

    title: str
    file: str
    png: bytes = field(repr=False)
    alt: str
    caption: str
    data: str | None = None
    width: float = 7.0  # inches, as drawn


@dataclass(frozen=True)
class Table:
    """Rows of text under headings; the first column names the row, `swatches` are (colour, glyph) beside it.

    strong: (row, column) of cells in bold, which a note explains.
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


Block = Text | Picture | Table


@dataclass(frozen=True)
class Section:
    """A heading with its blocks; `anchor` is its address within the page."""

    title: str
    anchor: str
    blocks: list[Block]


@dataclass(frozen=True)
class Finding:
    """What can be said of a task in a sentence; `anchor` is its section."""

    task: str
    text: str
    anchor: str


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


class Folder:
    """Where a report is written: index.html, report.md, figures/ and tables/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            for name in ("figures", "tables"):
                (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AlbenchError(f"the report cannot be written to {path}: {error}") from error

    def picture(self, figure: Figure, name: str, title: str, alt: str, caption: str, data: str | None) -> Picture:
        """Save a figure as figures/NAME.png and .pdf."""
        image = BytesIO()
        figure.savefig(image, dpi=DPI, format="png")
        # without dates, the same results give the same files
        figure.savefig(self.path / "figures" / f"{name}.pdf", metadata={"CreationDate": None})
        file = f"figures/{name}.png"
        (self.path / file).write_bytes(image.getvalue())
        return Picture(title, file, image.getvalue(), alt, caption, data, figure.get_figwidth())

    def csv(self, table: pd.DataFrame, name: str) -> str:
        """Save a table as tables/NAME.csv; returns its address within the folder."""
        table.to_csv(self.path / "tables" / f"{name}.csv", index=False, float_format="%.6g")
        return f"tables/{name}.csv"

    def text(self, name: str, content: str) -> Path:
        """Save a text file."""
        (self.path / name).write_text(content, encoding="utf-8")
        return self.path / name
