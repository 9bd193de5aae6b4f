"""`albench data`: which data the tasks need, whether they are sound, and how to get them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from albench.cli.list import registered
from albench.errors import AlbenchError, did_you_mean
from albench.registry import load_plugin, tasks

DAY = 86_400  # seconds


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """`key=value` pairs as task parameters; a value is TOML where it parses as such, else text as it stands.

    >>> parse_settings(("folder=BCCD", "size=96", "flip=true"))
    {'folder': 'BCCD', 'size': 96, 'flip': True}

    Raises:
        AlbenchError: a setting without "=".
    """
    from albench.suite_file import parse_setting

    return {".".join(keys): value for keys, value in map(parse_setting, settings)}


def build_task(name: str, settings: dict[str, Any]) -> Any:
    """The task with its parameters set.

    Raises:
        AlbenchError: an unknown task or parameter, or a value that the parameter does not take.
    """
    from albench.suite import validated

    return validated(tasks.get(name), settings, f"task {name!r}")


def named(name: str, settings: tuple[str, ...]) -> list[tuple[str, Any, str]]:
    """What a name stands for: a task with parameters set, or each task of a suite (bundled, or a TOML file) with the
    suite's parameters: its label, the task, and where its data come from.

    Raises:
        AlbenchError: neither; or an unknown parameter, or a value that it does not take.
    """
    from albench.suite import bundled, read

    if name not in bundled() and not name.endswith(".toml"):
        if name not in [*tasks.names(), *tasks.aliases()]:
            hint = did_you_mean(name, [*tasks.names(), *tasks.aliases(), *bundled()])
            raise AlbenchError(
                f"no task or suite is called {name!r}.{hint} There are: {', '.join([*tasks.names(), *bundled()])}"
            )
        task = build_task(name, parse_settings(settings))
        return [(name, task, task.data_source)]
    suite = read(name, settings)
    found = [(label, entry, build_task(entry.task or label, entry.params)) for label, entry in suite.tasks.items()]
    return [(label, task, entry.source or task.data_source) for label, entry, task in found]


def verify(name: str, task: Any, root: Path | None) -> None:
    """Read a task's data, file by file; print each problem, and what the data hold where they can be loaded.

    Raises:
        AlbenchError: they are missing or unreadable, or there were problems: how many.
    """
    from albench.blame import blamed
    from albench.cache import suspicious
    from albench.first_look import loaded

    count = _print_problems(name, task, root)
    problems = f"{name}: {count} problem{'s' if count > 1 else ''}, a line for each above"
    try:
        with suspicious(), blamed(f"task {name!r}", "load()"):  # what is said of the cached images is true of them
            data = loaded(task, root)
    except AlbenchError as error:
        if not count:
            raise
        raise AlbenchError(f"{problems}; what is survived with a note was not looked for: mend them first") from error
    _print_contents(name, task, data)
    if count:
        raise AlbenchError(problems)


def _print_problems(name: str, task: Any, root: Path | None) -> int:
    """Print a line for each; how many there are."""
    from albench.terminal import busy

    count = 0
    with busy(f"{name}: reading every file") as sign:
        for line in _problems(name, task, root):
            count += 1
            sign.stop()
            click.echo(line)
            sign.start()
    return count


def _problems(name: str, task: Any, root: Path | None) -> Iterator[str]:
    """The task's problems(); its errors are the task's, while those of whoever prints them are not."""
    from albench.blame import blamed

    with blamed(f"task {name!r}", "problems()"):
        yield from task.problems(root)


def _print_contents(name: str, task: Any, data: Any) -> None:
    """Print what the data hold: counts, classes, annotations, fingerprint and the dirt that was survived."""
    pool, test = data.pool, data.test
    _, channels, height, width = pool.images.shape
    click.echo(f"{name}: {len(pool):,} in the pool, {len(test):,} in the test set")
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    lines = {"classes": f"{len(data.classes)}: {', '.join(data.classes)}"}
    lines["images"] = f"kept at {width} × {height} pixels, {kind}"
    for key, line in (lines | task.describe(data) | {"fingerprint": data.fingerprint()}).items():
        click.echo(f"  {key:<11}  {line}")
    if not data.notes:
        click.echo("  notes        none: every image and annotation was read as it is")
    for position, note in enumerate(data.notes):
        click.echo(("  notes        " if position == 0 else " " * 15) + note)


def prepare(name: str, task: Any, root: Path | None, source: str) -> None:
    """Fetch a task's data where there is something to fetch, and check them.

    Raises:
        AlbenchError: what must be fetched by hand, and where to put it; or what is wrong with what is there.
    """
    if not fetches(type(task)):
        click.echo(f"{name}: nothing to download ({source})")
    elif root is None:
        raise click.UsageError(f"task {name!r} has data to fetch ({source}): say where to with --data-root DIR")
    else:
        click.echo(f"{name}: fetching into {root} ({source})")
        root.mkdir(parents=True, exist_ok=True)
        task.fetch(root)
    verify(name, task, root)


def fetches(task: type) -> bool:
    """Whether `albench data prepare` has something to do for a task, be it to say what to fetch by hand."""
    from albench.task import Task

    return getattr(task, "fetch", None) is not Task.fetch


_name = click.argument("name", metavar="TASK|SUITE")
_root = click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where data sets lie.")
_set = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A parameter of the task.")
_plugin = click.option("--plugin", "plugins", multiple=True, metavar="FILE", help="A file that registers tasks.")


@click.group("data")
def command() -> None:
    """List, check and fetch the data of tasks."""


@command.command("list")
@_plugin
def list_data(plugins: tuple[str, ...]) -> None:
    """Each task and where its data come from; * marks those that `albench data prepare` fetches or asks for."""
    for file in plugins:
        load_plugin(file)
    rows = []
    for entry in registered(tasks):
        try:
            task = tasks.get(entry.name)
            rows.append((entry.name + (" *" if fetches(task) else ""), task.source))
        except AlbenchError as error:  # one broken package must not hide the others
            rows.append((entry.name, f"({error})"))
    formatter = click.HelpFormatter(max_width=110)
    formatter.write_dl(rows)
    click.echo(formatter.getvalue().rstrip())
    click.echo(
        "\n* albench data prepare NAME --data-root DIR. A suite's name stands for its tasks with its parameters."
    )


@command.command("verify")
@_name
@_root
@_set
@_plugin
def verify_data(name: str, data_root: Path | None, settings: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Read every file of a task's data (or a suite's), not the cache of them, and say what is wrong, line by line.

    Then, where they can be loaded: counts, classes, what dirt was met, and the fingerprint. Exits with 1 when something
    is wrong.
    """
    _each(lambda label, task, root, _: verify(label, task, root), name, data_root, settings, plugins)


@command.command("prepare")
@_name
@_root
@_set
@_plugin
def prepare_data(name: str, data_root: Path | None, settings: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Download a task's data (or a suite's) where that is allowed, then check them. Safe to repeat and to interrupt.

    Exits with 1 when they could not be fetched or read.
    """
    _each(prepare, name, data_root, settings, plugins)


@command.command("cache")
@click.option("--clear", is_flag=True, help="Remove what no process has in use.")
def list_cache(clear: bool) -> None:
    """What lies in the cache of decoded images (ALBENCH_CACHE, or ~/.cache/albench): size, task, last use.

    A set that changed, or is read with other parameters, is another entry; --clear removes those of old. What is
    wanted again is decoded again.
    """
    from albench.cache import cache_folder, entries, remove, sweep

    found = entries()
    size = sum(entry.size for entry in found) / 1e9
    click.echo(f"{cache_folder()}: {len(found)} entr{'y' if len(found) == 1 else 'ies'}, {size:.2f} GB")
    for entry in found:
        fate = ""
        if clear:
            try:
                fate = ": removed" if remove(entry.folder) else ": in use, kept"
            except OSError as error:  # somebody else's, in a folder that is shared
                fate = f": cannot be removed ({error.strerror})"
        click.echo(f"  {entry.size / 1e9:7.2f} GB  {entry.task}, last used {_age(entry.used)} ago{fate}")
    if clear:
        sweep()


def _age(since: float) -> str:
    """The time since a moment (seconds of the epoch), in words."""
    from albench.progress import clock

    age = max(0.0, time.time() - since)
    return clock(age) if age < 2 * DAY else f"{age / DAY:.0f} days"


def _each(
    work: Callable[[str, Any, Path | None, str], None],
    name: str,
    root: Path | None,
    settings: tuple[str, ...],
    plugins: tuple[str, ...],
) -> None:
    """Work on every task that is named. What is wrong with one stops no other, and is exit code 1: the data's fault,
    not the command's."""
    for file in plugins:
        load_plugin(file)
    failed = False
    for label, task, source in named(name, settings):
        try:
            work(label, task, root, source)
        except BrokenPipeError:  # whoever read has seen enough: click ends without a word
            raise
        except (AlbenchError, OSError) as error:
            click.echo(f"Error: {error}", err=True)
            failed = True
    if failed:
        raise SystemExit(1)
