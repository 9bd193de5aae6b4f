"""`albench status RUN_DIR`: what is done, running, failed and waiting."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from albench.status import Running, Status, TrialStatus


@click.command("status")
@click.argument("run_dir", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, trial by trial.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of --json, with what each field means.")
def command(run_dir: Path | None, as_json: bool, schema: bool) -> None:
    """Show how far a run is, from any terminal that sees its folder: also while it runs, also on another machine.

    What is running says where (host, process, device) and since when; a process that is gone is said to be. The time
    left is reckoned from the seconds that finished stages took, and from the workers that show signs of life.
    """
    from rich.console import Console

    from albench import status

    if schema:
        click.echo(json.dumps(status.Status.model_json_schema(), indent=2))
        return
    if run_dir is None:
        raise click.UsageError("Missing argument 'RUN_DIR'.")
    found = status.read(run_dir)
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    console = Console(soft_wrap=True)
    for part in _view(found):
        console.print(part, markup=False, highlight=False)


def _view(found: "Status") -> "list[RenderableType]":
    from albench.progress import clock

    counts = ", ".join(f"{count} {state}" for state, count in found.counts.items() if count)
    left = ""
    if found.seconds_left is not None:
        left = f"; about {clock(found.seconds_left)} left with {found.workers} workers"
    elif found.seconds_of_work:
        left = f"; nobody works on it; about {clock(found.seconds_of_work)} of work left for one worker"
    head = f"{found.suite}: {found.stages_done} of {found.stages} stages; trials: {counts}{left}"
    failed = [trial for trial in found.trials if trial.error is not None and trial.state != "running"]
    lines = [f"Failed: {_name(trial)}: {trial.error}" for trial in failed]
    gone = [trial for trial in found.trials if trial.running and trial.running.gone and trial.state != "done"]
    lines += [
        f"Stopped: {_name(trial)}: {trial.running.gone}; it goes on when run again" for trial in gone if trial.running
    ]
    return [head, _bars(found), *(["", *_running(found)] if found.counts["running"] else []), *lines]


def _bars(found: "Status") -> "RenderableType":
    """A bar per task."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for task in dict.fromkeys(trial.task for trial in found.trials):
        mine = [trial for trial in found.trials if trial.task == task]
        done, total = sum(trial.stages_done for trial in mine), sum(trial.stages for trial in mine)
        table.add_row(task, ProgressBar(total=total, completed=done, width=40), f"{done}/{total} stages")
    return table


def _running(found: "Status") -> list[str]:
    return [
        f"Running: {_name(trial)}: stage {trial.running.stage + 1}/{trial.stages} {trial.running.what} "
        f"{trial.running.fraction:.0%} on {_where(trial.running)}"
        for trial in found.trials
        if trial.state == "running" and trial.running
    ]


def _where(running: "Running") -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(running.started))
    return f"{running.host}, process {running.pid}, {running.device}, since {since}"


def _name(trial: "TrialStatus") -> str:
    return f"{trial.task} · {trial.strategy} · seed {trial.seed}"
