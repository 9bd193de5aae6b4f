"""From runs to a document: which figures, tables and sentences a report holds, in which order."""

import json
import math
import re
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from albench.analysis.comparison import unit_note
from albench.analysis.curves import curves
from albench.report import (
    across,
    beside,
    character,
    charts,
    checklist,
    diagnoses,
    evidence,
    figures,
    foreign,
    gallery,
    gaps,
    looks,
    methods,
    pooled,
    remarks,
    savings,
    tables,
    words,
)
from albench.report.blocks import Block, Document, Finding, Folder, Section, Text
from albench.report.checklist import training
from albench.report.looks import Look
from albench.report.numbers import metric_name, number
from albench.report.outcomes import other_test_sets
from albench.report.runs import Run, Unfinished

IN_A_COLUMN = 12  # strategies that a figure of one column can show


def document(runs: list[Run], folder: Folder, data_root: Path | None) -> Document:
    """Draw every figure and table into `folder` and say what they show."""
    styles = looks.looks(runs)
    folder.one_column = len(styles) <= IN_A_COLUMN
    labels = list(dict.fromkeys(task for run in runs for task in run.tasks))
    findings, sections, all_rows = [], [], []
    missing, unsampled = {run.name: run.shortfall() for run in runs}, []
    for task in labels:
        having = [run for run in runs if task in run.tasks]
        section, tested, saved = _task_section(having, task, styles, folder, data_root)
        sections.append(section)
        all_rows.append(tested.rows)
        unsampled += tested.notes
        findings.append(_finding(having, task, tested.rows, saved))
    several = len(runs) > 1
    summaries = pd.concat(all_rows)
    over_all = [
        across.section(run, styles, folder, summaries[summaries["run"] == run.name], slug(run.name), several)
        for run in runs
    ]
    review = [_review(run, missing[run.name], several) for run in runs]
    sections = [
        *review,
        *gaps.gaps(runs, missing, unsampled),
        *sections,
        *(section for section in over_all if section is not None),
        _how_to_read(runs),
        *(_facts(run, several) for run in runs),
    ]
    names = words.listed([run.name for run in runs])
    return Document(
        title=f"Active learning: {names}",
        subtitle=" ".join(dict.fromkeys(run.suite["description"] for run in runs if run.suite.get("description"))),
        banner=" ".join(filter(None, [words.banner(runs), foreign.banner(runs)])) or None,
        lede=[foreign.what_it_holds(r) if r.foreign else words.what_was_run(r, len(missing[r.name])) for r in runs],
        findings=findings,
        closing=foreign.CLOSING if any(run.foreign for run in runs) else words.CLOSING,
        sections=sections,
        settings=json.dumps(
            {run.name: {"suite": run.suite, "sessions": run.sessions} for run in runs}, indent=2, ensure_ascii=False
        ),
    )


def _finding(runs: list[Run], task: str, rows: pd.DataFrame, saved: list[savings.Savings]) -> Finding:
    """Who leads on a task, what the primary test says of the others, how many labels they save, what they cost.

    Of several runs each by itself: their tests and their spans of labels are their own.
    """
    of_run = {run.name: rows[rows["run"] == run.name].reset_index(drop=True) for run in runs}
    metric, several = runs[0].tasks[task]["metric"], len(runs) > 1
    said = {run.name: words.finding(of_run[run.name], metric, run.alpha) for run in runs}
    details = []
    for run, own in zip(runs, saved, strict=True):
        texts = filter(None, _details(run, task, of_run[run.name], own))
        details += [f"{run.name}: {text}" if several else text for text in texts]
    if apart := pooled.settings(runs, task):
        details.append(f"These runs differ in more than their strategies, too: {'. '.join(apart)}.")
    alike = {label: f"{run.name} {training(run, label)}" for run in runs for label in run.strategies}
    details.append(remarks.cost(_whole_costs(runs, task), alike))
    return Finding(
        task,
        " ".join(f"{name}: {text}" for name, text in said.items()) if several else said[runs[0].name],
        f"task-{slug(task)}",
        verdict="" if several else words.leading_verdict(rows),
        details=[text for text in details if text],
    )


def _details(run: Run, task: str, rows: pd.DataFrame, saved: savings.Savings) -> list[str]:
    """What the summary says of a run's task beside who leads; '' where there is nothing to say."""
    metric = run.tasks[task]["metric"]
    return [
        "" if run.foreign else words.so_far(rows, run.labels_planned(task)),  # whose plan nobody knows
        words.verdicts(rows, run.alpha),
        words.unmeasured(run, rows),
        words.another_test_set(rows, run.alpha),
        savings.sentence(saved),
        words.joint_training(character.first_stage_effects(run, task), metric, run.alpha),
        remarks.selection(remarks.selection_effects(run, task), run.alpha),
        "" if run.foreign else remarks.next_step(run, task, rows),
        *methods.saturation(run, task),
    ]


def _review(run: Run, missing: list[Unfinished], several: bool) -> Section:
    """The methods paragraph and the reviewer's checklist."""
    if run.foreign:
        return foreign.review(
            run, "Methods and checklist" + (f": {run.name}" if several else ""), f"methods-{slug(run.name)}"
        )
    saturated = [text for task in run.tasks for text in methods.saturation(run, task)]
    return Section(
        "Methods and checklist" + (f": {run.name}" if several else ""),
        f"methods-{slug(run.name)}",
        [Text(methods.methods(run)), checklist.checklist(run, missing, saturated)],
    )


def slug(text: str) -> str:
    """A label as part of a file name and an address; another label has another one."""
    plain = re.sub(r"[^A-Za-z0-9._+@-]+", "-", text).strip("-") or "task"
    return plain if plain == text else f"{plain}-{blake2b(text.encode(), digest_size=3).hexdigest()}"


class Tested(NamedTuple):
    """A task's `tables.with_test_sets`, the intervals for another test set behind it, and why some have none."""

    rows: pd.DataFrame
    test_sets: pd.DataFrame
    notes: list[str]


def _tested(runs: list[Run], task: str) -> Tested:
    sampled = {run.name: other_test_sets(run, task, bounded=True) for run in runs if not run.foreign}
    found = {name: table for name, (table, _) in sampled.items()}
    rows = tables.with_test_sets(tables.summaries(runs, task), found)
    test_sets = pd.concat([pd.DataFrame(), *(table.assign(run=name) for name, table in found.items())])
    return Tested(rows, test_sets, [note for _, notes in sampled.values() for note in notes])


def _task_section(
    runs: list[Run], task: str, all_styles: dict[str, Look], folder: Folder, data_root: Path | None
) -> tuple[Section, Tested, list[savings.Savings]]:
    """A task's section, and what it shows: who is better, and the label efficiency of each run."""
    name, metric = slug(task), runs[0].tasks[task]["metric"]
    results, blocks = _rows("results", runs, task), list[Block]()
    if not (results["metric"] == metric).any():
        nothing = Text("Nothing was measured on this task yet.")
        return Section(task, f"task-{name}", [nothing]), _tested(runs, task), savings.measured(runs, task)
    styles, measured = looks.present(all_styles, results), curves(results)
    primary = measured[measured["metric"] == metric]
    if primary.empty:
        text = f"No finite value of {metric_name(metric)} was measured on this task: there is nothing to compare."
        others = tables.other_metrics(measured, metric, styles, folder, f"metrics-{name}")
        section = Section(task, f"task-{name}", [Text(text), *others])
        return section, _tested(runs, task), savings.measured(runs, task)
    if not runs[0].higher(task):
        blocks.append(Text(words.lower_is_better(metric)))
    if note := unit_note(results, metric, runs[0].effect):
        blocks.append(Text(note))
    if apart := pooled.settings(runs, task):
        warning = "These runs differ in more than their strategies, and their curves may differ by that alone"
        blocks.append(Text(f"{warning}: {'. '.join(apart)}."))
    blocks.append(_curve(primary, styles, runs, task, folder))  # before all tests: other processes begin to draw
    tested = _tested(runs, task)
    rows = tested.rows
    summary = folder.csv(rows, f"summary-{name}")
    blocks.append(tables.summary_table(rows, styles, metric, runs[0].alpha, summary))
    resampled = folder.csv(tested.test_sets, f"test-sets-{name}") if len(tested.test_sets) else ""
    blocks += evidence.comparison(runs, task, rows, styles, folder, name, resampled)
    saved = savings.measured(runs, task)
    blocks += savings.label_efficiency(saved, task, styles, folder, name)
    for run in runs:
        blocks += beside.section(run, task, styles, folder, f"{name}-{slug(run.name)}" if len(runs) > 1 else name)
    blocks += character.companion_effect(runs, task, styles, folder, name)
    blocks += character.selected(runs, task, styles, folder, name)
    blocks += diagnoses.ranking(measured, results, styles, folder, task, name)
    blocks += diagnoses.scatter(measured, _rows("diagnostics", runs, task), styles, folder, task, name)
    for run in runs:
        blocks += beside.ranking(run, task, tables.last_stage(measured))
    if made_here := [run for run in runs if not run.foreign]:
        blocks += gallery.blocks(made_here, task, styles, folder, data_root, name)
    blocks += diagnoses.descents(_rows("descent", runs, task), styles, folder, task, name)
    costs = tables.costs_table(_whole_costs(runs, task), styles, folder, f"costs-{name}")
    blocks += [costs] if costs else []
    blocks += tables.other_metrics(measured, metric, styles, folder, f"metrics-{name}")
    notes = list(dict.fromkeys(note for run in runs for note in run.tasks[task].get("notes", [])))
    if notes:
        blocks.append(tables.facts_table("Notes on the data", [(note,) for note in notes]))
    return Section(task, f"task-{name}", blocks), tested, saved


def _rows(table: str, runs: list[Run], task: str) -> pd.DataFrame:
    return pd.concat([run.rows(table, task) for run in runs], ignore_index=True)


def _whole_costs(runs: list[Run], task: str) -> pd.DataFrame:
    return pd.concat([run.whole_costs(task) for run in runs], ignore_index=True)


def _curve(table: pd.DataFrame, styles: dict[str, Look], runs: list[Run], task: str, folder: Folder) -> Block:
    metric, tops = runs[0].tasks[task]["metric"], {run.name: run.ceiling_of(task) for run in runs}
    tops = {name: top for name, top in tops.items() if math.isfinite(top)}
    one = len(set(tops.values())) == 1
    ceiling = (next(iter(tops.values())), "whole pool") if one else None
    reached = words.listed([f"{number(top)} ({name})" for name, top in tops.items()])
    trained = words.count(max(run.ceiling_seeds(task) for run in runs), "training")  # of one value: the same trainings
    written, fewest, most = metric_name(metric), int(table["n"].min()), int(table["n"].max())
    finals = table.loc[table.groupby("strategy", sort=False)["labelled"].idxmax()]
    at = " at {labelled:,}" if finals["labelled"].nunique() > 1 else ""
    ends = "; ".join(
        f"{row['strategy']} {number(row['mean'])}" + at.format_map(row) for row in finals.to_dict("records")
    )
    span = f"{table['labelled'].min():,} to {table['labelled'].max():,} labels"
    theirs, source = _published(runs, task)
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"  # a point with fewer shifts for that alone
    over = f"Mean over {seeds} seed{'s' * (most > 1)}"
    band = f"{over}; the band is ± one standard deviation over seeds." if most > 1 else "One seed."
    if not figures.banded(table):
        band = (
            f"{over}. With so many strategies the figure has only {runs[0].reference} "
            f"and the {figures.LEADERS} that end best in colour; the page's chart and the table have all of them, "
            "the table the spread over seeds, too."
        )
    return folder.picture(
        evidence.wide(
            figures.learning_curve,
            table,
            styles,
            written,
            ceiling,
            theirs,
            source,
            runs[0].reference,
            runs[0].higher(task),
        ),
        f"curve-{slug(task)}",
        "Learning curves",
        alt=f"Learning curves on {task}: {written} from {span}. At the last stage: {ends}.",
        caption=f"Performance ({written}) on the test set against the number of labels. {band}"
        + (f" The line across is the whole pool's ({number(ceiling[0])}, {trained})." if ceiling else "")
        + (f" Training on the whole pool reaches {reached}." if len(tops) > 1 and not one else "")
        + (f" Dashed: {source}, with the error of reading it off the figure." if theirs is not None else ""),
        data=folder.csv(table, f"curve-{slug(task)}"),
        chart=charts.learning_chart(table, styles, written, ceiling, theirs, source),
        column=True,
    )


def _published(runs: list[Run], task: str) -> tuple[pd.DataFrame | None, str]:
    """The published curves of a task's own metric, and what they are called."""
    found = [beside.publication(run, task) for run in runs]
    there = [p for p in found if isinstance(p, beside.Publication) and p.source.measured == p.run.tasks[task]["metric"]]
    if not there:
        return None, ""
    names = dict.fromkeys(Path(p.source.file).stem for p in there)
    return pd.concat([p.curves for p in there], ignore_index=True), f"published ({', '.join(names)})"


def _how_to_read(runs: list[Run]) -> Section:
    rows = foreign.how_to_read() if all(run.foreign for run in runs) else list(words.HOW_TO_READ)
    cheats = [label for run in runs for label, facts in run.strategies.items() if facts.get("cheats")]
    if cheats:
        rows.append((words.listed([f"{label} ⚠" for label in dict.fromkeys(cheats)]), words.CHEATS))
    return Section("How to read this", "how-to-read", [tables.facts_table("", rows)])


def _facts(run: Run, one_of_several: bool) -> Section:
    if run.foreign:
        return foreign.facts(run, f"The table {run.name}", f"facts-{slug(run.name)}")
    strategies = [
        (
            label,
            f"selection {facts['strategy']}"
            + (f", trained with {facts['companion']}" if facts.get("companion") else "")
            + (f", {params}" if (params := words.compact(facts.get("params") or {})) else "")
            + (", sees hidden labels ⚠" if facts.get("cheats") else ""),
        )
        for label, facts in run.strategies.items()
    ]
    return Section(
        "Protocol and machine" + (f": {run.name}" if one_of_several else ""),
        f"facts-{slug(run.name)}",
        [
            tables.facts_table("Suite", words.switches(run)),
            tables.facts_table("Strategies", strategies),
            *(tables.facts_table(f"Task {task}", words.task_facts(facts)) for task, facts in run.tasks.items()),
            tables.facts_table("Machine and versions", words.machine(run)),
        ],
    )
