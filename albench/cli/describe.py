"""`albench list NAME`: what one task, strategy, companion or suite is, and which parameters it takes."""

import ast
import inspect
import json
import textwrap
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from albench import registry
from albench.cli.list import SUITES, suites
from albench.errors import AlbenchError, did_you_mean
from albench.suite_file import content_of

WIDTH = 100


@dataclass
class Parameter:
    """A setting of a task, strategy or companion; `default` is None where one must be given."""

    name: str
    type: str
    default: str | None
    meaning: str


@dataclass
class Description:
    """What is known of one name. facts: words → text; where: how its parameters are set."""

    kind: str
    name: str
    text: str
    facts: dict[str, str]
    parameters: list[Parameter] = field(default_factory=list)
    where: str = ""


def described(name: str) -> list[Description]:
    """What is called so: usually one thing.

    Raises:
        AlbenchError: nothing is; says what may have been meant.
    """
    kinds = {"task": registry.tasks, "strategy": registry.strategies, "companion": registry.companions}
    found, known = [], [entry.name for entry in suites()]
    for kind, names in kinds.items():
        known += [*names.names(), *names.aliases()]
        if name in names.names() or name in names.aliases():
            found.append(_class(kind, names.resolve(name), names))
    if (SUITES / f"{name}.toml").is_file():
        found.append(_suite(name))
    if not found:
        hint = did_you_mean(name, known)
        raise AlbenchError(f"there is no task, strategy, companion or suite called {name!r}.{hint} See `albench list`")
    return found


def _class(kind: str, name: str, names: registry.Registry) -> Description:
    cls = names.get(name)
    others = sorted(alias for alias, target in names.aliases().items() if target == name)
    facts = {"also called": ", ".join(others)}
    if kind == "task":
        required = any(info.is_required() for info in cls.model_fields.values())
        task = cls if required else cls()  # a metric may follow from the parameters
        facts |= {"data": task.source, "metric": task.metric if isinstance(task.metric, str) else ""}
        where = f"[tasks.{name}] params = {{ … }} in a suite, or --set tasks.{name}.params.NAME=VALUE"
    elif kind == "strategy":
        facts |= {"companion": cls.companion or "", "cheats": "it sees hidden labels" if cls.cheats else ""}
        facts |= {"needs": ", ".join(sorted(cls.needs))}
        where = f"[strategies.{name}] params = {{ … }} in a suite"
    else:
        where = f"[tasks.TASK.companions] {name} = {{ … }} or [strategies.LABEL] companion_params = {{ … }} in a suite"
    parameters = _options(cls) if kind == "companion" else _fields(cls)
    text = inspect.cleandoc(cls.__doc__ or "")
    return Description(kind, name, text, {key: value for key, value in facts.items() if value}, parameters, where)


def _fields(cls: Any) -> list[Parameter]:
    """The fields of a pydantic model."""
    comments = _comments(cls)
    return [
        Parameter(
            name,
            _type(info.annotation),
            None if info.is_required() else json.dumps(info.get_default(call_default_factory=True), default=str),
            info.description or comments.get(name, ""),
        )
        for name, info in cls.model_fields.items()
    ]


def _options(cls: Any) -> list[Parameter]:
    """The keyword parameters of a companion's __init__."""
    given = list(inspect.signature(cls.__init__).parameters.values())[2:]  # after itself and the example
    return [
        Parameter(
            p.name,
            _type(p.annotation),
            None if p.default is p.empty else json.dumps(p.default, default=str),
            next((m.description for m in get_args(p.annotation) if isinstance(m, FieldInfo) and m.description), ""),
        )
        for p in given
        if p.kind is not p.VAR_KEYWORD
    ]


def _type(annotation: Any) -> str:
    """An annotation as it is written, without the limits that pydantic checks."""
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(_type(part) for part in get_args(annotation))
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__.replace("NoneType", "None") if plain else str(annotation).replace("typing.", "")


def _comments(cls: type) -> dict[str, str]:
    """Field → the comment that stands behind it in the source."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):
            continue
        lines, (tree, *_) = source.splitlines(), ast.parse(source).body
        for node in getattr(tree, "body", []):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                comment = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :].partition("#")[2]
                found[node.target.id] = comment.strip()
    return found


def _suite(name: str) -> Description:
    file = SUITES / f"{name}.toml"
    content, _ = content_of(name)
    facts = {key: ", ".join(content.get(key, {})) for key in ("tasks", "strategies")}
    facts |= {key: str(content[key]) for key in ("seeds", "stages", "tuning") if key in content}
    tasks = content.get("tasks", {})
    for label, task in tasks.items() if isinstance(tasks, dict) else ():
        facts |= {f"open in {label}, {path}": note for path, note in task.get("uncertain", {}).items()}
    return Description("suite", name, str(content.get("description", "")), facts | {"file": str(file)})


def as_json(found: list[Description]) -> str:
    """The descriptions as JSON."""
    return json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False)


def as_text(one: Description) -> str:
    """A description as people read it."""
    parts = [f"{one.kind} {one.name}", "", *one.text.splitlines(), *[""] * bool(one.facts)]
    for key, value in one.facts.items():
        parts += textwrap.wrap(value, WIDTH, initial_indent=f"{key}: ", subsequent_indent="    ")
    if one.where:
        parts += ["", f"Parameters ({one.where}):" if one.parameters else "It has no parameters."]
    for parameter in one.parameters:
        default = "  (must be given)" if parameter.default is None else f" = {parameter.default}".replace(" = null", "")
        meaning = f"  # {parameter.meaning}" if parameter.meaning else ""
        parts.append(f"  {parameter.name}: {parameter.type}{default}{meaning}")
    return "\n".join(parts)
