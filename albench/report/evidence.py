"""What a task's results allow to conclude: the primary test, and exploratory tests beside it."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from albench.analysis.comparison import all_pairs, budgets
from albench.analysis.curves import difference_curve
from albench.analysis.ranks import worse_than_reference
from albench.analysis.significance import EXACT, FLIPS
from albench.report import charts, diagrams, figures, matrices
from albench.report.blocks import Block, Folder, Table
from albench.report.looks import Look, present
from albench.report.numbers import interval, metric_name, number, p_value, percent
from albench.report.runs import Run
from albench.report.tables import against, resampled_table
from albench.report.words import count

MANY = 40  # rows of a folded table that the page shows; the CSV has all
Styles = dict[str, Look]


def comparison(
    runs: list[Run], task: str, rows: pd.DataFrame, styles: Styles, folder: Folder, name: str, test_sets: str
) -> list[Block]:
    """Differences to the reference: along the labels, of the AUBC with its primary test, and all pairs.

    rows: `tables.with_test_sets`; test_sets: the CSV of the intervals for another test set.
    """
    written, reference = metric_name(runs[0].tasks[task]["metric"]), against(rows)
    blocks: list[Block] = []
    tested = rows[rows["difference"].notna()].rename(columns={"difference": "mean"})
    if tested.empty:
        return blocks
    floor = tested["attainable"].mask(tested["pairs"] > EXACT, 1 / (FLIPS + 1))  # the drawn patterns and the observed
    tested = tested.assign(attainable_sign_flip=floor)
    along = pd.concat(
        [difference_curve(r.primary(task), r.tasks[task]["metric"], r.reference) for r in _tested(runs, task)]
    )
    ylabel = f"{written} − {reference}"
    blocks.append(
        folder.picture(
            wide(figures.difference_curve, along, styles, ylabel, reference, runs[0].higher(task)),
            f"difference-{name}",
            f"Difference to {reference}",
            alt=f"Paired difference of {written} to {reference} on {task} against labels, a curve per strategy.",
            caption=f"Mean over seeds of the difference to {reference} with the same seed; {_band(along)}",
            data=folder.csv(along, f"difference-{name}"),
            chart=charts.difference_chart(along, styles, ylabel, reference),
            column=True,
        )
    )
    effect, sampled = runs[0].effect, bool(tested["sampled_low"].notna().any())
    said = "; ".join(f"{r['strategy']} {number(r['mean'], 4, True)} {r['verdict']}" for r in tested.to_dict("records"))
    blocks.append(
        folder.picture(
            wide(diagrams.forest, tested, styles, f"AUBC − {reference}", effect),
            f"forest-{name}",
            "The primary test",
            alt=f"AUBC minus that of {reference} on {task}, with intervals: {said}.",
            caption=_forest_caption(tested, runs[0].alpha, effect, sampled),
            data=folder.csv(tested, f"forest-{name}"),
            column=True,
        )
    )
    if sampled:
        blocks.append(resampled_table(tested.rename(columns={"mean": "difference"}), styles, runs[0].alpha, test_sets))
    blocks.append(_below(runs, task, styles, folder, name))
    blocks += _all_pairs(runs, task, styles, folder, name)
    blocks.append(_exploratory(runs, task, tested, styles, folder, name))
    return blocks


def _band(along: pd.DataFrame) -> str:
    if along["low"].isna().all():
        return "one seed has no interval."
    if not figures.banded(along):
        return (
            f"of so many strategies the figure has the {figures.LEADERS} that end best in colour, the page's chart "
            "all of them; the intervals are in the CSV."
        )
    band = "the band is its 95\u202f% t interval at each number of labels, not adjusted for looking at many."
    return band + _long(along["n"])


def _long(seeds: pd.Series) -> str:
    """What is said of intervals that the axis does not hold."""
    two = " With two seeds an interval is 12.7 standard errors to either side; it may run off the axis."
    return two * bool((seeds < figures.FEW).any())


def _forest_caption(tested: pd.DataFrame, alpha: float, effect: float, sampled: bool) -> str:
    if tested["low"].isna().all():
        return "Mean paired difference of the AUBC; one seed has no interval."
    text = (
        f"Mean paired difference of the AUBC. Thick: its {percent(1 - alpha)} t interval, of this comparison alone. "
        "Thin: the interval that the verdict is read off, at the level at which Holm's method tested it; it excludes 0 "
        f"where a strategy is better or worse, lies within the shaded differences (smaller than ±{effect:g}, the least "
        "of interest) where it is equivalent, and does neither where it is undecided."
    )
    dotted = " Dotted: the thick one, had the test set been another one, too." * sampled
    return text + dotted + _long(tested["pairs"])


def wide(draw: Callable[..., Figure], *args: object) -> Callable[[float], Figure]:
    """What `Folder.picture` takes: a function of the width alone."""
    return lambda width: partial(draw, *args)(width=width)


def _below(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> Table:
    """How often a strategy is worse than the reference, at every number of labels."""
    parts = []
    for run in _tested(runs, task):
        rows, metric = run.primary(task), run.tasks[task]["metric"]
        measured = rows.loc[rows["strategy"] == run.reference, "labelled"].unique()
        parts += [
            worse_than_reference(rows, metric, run.reference, int(labelled), higher_is_better=run.higher(task))
            for labelled in measured
        ]
    table = pd.concat(parts)
    along = sorted(table["labelled"].unique())
    cell = {(r["strategy"], r["labelled"]): f"{r['worse']} of {r['pairs']}" for r in table.to_dict("records")}
    shown = present(styles, table)
    return Table(
        title="Seeds worse than the reference at each number of labels",
        columns=["strategy", *(f"{labelled:,}" for labelled in along)],
        rows=[[styles[s].name, *(cell.get((s, b), "–") for b in along)] for s in shown],
        notes=[
            "Of the seeds that both have, those in which a strategy was strictly worse than the reference: an estimate "
            "of the chance of being worse than it at that budget. The CSV has the share with its exact 95\u202f% "
            f"interval (Clopper and Pearson), which at {count(int(table['pairs'].max()), 'seed')} is wide."
        ],
        data=folder.csv(table, f"below-{name}"),
        swatches=[(styles[s].colour, styles[s].glyph) for s in shown],
        folded=True,
    )


def _tested(runs: list[Run], task: str) -> list[Run]:
    return [run for run in runs if (run.primary(task)["strategy"] == run.reference).any()]


def _all_pairs(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    """The heat map of every two strategies, and a folded table of single budgets; of each run with three or more."""
    blocks: list[Block] = []
    for run in runs:
        results, metric = run.primary(task), run.tasks[task]["metric"]
        fair = results[~results["strategy"].isin(run.cheats)]
        if fair["strategy"].nunique() < 3 or fair["seed"].nunique() < 2:
            continue
        suffix = f"{name}-{run.name}".replace("/", "-") if len(runs) > 1 else name
        pairs = all_pairs(fair, metric, run.effect, run.alpha, higher_is_better=run.higher(task))
        order = [s for s in styles if s in set(pairs["a"]) | set(pairs["b"])]
        difference, p = (square(pairs, column, order, sign) for column, sign in (("mean", -1), ("p_holm", 1)))
        of_run = f" ({run.name})" if len(runs) > 1 else ""
        blocks.append(
            folder.picture(
                wide(matrices.significance, difference, p, run.alpha, "difference of AUBC"),
                f"pairs-{suffix}",
                f"All pairs{of_run}, exploratory",
                alt=f"Heat map of the differences of AUBC between every two strategies on {task}.",
                caption=f"Mean paired difference of the AUBC, row minus column. * p below {run.alpha:g} after Holm's "
                f"method over all {len(pairs)} pairs. Exploratory: the primary test is the one above.",
                data=folder.csv(pairs, f"pairs-{suffix}"),
                column=True,
            )
        )
        blocks.append(_budgets(fair, metric, run, styles, folder, suffix, of_run))
    return blocks


def square(pairs: pd.DataFrame, column: str, order: list[str], sign: int) -> pd.DataFrame:
    """A column of pairs (a, b) as a matrix with a in the rows; `sign` times it below the diagonal, NaN on it."""
    matrix, place = np.full((len(order), len(order)), np.nan), pd.Index(order)
    a, b = (place.get_indexer(pd.Index(pairs[side])) for side in ("a", "b"))
    values = pairs[column].to_numpy(float)
    matrix[a, b], matrix[b, a] = values, sign * values
    return pd.DataFrame(matrix, index=order, columns=order)


def _budgets(
    results: pd.DataFrame, metric: str, run: Run, styles: Styles, folder: Folder, name: str, of_run: str
) -> Table:
    tests = budgets(results, metric, run.alpha)
    saved = folder.csv(tests, f"budgets-{name}")
    shown = tests.assign(certain=tests["p_holm"] < run.alpha)
    shown = shown[shown["certain"] | shown["a"].eq(run.reference) | shown["b"].eq(run.reference)]
    shown = shown.sort_values("p_holm", kind="stable").head(MANY)
    rest = len(tests) - len(shown)
    notes = [
        "Sign-flip max-T over the budgets of a pair, then Holm over pairs. Exploratory."
        + (f" {rest:,} more rows are in the CSV." if rest else "")
    ]
    return Table(
        title=f"Single budgets{of_run}, exploratory",
        columns=["pair", "labels", "difference [interval]", "p (max-T)", "p (Holm over pairs)"],
        rows=[
            [
                f"{styles[r['a']].name} − {styles[r['b']].name}",
                f"{r['labelled']:,}",
                number(r["mean"], 4, True) + interval(r["low"], r["high"]),
                p_value(r["p"]),
                p_value(r["p_holm"]),
            ]
            for r in shown.to_dict("records")
        ],
        notes=notes,
        data=saved,
        folded=True,
    )


def _exploratory(runs: list[Run], task: str, tested: pd.DataFrame, styles: Styles, folder: Folder, name: str) -> Table:
    """Other tests and what pairing bought: for the careful reader."""
    below = pd.concat(
        [
            worse_than_reference(r.primary(task), r.tasks[task]["metric"], r.reference, higher_is_better=r.higher(task))
            for r in _tested(runs, task)
        ]
    ).set_index("strategy")
    columns = [
        *("strategy", "d_z", "p (t)", "p (Wilcoxon)", "p (sign-flip)", "least attainable p", "p (equivalent, Holm)"),
        *("paired / unpaired variance", "seeds worse at the end"),
    ]
    rows = []
    for r in tested.to_dict("records"):
        low = below.loc[r["strategy"]]
        rows.append(
            [
                styles[r["strategy"]].name,
                number(r["effect_size"], 2, True),
                *(p_value(r[p]) for p in ("p", "wilcoxon", "sign_flip", "attainable", "p_equivalence_holm")),
                number(r["variance_ratio"], 2),
                f"{low['worse']:.0f} of {low['pairs']:.0f} [{number(low['low'], 2)}, {number(low['high'], 2)}]",
            ]
        )
    return Table(
        title="Other tests of the same comparisons, exploratory",
        columns=columns,
        rows=rows,
        notes=[
            "One test decides, the others are shown: taking whichever is significant gives about twice the nominal "
            f"rate of false positives. {_floors(tested['pairs'])} A ratio of variances below 1 says that pairing by "
            "seed made the comparison sharper. The last column counts seeds in which the strategy ended worse than the "
            "reference, with the exact 95\u202f% interval of that share."
        ],
        data=folder.csv(tested.merge(below, on="strategy", suffixes=("", "_below")), f"exploratory-{name}"),
        swatches=[(styles[s].colour, styles[s].glyph) for s in tested["strategy"]],
        folded=True,
    )


def _floors(pairs: pd.Series) -> str:
    """Which tests are exact with so many pairs, and how small their p can get."""
    if (pairs <= EXACT).all():
        return "Wilcoxon and sign-flip are exact and cannot fall below the least attainable p."
    return (
        f"Wilcoxon is exact and cannot fall below the least attainable p. Sign-flip is so up to {EXACT} paired seeds; "
        f"from more, {FLIPS:,} random sign patterns are drawn, so that it cannot fall below 1/{FLIPS + 1:,}."
    )
