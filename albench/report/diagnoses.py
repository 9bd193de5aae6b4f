"""What a report says of predicted losses and of training: how scores rank losses, and how the objective fell."""

import pandas as pd

from albench.report import panels, remarks, tables, words
from albench.report.blocks import Block, Folder, Text
from albench.report.evidence import wide
from albench.report.looks import Look
from albench.report.numbers import number

RANKINGS = (  # measure, file, title, what it is
    (
        "ranking-accuracy",
        "ranking",
        "Does the score rank losses?",
        "Share of pairs that are ordered as their true losses are",
    ),
    ("spearman", "spearman", "The same by Spearman's ρ", "Rank correlation of the score with the true loss"),
)
POINTS = 2_000  # of a strategy's scatter; more of them only hide one another


def ranking(
    measured: pd.DataFrame, results: pd.DataFrame, styles: dict[str, Look], folder: Folder, task: str, name: str
) -> list[Block]:
    """Ranking accuracy and Spearman's ρ per stage with their table, where strategies score or companions predict.

    measured: `curves` of all metrics of the results; name: of the task, in file names.
    """
    blocks: list[Block] = []
    table = measured[measured["metric"].str.startswith(tables.DIAGNOSES)]
    if table["metric"].isin([f"ranking-accuracy/test/{which}" for which in tables.OWN]).any():
        saved = folder.csv(table, f"ranking-{name}")
        ends = tables.last_stage(table)
        last = tables.diagnosis_table(ends, styles, saved)
        for measure, stem, title, what in RANKINGS:
            own = [f"{measure}/test/{which}" for which in tables.OWN]
            if not table["metric"].isin(own).any():
                continue
            said = "; ".join(
                f"{r['strategy']} {number(r['mean'], 3)}" for r in ends[ends["metric"].isin(own)].to_dict("records")
            )
            blocks.append(
                folder.picture(
                    wide(panels.ranking, table, styles, measure),
                    f"{stem}-{name}",
                    title,
                    alt=f"{what} per stage on {task}; score or companion on the test set at the last stage: {said}.",
                    caption=f"{what}; the line is chance. {words.over_seeds(table)} "
                    "Entropy, margin and the trivial predictor are measured on the same model. Candidates are measured "
                    "before they are labelled, for this figure only: no strategy sees it.",
                    data=saved,
                    column=True,
                )
            )
        blocks.append(last)
        if text := remarks.beaten_scores(results):
            blocks.append(Text(text))
    return blocks


def scatter(
    measured: pd.DataFrame, pairs: pd.DataFrame, styles: dict[str, Look], folder: Folder, task: str, name: str
) -> list[Block]:
    """Predicted and true losses of test samples at the last stage; pairs: rows of diagnostics.csv."""
    pairs = pairs[(pairs["where"] == "test") & pairs["strategy"].isin(styles)]
    if pairs.empty:
        return []
    score, companion = (
        set(measured.loc[measured["metric"] == f"ranking-accuracy/test/{which}", "strategy"]) for which in tables.OWN
    )
    companions = frozenset((companion - score) & set(pairs["strategy"]))
    pairs = pairs[pairs["stage"] == pairs.groupby("strategy")["stage"].transform("max")]
    pairs = pairs.sample(frac=1, random_state=0).groupby("strategy").head(POINTS).sort_index()
    return [
        folder.picture(
            wide(panels.scatter, pairs, styles, companions),
            f"scatter-{name}",
            "Score and true loss",
            alt=f"Scatter of score against true loss on {task} at the last stage, a panel per strategy.",
            caption="A sample of test images at the last stage, all seeds."
            + " Of a strategy that does not score it is what the companion beside it predicts." * bool(companions)
            + " The losses' axis is logarithmic, with 0 drawn at the smallest positive one: only their order "
            "matters to a selection." * panels.spans_magnitudes(pairs["true"]),
            data=folder.csv(pairs, f"scatter-{name}"),
            column=True,
        )
    ]


def descents(table: pd.DataFrame, styles: dict[str, Look], folder: Folder, task: str, name: str) -> list[Block]:
    """How the training objective went down, where the records say it."""
    table = table[table["strategy"].isin(styles)]
    if table.empty:
        return []
    point = table.groupby(["strategy", "stage", "labelled", "update"], sort=False)["objective"]
    table = point.agg(objective="mean", seeds="size").reset_index()
    last = table[table["stage"] == table["stage"].max()]
    ends = last.loc[last.groupby("strategy", sort=False)["update"].idxmax()]
    said = "; ".join(f"{r['strategy']} {number(r['objective'])}" for r in ends.to_dict("records"))
    return [
        folder.picture(
            wide(panels.descent, table, styles),
            f"descent-{name}",
            "Did the training converge?",
            alt=f"Training objective on {task} against updates, first and last stage. At the end of the last: {said}.",
            caption="The training objective at the first and the last stage, mean over seeds; a point is the mean of "
            "the updates since the point before. At the first stage strategies that train alike share one training and "
            "their curves coincide. With a companion the objective has its term, too, so compare such "
            "curves with themselves alone.",
            data=folder.csv(table, f"descent-{name}"),
            column=True,
        )
    ]
