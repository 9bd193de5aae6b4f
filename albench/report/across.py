"""What a run says over its tasks: penalties, verdicts counted, chances of improvement, and mean ranks."""

import numpy as np
import pandas as pd

from albench.analysis.curves import seed_scores
from albench.analysis.ranks import (
    blocks_of_seeds,
    blocks_of_tasks,
    friedman,
    improvement_interval,
    interquartile_mean,
    penalty_matrix,
    probability_of_improvement,
    win_tie_loss,
)
from albench.analysis.resampling import FEWEST
from albench.report import diagrams, matrices
from albench.report.blocks import Block, Folder, Section, Table, Text
from albench.report.evidence import Styles, wide
from albench.report.looks import present
from albench.report.numbers import metric_name, number, p_value
from albench.report.runs import Run
from albench.report.words import count


def section(run: Run, styles: Styles, folder: Folder, rows: pd.DataFrame, name: str, several: bool) -> Section | None:
    """The section of a run; rows: `tables.summaries` of its tasks put together. None where nothing can be compared."""
    fair = run.primary()
    fair = fair[~fair["strategy"].isin(run.cheats)]
    metrics = {task: facts["metric"] for task, facts in run.tasks.items() if (fair["task"] == task).any()}
    tasks = [task for task in metrics if (fair[fair["task"] == task]["strategy"] == run.reference).any()]
    if not tasks or fair["strategy"].nunique() < 2 or fair["labelled"].nunique() < 2:
        return None
    metrics, fair = {task: metrics[task] for task in tasks}, fair[fair["task"].isin(tasks)]
    blocks: list[Block] = [
        _totals(run, fair, metrics, rows, styles, folder, name),
        *_penalties(run, fair, metrics, styles, folder, name),
        *_ranks(run, fair, metrics, styles, folder, name),
    ]
    title = "Over all tasks" if len(metrics) > 1 else "Chances and ranks"
    return Section(title + (f": {run.name}" if several else ""), f"across-{name}", blocks)


def _direction(run: Run) -> dict[str, bool]:
    """Task → whether a higher value is a better one."""
    return {task: run.higher(task) for task in run.tasks}


def _totals(
    run: Run, fair: pd.DataFrame, metrics: dict[str, str], rows: pd.DataFrame, styles: Styles, folder: Folder, name: str
) -> Table:
    """Verdicts counted, probability of improvement, interquartile mean."""
    scores = {task: seed_scores(fair[fair["task"] == task], metric) for task, metric in metrics.items()}
    higher = _direction(run)
    verdicts = rows[rows["strategy"] != rows["reference"]].dropna(subset=["verdict"])
    counted = (
        win_tie_loss(verdicts[["strategy", "reference", "verdict"]]).set_index("strategy") if len(verdicts) else None
    )
    table, found = [], []
    for strategy in present(styles, fair):
        own = {task: s[strategy] for task, s in scores.items() if strategy in s}
        base = {task: s[run.reference] for task, s in scores.items() if run.reference in s}
        improved, low, high = np.nan, np.nan, np.nan
        if strategy != run.reference:
            ours, theirs = ({t: s.to_numpy(float) for t, s in x.items()} for x in (own, base))
            improved = probability_of_improvement(ours, theirs, higher)
            low, high = improvement_interval(own, base, 1 - run.alpha, higher_is_better=higher)
        middle = {
            metric: interquartile_mean(np.concatenate([[], *(s for task, s in own.items() if metrics[task] == metric)]))
            for metric in dict.fromkeys(metrics.values())
        }
        words = (
            {w: int(str(counted.at[strategy, w])) for w in VERDICTS}
            if counted is not None and strategy in counted.index
            else {}
        )
        chance = {"probability_of_improvement": improved, "low": low, "high": high}
        found.append(
            {"strategy": strategy, **words, **chance} | {f"interquartile_mean_{m}": v for m, v in middle.items()}
        )
        cells = (
            [str(words[w]) for w in VERDICTS]
            if words
            else ["reference" if strategy == run.reference else "–", "", "", ""]
        )
        table.append([styles[strategy].name, *cells, _chance(improved, low, high), *map(number, middle.values())])
    return Table(
        title=f"Verdicts over {len(metrics)} tasks" if len(metrics) > 1 else "Probability of improvement",
        columns=[
            *("strategy", *VERDICTS, f"P(better than {run.reference})"),
            *(f"IQM of AUBC, {metric_name(metric)}" for metric in dict.fromkeys(metrics.values())),
        ],
        rows=table,
        notes=[
            f"Tasks on which the primary test calls a strategy better than, worse than or equivalent to "
            f"{run.reference}. The probability of improvement is the share of pairs of one of its seeds and one of the "
            "reference's in which its AUBC is the better one, mean over tasks (.5 is no difference); descriptive, with "
            f"a percentile bootstrap over seeds from {FEWEST} seeds on, since below it would be too narrow. The "
            "interquartile mean (IQM) is of all seeds of the tasks of one metric; of three or fewer it is their mean.",
            *([HOLLOW] if (verdicts["verdict"].eq("equivalent") & ~(verdicts["rise_low"] > 0)).any() else []),
        ],
        data=folder.csv(pd.DataFrame(found), f"verdicts-{name}"),
        swatches=[(styles[str(f["strategy"])].colour, styles[str(f["strategy"])].glyph) for f in found],
    )


def _chance(p: float, low: float, high: float) -> str:
    return number(p, 2) + (f" [{number(low, 2)},\u00a0{number(high, 2)}]" if np.isfinite(low) else "")


HOLLOW = (
    "“Equivalent” is counted also where it is not shown that anything was learned that strategies could differ in (see "
    "the summary)."
)
VERDICTS = ("better", "equivalent", "undecided", "worse")


def _penalties(
    run: Run, fair: pd.DataFrame, metrics: dict[str, str], styles: Styles, folder: Folder, name: str
) -> list[Block]:
    matrix = penalty_matrix(fair, metrics, run.reference, run.alpha, _direction(run))
    if len(matrix) < 3 or run.suite["seeds"] < 2:
        return []
    if not matrix.to_numpy().any():
        return [
            Text(
                "Pairwise penalties (Ash et al. 2020; exploratory) are not drawn: no strategy beats another at any "
                f"number of labels by a two-sided paired t-test at {run.alpha:g}, with "
                f"{count(run.suite['seeds'], 'seed')}."
            )
        ]
    order = [s for s in styles if s in matrix.index]
    means = matrix.mean()[order]
    matrix = matrix.loc[order, order]
    said = "; ".join(f"{s} {number(means[s], 2)}" for s in means.sort_values().index)
    named = matrix.reset_index(drop=True)
    named.insert(len(order), "beats", order, allow_duplicates=True)  # a strategy may be called so
    return [
        folder.picture(
            wide(matrices.penalties, matrix, means),
            f"penalties-{name}",
            "Pairwise penalty matrix, exploratory",
            alt=f"Penalty matrix; column means (how often a strategy is beaten): {said}.",
            caption=f"How often the row beats the column by a two-sided paired t-test at {run.alpha:g}, in shares of a "
            f"task's budgets, summed over {count(len(metrics), 'task')} (Ash et al. 2020). The last row is the column "
            "mean: how often a strategy is beaten; lower is better. No correction for many tests.",
            data=folder.csv(named, f"penalties-{name}"),
            column=True,
        )
    ]


def _ranks(
    run: Run, fair: pd.DataFrame, metrics: dict[str, str], styles: Styles, folder: Folder, name: str
) -> list[Block]:
    """Friedman and Nemenyi over tasks, and over the seeds of each task; a sentence where they cannot decide."""
    blocks: list[Block] = []
    settings = (
        [("over tasks", f"ranks-{name}", blocks_of_tasks(fair, metrics, higher_is_better=_direction(run)))]
        if len(metrics) > 1
        else []
    )
    for number_, (task, metric) in enumerate(metrics.items()):
        scores = blocks_of_seeds(fair[fair["task"] == task], metric, higher_is_better=run.higher(task))
        settings.append((f"over the seeds of {task}", f"ranks-{name}-{number_}", scores))
    unable = []
    for where, stem, scores in settings:
        scores = scores.dropna(axis=1, how="all")
        test = friedman(scores, run.alpha)
        if not test.decides:
            unable.append(f"{where[0].upper()}{where[1:]}: {test.words}.")
            continue
        order = test.ranks.sort_values()
        said = "; ".join(f"{s} {number(r, 2)}" for s, r in order.items())
        blocks.append(
            folder.picture(
                wide(diagrams.critical_difference, dict(test.ranks), styles, test.critical_difference),
                stem,
                f"Mean ranks {where}, exploratory",
                alt=f"Critical-difference diagram {where}; mean ranks: {said}.",
                caption=f"Mean rank of the AUBC {where} (1 is best). Friedman p {p_value(test.p)} (χ², rough for few "
                "blocks); strategies joined by a bar differ by less than Nemenyi's critical difference "
                f"{test.critical_difference:.2f} at {run.alpha:g}.",
                data=folder.csv(order.rename("mean_rank").rename_axis("strategy").reset_index(), stem),
                column=True,
            )
        )
    if unable:
        blocks.append(Text(" ".join(["Mean ranks are not drawn where they cannot decide.", *unable])))
    return blocks
