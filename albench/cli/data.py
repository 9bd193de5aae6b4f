"""`albench data`: which data the tasks need, whether they are sound, and how to get them."""

from pathlib import Path
from typing import Any

import click

from albench.cli.list import registered
from albench.errors import AlbenchError
from albench.registry import load_plugin, tasks


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """`key=value` pairs as task parameters; a value is TOML where it parses as such, else text as it stands.

    >>> parse_settings(("folder=BCCD", "size=96", "flip=true"))
    {'folder': 'BCCD', 'size': 96, 'flip': True}

    Raises:
        AlbenchError: a setting without "=".
    """
    from albench.suite import parse_setting

    return {".".join(keys): value for keys, value in map(parse_setting, settings)}


def build_task(name: str, settings: dict[str, Any]) -> Any:
    """The task with its parameters set.

    Raises:
        AlbenchError: an unknown task or parameter, or a value that the parameter does not take.
    """
    from albench.suite import validated

    return validated(tasks.get(name), settings, f"task {name!r}")


def verify(name: str, task: Any, root: Path | None) -> None:
    """Load a task's data and print what they hold.

    Raises:
        AlbenchError: they are missing or unreadable.
    """
    data = task.load(root)
    pool, test = data.pool, data.test
    _, channels, height, width = pool.images.shape
    click.echo(f"{name}: {len(pool):,} in the pool, {len(test):,} in the test set, {channels} × {height} × {width}")
    click.echo(f"  classes      {len(data.classes)}: {', '.join(data.classes)}")
    shapes = {key: " × ".join(map(str, value.shape[1:])) for key, value in sorted(pool.targets.items())}
    click.echo("  annotations  " + ", ".join(f"{key} {shape}".strip() for key, shape in shapes.items()))
    click.echo(f"  fingerprint  {data.fingerprint()}")
    if not data.notes:
        click.echo("  notes        none: every image and annotation was read as it is")
    for position, note in enumerate(data.notes):
        click.echo(("  notes        " if position == 0 else " " * 15) + note)


_name = click.argument("name")
_root = click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where data sets lie.")
_set = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of the task.")
_plugin = click.option("--plugin", "plugins", multiple=True, metavar="FILE", help="A file that registers tasks.")


@click.group("data")
def command() -> None:
    """List, check and fetch the data of tasks."""


@command.command("list")
@_plugin
def list_data(plugins: tuple[str, ...]) -> None:
    """Each task and where its data come from."""
    for file in plugins:
        load_plugin(file)
    rows = []
    for entry in registered(tasks):
        try:
            rows.append((entry.name, tasks.get(entry.name).source))
        except AlbenchError as error:  # one broken package must not hide the others
            rows.append((entry.name, f"({error})"))
    formatter = click.HelpFormatter(max_width=110)
    formatter.write_dl(rows)
    click.echo(formatter.getvalue().rstrip())


@command.command("verify")
@_name
@_root
@_set
@_plugin
def verify_data(name: str, data_root: Path | None, settings: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Load a task's data and print counts, classes, what dirt was met, and the fingerprint.

    Exits with 1 when the data are missing or cannot be read.
    """
    for file in plugins:
        load_plugin(file)
    task = build_task(name, parse_settings(settings))
    _verify_or_exit(name, task, data_root)


@command.command("prepare")
@_name
@_root
@_set
@_plugin
def prepare_data(name: str, data_root: Path | None, settings: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Download a task's data where that is allowed, then check them. Safe to repeat.

    Exits with 1 when they could not be fetched or read.
    """
    from albench.task import Task

    for file in plugins:
        load_plugin(file)
    task = build_task(name, parse_settings(settings))
    if type(task).fetch is Task.fetch:
        click.echo(f"{name}: nothing to download ({task.source})")
    elif data_root is None:
        raise AlbenchError(f"task {name!r} has data to fetch ({task.source}): say where to with --data-root DIR")
    else:
        click.echo(f"{name}: fetching into {data_root} ({task.source})")
        try:
            data_root.mkdir(parents=True, exist_ok=True)
            task.fetch(data_root)
        except (AlbenchError, OSError) as error:
            _fail(error)
    _verify_or_exit(name, task, data_root)


def _verify_or_exit(name: str, task: Any, root: Path | None) -> None:
    try:
        verify(name, task, root)
    except (AlbenchError, OSError) as error:
        _fail(error)


def _fail(error: Exception) -> None:
    """The data's fault, not the command's: exit code 1, so that scripts can tell them apart."""
    click.echo(f"Error: {error}", err=True)
    raise SystemExit(1)
