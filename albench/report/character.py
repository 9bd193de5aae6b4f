"""What strategies selected, and what training a companion beside the model does by itself: blocks of a task."""

import numpy as np
import pandas as pd

from albench.analysis.curves import curves, seed_scores
from albench.analysis.selections import balance, companion_pairs, imbalance, overlap
from albench.analysis.significance import paired_t
from albench.report import charts, figures, matrices
from albench.report.blocks import Block, Folder, Table, Text
from albench.report.checklist import training
from albench.report.evidence import Styles, square, wide
from albench.report.looks import present
from albench.report.numbers import interval, metric_name, number, p_value
from albench.report.runs import Run
from albench.report.words import over_seeds

MANY_PAIRS = 30
MANY_PARTS = 24  # beyond it a heat map of classes cannot be read; the CSV has all


def first_stage_effects(run: Run, task: str) -> pd.DataFrame:
    """What training a companion does to the metric before anything was selected, paired by seed.

    At the first stage, strategies that train alike are one and the same model, so any of them stands for all. Columns:
    companion, mean, low, high (t interval), p, seeds; a row for each companion, none without one that trains alone.
    """
    start = run.primary(task)
    start = start[start["labelled"] == start["labelled"].min()].pivot(index="seed", columns="strategy", values="value")
    kinds: dict[str, list[str]] = {}
    for label in (label for label in run.strategies if label in start):
        kinds.setdefault(training(run, label) if run.strategies[label].get("companion") else "", []).append(label)
    plain, rows = kinds.pop("", []), []
    for kind, labels in kinds.items() if plain else ():
        test = paired_t((start[labels].mean(axis=1) - start[plain].mean(axis=1)).to_numpy(), 1 - run.alpha)
        rows.append((kind.strip(), test.mean, test.low, test.high, test.p, test.n))
    return pd.DataFrame(rows, columns=["companion", "mean", "low", "high", "p", "seeds"])


def companion_effect(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    """Auxiliary training told apart from selection: at the first stage, and with the same selection throughout."""
    found = pd.concat([_compared(run, task, styles) for run in runs])
    if found.empty:
        return []
    matched = found["of"].eq("AUBC").any()
    return [
        Table(
            title="What training the companion does by itself",
            columns=["with − without", "of", "difference [interval]", "p (t), exploratory", "seeds"],
            rows=[
                [
                    r["compared"],
                    r["of"],
                    number(r["mean"], 4, True) + interval(r["low"], r["high"]),
                    p_value(r["p"]),
                    f"{r['seeds']:.0f}",
                ]
                for r in found.to_dict("records")
            ],
            notes=[
                "At the first stage nothing was selected yet, so the difference between models trained with and "
                "without a companion on the same labels is that of joint training alone. "
                + (
                    "Over the whole curve it is that of the same selection with and without: what a strategy with the "
                    "companion gains beyond this is its selection's."
                    if matched
                    else "At later stages it cannot be told from the selection's, since no selection was run both ways."
                )
            ],
            data=folder.csv(found, f"companion-{name}"),
        )
    ]


def _compared(run: Run, task: str, styles: Styles) -> pd.DataFrame:
    """Columns compared, of ("first stage" or "AUBC"), mean, low, high, p, seeds."""
    found = first_stage_effects(run, task)
    found = found.assign(compared="any selection, " + found["companion"], of="first stage")
    results, metric = run.primary(task), run.tasks[task]["metric"]
    scores = seed_scores(results, metric)
    rows = []
    for ours, plain in companion_pairs(run.strategies):
        if ours in scores and plain in scores:
            test = paired_t((scores[ours] - scores[plain]).to_numpy(), 1 - run.alpha)
            written = f"{styles[ours].name} − {styles[plain].name}"
            rows.append((written, "AUBC", test.mean, test.low, test.high, test.p, test.n))
    columns = ["compared", "of", "mean", "low", "high", "p", "seeds"]
    parts = [part for part in (found[columns], pd.DataFrame(rows, columns=columns)) if len(part)]
    return pd.concat(parts) if parts else found[columns]


def selected(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    """Balance, redundancy, what the model got wrong, and the overlap between strategies."""
    blocks: list[Block] = []
    blocks += _balance(runs, task, styles, folder, name)
    blocks += _character(runs, task, styles, folder, name)
    blocks += _overlap(runs, task, styles, folder, name)
    return blocks


def _balance(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    tables = []
    for run in runs:
        facts, labels = run.tasks[task], run.rows("labels", task)
        if "contents" in facts and len(labels):
            tables.append(balance(labels, dict(zip(map(str, facts["classes"]), facts["contents"], strict=True))))
    if not tables or not sum(map(len, tables)):
        return []
    table = pd.concat(tables)
    ratio = table.pivot(index="strategy", columns="part", values="ratio")
    ratio = ratio.loc[[s for s in styles if s in ratio.index], list(dict.fromkeys(table["part"]))]
    distance = imbalance(table)
    said = "; ".join(f"{s} {number(distance[s], 2)}" for s in ratio.index)
    if np.allclose(ratio, 1):
        return [Text("Whatever is selected is balanced as the pool is: all samples hold the same annotations.")]
    few = ratio.shape[1] <= MANY_PARTS
    if not few:  # the classes that differ most between strategies
        spread = np.log(ratio.clip(lower=1e-3)).std().sort_values(ascending=False)
        ratio = ratio[list(spread.index[:MANY_PARTS])]
    return [
        folder.picture(
            wide(matrices.balance, ratio),
            f"balance-{name}",
            "Balance of what was selected",
            alt=f"Heat map: how often each class or joint was selected on {task}, relative to the pool.",
            caption="Share of a class (object, joint) among the annotations that were bought after the first, random "
            "labels, over its share in the pool, mean over seeds; 1 is the pool's own balance. "
            + ("" if few else f"The {MANY_PARTS} that differ most between strategies; the CSV has all. ")
            + f"Distance to the pool's balance (total variation, 0 to 1): {said}.",
            data=folder.csv(table, f"balance-{name}"),
            column=True,
        )
    ]


def _character(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    """How hard selected samples were before they were learned, and how far apart they lie, stage by stage."""
    metric = metric_name(runs[0].tasks[task]["metric"])
    blocks: list[Block] = []
    for what, title, ylabel, caption in (
        (
            "selected/loss",
            "How hard the selected samples were",
            "loss ÷ candidates'",
            "Mean true loss of the selected samples under the model that led to them, over that of all candidates. "
            "Above 1 the selection is what the model gets wrong. A strategy that looks at no candidate is at 1 but for "
            "chance, and has no curve.",
        ),
        (
            "selected/metric",
            "What the model already knew of its selections",
            f"{metric} on the selected",
            f"The model's {metric} on the first of the samples that were selected with it, before they were "
            "labelled. Low: the model got wrong what was selected.",
        ),
        (
            "selected/distance",
            "Redundancy of what was selected",
            "nearest distance ÷ random's",
            "Mean distance of a selected sample's embedding to its nearest one in the same selection, over that of as "
            "many random candidates under the same model. Below 1 a selection is redundant, above it is spread out; "
            "random is at 1 but for chance.",
        ),
    ):
        table = curves(pd.concat([run.rows("results", task, what) for run in runs]))
        if table.empty:
            continue
        stem = f"{what.replace('/', '-')}-{name}"
        blocks.append(
            folder.picture(
                wide(figures.learning_curve, table, styles, ylabel),
                stem,
                title,
                alt=f"{title} on {task}, a curve per strategy against labels.",
                caption=f"{caption} {over_seeds(table)}",
                data=folder.csv(table, stem),
                chart=charts.learning_chart(table, styles, ylabel),
                column=True,
            )
        )
    return blocks


def _overlap(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    """How much two strategies of a run selected alike, at the last stage; the CSV has every stage."""
    tables = []
    for run in runs:
        mine = run.rows("selections", task)
        tables.append(overlap(mine, list(present(styles, mine))))
    table = pd.concat(tables)
    if table.empty:
        return []
    last = table[table["stage"] == table.groupby(["a", "b"])["stage"].transform("max")]
    order = [s for s in styles if s in set(last["a"]) | set(last["b"])]
    if len(order) < 3:
        row = last.iloc[0]
        said = f"{row['jaccard']:.0%}".replace("%", "\u202f%")
        return [Text(f"Of all that {row['a']} and {row['b']} selected, {said} was selected by both (Jaccard index).")]
    saved = folder.csv(table, f"overlap-{name}")
    return [
        folder.picture(
            wide(matrices.overlap, square(last, "jaccard", order, 1)),
            f"overlap-{name}",
            "Overlap between strategies",
            alt=f"Heat map of the Jaccard index of what every two strategies selected on {task}.",
            caption="Jaccard index of all samples that two strategies had selected by the last selection, without the "
            "first labels (which they share), mean over seeds.",
            data=saved,
            column=True,
        ),
        _overlap_by_stage(table, styles, saved),
    ]


def _overlap_by_stage(table: pd.DataFrame, styles: Styles, data: str) -> Table:
    values = table.pivot(index=["a", "b"], columns="stage", values="jaccard")
    pairs = list(dict.fromkeys(zip(table["a"], table["b"], strict=True)))
    most = values.loc[pairs].iloc[:, -1].sort_values(ascending=False, kind="stable").index[:MANY_PAIRS]
    return Table(
        title="Overlap stage by stage",
        columns=["pair", *(f"after selection {stage}" for stage in values.columns)],
        rows=[[f"{styles[a].name}, {styles[b].name}", *(number(v, 2) for v in values.loc[(a, b)])] for a, b in most],
        notes=[
            "Jaccard index of all that two strategies had selected so far, mean over seeds"
            + (
                f"; the {MANY_PAIRS} pairs with the largest at the end, all are in the CSV."
                if len(pairs) > MANY_PAIRS
                else "."
            )
        ],
        data=data,
        folded=True,
    )
