"""`albench list`: names, aliases and one line on each, read from source files without importing what they hold.

`albench list NAME` does import that one: see `describe`.
"""

import ast
import importlib.util
import inspect
import json
import tomllib
from dataclasses import asdict, dataclass, field
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click

from albench.registry import Registry, load_plugin, strategies, tasks

SUITES = Path(__file__).parents[1] / "suites"
KINDS = ("tasks", "strategies", "suites")


@dataclass
class Entry:
    """One line of a listing: `source` is the package, plug-in file or bundle that it comes from."""

    name: str
    description: str
    source: str
    aliases: list[str] = field(default_factory=list)


def registered(registry: Registry) -> list[Entry]:
    """What a registry holds, by name; plug-ins that were loaded are among it."""
    installed = {entry.name: entry for entry in entry_points(group=registry.group)}
    aliases = registry.aliases()
    found = []
    for name in registry.names():
        others = sorted(alias for alias, target in aliases.items() if target == name)
        if name in installed:
            entry = installed[name]
            found.append(Entry(name, describe(entry), entry.dist.name if entry.dist else "", others))
        else:  # from a plug-in file, so imported already
            value = registry.get(name)
            found.append(Entry(name, _first_line(value.__doc__), inspect.getfile(value), others))
    return found


def describe(entry: EntryPoint) -> str:
    """The first line of the named class's docstring, '' where the source does not show it."""
    file = source_file(entry.module)
    if file is None:
        return ""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == entry.attr:
            return _first_line(ast.get_docstring(node))
    return ""


def source_file(module: str) -> Path | None:
    """The file of a module, found without importing it or its parents (`find_spec("a.b")` would import a)."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for depth, _ in enumerate(rest, start=2):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(module.split(".")[:depth]), spec.submodule_search_locations)
    return Path(spec.origin) if spec is not None and spec.origin else None


def suites() -> list[Entry]:
    """The bundled suites; one that is not TOML is listed with what is wrong."""
    found = []
    for file in sorted(SUITES.glob("*.toml")):
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
            description = " ".join(str(content.get("description", "")).split())
        except tomllib.TOMLDecodeError as error:
            description = f"(cannot be read: {error})"
        found.append(Entry(file.stem, description, "albench"))
    return found


def _first_line(text: str | None) -> str:
    """The first paragraph's first line, without its full stop."""
    return (text or "").strip().partition("\n")[0].rstrip(".")


def _show(kind: str, entries: list[Entry]) -> None:
    rows = []
    for entry in entries:
        also = f" Also: {', '.join(entry.aliases)}." if entry.aliases else ""
        origin = "" if entry.source == "albench" else f" [{entry.source}]"
        text = f"{entry.description.rstrip('.')}." if entry.description else ""
        rows.append((entry.name, f"{text}{also}{origin}".strip()))
    formatter = click.HelpFormatter(max_width=110)
    with formatter.section(kind.capitalize()):
        formatter.write_dl(rows or [("none", "")])
    click.echo(formatter.getvalue().rstrip())


@click.command("list")
@click.argument("kind", required=False, metavar="[tasks|strategies|suites|NAME]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of name, description, source, aliases.")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE", help="Show what a plug-in file registers, too.")
def command(kind: str | None, as_json: bool, plugins: tuple[str, ...]) -> None:
    """Show the tasks, strategies and suites there are (or one kind of them), or what one of them is and takes."""
    for file in plugins:
        load_plugin(file)
    if kind is not None and kind not in KINDS:
        from albench.cli import describe

        described = describe.described(kind)
        click.echo(describe.as_json(described) if as_json else "\n\n".join(map(describe.as_text, described)))
        return
    found = {}
    for one in KINDS if kind is None else (kind,):
        found[one] = suites() if one == "suites" else registered(tasks if one == "tasks" else strategies)
    if as_json:
        shown = {one: [asdict(entry) for entry in entries] for one, entries in found.items()}
        click.echo(json.dumps(shown if kind is None else shown[kind], indent=2, ensure_ascii=False))
        return
    for position, (one, entries) in enumerate(found.items()):
        if position:
            click.echo()
        _show(one, entries)
