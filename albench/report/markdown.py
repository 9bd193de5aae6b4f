"""The report as Markdown, with links to its figures and tables."""

from albench.report.blocks import Block, Document, Picture, Table, Text


def render(document: Document) -> str:
    """The whole document; pictures are linked, not embedded."""
    parts = [f"# {_plain(document.title)}"]
    if document.subtitle:
        parts.append(_plain(document.subtitle))
    if document.banner:
        parts.append(f"> **{_plain(document.banner)}**")
    parts += [_plain(text) for text in document.lede]
    parts.append("\n".join(f"- **{_plain(f.task)}**: {_plain(f.text)}" for f in document.findings))
    parts.append(_plain(document.closing))
    for section in document.sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return _plain(block.text)
    title = [f"### {_plain(block.title)}"] if block.title else []
    data = f" [CSV]({block.data})" if block.data else ""
    if isinstance(block, Picture):
        return "\n\n".join([*title, f"![{_plain(block.alt)}]({block.file})", f"{_plain(block.caption)}{data}"])
    return "\n\n".join([*title, _table(block), *([" ".join(map(_plain, block.notes)) + data] if block.notes else [])])


def _table(table: Table) -> str:
    rows = [
        [f"**{_plain(cell)}**" if (r, c) in table.strong else _plain(cell) for c, cell in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]
    rule = ["---", *(["---:" if table.numeric else "---"] * (len(table.columns) - 1))]
    lines = [[_plain(column) for column in table.columns], rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: names may hold any character."""
    for character in ("\\", "|", "<", "*", "_", "`", "[", "]"):
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
