"""The report as Markdown, with links to its figures and tables."""

from albench.report.blocks import Block, Checklist, Document, Picture, Table, Text

STATES = {"ok": "✓ ok", "attention": "! attention", "missing": "○ missing", "stated": "” stated"}


def render(document: Document) -> str:
    """The whole document; pictures are linked, not embedded."""
    parts = [f"# {_plain(document.title)}"]
    if document.subtitle:
        parts.append(_plain(document.subtitle))
    if document.banner:
        parts.append(f"> **{_plain(document.banner)}**")
    parts += [_plain(text) for text in document.lede]
    findings = []
    for f in document.findings:
        verdict = f" ({_plain(f.verdict)})" if f.verdict else ""
        findings.append(f"- **{_plain(f.task)}**{verdict}: {' '.join(map(_plain, [f.text, *f.details]))}")
    parts.append("\n".join(findings))
    parts.append(_plain(document.closing))
    for section in document.sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return _plain(block.text)
    title = [f"### {_plain(block.title)}"] if block.title else []
    if isinstance(block, Checklist):
        items = [f"- **{STATES[item.state]}** · {_plain(item.name)}: {_plain(item.text)}" for item in block.items]
        return "\n\n".join([*title, "\n".join(items)])
    files = ({"CSV": block.data} if block.data else {}) | block.files
    links = " · ".join(f"[{name}]({file})" for name, file in files.items())
    if isinstance(block, Picture):
        return "\n\n".join([*title, f"![{_plain(block.alt)}]({block.file})", f"{_plain(block.caption)} {links}"])
    notes = " ".join([*map(_plain, block.notes), links]).strip()
    return "\n\n".join([*title, _table(block), *([notes] if notes else [])])


def _table(table: Table) -> str:
    rows = [[_cell(table, r, c, text) for c, text in enumerate(row)] for r, row in enumerate(table.rows)]
    rule = ["---", *(["---:" if table.numeric else "---"] * (len(table.columns) - 1))]
    lines = [[_plain(column) for column in table.columns], rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(table: Table, row: int, column: int, text: str) -> str:
    said = _plain(text) + _plain(table.marks.get((row, column), ""))
    return f"**{said}**" if (row, column) in table.strong else said


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: names may hold any character."""
    for character in ("\\", "|", "<", "*", "_", "`", "[", "]"):
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
