"""`albench report RUN_DIR…`: the page, figures and tables of runs."""

from pathlib import Path

import click


@click.command("report")
@click.argument("run_dirs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN_DIR...")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Default: report/ in the first run folder.")
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Where data sets lie, for pictures.")
@click.option("--mixed-devices", is_flag=True, help="Average seeds although they ran on different GPU models.")
@click.option("--pool", is_flag=True, help="Take the seeds of all runs as one run's: one suite, several suite seeds.")
def command(
    run_dirs: tuple[Path, ...], out: Path | None, data_root: Path | None, mixed_devices: bool, pool: bool
) -> None:
    """Write index.html, report.md, figures/ and tables/ for one run, or for several side by side."""
    from albench import report

    click.echo(f"Report: {report.write(list(run_dirs), out, data_root, mixed_devices, pool, aloud=True)}")
