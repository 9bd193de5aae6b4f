"""`albench tune SUITE`: choose a recipe on random selection's first labels alone."""

import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import click


@click.command("tune")
@click.argument("suite")
@click.option("--task", required=True, help="The suite's task to tune.")
@click.option(
    "--try", "tries", multiple=True, required=True, metavar="key=[a,b]", help="Values to try; may be repeated."
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings per combination.")
@click.option("--holdout", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share to measure on.")
@click.option("--set", "settings", multiple=True, metavar="key=value", help="Change the suite for all of them.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]")
@click.option("--data-root", type=click.Path(path_type=Path), help="The folder that holds your data sets.")
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="A Python file to load.")
@click.option("--out", type=click.Path(path_type=Path), help="Write every training's value to this CSV, as it comes.")
def command(
    suite: str, task: str, tries: tuple[str, ...], seeds: int, holdout: float, out: Path | None, **options: Any
) -> None:
    """Compare settings of SUITE on the labels that stage 0 of `random` has, a share of them held out.

    Neither the test set nor any label beyond the start budget is looked at, and the seeds are none of the suite's, so
    that the choice favours no strategy. It prints the line that the suite's `tuning` key should hold.

    albench tune ll4al-cifar10 --task cifar10 --set recipe.schedule=cosine --try recipe.learning_rate=[0.03,0.1,0.3]
    """
    from rich.console import Console
    from rich.table import Table

    from albench import api
    from albench.tuning import ranked, sentence, tune, verdict

    fixed, plugins = list(options.pop("settings")), list(options.pop("plugins"))

    def planned(chosen: tuple[str, ...]) -> Any:
        # a recipe here is the task's, which has the last word
        settings = [f"tasks.{task}.{one}" if one.startswith("recipe.") else one for one in (*fixed, *chosen)]
        return api.planned(suite, settings=settings, plugins=plugins, **options)

    def keep(so_far: Any) -> None:
        if out is not None:
            so_far.to_csv(out, index=False)
        last = so_far.iloc[-1]
        click.echo(f"{last['settings']}, seed {last['seed']}: {last['value']:.4f}", err=True)

    results = tune(planned, task, list(tries), seeds, holdout, keep)
    shown = Table(title=f"{task}: held-out share of the first {results['labels'].iloc[0]} labels", title_justify="left")
    for heading in ("settings", "mean", "std", "seeds", "held out", "to the best [95 %]"):
        shown.add_column(heading, justify="left" if heading == "settings" else "right")
    for row in ranked(results).to_dict("records"):
        spread = "–" if row["std"] != row["std"] else f"{row['std']:.4f}"
        shown.add_row(row["settings"], f"{row['mean']:.4f}", spread, f"{row['seeds']}", f"{row['held']}", _behind(row))
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    console.print(shown)
    if told := verdict(results):
        click.echo(told)
    click.echo(f'tuning = "{sentence(results, holdout)}"')


def _behind(row: dict[Hashable, Any]) -> str:
    """The paired difference to the best combination with its interval."""
    if row["difference"] == 0 and not row["tied"]:
        return "best"
    between = f" [{row['low']:+.4f}, {row['high']:+.4f}]" if row["low"] == row["low"] else " (one seed)"
    return f"{row['difference']:+.4f}{between}".replace("-", "−")
