"""A task beside its published curves: how far apart, whether their order was reproduced, what was done otherwise."""

from dataclasses import dataclass

import pandas as pd

from albench.analysis import published
from albench.analysis.curves import curves
from albench.analysis.publication import settings
from albench.errors import AlbenchError
from albench.report import charts, figures
from albench.report.blocks import Block, Folder, Table, Text
from albench.report.evidence import wide
from albench.report.looks import Look
from albench.report.numbers import interval, metric_name, number, p_value, percent
from albench.report.runs import Run

LENGTH = {"recipe.epochs", "recipe.updates", "stages"}  # settings that make a run shorter or longer, no other
FEW = 3  # settings that are named where a verdict is said
SHOWN = 40  # differences of protocol that the page lists


@dataclass(frozen=True)
class Publication:
    """A run's published curves of a task. numbers: the file; curves: strategy, labelled, value, uncertainty."""

    run: Run
    source: published.Published
    numbers: pd.DataFrame
    curves: pd.DataFrame


def publication(run: Run, task: str) -> Publication | str | None:
    """What the suite names as published for a task; a sentence where it cannot be read, None where nothing is named."""
    entry = run.tasks[task]["entry"].get("published")
    if not entry:
        return None
    try:
        source = published.Published(**entry)
        # side by side with another run a strategy is called run/strategy
        names = {label: plain(label) for label in run.strategies}
        mapped = {label: source.strategies.get(name, name) for label, name in names.items()}
        source = source.model_copy(update={"strategies": mapped})
        numbers = published.read(source.file)
        return Publication(run, source, numbers, published.curves_for(numbers, source, list(run.strategies)))
    except AlbenchError as error:
        return f"The published numbers that {run.name} names cannot be shown: {error}"


def plain(label: str) -> str:
    """A label of the suite without its run's name before it."""
    return label.rpartition("/")[2]


def ranking(run: Run, task: str, rows: pd.DataFrame) -> list[Block]:
    """The ranking accuracies that were published, beside the measured ones; rows: `tables.last_stage`."""
    found = publication(run, task)
    if not isinstance(found, Publication):
        return []
    measured = rows[rows["metric"] == "ranking-accuracy/test/score"].set_index("strategy")
    said = [
        f"{label} {number(found.source.ranking[plain(label)], 4)}, here {number(measured['mean'][label], 4)} at "
        f"{measured['labelled'][label]:,} labels"
        for label in run.strategies
        if plain(label) in found.source.ranking and label in measured.index
    ]
    return [Text(f"Published ranking accuracy: {'; '.join(said)}.")] if said else []


def section(run: Run, task: str, styles: dict[str, Look], folder: Folder, name: str) -> list[Block]:
    """Published curves beside the measured ones, the differences, the order of strategies, and the protocol."""
    found = publication(run, task)
    if not isinstance(found, Publication):
        return [Text(found)] if found else []
    measured = str(found.source.measured)
    rows = run.rows("results", task, measured)
    blocks: list[Block] = []
    if measured != run.tasks[task]["metric"] and not rows.empty:
        blocks.append(_curves(found, rows, task, styles, folder, name))
    apart = published.against_published(rows, found.numbers, found.source, run.effect, run.alpha)
    kept = _kept(found, task)
    higher = run.higher(task) or measured != run.tasks[task]["metric"]
    order = published.published_order(
        rows,
        found.numbers,
        found.source,
        run.effect,
        run.alpha,
        reference=run.reference,
        higher_is_better=higher,
        same=kept.same,
    )
    if rows.empty:
        there = sorted({name for name in run.rows("results", task)["metric"] if "/" not in name})
        blocks.append(
            Text(
                f"The metric {measured}, which would stand beside the published one, was not measured; there are: "
                f"{', '.join(there)}."
            )
        )
    elif apart.empty:
        shared = "No number of labels was both measured and published, so the curves are not compared point by point."
        blocks.append(Text(shared))
    else:
        blocks.append(_order(order, found, kept, styles, folder, name))
        blocks.append(_apart(apart, run, styles, folder, name))
    return [*blocks, *_protocol(found, kept, task, name)]


def _curves(
    found: Publication, rows: pd.DataFrame, task: str, styles: dict[str, Look], folder: Folder, name: str
) -> Block:
    """The metric that was published, where the task's own is another one."""
    table, written, source = curves(rows), metric_name(str(found.source.measured)), found.source.file
    return folder.picture(
        wide(figures.learning_curve, table, styles, written, None, found.curves, source, found.run.reference),
        f"published-{name}",
        "Beside the published curves",
        alt=f"{written} on {task} against labels, with the published curves dashed.",
        caption=f"Solid: measured here, mean ± one standard deviation. Dashed: as published ({found.source.file}), "
        "with the error of reading it off the figure.",
        data=folder.csv(table, f"published-curve-{name}"),
        chart=charts.learning_chart(table, styles, written, None, found.curves, found.source.file),
        column=True,
    )


def _order(
    order: pd.DataFrame, found: Publication, kept: "Kept", styles: dict[str, Look], folder: Folder, name: str
) -> Block:
    if order.empty:
        return Text("Fewer than two published strategies were measured at two shared numbers of labels: no order.")
    reference = plain(found.run.reference)
    if (order["verdict"] == published.UNJUDGED).all():
        title = f"The published order is not judged: it is not shown that {reference} learned anything"
        first = (
            f"From the first to the last labels no rise of {reference} is shown (by a 95\u202f% interval over seeds "
            "above 0). Where nothing was learned strategies cannot differ, so no pair says anything about the "
            "publication."
        )
    else:
        title, first = _said(list(order["verdict"]), kept)
    return Table(
        title=title,
        columns=["published order", "published lead", "claim", "measured lead [interval]", "p (Holm)", "verdict"],
        rows=[
            [
                f"{styles[r['above']].name} > {styles[r['below']].name}",
                f"{number(r['lead'], 4, True)} (read to ± {r['uncertainty']:.2g})",
                r["claim"],
                number(r["mean"], 4, True) + interval(r["low"], r["high"]),
                p_value(r["p_holm"]),
                r["verdict"],
            ]
            for r in order.to_dict("records")
        ],
        notes=[
            *([first] if first else []),
            f"AUBC over the numbers of labels that all curves share. A claim is “above” or “equal” only where it "
            f"is so whatever the error of reading, by the smallest effect of interest ({found.run.effect:g}); a claim "
            f"{'is reproduced or contradicted' if kept.same else 'agrees or disagrees'} only where the paired test "
            "(Holm over these pairs) decides. The publication's own seed noise is not printed there and is not in "
            "these intervals.",
        ],
        data=folder.csv(order, f"published-order-{name}"),
        numeric=False,
    )


def _said(verdicts: list[str], kept: "Kept") -> tuple[str, str]:
    """The heading with the number of pairs of each verdict, and what a reader must know of it first; '' for nothing."""
    words = (*(published.SAME if kept.same else published.ANOTHER), "undecided")
    if kept.same:
        said = ", ".join(f"{verdicts.count(word)} {word}" for word in words)
        return f"Was the published order reproduced? {said}", ""
    said = ", ".join(f"{word}: {verdicts.count(word)}" for word in words)
    question = "Is the published order found here, too?"
    alone = "Only a run that keeps to the published protocol can reproduce or contradict it."
    if kept.theirs is None:
        why = "its protocol cannot be compared with" if kept.why else "the suite names no protocol to compare with"
        return f"{question} (whether it is the same experiment is not known) {said}", f"Not known, as {why}. {alone}"
    differ = f"{len(kept.lines)} settings differ" if len(kept.lines) > 1 else "a setting differs"
    keys = {line.partition(": ")[0] for line in kept.otherwise}
    if keys <= LENGTH:
        kind, then = "the same protocol at another length", "the order is the same at this length"
    else:
        kind, then = "another experiment", "the same order holds in it, too"
    shown = "; ".join(kept.otherwise[:FEW]) + (" …" if len(kept.otherwise) > FEW else "")
    return (
        f"{question} ({kind}: {differ}, below) {said}",
        f"This is {kind} ({shown}): the table says whether {then}. {alone}",
    )


def _apart(apart: pd.DataFrame, run: Run, styles: dict[str, Look], folder: Folder, name: str) -> Table:
    return Table(
        title="Measured minus published, point by point",
        columns=["strategy", "labels", "measured", "published", "difference [interval]", "verdict"],
        rows=[
            [
                styles[r["strategy"]].name,
                f"{r['labelled']:,}",
                number(r["measured"]),
                f"{number(r['published'])} ({r['reading']})",
                number(r["difference"], 4, True) + interval(r["low"], r["high"]),
                r["verdict"],
            ]
            for r in apart.to_dict("records")
        ],
        notes=[
            f"The interval is the {percent(1 - run.alpha)} t interval over seeds, widened by the error of reading. "
            "Each point is judged by itself, without a correction for their number."
        ],
        data=folder.csv(apart, f"published-difference-{name}"),
        swatches=[(styles[s].colour, styles[s].glyph) for s in apart["strategy"]],
        folded=True,
    )


@dataclass(frozen=True)
class Kept:
    """How a task keeps to its published protocol.

    theirs: the suite that writes it down; None where none is named or it cannot be compared with, and `why`.
    lines: all settings that are not those there. otherwise: of these, what makes it another experiment.
    """

    theirs: dict | None = None
    lines: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    why: str = ""

    @property
    def same(self) -> bool:
        """Whether it is known to be the published experiment."""
        return self.theirs is not None and not self.otherwise


def _kept(found: Publication, task: str) -> Kept:
    source = found.source
    if not source.protocol:
        return Kept()
    try:
        theirs, lines = protocol(found, task)
    except AlbenchError as error:
        return Kept(why=f"The protocol {source.protocol} cannot be compared with: {error}")
    uncertain = published.open_settings(theirs, str(source.protocol_task))
    return Kept(theirs, tuple(lines), tuple(published.another_experiment(lines, uncertain)))


def _protocol(found: Publication, kept: Kept, task: str, name: str) -> list[Block]:
    """What this run does otherwise than the suite that writes the protocol down, and what is open in that one."""
    if kept.theirs is None:
        return [Text(kept.why)] if kept.why else []
    return [*_departures(list(kept.lines), found.source, name), *_open(found, kept.theirs, task, name)]


def protocol(found: Publication, task: str) -> tuple[dict, list[str]]:
    """The suite that writes the published protocol down, and the settings of a task that are not those there.

    Raises:
        AlbenchError: there is no such suite, or no such task in it.
    """
    from albench import suite

    theirs = suite.resolve(suite.read(str(found.source.protocol))).model_dump(mode="json")
    lines = published.protocol_differences(found.run.suite, plain(task), theirs, str(found.source.protocol_task))
    return theirs, lines


def _departures(lines: list[str], source: published.Published, name: str) -> list[Block]:
    if not lines:
        return [Text(f"The protocol is that of {source.protocol}, with no departure from it.")]
    more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return [
        Table(
            title=f"Departures from the published protocol ({source.protocol})",
            columns=["setting: there → here"],
            rows=[[line] for line in [*lines[:SHOWN], *more]],
            numeric=False,
            name=f"departures-{name}",
        )
    ]


def _open(found: Publication, theirs: dict, task: str, name: str) -> list[Block]:
    """The settings that the publication itself leaves open: a difference may lie in any of them."""
    label = str(found.source.protocol_task)
    notes = theirs["tasks"][label]["uncertain"]
    if not notes:
        return []
    there, here = settings(theirs, label), settings(found.run.suite, plain(task))
    return [
        Table(
            title=f"What the publication leaves open ({found.source.protocol} has its likeliest value)",
            columns=["setting", "there → here", "what is open"],
            rows=[[path, _there_and_here(path, there, here), note] for path, note in notes.items()],
            numeric=False,
            name=f"open-{name}",
        )
    ]


def _there_and_here(path: str, there: dict, here: dict) -> str:
    """Values that differ side by side, an equal one once; a whole table has no value to print."""
    if isinstance(there[path], dict):
        return "" if path in here else "not here"
    new = repr(here[path]) if path in here else "not here"
    return new if new == repr(there[path]) else f"{there[path]!r} → {new}"
