"""`albench compare RUN_A RUN_B`: what changed, by how much, and is it more than seed noise."""

import sys
from pathlib import Path

import click


@click.command("compare")
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), metavar="PATH", help="Write the table as CSV, too.")
@click.option("--mixed-devices", is_flag=True, help="Average seeds although they ran on different GPU models.")
def command(run_a: Path, run_b: Path, csv_path: Path | None, mixed_devices: bool) -> None:
    """Compare two runs of one suite: settings, versions and devices, then B − A for every task and strategy.

    Seeds are paired where both runs have them and the suite seed is the same; else Welch's test. The p-values are
    Holm's over all rows.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from albench.errors import AlbenchError
    from albench.report.compared import compare
    from albench.report.numbers import metric_name, number

    changes, notes = compare(run_a, run_b, mixed_devices=mixed_devices)
    if csv_path is not None:
        try:
            changes.to_csv(csv_path, index=False)
        except OSError as error:
            raise AlbenchError(f"{csv_path}: cannot be written: {error.strerror or error}") from error
    console = Console(soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 120)
    console.print(f"A = {run_a}, B = {run_b}", markup=False, highlight=False)
    for note in notes or ["settings, data, versions and device: the same"]:
        console.print(f"  {note}", markup=False, highlight=False)
    for (task, metric, labelled), rows in changes.groupby(["task", "metric", "labelled"], sort=False):
        title = f"{task}: {metric_name(str(metric))} up to {labelled:,} labels"
        table = Table(title=Text(title, "table.title"), title_justify="left")
        for heading in ("strategy", "of", "seeds", "A", "B", "B − A", "95 % interval", "p (Holm)", "verdict"):
            left = heading in ("strategy", "of", "verdict")
            table.add_column(heading, justify="left" if left else "right", no_wrap=heading == "strategy")
        for row in rows.to_dict("records"):
            seeds = str(row["seeds_a"]) if row["test"] == "paired" else f"{row['seeds_a']}, {row['seeds_b']} (Welch)"
            known = row["p"] == row["p"]
            table.add_row(
                Text(row["strategy"]),
                "AUBC" if row["of"] == "aubc" else "final",
                seeds,
                f"{row['mean_a']:.4f}",
                f"{row['mean_b']:.4f}",
                number(row["difference"], 4, True),
                f"{number(row['low'], 4, True)} to {number(row['high'], 4, True)}" if known else "–",
                f"{row['p_holm']:.3g}" if known else "–",
                row["verdict"],
            )
        console.print(table)
