"""How options are read that several commands have: names, and those of a CSV in the place of a run folder."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from albench.report.foreign import Reading

OPTIONS = (
    click.option("--reference", metavar="NAME", help="Of a CSV: the strategy to compare with. Default: random."),
    click.option(
        "--metric",
        multiple=True,
        metavar="[TASK=]NAME",
        help="Of a CSV: the metric to compare by, where it has several; of one task alone: TASK=NAME (repeatable).",
    ),
    click.option("--lower-is-better", is_flag=True, help="Of a CSV: every metric compared is an error or a loss."),
    click.option("--lower", multiple=True, metavar="NAME", help="Of a CSV: this metric alone is one (repeatable)."),
)


def names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[str] | None:
    """A click callback: the names in "A,B"; None where nothing was said."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds OPTIONS, which come as further arguments; `reading` takes them."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def reading(effect: float | None = None, **given: Any) -> "Reading | None":
    """What was said of a CSV, by name as in OPTIONS; None where nothing was."""
    from albench.report.foreign import Reading

    said = {name: value for name, value in given.items() if value}
    if effect is not None:
        said["effect"] = effect
    return Reading(**said) if said else None
