"""`albench power RUN_DIR`: how many seeds a comparison needs."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from albench.cli.reading import names, options, reading

if TYPE_CHECKING:
    import pandas as pd

    from albench.report.runs import Run


IMPOSSIBLE = "more than any difference"
REPLACED = ("--seeds", "--out")  # options of `albench run` that its continuation has of its own


@click.command("power")
@click.argument("run_dir", type=click.Path(path_type=Path), metavar="RUN_DIR|CSV")
@click.option("--effect", type=float, help="Smallest effect of interest, in the metric's unit. Default: the suite's.")
@click.option("--power", type=float, default=0.8, show_default=True, help="Chance of finding that effect.")
@click.option("--alpha", type=float, help="Family-wise error rate. Default: the suite's.")
@click.option("--tasks", callback=names, metavar="A,B", help="Only these tasks.")
@click.option("--mixed-devices", is_flag=True, help="Use seeds together although they ran on different GPU models.")
@options
def command(
    run_dir: Path,
    effect: float | None,
    power: float,
    alpha: float | None,
    tasks: list[str] | None,
    mixed_devices: bool,
    **of_csv: Any,
) -> None:
    """Say how many seeds the primary test needs to find the smallest effect of interest.

    From a run that serves as the pilot: the spread of its paired differences in AUBC, taken at its upper 80 %
    confidence bound, and the strictest of Holm's levels. The differences that were observed play no part.
    A CSV of tidy results (see `albench report --help`) may be the pilot, too.
    """
    from rich.console import Console

    from albench.analysis.power import greatest, plan
    from albench.errors import AlbenchError, did_you_mean
    from albench.report.numbers import metric_name
    from albench.report.runs import gather

    (run,) = gather([run_dir], mixed_devices, reading=reading(**of_csv))
    for name in tasks or []:
        if name not in run.tasks:
            hint = did_you_mean(name, list(run.tasks))
            raise AlbenchError(f"{run_dir} has no task {name!r}.{hint} It has: {', '.join(run.tasks)}")
    effect, alpha = run.effect if effect is None else effect, run.alpha if alpha is None else alpha
    chosen = list(tasks or run.tasks)
    begun = [task for task in chosen if (run.primary(task)["strategy"] == run.reference).any()] or chosen
    plans: dict[str, pd.DataFrame] = {}
    most: dict[str, float] = {}
    for task in begun:
        metric = run.tasks[task]["metric"]
        plans[task] = plan(run.primary(task), metric, run.reference, effect, alpha, power, run.cheats, run.compared)
        most[task] = greatest(run.primary(task), metric, run.reference)
    if not any((table["pairs"] > 1).any() for table in plans.values()):
        raise AlbenchError(f"{run_dir}: no comparison has two complete seeds, so there is no spread to plan from")
    console = Console(soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 120)
    for task, table in plans.items():
        title = f"{task}: AUBC of {metric_name(run.tasks[task]['metric'])} against {run.reference}"
        console.print(_table(title, table, most[task]))
    reasons = {task: _unlearned(run, task) for task in plans}
    for task in chosen:
        if task not in plans:
            console.print(f"{task}: {run.reference} has no results yet, so nothing is known.", markup=False)
    for line in _advice(run, plans, most, effect, power, reasons):
        console.print(line, markup=False, highlight=False)


def _table(title: str, plans: "pd.DataFrame", most: float) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "table.title"), title_justify="left")
    for heading in ("strategy", "pairs", "sd", "its upper bound", "level", "seeds needed", "detectable now"):
        first = heading == "strategy"
        table.add_column(heading, justify="left" if first else "right", no_wrap=first)
    for row in plans.to_dict("records"):
        numbers = (f"{row['sd']:.4f}", f"{row['sd_upper']:.4f}", f"{row['alpha']:.4g}", _seeds(row["seeds_needed"]))
        detectable = IMPOSSIBLE if row["detectable"] > most else f"{row['detectable']:.4f}"
        shown = ("–" if text == "nan" else text for text in (*numbers, detectable))
        table.add_row(Text(str(row["strategy"])), str(row["pairs"]), *shown)
    return table


def _seeds(needed: float) -> str:
    if needed != needed:
        return "–"
    return "over 1000" if needed == float("inf") else f"{needed:.0f}"


def _advice(
    run: "Run",
    plans: "dict[str, pd.DataFrame]",
    most: dict[str, float],
    effect: float,
    power: float,
    reasons: dict[str, str],
) -> list[str]:
    """What to do, in a sentence or two; reasons: why a task has nothing to differ in, '' where it has."""
    import pandas as pd

    lines = [f"{task}: {reason}" for task, reason in reasons.items() if reason]
    varied = [
        own.assign(task=task) for task, own in plans.items() if not (reasons[task] and (own["sd"].dropna() == 0).all())
    ]
    if not varied:
        return lines
    table = pd.concat(varied)
    known, unknown = table[table["pairs"] > 1], table[table["pairs"] < 2]
    if len(known):
        part = f", by what is known of {_who(known, table)}" if len(unknown) else ""
        aim = f"a difference of {effect:g} is found in {power:.0%} of cases{part}"
        lines += _planned(run, known, plans, most, aim, power)
    if len(unknown):
        lines.append(
            f"Of {_who(unknown, table)} no spread is known yet: with two seeds of each that {run.reference} has, too, "
            "it can be planned for."
        )
    return lines


def _who(rows: "pd.DataFrame", table: "pd.DataFrame") -> str:
    """The strategies of some rows of a table of plans; with their tasks, where it has other tasks as well."""
    from albench.report.words import some

    of = rows.groupby("strategy", sort=False)["task"].agg(list)
    every = table["task"].nunique()
    return some([str(name) if len(own) == every else f"{name} ({', '.join(own)})" for name, own in of.items()])


def _unlearned(run: "Run", task: str) -> str:
    """Why it is not shown that strategies had anything to differ in on a task, and whether seeds help; '' if it is."""
    from albench.report.tables import summaries
    from albench.report.words import unlearned

    rows = summaries([run], task)
    if not (reason := unlearned(rows).removeprefix("But ")):
        return ""
    if (rows["lowest"] == rows["highest"]).all():
        return f"{reason} Seeds do not mend that."
    return f"{reason} More seeds may show it, or show that there is nothing to plan for."


def _planned(
    run: "Run",
    table: "pd.DataFrame",
    plans: "dict[str, pd.DataFrame]",
    most: dict[str, float],
    aim: str,
    power: float,
) -> list[str]:
    """How many seeds the comparisons in `table` need, all of which have a spread."""
    needed, there = table["seeds_needed"].max(), int(table["pairs"].min())
    beyond = [task for task, own in plans.items() if (own["detectable"] > most[task]).any()]
    if needed == float("inf"):
        now = _found_now(table, beyond)
        lines = [f"More than 1,000 seeds are needed before {aim}; with {there} seeds {now}."]
    elif needed <= there:
        lines = [f"{there} seeds are enough: {aim}."]
    elif run.foreign:
        lines = [
            f"Plan {needed:.0f} seeds, so that {aim}; seeds added after looking at results inflate false positives."
        ]
    else:
        lines = [
            f"Plan {needed:.0f} seeds, so that {aim}: {_carry_on(run, int(needed))} carries this run on. "
            "Seeds added after looking at results are flagged; a new run with another suite seed is clean."
        ]
    if beyond:
        lines.append(
            f"“{IMPOSSIBLE}” ({', '.join(beyond)}): what these seeds find in {power:.0%} of cases is larger than "
            f"any difference that a share between 0 and 1 can have from {run.reference}."
        )
    planned, seeds = run.planned["seeds"], run.suite["seeds"]
    if seeds > planned:
        lines.append(
            f"{planned} seeds were planned and {seeds - planned} added later: looking before adding raises the rate "
            "of false positives above the nominal one."
        )
    return lines


def _found_now(table: "pd.DataFrame", beyond: list[str]) -> str:
    """What the seeds that are there find; by task, where on some (beyond) they find no possible difference."""
    from albench.report.words import some

    nothing = "not even the largest possible one is"
    rest = table[~table["task"].isin(beyond)]
    if rest.empty:
        return nothing
    found = f"one of {rest['detectable'].max():.3g} is"
    return f"{found} on {some(list(rest['task'].unique()))}, on {some(beyond)} {nothing}" if beyond else found


def _carry_on(run: "Run", seeds: int) -> str:
    """The command that the run was made with, with that many seeds, into the folder where it lies now."""
    typed = [str(part) for part in run.sessions[-1].get("command", [])] if run.sessions else []
    options = _options(typed)
    if options is None:
        made = f"`{shlex.join(typed)}`" if typed else "what made it"
        return f"{made}, with seeds = {seeds} and into {run.folder},"
    whole = {"--tasks": ",".join(run.tasks), "--strategies": ",".join(run.strategies)}  # it may have grown by sessions
    kept, rest = [], iter(options)
    for part in rest:
        name, equals, _ = part.partition("=")
        if name in REPLACED or name in whole:
            if not equals:
                next(rest, None)
            if name in whole:
                kept += [name, whole[name]]
        else:
            kept.append(part)
    return f"`{shlex.join(['albench', 'run', *kept, '--out', str(run.folder), '--seeds', str(seeds)])}`"


def _options(typed: list[str]) -> list[str] | None:
    """What follows `albench run` in a command, however albench was called; None where it was not.

    >>> _options(["python", "/there/albench/__main__.py", "run", "quick"]), _options(["python", "mine.py", "run"])
    (['quick'], None)
    """
    python = bool(typed) and Path(typed[0]).name.startswith("python")
    module = python and typed[1:2] == ["-m"]
    program, *rest = typed[python + module :] or [""]
    ours = Path(program).stem == "albench" or Path(program).parts[-2:] == ("albench", "__main__.py")
    return rest[1:] if ours and rest[:1] == ["run"] else None
