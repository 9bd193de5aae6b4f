"""`albench doctor RUN_DIR`: is everything in a run folder sound?"""

from pathlib import Path

import click


@click.command("doctor")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Set bad records aside (nothing is deleted), so that the run can go on.")
@click.option("--quick", is_flag=True, help="Do not read outcomes and weights, only see whether they are there.")
@click.pass_context
def command(context: click.Context, run_dir: Path, repair: bool, quick: bool) -> None:
    """Check every record, checksum, selection and table of a run folder; nothing is trained.

    Labelled sets grow by exactly K, from the seeded initial set and candidates, no sample twice; trainings are those
    of their labels, settings and seeds; numbers are finite; tables equal the records. One line for each thing that is
    wrong: where, and what it means.

    Exit codes: 0 sound (or repaired), 1 something is wrong, 2 no run folder.
    """
    from rich.console import Console
    from rich.progress import Progress

    from albench import doctor

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("examining trials")
        health = doctor.examine(run_dir, not quick, lambda done, total: bar.update(task, completed=done, total=total))
    for finding in health.findings:
        click.echo(f"{finding}" if finding.problem else f"Note: {finding}")
    problems = len(health.problems())
    if not repair:
        click.echo(f"{problems} problems; --repair sets bad records aside" if problems else f"{run_dir}: sound")
        context.exit(1 if problems else 0)
    done = doctor.repair(run_dir, health, console.print)
    for line in done:
        click.echo(f"Repaired: {line}")
    click.echo("`albench run` with the same suite and --out carries on." if done else f"{run_dir}: nothing to repair")
