"""`albench report RUN_DIR…`: the page, figures and tables of runs, or of a CSV of results."""

from pathlib import Path
from typing import Any

import click

from albench.cli.reading import options, reading


@click.command("report")
@click.argument("run_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN_DIR|CSV...")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Default: report/ in the first run folder.")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where data sets lie, for pictures.")
@click.option("--mixed-devices", is_flag=True, help="Average seeds although they ran on different GPU models.")
@click.option("--pool", is_flag=True, help="Take the seeds of all runs as one run's: one suite, several suite seeds.")
@click.option("--effect", type=float, help="Of a CSV: smallest effect of interest, in its unit. Default: 0.005.")
@options
def command(
    run_dirs: tuple[Path, ...],
    out: Path | None,
    data_root: Path | None,
    mixed_devices: bool,
    pool: bool,
    effect: float | None,
    **of_csv: Any,
) -> None:
    """Write index.html, report.md, figures/ and tables/ for one run, or for several side by side.

    A CSV with the columns task, strategy, seed, stage, labelled, metric and value will do in the place of a run
    folder; NAME.csv is reported in NAME/report/.
    """
    from albench import report

    said = reading(effect, **of_csv)
    click.echo(f"Report: {report.write(list(run_dirs), out, data_root, mixed_devices, pool, aloud=True, reading=said)}")
