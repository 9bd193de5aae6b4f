"""Suite files as they are written: found by name, read on top of their base, changed by settings."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeGuard

from albench import registry
from albench.errors import AlbenchError, did_you_mean

TABLES = ("tasks", "strategies")  # written as tables, or short as lists of names
TOLD = {"source", "price", "published", "uncertain"}  # what an entry says that shapes no result
OF = "Of the suite"
INSTEAD = {"updates": "epochs", "epochs": "updates"}  # a recipe has one of the two: the later one replaces the other


def bundled() -> dict[str, Path]:
    """The suites that come with albench, by name."""
    folder = Path(str(files("albench"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def content_of(name: str, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], Path]:
    """What a suite file says, on top of what its base says, and where it is; `above`: files that it is the base of.

    Raises:
        AlbenchError: there is no such suite or base, or a file is not TOML.
    """
    known = bundled()
    path = known.get(name, Path(name))
    if not path.is_file():
        hint = did_you_mean(name, list(known))
        asked = f"{above[-1]}: base: " if above else ""
        raise AlbenchError(f"{asked}no suite {name!r}: neither a file nor a bundled suite ({', '.join(known)}).{hint}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AlbenchError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise AlbenchError(f"{path}: not valid TOML: nested without end") from error
    except OSError as error:
        raise AlbenchError(f"{path}: cannot be read: {error.strerror}") from error
    content.setdefault("name", path.stem)
    base = content.pop("base", None)
    if base is None:
        return content, path
    if not isinstance(base, str) or path in above:
        raise AlbenchError(f"{path}: base: {base!r} is no suite's name, or comes back to this file")
    return _merged(_told_of(content_of(base, (*above, path))[0], base, content), content), path


def _told_of(inherited: dict[str, Any], base: str, changes: dict[str, Any]) -> dict[str, Any]:
    """What a base says of itself in words is said of it, where a file changes what is trained and has no own words."""
    tasks = changes.get("tasks")
    entries = [set(entry) for entry in tasks.values() if isinstance(entry, dict)] if isinstance(tasks, dict) else []
    if any(entry - TOLD for entry in entries) or any(changes.get(key) for key in ("recipe", "numerics", "warm_start")):
        for key in ("description", "tuning"):
            words = str(inherited.get(key, ""))
            if words and key not in changes and not words.startswith(OF):
                inherited[key] = f"{OF} {Path(base).stem}, whose settings are changed here: {words}"
    return inherited


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; a list for a table picks the keys of it."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if key in TABLES and _names(old):
            old = {name: {} for name in old}
        if isinstance(old, dict) and key in TABLES and _names(value):
            value = {name: old.get(name, {}) for name in value}
        elif isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        merged[key] = value
        if INSTEAD.get(key) not in changes:
            merged.pop(INSTEAD.get(key, ""), None)
    return merged


def _names(value: Any) -> TypeGuard[list[str]]:
    """Whether it is a list of names, short for tables; another list is refused when the whole is checked."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def parse_setting(setting: str) -> tuple[list[str], Any]:
    """`a.b=value` → (["a", "b"], value); the value is TOML, or else text.

    >>> parse_setting("tasks.digits.budget=10")
    (['tasks', 'digits', 'budget'], 10)
    """
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise AlbenchError(f"--set {setting!r}: write key=value, for example --set tasks.digits.budget=10")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    return key.strip().split("."), value


def change(content: dict[str, Any], setting: str) -> None:
    """Put a `key.path=value` setting into what a suite file says.

    Raises:
        AlbenchError: it cannot be put there, names no task or strategy, or has no effect.
    """
    keys, value = parse_setting(setting)
    for key in TABLES:
        if keys[0] == key and _names(content.get(key)):
            content[key] = {name: {} for name in content[key]}
    table = content
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise AlbenchError(f"--set {setting!r}: {key!r} is a value, not a table")
    table[keys[-1]] = value
    table.pop(INSTEAD.get(keys[-1], ""), None)
    _check_label(content, setting)
    _check_recipe(content, setting)


def _check_label(content: dict[str, Any], setting: str) -> None:
    """`tasks.digit.budget` must not make a task of its own that nobody then runs."""
    keys, _ = parse_setting(setting)
    kinds = {"tasks": (registry.tasks, "task"), "strategies": (registry.strategies, "strategy")}
    if len(keys) < 2 or keys[0] not in kinds:
        return
    kind, field = kinds[keys[0]]
    labels, entry = content[keys[0]], content[keys[0]][keys[1]]
    others = [label for label in labels if label != keys[1]]
    try:
        kind.resolve((entry.get(field) if isinstance(entry, dict) else None) or keys[1])
    except AlbenchError:
        hint = did_you_mean(keys[1], others)
        message = f"--set {setting!r}: the suite has no {field} {keys[1]!r}.{hint} It has: {', '.join(others)}"
        raise AlbenchError(message) from None


def _check_recipe(content: dict[str, Any], setting: str) -> None:
    """`recipe.updates=5000` must not be without effect because every task has a number of its own."""
    keys, _ = parse_setting(setting)
    tasks = content.get("tasks")
    if len(keys) != 2 or keys[0] != "recipe" or not isinstance(tasks, dict):
        return
    own = {}
    for label, entry in tasks.items():
        recipe = entry.get("recipe") if isinstance(entry, dict) else None
        own[label] = [key for key in (keys[1], INSTEAD.get(keys[1])) if isinstance(recipe, dict) and key in recipe]
    if own and all(own.values()):
        label, (key, *_) = next(iter(own.items()))
        raise AlbenchError(
            f"--set {setting!r} has no effect: each task has a recipe.{key} of its own; "
            f"write --set tasks.{label}.{setting}"
        )
