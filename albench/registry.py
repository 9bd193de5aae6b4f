"""Names → tasks, strategies and companions: built in, from entry points, from a user's file.

Listing names imports nothing of what they name. The built-ins register as a third party's do, through the entry-point
groups `albench.tasks`, `albench.strategies` and `albench.companions`; a group with `.aliases` behind its name holds
other names of the same objects.
"""

import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from albench.errors import AlbenchError, did_you_mean

T = TypeVar("T", bound=type)
PLUGIN = "albench_plugin_"  # begins the name of a plug-in's module


@functools.cache  # every package's file is read for it
def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


class Registry:
    """One kind of thing by name; values are loaded when they are first asked for."""

    def __init__(self, kind: str, group: str, base: str) -> None:
        """`kind` is the word for messages, `base` the class ("module:Name") that every value must derive from."""
        self.kind, self.group, self.base = kind, group, base
        self._plugins: dict[str, type] = {}

    def _installed(self, suffix: str = "") -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in _entries(self.group + suffix):
            other = found.get(entry.name)
            if other is not None and other.value != entry.value:
                raise AlbenchError(
                    f"two packages register the {self.kind} {entry.name!r}: {other.value} and {entry.value}; "
                    "uninstall one of them"
                )
            found[entry.name] = entry
        return found

    def names(self) -> list[str]:
        """All registered names, sorted; aliases are not among them."""
        return sorted({*self._installed(), *self._plugins})

    def aliases(self) -> dict[str, str]:
        """Other names → the registered names they stand for."""
        by_value = {entry.value: name for name, entry in self._installed().items()}
        return {n: by_value[e.value] for n, e in self._installed(".aliases").items() if e.value in by_value}

    def of_plugin(self, path: Path) -> list[str]:
        """The names that a plug-in file which was loaded has registered."""
        return [name for name, value in self._plugins.items() if value.__module__ == _module(path)]

    def name_of(self, value: type) -> str:
        """The name under which a class is registered; its own where it is not."""
        where = f"{value.__module__}:{value.__qualname__}"
        known = {name for name, other in self._plugins.items() if other is value}
        known |= {name for name, entry in self._installed().items() if entry.value == where}
        return min(known, default=value.__name__)

    def resolve(self, name: str) -> str:
        """The registered name that a name or alias stands for.

        Raises:
            AlbenchError: nothing is registered under it; says what is, and what may have been meant.
        """
        names, aliases = self.names(), self.aliases()
        if name in names:
            return name
        if name in aliases:
            return aliases[name]
        hint = did_you_mean(name, [*names, *aliases])
        raise AlbenchError(f"no {self.kind} is called {name!r}.{hint} There are: {', '.join(names)}")

    def get(self, name: str) -> Any:
        """The class registered under a name or alias.

        Raises:
            AlbenchError: unknown name, an import that fails, or a value that is not of the right class.
        """
        name = self.resolve(name)
        if name in self._plugins:
            return self._plugins[name]
        entry = self._installed()[name]
        try:
            value = entry.load()
        except Exception as error:
            raise AlbenchError(f"{self.kind} {name!r} ({entry.value}) cannot be imported: {error!r}") from error
        return self._checked(name, value)

    def _checked(self, name: str, value: Any) -> type:
        module, _, attribute = self.base.partition(":")
        base = getattr(importlib.import_module(module), attribute)
        if not (isinstance(value, type) and issubclass(value, base)):
            raise AlbenchError(f"{self.kind} {name!r} is {value!r}; it must be a class derived from {attribute}")
        if missing := [needed for needed in getattr(base, "must_say", ()) if not hasattr(value, needed)]:
            raise AlbenchError(f"{self.kind} {name!r} ({value.__qualname__}) does not say its {' and '.join(missing)}")
        return value

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator for a plug-in file: `@albench.register_strategy("mine")` above the class.

        Raises:
            AlbenchError: the name is taken, or the class is of another kind.
        """

        def add(value: T) -> T:
            if name in self._plugins or name in self._installed() or name in self.aliases():
                raise AlbenchError(f"the {self.kind} name {name!r} is taken; choose another for {value.__qualname__}")
            self._plugins[name] = self._checked(name, value)
            return value

        return add


tasks = Registry("task", "albench.tasks", "albench.task:Task")
strategies = Registry("strategy", "albench.strategies", "albench.strategy:Strategy")
companions = Registry("companion", "albench.companions", "albench.strategy:Companion")

register_task = tasks.register
register_strategy = strategies.register
register_companion = companions.register


def load_plugin(file: str | Path, known_as: Path | None = None) -> list[str]:
    """Run a user's Python file, so that what it registers can be named; returns the names of its strategies.

    A plug-in runs code: it is loaded only when the user names it. Loading the same file twice is harmless; one that has
    changed since is loaded anew. `known_as`: where it lies on the machine that began the run, since the path is a part
    of its classes' names.

    Raises:
        AlbenchError: the file is not there, or does not run.
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise AlbenchError(f"plug-in {str(file)!r}: there is no such file")
    name = _module(known_as or path)
    content = hashlib.blake2b(path.read_bytes()).digest()
    if name in sys.modules and sys.modules[name].__dict__.get("__albench_content__") != content:
        _forget(name)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise AlbenchError(f"plug-in {str(file)!r}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        module.__dict__["__albench_content__"] = content
        sys.modules[name] = module  # dataclasses and pydantic look their own module up while it runs
        try:
            spec.loader.exec_module(module)
        except AlbenchError:
            _forget(name)
            raise
        except Exception as error:
            _forget(name)
            line = _line_in(path, error)
            raise AlbenchError(f"plug-in {file}{line}: {type(error).__name__}: {error}") from error
    return strategies.of_plugin(path if known_as is None else known_as)


def _module(path: Path) -> str:
    """The name of a plug-in's module."""
    return PLUGIN + hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()


def place_in_plugin(error: BaseException) -> str:
    """'mine.py:12', the innermost line of a plug-in that an error passed through; '' where there is none."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        frame = trace.tb_frame
        if str(frame.f_globals.get("__name__", "")).startswith(PLUGIN):
            place = f"{Path(frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _forget(module: str) -> None:
    """A plug-in that failed may be mended and loaded again in this process, so its names are free again."""
    del sys.modules[module]
    for registry in (tasks, strategies, companions):
        registry._plugins = {n: value for n, value in registry._plugins.items() if value.__module__ != module}


def _line_in(path: Path, error: BaseException) -> str:
    """', line 12' where the error passed through the file."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno}"
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line
