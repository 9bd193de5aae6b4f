"""Options of commands that take a CSV of results in the place of a run folder."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from albench.report.foreign import Reading

OPTIONS = (
    click.option("--reference", metavar="NAME", help="Of a CSV: the strategy to compare with. Default: random."),
    click.option("--metric", metavar="NAME", help="Of a CSV: the metric to compare by, where it has several."),
    click.option("--lower-is-better", is_flag=True, help="Of a CSV: the metric is an error or a loss."),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds OPTIONS; `reading` takes them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def reading(reference: str | None, effect: float | None, metric: str | None, lower: bool) -> "Reading | None":
    """What was said of a CSV; None where nothing was."""
    from albench.report.foreign import Reading

    given = {"reference": reference, "effect": effect, "metric": metric, "lower_is_better": lower or None}
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Reading(**said) if said else None
