"""`albench run SUITE`: from a suite to its report."""

import contextlib
from pathlib import Path
from typing import Any

import click

from albench.cli.reading import names
from albench.errors import AlbenchError


@click.command("run")
@click.argument("suite")
@click.option("--tasks", callback=names, metavar="A,B", help="Only these tasks (others that are registered: added).")
@click.option("--strategies", callback=names, metavar="A,B", help="Only these strategies (others: added).")
@click.option("--seeds", type=click.IntRange(1), help="Trials per task and strategy.")
@click.option("--stages", type=click.IntRange(1), help="Stages per trial.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]")
@click.option("--jobs", type=click.IntRange(1), help="Trials at once. Default: one a core, one a GPU, or the cluster.")
@click.option(
    "--backend",
    type=click.Choice(["loky", "dask", "ray", "slurm"]),
    default="loky",
    show_default=True,
    help="What runs the trials: processes of this machine, Dask, Ray, or Slurm.",
)
@click.option("--scheduler", metavar="ADDRESS", help="A Dask or Ray cluster that runs; else one is started here.")
@click.option("--slurm", multiple=True, metavar="key=value", help="For Slurm: partition=gpu, timeout_min=600 …")
@click.option("--trials-per-gpu", type=click.IntRange(1), default=1, show_default=True, help="Trials sharing a GPU.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Of the network. Default: the suite's.")
@click.option(
    "--compile",
    type=click.Choice(["auto", "off", "on", "graphs", "eager-graphs"]),
    help="Compile the training step; graphs: and capture CUDA graphs; eager-graphs: those alone. Default: the suite's.",
)
@click.option("--deterministic/--no-deterministic", default=None, help="The same bits twice, on a GPU too; slower.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder. Default: results/<suite name>.")
@click.option("--data-root", type=click.Path(path_type=Path), help="The folder that holds your data sets.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Between two checkpoints inside a training, so that a kill costs no more; 0: none.",
)
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="A Python file to load.")
@click.option("--set", "settings", multiple=True, metavar="key=value", help="Change the suite: tasks.digits.budget=10.")
@click.option("--estimate", is_flag=True, help="Only say what it would cost here: steps, time, memory, disk.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write the report at the end.")
@click.pass_context
def command(
    context: click.Context,
    suite: str,
    plugins: tuple[Path, ...],
    settings: tuple[str, ...],
    slurm: tuple[str, ...],
    report: bool,
    estimate: bool,
    **options: Any,
) -> None:
    """Run every task × strategy × seed of SUITE (a bundled name or a TOML file), then write the report.

    An existing run folder is carried on: what is finished is kept, an interrupted training goes on from its
    checkpoint. It may grow by tasks, strategies, seeds and stages.

    Exit codes: 0 all trials finished, 1 some failed, 2 wrong input, 130 interrupted (129 terminal closed,
    143 killed).
    """
    from rich.console import Console

    from albench import api
    from albench.backends import parameters

    options["slurm"] = parameters(slurm)
    console = Console(stderr=True)
    if estimate:
        _estimate(suite, plugins=list(plugins), settings=list(settings), **options)
        return
    _stop_when_told()
    try:
        folder, failed = api.run(suite, plugins=list(plugins), settings=list(settings), console=console, **options)
    except KeyboardInterrupt:
        click.echo("Interrupted; finished stages are kept. The same command carries on.", err=True)
        context.exit(130)
    _summary(folder)
    if report:
        _report(folder, options["data_root"])
    if failed:
        click.echo(f"{len(failed)} trial{'s' * (len(failed) > 1)} failed; everything else is kept:", err=True)
        for outcome in failed:
            click.echo(f"  {outcome.trial}: {outcome.error}", err=True)
        click.echo(f"Tracebacks: {folder / 'failures'}. The same command tries them again.", err=True)
        context.exit(1)


def _stop_when_told() -> None:
    """A closed terminal or a `kill` ends the run as Ctrl-C does: workers ended, tables written."""
    import signal

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough
        raise SystemExit(128 + number)

    for name in ("SIGHUP", "SIGTERM"):
        if (number := getattr(signal, name, None)) is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, stop)  # under nohup it stays ignored


def _estimate(suite: str, jobs: int | None, device: str, **options: Any) -> None:
    """A table of what the run would cost; nothing is written."""
    from rich.console import Console

    from albench import api
    from albench.estimate import table

    known: tuple[str, ...] = ("tasks", "strategies", "seeds", "stages", "data_root", "plugins", "settings")
    known += ("precision", "compile", "deterministic")
    given = {name: options[name] for name in known}
    try:
        parts = api.estimate(suite, device=device, **given)
    except AlbenchError as error:  # the data are missing, say: what can be counted without them is told all the same
        with contextlib.suppress(AlbenchError):
            click.echo("\n".join(api.counts(suite, device=device, **given)))
        raise error
    Console().print(table(parts, jobs or parts[0].jobs))
    folder = api.planned(suite, device=device, out=options["out"], **given).folder
    if (folder / "manifest.json").is_file():
        click.echo(f"{folder} holds a run already: trials that are finished there are not taken off this estimate.")


def _summary(folder: Path) -> None:
    """Per task: final value and AUBC, mean ± std over seeds."""
    from rich.console import Console
    from rich.table import Table

    from albench.analysis.curves import summary
    from albench.api import load_results
    from albench.store import Store

    manifest = Store(folder).manifest()
    assert manifest is not None
    results = load_results(folder)
    for label, task in manifest["tasks"].items():
        reference = manifest["suite"]["primary"]["reference"]
        rows = summary(results[results["task"] == label], task["metric"], reference)
        if rows.empty:
            continue
        table = Table(title=f"{label}: {task['metric']}", title_justify="left")
        for heading in ("strategy", "seeds", "labels", "final", "AUBC"):
            table.add_column(heading, justify="left" if heading == "strategy" else "right")
        order = list(manifest["strategies"])
        for row in sorted(rows.to_dict("records"), key=lambda row: order.index(row["strategy"])):
            name = row["strategy"]
            table.add_row(
                f"{name} (sees hidden labels)" if manifest["strategies"][name]["cheats"] else name,
                str(row["seeds"]),
                str(row["labelled"]),
                _mean_std(row["final_mean"], row["final_std"]),
                _mean_std(row["aubc_mean"], row["aubc_std"]),
            )
        Console().print(table)
        for row in rows.to_dict("records"):
            if row["dropped"]:
                click.echo(f"{row['strategy']}: {row['dropped']}")


def _mean_std(mean: float, std: float) -> str:
    """One seed has no spread, and a curve of one point no area."""
    if mean != mean:
        return "–"
    return f"{mean:.4f} ± {std:.4f}" if std == std else f"{mean:.4f}"


def _report(folder: Path, data_root: Path | None) -> None:
    from albench import report

    click.echo(f"Report: {report.write([folder], data_root=data_root, aloud=True)}")
