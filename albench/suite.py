"""A suite: a TOML file that names tasks, strategies and seeds; every combination is a trial.

`read` checks the file; `resolve` looks every name and parameter up, so that a wrong one is said before anything runs.
"""

import inspect
import re
import reprlib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from albench import registry
from albench.analysis.publication import Published, settings
from albench.errors import AlbenchError, did_you_mean
from albench.numerics import Numerics
from albench.store import CEILING
from albench.suite_file import TOLD, bundled, change, content_of

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+@]*(-[A-Za-z0-9._+@]+)*$", max_length=60)]
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Few = Annotated[int, Field(gt=0, le=100_000)]  # every trial is enumerated


class Part(BaseModel):
    """The base of every table of a suite file: unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Price(Part):
    """[tasks.LABEL.price]: what annotating costs, for the report's label efficiency; it changes no result."""

    unit: str = "seconds"
    sample: Annotated[float, Field(ge=0)] = 0.0  # of an image or person, whatever it holds
    part: Annotated[float, Field(ge=0)] = 0.0  # of each object or joint in it


class TaskEntry(Part):
    """[tasks.LABEL]: a task with its parameters, recipe and label counts; what is missing comes from the suite."""

    task: str | None = None  # registered name; default: the label
    params: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    companions: dict[str, dict[str, Any]] = {}  # companion → parameters that fit this task (λ of a small loss, say)
    initial: Count | None = None
    budget: Count | None = None
    subset: Annotated[int, Field(ge=0)] | None = None
    source: str = ""  # what the data are and where they come from; default: what the task says
    price: Price | None = None
    published: Published | None = None
    uncertain: dict[str, str] = {}  # "key.path" of a setting → what its source leaves open, and the other values


class StrategyEntry(Part):
    """[strategies.LABEL]: a strategy with its parameters; any may have a companion trained beside it."""

    strategy: str | None = None  # registered name; default: the label
    params: dict[str, Any] = {}
    companion: str | None = None  # default: the strategy's own
    companion_params: dict[str, Any] = {}


class Primary(Part):
    """[primary]: what the one confirmatory test will compare, fixed before the run."""

    reference: str = "random"
    effect: Annotated[float, Field(gt=0)] = 0.005  # smallest effect of interest, in the metric's unit
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05  # family-wise error rate of a task's comparisons


class Suite(Part):
    """The whole file."""

    name: Label
    description: str = ""
    tuning: str = ""  # how recipes and parameters were chosen, and on which labels: reviewers ask, reports quote it
    demonstration: bool = False  # sized to show the machinery: reports call it no evidence
    seed: int = 0
    seeds: Few = 3
    stages: Few = 5
    initial: Count | None = None  # labels at stage 0; default: the budget
    budget: Count | None = None  # K
    subset: Annotated[int, Field(ge=0)] = 0  # M candidates drawn per stage; 0 is the whole pool
    warm_start: bool = False  # continue from the stage before instead of training from fresh weights
    ceiling: Annotated[int, Field(ge=0, le=100_000)] = 0  # seeds for which each task is also trained on its whole pool
    efficiency: tuple[Share, ...] = (0.5, 0.75, 0.9)  # of the reference's rise: to these values labels are counted
    recipe: dict[str, Any] = {}  # for every task, under the task's own
    numerics: Numerics = Numerics()
    selection_minutes: Annotated[float, Field(ge=0)] = 60.0  # longest for observing and selecting; 0: no limit
    primary: Primary = Primary()
    tasks: dict[Label, TaskEntry]
    strategies: dict[Label, StrategyEntry]

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tables(cls, value: Any) -> Any:
        """`strategies = ["random", "entropy"]` is short for two empty tables."""
        if isinstance(value, dict):
            for key in ("tasks", "strategies"):
                names = value.get(key)
                if isinstance(names, list) and all(isinstance(name, str) for name in names):
                    value = value | {key: {name: {} for name in names}}
        return value

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.tasks or not self.strategies:
            raise ValueError("a suite needs at least one task and one strategy")
        if CEILING in self.strategies:
            raise ValueError(f"strategies: {CEILING!r} is the name of the trainings on the whole pool; take another")
        reference, labels = self.primary.reference, list(self.strategies)
        if reference not in labels and reference != Primary().reference:
            hint = did_you_mean(reference, labels)
            raise ValueError(f"primary.reference: {reference!r} is none of the strategies.{hint}")
        return self


def read(name: str, settings: tuple[str, ...] = ()) -> Suite:
    """A suite from a bundled name or a TOML file, with `key.path=value` settings on top.

    A file that begins with `base = "NAME"` (bundled, or a file) is that suite with the keys that it names changed. Of
    `strategies` and `tasks` a list picks labels of the base, or adds registered names; a table adds to the base's.

    Raises:
        AlbenchError: no such suite, not TOML, or an unknown key or bad value: which key, in which file.
    """
    content, path = content_of(name)
    if not settings:
        return validated(Suite, content, f"{path}")
    try:
        before = validated(Suite, content, f"{path}")
    except AlbenchError:  # what is missing may be among the settings
        before = None
    for setting in settings:
        change(content, setting)
    suite = validated(Suite, content, f"{path} with --set")
    return suite if before is None else _told(suite, before, settings)


def _told(suite: Suite, before: Suite, settings: tuple[str, ...]) -> Suite:
    """The suite, its words on tuning followed by the settings, where they change what is trained."""
    trained = {"tasks", "recipe", "numerics", "warm_start"}
    if not suite.tuning or not differences(before.model_dump(include=trained), suite.model_dump(include=trained)):
        return suite
    shown = "; ".join(dict.fromkeys(one for one in settings if re.split("[.=]", one)[0].strip() in trained))
    return suite.model_copy(update={"tuning": f"{suite.tuning.rstrip('.')}. Changed for this run: {shown}."})


def validated(model: type[BaseModel], content: Any, where: str) -> Any:
    """The model made from content.

    Raises:
        AlbenchError: one line with every wrong key, what is wrong with it, and what is allowed.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise AlbenchError(f"{where}: " + "; ".join(_explained(model, e) for e in error.errors())) from None


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def _explained(model: type[BaseModel], error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] != "extra_forbidden":
        given = "" if error["type"] == "missing" else f" (given: {_SHORT.repr(error['input'])})"
        message = str(error["msg"]).removeprefix("Value error, ")
        return f"{path + ': ' if path else ''}{message}{given if path else ''}{_meaning(model, error['loc'])}"
    allowed = _fields(model, error["loc"][:-1])
    hint = did_you_mean(str(error["loc"][-1]), allowed)
    return f"{path}: unknown key.{hint} Allowed: {', '.join(allowed) or 'none'}"


def _meaning(model: type[BaseModel], path: tuple) -> str:
    """What a key's `Field(description=…)` says it is, if it has one."""
    field = model.model_fields.get(str(path[0])) if len(path) == 1 else None
    return f"; it is {field.description}" if field and field.description else ""


def _fields(model: Any, path: tuple) -> list[str]:
    """The keys that a table at a path of the model may have."""
    for part in path:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
            model = inner[-1] if inner else annotation
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def resolve(suite: Suite, device: str | None = None, before: Numerics | None = None) -> Suite:
    """The suite with every name looked up and every default written out: what the manifest keeps.

    On a device, numerics that are "auto" become those of the run so far (`before`), or what suits the device.

    Raises:
        AlbenchError: an unknown name or parameter, a need that a task cannot meet, no budget, a note on no setting.
    """
    tasks = {label: _resolved_task(suite, label, entry) for label, entry in suite.tasks.items()}
    strategies = {label: _resolved_strategy(label, entry) for label, entry in suite.strategies.items()}
    for label, strategy in strategies.items():
        cls = registry.strategies.get(strategy.strategy or label)
        _check_followed(label, strategies)
        for task_label, entry in tasks.items():
            task = registry.tasks.get(entry.task or task_label)(**entry.params)
            missing = cls.needs - task.can
            if missing:
                tip = f": set tasks.{task_label}.params.dropout" if "dropout" in missing else ""
                raise AlbenchError(
                    f"strategy {label!r} is not defined on task {task_label!r}: "
                    f"it needs {', '.join(sorted(missing))}{tip}"
                )
    numerics = suite.numerics.resolved(device, before) if device is not None else suite.numerics
    known = {"tasks": tasks, "strategies": strategies, "recipe": {}, "numerics": numerics}
    resolved = suite.model_copy(update=known)
    noted = {label: e.model_copy(update={"uncertain": _uncertain(resolved, label)}) for label, e in tasks.items()}
    return resolved.model_copy(update={"tasks": noted})


def _uncertain(suite: Suite, label: str) -> dict[str, str]:
    """A task's notes on uncertain settings; those on strategies that are not among the suite's are left out."""
    there = settings(suite.model_dump(mode="json"), label)
    notes = {}
    for path, note in suite.tasks[label].uncertain.items():
        kind, *names = path.split(".")
        if (
            kind == "strategies"
            and names
            and names[0] in registry.strategies.names()
            and names[0] not in suite.strategies
        ):
            continue
        if path not in there:
            raise AlbenchError(f"tasks.{label}.uncertain: no setting {path!r}.{did_you_mean(path, list(there))}")
        notes[path] = note
    return notes


def followed(label: str, entry: StrategyEntry) -> str | None:
    """The label of the strategy whose selections this one follows, if any."""
    return registry.strategies.get(entry.strategy or label)(**entry.params).follows()


def twins(suite: Suite, label: str) -> list[str]:
    """Other strategies of a resolved suite that train alike at every stage: the same selections, the same companion.

    Such are one that follows another, or the same one under two labels. That two strategies happen to select the same
    is not foreseen.
    """

    def course(label: str) -> Any:
        entry = suite.strategies[label]
        leader = suite.strategies.get(followed(label, entry) or label, entry)
        return leader.strategy, leader.params, entry.companion, entry.companion_params

    return [other for other in suite.strategies if other != label and course(other) == course(label)]


def _check_followed(label: str, strategies: dict[str, StrategyEntry]) -> None:
    leader = followed(label, strategies[label])
    if leader is None:
        return
    if leader not in strategies:
        hint = did_you_mean(leader, list(strategies))
        raise AlbenchError(f"strategies.{label} follows {leader!r}, which is none of the suite's strategies.{hint}")
    if followed(leader, strategies[leader]) is not None:
        raise AlbenchError(f"strategies.{label} follows {leader!r}, which follows another itself; name that one")


def _resolved_task(suite: Suite, label: str, entry: TaskEntry) -> TaskEntry:
    name = registry.tasks.resolve(entry.task or label)
    cls = registry.tasks.get(name)
    task = validated(cls, entry.params, f"tasks.{label}.params")
    try:
        recipe = cls.recipe.merged(suite.recipe).merged(entry.recipe)
    except ValidationError as error:
        from albench.recipe import Recipe

        raise AlbenchError(
            f"tasks.{label}.recipe: " + "; ".join(_explained(Recipe, e) for e in error.errors())
        ) from None
    companions = entry.companions
    for companion, params in companions.items():
        _check_companion(companion, params, f"tasks.{label}.companions.{companion}")
    budget = entry.budget or suite.budget
    if budget is None:
        raise AlbenchError(f"tasks.{label}: no budget; say how many samples a stage labels (budget = K)")
    return TaskEntry(
        task=name,
        params=task.model_dump(mode="json"),
        recipe=recipe.model_dump(mode="json"),
        companions={registry.companions.resolve(c): p for c, p in companions.items()},
        initial=entry.initial or suite.initial or budget,
        budget=budget,
        subset=suite.subset if entry.subset is None else entry.subset,
        source=entry.source,
        price=entry.price,
        published=_published(entry.published, label, task.metric),
        uncertain=entry.uncertain,
    )


def _published(entry: Published | None, label: str, metric: str) -> Published | None:
    if entry is None:
        return None
    try:
        if entry.protocol and entry.protocol not in bundled():
            hint = did_you_mean(entry.protocol, list(bundled()))
            raise AlbenchError(f"published: protocol {entry.protocol!r} is no bundled suite.{hint}")
        return entry.resolved(label, metric)
    except AlbenchError as error:
        raise AlbenchError(f"tasks.{label}.{error}") from error


def _check_companion(name: str, params: dict[str, Any], where: str) -> None:
    """A companion's options are the keyword parameters of its __init__, with their types and what pydantic adds to one.

    Raises:
        AlbenchError: an unknown option, a wrong type, or a value out of the range of `Annotated[float, Field(ge=0)]`.
    """
    build = registry.companions.get(name).__init__
    parameters = list(inspect.signature(build).parameters.values())[2:]
    fields: dict[str, Any] = {
        p.name: (Any if p.annotation is p.empty else p.annotation, ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is not p.VAR_KEYWORD
    }
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    # in its own module, so that annotations that are text (from __future__ import annotations) find their names
    validated(create_model(name, __config__=config, __module__=build.__module__, **fields), params, where)


def _resolved_strategy(label: str, entry: StrategyEntry) -> StrategyEntry:
    name = registry.strategies.resolve(entry.strategy or label)
    cls = registry.strategies.get(name)
    strategy = validated(cls, entry.params, f"strategies.{label}.params")
    companion = entry.companion or cls.companion
    if companion is None and entry.companion_params:
        raise AlbenchError(f"strategies.{label}: companion_params without a companion")
    if companion is not None:
        _check_companion(companion, entry.companion_params, f"strategies.{label}.companion_params")
    return StrategyEntry(
        strategy=name,
        params=strategy.model_dump(mode="json"),
        companion=registry.companions.resolve(companion) if companion else None,
        companion_params=entry.companion_params,
    )


Axis = Literal["tasks", "strategies"]


def chosen(suite: Suite, axis: Axis, names: list[str]) -> Suite:
    """The suite with some of its tasks or strategies; a registered name that is not in it is added.

    Raises:
        AlbenchError: neither a label of the suite nor a registered name.
    """
    entries: dict[str, Any] = getattr(suite, axis)
    kinds = registry.tasks if axis == "tasks" else registry.strategies
    entry_type: Any = TaskEntry if axis == "tasks" else StrategyEntry
    if not names:
        raise AlbenchError(f"--{axis}: no name is given; leave the option out for all of them")
    picked = {}
    for name in names:
        label = name if name in entries else kinds.resolve(name)
        picked[label] = entries.get(label, entry_type())
    return suite.model_copy(update={axis: picked})


def companion_params(task: TaskEntry, strategy: StrategyEntry) -> dict[str, Any]:
    """The parameters of a strategy's companion on a task: the task's, and the strategy's own before them."""
    return {**task.companions.get(strategy.companion or "", {}), **strategy.companion_params}


def differences(before: dict[str, Any], after: dict[str, Any], path: str = "") -> list[str]:
    """Where two resolved suites differ, as 'key: old → new' lines; growth is not a difference.

    Growing means more tasks, strategies, seeds, stages or ceilings, or running a part of them again; prices,
    published curves, notes and time limits change no result.
    """
    found = []
    grows = ("seeds", "stages", "ceiling", "description", "tuning", "selection_minutes", "efficiency")
    for key in sorted({*before, *after}):
        here = f"{path}{key}"
        if here in grows or key in TOLD:
            continue
        if path in ("tasks.", "strategies.") and path.count(".") == 1 and (key not in before or key not in after):
            continue
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{here}.")
        elif old != new:
            found.append(f"{here}: {old!r} → {new!r}")
    return found
