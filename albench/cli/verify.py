"""`albench verify RUN_DIR`: does what was recorded come out again?"""

from pathlib import Path

import click


@click.command("verify")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--stages", type=click.IntRange(1), default=3, show_default=True, help="How many stages to repeat.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random choice of stages.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Where data sets lie. Default: as in the run.")
@click.option("--device", metavar="cpu|cuda[:i]", help="Default: that of the run.")
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="A Python file to load.")
@click.pass_context
def command(
    context: click.Context,
    run_dir: Path,
    stages: int,
    seed: int,
    data_root: Path | None,
    device: str | None,
    plugins: tuple[Path, ...],
) -> None:
    """Repeat a random sample of finished stages from their recorded labels and compare: one line for each.

    On the CPU type and the versions of the run every number must be the same to the bit; elsewhere the metric must be
    within a tolerance, which is said and where it comes from. The run folder stays as it is. Plug-ins that the run
    used are loaded only when they are named here.

    Exit codes: 0 all the same, 1 something differs or cannot be repeated, 2 wrong input.
    """
    from rich.console import Console
    from rich.progress import Progress

    from albench.devices import pick_device
    from albench.registry import load_plugin
    from albench.verify import Verification

    for file in plugins:
        load_plugin(file)
    root = data_root.resolve() if data_root else None
    verification = Verification(run_dir, stages, seed, root, pick_device(device) if device else None)
    click.echo(f"Basis: {verification.basis()}.")
    console, wrong = Console(stderr=True), 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(verification.chosen))
        repeated = 0

        def show(stage: int, what: str, fraction: float) -> None:
            bar.update(task, completed=repeated + 0.9 * fraction * (what == "training"), description=what)

        for one in verification.repeat(show):
            repeated += 1
            wrong += bool(one.differences)
            bar.update(task, completed=repeated)
            click.echo(str(one))
    context.exit(1 if wrong else 0)
