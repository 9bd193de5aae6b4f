"""`albench new-strategy NAME`: a commented strategy file that works, with its test."""

import keyword
import re
from pathlib import Path

import click

from albench.errors import AlbenchError

TEMPLATES = Path(__file__).parent


@click.command("new-strategy")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="The folder to write to. Default: here.",
)
def command(name: str, out: Path) -> None:
    """Write a small working strategy NAME (in-lower-case-with-hyphens) and its test, to start from.

    Nothing that is there already is overwritten.
    """
    written = write(name, out)
    click.echo(f"Wrote {written[0]} and {written[1]}. Try them:")
    click.echo(f"  albench check-strategy {written[0]}")
    click.echo(f"  albench run quick --plugin {written[0]} --strategies random,{name}")
    click.echo(f"  pytest {written[1]}")


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """The strategy's file and its test, made from the templates beside this file.

    Raises:
        AlbenchError: the name cannot be one, is taken, or a file is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise AlbenchError(f"{name!r} cannot be a strategy's name; write lower-case words with hyphens: my-margin")
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        raise AlbenchError(f"{name!r} is a word of Python's; choose another name")
    _require_free(name)
    words = {"NAME": name, "MODULE": module, "CLASS": "".join(word.capitalize() for word in name.split("-"))}
    files = folder / f"{module}.py", folder / f"test_{module}.py"
    for file in files:
        if file.exists():
            raise AlbenchError(f"{file} is there already; choose another name, or another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, template in zip(files, ("strategy.txt", "strategy_test.txt"), strict=True):
            text = (TEMPLATES / template).read_text(encoding="utf-8")
            file.write_text(re.sub(r"\{(NAME|MODULE|CLASS)\}", lambda m: words[m[1]], text), encoding="utf-8")
    except OSError as error:
        raise AlbenchError(f"{error.filename}: {error.strerror}") from error
    return files


def _require_free(name: str) -> None:
    from albench.registry import strategies

    if name in strategies.names() or name in strategies.aliases():
        raise AlbenchError(f"the strategy name {name!r} is taken; choose another")
