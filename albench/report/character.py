"""What strategies selected, and what training a companion beside the model does by itself: blocks of a task."""

import numpy as np
import pandas as pd

from albench.analysis.comparison import all_pairs
from albench.analysis.curves import curves
from albench.analysis.selections import balance, companion_pairs, imbalance, overlap
from albench.report import charts, figures, matrices
from albench.report.blocks import Block, Folder, Table, Text
from albench.report.evidence import Styles, square, wide
from albench.report.runs import Run
from albench.report.tables import interval, metric_name, number, p_value

MANY_PARTS = 24  # beyond it a heat map of classes cannot be read; the CSV has all


def companion_effect(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    """The same selection with and without a companion: auxiliary training told apart from selection."""
    rows, found = [], []
    for run in runs:
        results, metric = run.primary(task), run.tasks[task]["metric"]
        there = set(results["strategy"])
        wanted = [pair for pair in companion_pairs(run.strategies) if set(pair) <= there]
        if not wanted:
            continue
        pairs = all_pairs(results, metric, run.effect, run.alpha).set_index(["a", "b"]).to_dict("index")
        start = results[results["labelled"] == results["labelled"].min()]
        first = start.pivot(index="seed", columns="strategy", values="value")
        for ours, plain in wanted:
            turned = (ours, plain) not in pairs
            row = pairs[(plain, ours) if turned else (ours, plain)]
            mean, low, high = (
                (-row["mean"], -row["high"], -row["low"]) if turned else (row["mean"], row["low"], row["high"])
            )
            before = (first[ours] - first[plain]).mean()
            found.append(
                {"with": ours, "without": plain, "start": before, "mean": mean, "low": low, "high": high, "p": row["p"]}
            )
            rows.append(
                [
                    f"{styles[ours].name} − {styles[plain].name}",
                    number(before, 4, True),
                    number(mean, 4, True) + interval(low, high),
                    p_value(row["p"]),
                ]
            )
    if not rows:
        return []
    return [
        Table(
            title="What training the companion does by itself",
            columns=["same selection, with − without", "first stage", "AUBC [interval]", "p (t), exploratory"],
            rows=rows,
            notes=[
                "The same selection with and without a companion trained beside the model. At the first stage nothing "
                "was selected yet, so that difference is the joint training alone. What a strategy with the companion "
                "gains beyond this is its selection's."
            ],
            data=folder.csv(pd.DataFrame(found), f"companion-{name}"),
        )
    ]


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
        facts, labels = run.tasks[task], run.labels[run.labels["task"] == task]
        if "contents" in facts and len(labels):
            tables.append(balance(labels, dict(zip(map(str, facts["classes"]), facts["contents"], strict=True))))
    if not tables or not sum(map(len, tables)):
        return []
    table = pd.concat(tables)
    ratio = table.pivot(index="strategy", columns="part", values="ratio")
    ratio = ratio.loc[[s for s in styles if s in ratio.index], list(dict.fromkeys(table["part"]))]
    distance = imbalance(table)
    said = "; ".join(f"{s} {number(distance[s], 2)}" for s in ratio.index)
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
    frame = pd.concat([run.results[run.results["task"] == task] for run in runs])
    metric = metric_name(runs[0].tasks[task]["metric"])
    blocks: list[Block] = []
    for what, title, ylabel, caption in (
        (
            "selected/loss",
            "How hard the selected samples were",
            "loss ÷ candidates'",
            "Mean true loss of the selected samples under the model that led to them, over that of all candidates, "
            "mean ± one standard deviation over seeds. Above 1 the selection is what the model gets wrong. A strategy "
            "that looks at no candidate is at 1 but for chance, and has no curve.",
        ),
        (  # of older runs
            "selected/metric",
            "What the model already knew of its selections",
            f"{metric} on the selected",
            f"{metric} of the model on the samples that it led to, before they were labelled, mean ± one standard "
            "deviation over seeds. Low: the model got wrong what was selected.",
        ),
        (
            "selected/distance",
            "Redundancy of what was selected",
            "nearest distance ÷ random's",
            "Mean distance of a selected sample's embedding to its nearest one in the same selection, over that of as "
            "many random candidates under the same model, mean ± one standard deviation over seeds. Below 1 a "
            "selection is redundant, above it is spread out; random is at 1 but for chance.",
        ),
    ):
        table = curves(frame[frame["metric"] == what])
        if table.empty:
            continue
        stem = f"{what.replace('/', '-')}-{name}"
        blocks.append(
            folder.picture(
                wide(figures.learning_curve, table, styles, ylabel),
                stem,
                title,
                alt=f"{title} on {task}, a curve per strategy against labels.",
                caption=caption,
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
        mine = run.selections[run.selections["task"] == task]
        tables.append(overlap(mine, [s for s in styles if (mine["strategy"] == s).any()]))
    table = pd.concat(tables)
    if table.empty:
        return []
    last = table[table["stage"] == table.groupby(["a", "b"])["stage"].transform("max")]
    order = [s for s in styles if s in set(last["a"]) | set(last["b"])]
    if len(order) < 3:
        row = last.iloc[0]
        said = f"{row['a']} and {row['b']} have selected the same samples to {row['jaccard']:.0%} (Jaccard index)."
        return [Text(said.replace("%", "\u202f%"))]
    return [
        folder.picture(
            wide(matrices.overlap, square(last, "jaccard", order, 1)),
            f"overlap-{name}",
            "Overlap between strategies",
            alt=f"Heat map of the Jaccard index of what every two strategies selected on {task}.",
            caption="Jaccard index of all samples that two strategies had selected by the last selection, without the "
            "first labels (which they share), mean over seeds. The CSV has every stage.",
            data=folder.csv(table, f"overlap-{name}"),
            column=True,
        )
    ]
