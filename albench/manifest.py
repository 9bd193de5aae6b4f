"""What a run is: checked against the data and against what its folder holds already, and written down whole."""

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

import albench
from albench import registry
from albench.cycle import Plan
from albench.errors import AlbenchError
from albench.first_look import built
from albench.recipe import Recipe
from albench.samples import Data
from albench.store import Record, Store, planned
from albench.suite import Suite, TaskEntry, differences, followed
from albench.task import Task


def task_facts(label: str, entry: TaskEntry, task: Task, data: Data, plan: Plan) -> Record:
    """What the manifest says of a task.

    Raises:
        AlbenchError: the plan does not fit the data: more labels than samples; or the task is not as `Task` says.
    """
    needed, size = plan.labelled(plan.stages - 1), len(data.pool)
    if needed > size:
        raise AlbenchError(
            f"task {label!r}: {plan.stages} stages need {needed} labels ({plan.initial} + {plan.stages - 1} × "
            f"{plan.budget}), but the pool has {size} samples; lower tasks.{label}.budget or --stages"
        )
    if 0 < plan.subset < plan.budget:
        raise AlbenchError(f"task {label!r}: subset {plan.subset} is smaller than the budget {plan.budget}")
    model = built(task, data, f"task {label!r}")
    return {
        "task": entry.task,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "source": entry.source or task.data_source,
        "pool": size,
        "test": len(data.test),
        "classes": list(data.classes),
        "fingerprint": data.fingerprint(),
        "notes": data.notes,
        "parameters": sum(p.numel() for p in model.parameters()),
        "contents": task.contents(data.pool.targets, data.classes).sum(0).tolist(),
    }


def refuse_changes(before: Record, suite: Suite, folder: Path, plugins: tuple[Path, ...], device: str) -> list[str]:
    """A run may grow by tasks, strategies, seeds and stages; anything else would mix two experiments.

    The device counts too: the GPU model alone can change a ranking. A plug-in may change as long as nothing that was
    recorded came from it: the paths of such are returned.

    Raises:
        AlbenchError: something else differs: each difference, old → new.
    """
    changed = differences(_completed(before["suite"], suite), suite.model_dump(mode="json"))
    last = before["sessions"][-1]
    if (last["device"].partition(":")[0], last["gpu"]) != (device.partition(":")[0], gpu_name(device)):
        changed.append(f"device: {last['gpu'] or last['device']} → {gpu_name(device) or device}")
    now, mended = _plugin_sums(plugins), []
    for path, digest in before.get("plugins", {}).items():
        if path in now and now[path] != digest:
            if used := _made_with(Path(path), before, suite, Store(folder)):
                changed.append(
                    f"plug-in {path}: its content has changed, and {used} (or keep it, and add what was mended under "
                    "another name from a file of its own: the rest of the run stays)"
                )
            else:
                mended.append(path)
    if changed:
        raise AlbenchError(
            f"{folder} holds a run with other settings; use another --out, or undo: " + "; ".join(changed)
        )
    return mended


def _made_with(plugin: Path, before: Record, suite: Suite, store: Store) -> str:
    """What of a run came from a plug-in, in words; '' where nothing did. The plug-in is loaded, as it is now.

    A task or a companion of it is in every training; of a strategy's trial the first training is the others', too, and
    counts no more than theirs as long as the strategy selected nothing (nor was diagnosed, at a last stage).
    """

    def ours(kind: registry.Registry, name: str | None) -> bool:  # also one that the mended file no longer has
        return name is not None and (name in kind.of_plugin(plugin) or name not in kind.names())

    entries = {**before["suite"]["strategies"], **suite.model_dump(mode="json")["strategies"]}
    tasks = {label for label, entry in before["suite"]["tasks"].items() if ours(registry.tasks, entry["task"])}
    beside = {label for label, entry in entries.items() if ours(registry.companions, entry["companion"])}
    selecting = {label for label, entry in entries.items() if ours(registry.strategies, entry["strategy"])}
    for trial in store.trials():
        kinds = {record["kind"] for record in store.records(trial)}
        if trial.task in tasks or trial.strategy in beside:
            return f"{trial} was trained with what it registers"
        if trial.strategy in selecting and kinds & {"selected", "finished"}:
            return f"{trial} has selected by it"
    if (tasks or beside) and any((store.folder / "trained").glob("*.checkpoint")):
        return "a checkpoint may be of a training with what it registers"
    return ""


def _completed(before: Record, now: Suite) -> Record:
    """An older run's suite, where what its version did not know yet has its default."""
    known: Record = Suite.model_validate(before).model_dump(mode="json")
    for label, entry in known["tasks"].items():
        entry["recipe"] = {**_defaults(Recipe), **entry["recipe"]}
        if label in now.tasks:
            entry["params"] = {**_defaults(registry.tasks.get(entry["task"])), **entry["params"]}
    for label, entry in known["strategies"].items():
        if label in now.strategies:
            entry["params"] = {**_defaults(registry.strategies.get(entry["strategy"])), **entry["params"]}
    return known


def _defaults(settings: type[BaseModel]) -> Record:
    fields = {name: field for name, field in settings.model_fields.items() if not field.is_required()}
    values = {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in fields.items()}
    return dict(to_jsonable_python(values))


def _plugin_sums(plugins: tuple[Path, ...]) -> dict[str, str]:
    return {str(p): hashlib.blake2b(p.read_bytes(), digest_size=16).hexdigest() for p in plugins}


def manifest(
    resolved: Suite,
    facts: dict[str, Record],
    before: Record | None,
    data_root: Path | None,
    plugins: tuple[Path, ...],
    session: Record,
) -> Record:
    """What was asked for, on what, with what; an earlier manifest is grown, never forgotten.

    Raises:
        AlbenchError: a task's data are not those that the run began with.
    """
    suite = resolved.model_dump(mode="json")
    old = before or {"suite": {}, "tasks": {}, "strategies": {}, "plugins": {}, "sessions": []}
    for label, task in facts.items():
        known = old["tasks"].get(label)
        if known is not None and known["fingerprint"] != task["fingerprint"]:
            raise AlbenchError(f"task {label!r}: the data are not those this run was made with; use another --out")
    for key in ("tasks", "strategies"):
        suite[key] = {**old["suite"].get(key, {}), **suite[key]}
    for key in ("seeds", "stages", "ceiling"):
        suite[key] = max(suite[key], old["suite"].get(key, 0))
    first = {"seeds": suite["seeds"], "stages": suite["stages"], "strategies": list(suite["strategies"])}
    strategies = {
        label: {"strategy": entry.strategy, "companion": entry.companion, "cheats": _cheats(resolved, label)}
        for label, entry in resolved.strategies.items()
    }
    return {
        "format": 1,
        "albench": albench.__version__,
        "suite": suite,
        "planned": planned(before) if before else first,
        "tasks": {**old["tasks"], **facts},
        "strategies": {**old["strategies"], **strategies},
        "data_root": str(data_root) if data_root else old.get("data_root"),
        "plugins": {**old["plugins"], **_plugin_sums(plugins)},
        "sessions": [*old["sessions"], session],
    }


def _cheats(suite: Suite, label: str) -> bool:
    """Whether a strategy, or the one it follows, sees hidden labels."""
    entry, leader = suite.strategies[label], followed(label, suite.strategies[label])
    strategy = registry.strategies.get(entry.strategy or label)(**entry.params)
    return strategy.sees_hidden_labels() or (leader is not None and _cheats(suite, leader))


def session(device: str, command: list[str], deterministic: bool = False, mended: list[str] | None = None) -> Record:
    """The circumstances of one call: versions, machine, device; `mended`: plug-ins that changed since the last one."""
    packages = ("numpy", "pandas", "scipy", "scikit-learn", "torch", "torchvision")
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "albench": albench.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "device": device,
        "gpu": gpu_name(device),
        "deterministic": deterministic,
        "tf32": False,  # `Numerics.in_force` sees to it
        "git": _git(),
        **({"mended": mended} if mended else {}),
    }


def other_versions(before: Record) -> list[str]:
    """'torch 2.11.0 → 2.15.0' for what has changed since the run's last session."""
    last = before["sessions"][-1]
    now = {"albench": albench.__version__, **{name: version(name) for name in ("torch", "torchvision", "numpy")}}
    return [f"{name} {last[name]} → {value}" for name, value in now.items() if last.get(name, value) != value]


def gpu_name(device: str) -> str | None:
    """The GPU's model; None on a CPU, and where only the workers have one."""
    return torch.cuda.get_device_name(device) if device != "cpu" and torch.cuda.is_available() else None


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git() -> Record | None:
    """Commit of albench's own checkout, and whether it was changed; None where it is installed from a package."""
    home = Path(albench.__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if (home / "pyproject.toml").is_file() and (commit := git("rev-parse", "HEAD")):
            return {"commit": commit, "changed": bool(git("status", "--porcelain", "--untracked-files=no"))}
    return None


def command_line() -> list[str]:
    """What was typed, for the manifest."""
    program = Path(sys.argv[0])
    ours = "albench" in program.name or program.parts[-2:] == ("albench", "__main__.py")  # python -m albench
    return ["albench", *sys.argv[1:]] if ours else ["python", *sys.argv]
