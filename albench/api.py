"""albench from Python: what the command line calls, too."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from albench import manifest, registry, tables
from albench.backends import Options
from albench.cycle import Limits
from albench.errors import AlbenchError
from albench.estimate import Estimate
from albench.estimate import counts as planned_counts
from albench.estimate import estimate as estimates
from albench.execute import execute
from albench.numerics import Numerics
from albench.suite import chosen, read, validated
from albench.worker import Outcome, Run

Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "off", "on", "graphs", "eager-graphs"]


def run(
    suite: str | Path,
    *,
    tasks: list[str] | None = None,
    strategies: list[str] | None = None,
    seeds: int | None = None,
    stages: int | None = None,
    device: str = "auto",
    jobs: int | None = None,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    plugins: list[str | Path] | None = None,
    settings: list[str] | None = None,
    precision: Precision | None = None,
    compile: Compile | None = None,
    deterministic: bool | None = None,
    checkpoint_minutes: float = Limits.checkpoint_minutes,
    backend: str = "loky",
    scheduler: str | None = None,
    slurm: dict[str, str] | None = None,
    trials_per_gpu: int = 1,
    console: Console | None = None,
) -> tuple[Path, list[Outcome]]:
    """Run a suite (a bundled name or a TOML file), or carry an interrupted one on; see `albench run --help`.

    Returns:
        The run folder, and the trials that failed (empty where all is well).

    Raises:
        AlbenchError: wrong names, settings or data, before anything runs.
    """
    what = planned(
        suite,
        tasks=tasks,
        strategies=strategies,
        seeds=seeds,
        stages=stages,
        device=device,
        out=out,
        data_root=data_root,
        plugins=plugins,
        settings=settings,
        precision=precision,
        compile=compile,
        deterministic=deterministic,
    )
    if not 0 <= checkpoint_minutes < math.inf:
        raise AlbenchError(f"--checkpoint-minutes must be a finite number, or 0 for none, not {checkpoint_minutes}")
    what = replace(what, checkpoint_minutes=checkpoint_minutes)
    options = Options(backend, jobs, scheduler, slurm or {}, trials_per_gpu)
    failed = execute(what, options, manifest.command_line(), console or Console(stderr=True))
    return what.folder, failed


def estimate(suite: str | Path, **options: Any) -> list[Estimate]:
    """What `run` with the same options would cost on this machine; see `albench run --estimate`.

    Of the options of `run`: tasks, strategies, seeds, stages, device, data_root, plugins, settings, precision,
    compile, deterministic.

    Raises:
        AlbenchError: what would stop the run before anything starts.
    """
    return estimates(planned(suite, **options))


def counts(suite: str | Path, **options: Any) -> list[str]:
    """Trials, trainings and steps of each task, a line each; of `estimate`'s options. No data are looked at."""
    return planned_counts(planned(suite, **options))


def planned(
    suite: str | Path,
    *,
    tasks: list[str] | None = None,
    strategies: list[str] | None = None,
    seeds: int | None = None,
    stages: int | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    plugins: list[str | Path] | None = None,
    settings: list[str] | None = None,
    precision: Precision | None = None,
    compile: Compile | None = None,
    deterministic: bool | None = None,
) -> Run:
    """What the options ask for, the plug-ins loaded; nothing is resolved yet."""
    files = [Path(p) for p in plugins or []]
    for plugin in files:
        registry.load_plugin(plugin)
    content = read(str(suite), tuple(settings or ()))
    if tasks is not None:
        content = chosen(content, "tasks", tasks)
    if strategies is not None:
        content = chosen(content, "strategies", strategies)
    numbers = {k: v for k, v in {"seeds": seeds, "stages": stages}.items() if v is not None}
    for name, value in numbers.items():
        if value < 1:
            raise AlbenchError(f"{name} must be at least 1, not {value}")
    given = {"precision": precision, "compile": compile, "deterministic": deterministic}
    given = content.numerics.model_dump() | {k: v for k, v in given.items() if v is not None}
    numerics = validated(Numerics, given, "numerics")
    content = content.model_copy(update={**numbers, "numerics": numerics})
    folder = Path(out) if out is not None else Path("results") / content.name
    root = Path(data_root).resolve() if data_root is not None else None
    return Run(content, folder, root, device, tuple(p.resolve() for p in files))


def load_results(folder: str | Path) -> Any:
    """results.csv of a run as a tidy DataFrame: task, strategy, seed, stage, labelled, metric, value.

    A CSV file of these columns will do, too, from wherever it comes (see `albench.analysis.read`).

    Raises:
        AlbenchError: the folder holds no run, or the file no such table.
    """
    if Path(folder).is_file():
        from albench.analysis.tidy import read as read_csv

        return read_csv(Path(folder))
    return tables.table(Path(folder), "results")
