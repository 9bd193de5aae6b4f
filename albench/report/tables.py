"""Tables of a report: numbers as text for reading; the same unrounded as CSV."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from albench.analysis.comparison import against_reference
from albench.analysis.curves import left_out, per_seed, summary
from albench.analysis.label_efficiency import rise
from albench.report.blocks import Folder, Table
from albench.report.looks import Look, present
from albench.report.numbers import interval, mean_std, metric_name, number, p_value, percent
from albench.report.runs import Run

DIAGNOSES = ("ranking-accuracy", "spearman")
WIDE = 8  # columns of strategies, at most, where rows can be had instead


def summaries(runs: list[Run], task: str) -> pd.DataFrame:
    """The summary of a task over all runs that have it, with the primary test against each run's own reference.

    Columns: those of `analysis.curves.summary` and `analysis.comparison.against_reference` (difference for its mean),
    reference, cheats, run, higher_is_better; lowest and highest value of the task in the run, and rise, rise_low,
    rise_high of its reference (see `analysis.rise`). NaN where there is nothing to compare with.
    """
    parts = []
    for run in runs:
        if task in run.tasks:
            metric, results, higher = run.tasks[task]["metric"], run.primary(task), run.higher(task)
            seeds = per_seed(results)
            rows = summary(results, metric, run.reference, seeds)
            rows = rows.set_index("strategy").reindex([s for s in run.strategies if s in set(rows["strategy"])])
            tests = pd.DataFrame(columns=["strategy"])
            if (results["strategy"] == run.reference).any():
                family: dict[str, Any] = {"leave_out": set(run.cheats), "comparisons": len(run.compared)}
                family["higher_is_better"] = higher
                tests = against_reference(results, metric, run.reference, run.effect, run.alpha, **family)
            rows = rows.drop(columns=["difference", "difference_low", "difference_high", "pairs", "dropped"])
            rows["dropped"] = rows.index.map(left_out(results, seeds))
            tests = tests.rename(columns={"mean": "difference", "dropped": "unmatched"})
            tests = tests.drop(columns="reference", errors="ignore").set_index("strategy")
            rows = rows.join(tests.reindex(columns=[*TESTS])).reset_index()
            untested = rows["pairs"].eq(0) & rows["verdict"].notna()
            rows["verdict"] = rows["verdict"].astype(object).mask(untested, NO_RESULT)
            rows["reference"], rows["run"] = run.reference, run.name
            rows["lowest"], rows["highest"] = results["value"].min(), results["value"].max()
            rows["rise"], rows["rise_low"], rows["rise_high"], _ = rise(
                results, metric, run.reference, higher_is_better=higher
            )
            rows["higher_is_better"] = higher
            rows["cheats"] = [bool(run.strategies.get(s, {}).get("cheats")) for s in rows["strategy"]]
            parts.append(rows)
    return pd.concat(parts, ignore_index=True)


NO_RESULT = "no result"
TESTS = (
    *("pairs", "unmatched", "difference", "low", "high", "sd", "t", "p", "p_holm"),
    *("verdict", "verdict_low", "verdict_high", "effect_size"),
    *("p_equivalence", "p_equivalence_holm", "wilcoxon", "sign_flip", "attainable", "variance_ratio"),
)


def with_test_sets(rows: pd.DataFrame, sampled: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """`summaries` with the AUBC's interval had the test set been another one, too; sampled: run → `another_test_set`.

    Columns: sampled_pairs, sampled_low, sampled_high, sd_seeds, sd_samples (standard errors), replicates,
    percentile_low, percentile_high; NaN where nothing was resampled.
    """
    parts = [table[table["of"] == "aubc"].assign(run=name) for name, table in sampled.items() if len(table)]
    columns = ["sampled_pairs", "sampled_low", "sampled_high", "sd_seeds", "sd_samples"]
    columns += ["replicates", "percentile_low", "percentile_high"]
    if not parts:
        return rows.assign(**dict.fromkeys(columns, np.nan))
    table = pd.concat(parts).rename(columns={name.removeprefix("sampled_"): name for name in columns[:3]})
    return rows.merge(table[["run", "strategy", *columns]], on=["run", "strategy"], how="left")


def resampled_table(rows: pd.DataFrame, styles: dict[str, Look], alpha: float, data: str) -> Table:
    """The second interval of each comparison with the reference, beside the first. rows: of `with_test_sets`.

    The percentile bootstrap is a third where it was made, which is from ten seeds on.
    """
    rows, reference = rows[rows["sampled_low"].notna()], against(rows)
    bootstrapped = bool(rows["percentile_low"].notna().any())
    percentile = " The third is the percentile bootstrap over seeds × samples, for comparison." * bootstrapped
    return Table(
        title="Had the test set been another one, too",
        columns=[
            *("strategy", f"AUBC − {reference} [other seeds]", "[other seeds and test samples]"),
            *(["[percentile bootstrap]"] * bootstrapped),
            *("standard error over seeds; over test samples", "seeds"),
        ],
        rows=[
            [
                styles[r["strategy"]].name,
                number(r["difference"], 4, True) + interval(r["low"], r["high"]),
                interval(r["sampled_low"], r["sampled_high"]).strip(),
                *([interval(r["percentile_low"], r["percentile_high"]).strip() or "–"] * bootstrapped),
                f"{number(r['sd_seeds'])}; {number(r['sd_samples'])}",
                f"{r['sampled_pairs']:.0f}",
            ]
            for r in rows.to_dict("records")
        ],
        notes=[
            "The first interval speaks of other seeds on this very test set. For the second, every trial was measured "
            f"again from its stored outcomes on {rows['replicates'].min():.0f} draws with replacement of the test "
            f"samples, the same for all strategies, and their variance was added.{percentile} Standard errors are of "
            "the mean difference: over seeds on this very test set, and over test samples with these very seeds. Few "
            "seeds tell the first badly, so where it is below the second they may agree by luck; the second interval "
            "is no narrower than the test samples alone make it. All are "
            f"{percent(1 - alpha)} intervals of a single comparison, not adjusted, and descriptive: the verdict is "
            "that of the primary test."
        ],
        data=data,
        swatches=[(styles[s].colour, styles[s].glyph) for s in rows["strategy"]],
    )


def leader(rows: pd.DataFrame) -> int | None:
    """The row of a run's best strategy among those that do not cheat, None where nobody has a complete curve.

    It has the best mean AUBC; where strategies have not the same seeds, whose means do not compare, the best paired
    difference to the reference, which itself has 0 (None where that has no complete curve).
    """
    fair = rows[~rows["cheats"] & rows["aubc_mean"].notna()]
    if fair.empty:
        return None
    score = fair["aubc_mean"] if matched(rows) else fair["difference"].mask(fair["strategy"] == fair["reference"], 0.0)
    if score.isna().all():
        return None
    return int(score.idxmax() if higher(rows) else score.idxmin())  # type: ignore[call-overload]


def matched(rows: pd.DataFrame) -> bool:
    """Whether a run's mean AUBCs compare: all are over the same seeds as the reference's."""
    fair = rows[~rows["cheats"] & rows["aubc_mean"].notna()]
    own = fair["strategy"] == fair["reference"]
    if not own.any():
        return len(fair) <= 1
    seeds = int(fair.loc[own, "seeds"].iloc[0])
    return bool(fair["seeds"].eq(seeds).all() and fair.loc[~own, "pairs"].eq(seeds).all())


def higher(rows: pd.DataFrame) -> bool:
    """Whether a higher value of the metric is a better one; rows: of `summaries`."""
    return bool(rows["higher_is_better"].all())


def against(rows: pd.DataFrame) -> str:
    """The reference's name where all rows have the same."""
    references = rows["reference"].unique()
    return str(references[0]) if len(references) == 1 else "its reference"


def shown_to_learn(row: Mapping[Hashable, Any]) -> bool:
    """Whether the reference's own rise is above 0 beyond chance; row: of `summaries`."""
    return bool(row["rise_low"] > 0)


def summary_table(rows: pd.DataFrame, styles: dict[str, Look], metric: str, alpha: float, data: str) -> Table:
    """Final value, AUBC, and the primary test of its paired difference to the reference; a row per strategy."""
    each = [own for _, own in rows.groupby("run", sort=False)]
    best, reference = {leader(own) for own in each}, against(rows)
    ends = sorted(rows["labelled"].unique())
    labelled = f" at {ends[0]:,} labels" if len(ends) == 1 else " at the last labels (how many)" if ends else ""
    columns = ["strategy", "verdict", f"AUBC − {reference} [{percent(1 - alpha)} interval]"]
    columns += ["p (Holm)", "AUBC", f"{metric_name(metric)}{labelled}", "seeds"]
    body, marks = [], {}
    bold = f"the {'highest' if higher(rows) else 'lowest'} mean AUBC"
    if not all(map(matched, each)):
        bold = "the best difference, seed by seed (not all strategies have the same seeds, so means do not compare)"
    notes = [
        f"Mean ± standard deviation over seeds; bold: {bold}. The primary test is a two-sided paired t "
        f"of the AUBC, p by Holm's method over the comparisons with {reference}; * marks p below {alpha:g}. Intervals "
        "are of single differences, not adjusted, so one may exclude 0 where the corrected test remains undecided; "
        "“equivalent” is read off two one-sided tests. The figure of the primary test shows both kinds of interval."
    ]
    for place, row in enumerate(rows.to_dict("records")):
        is_reference = row["strategy"] == row["reference"]
        tested = ["reference", "", ""] if is_reference else [
            "⚠ not judged" if row["cheats"] else row["verdict"] if isinstance(row["verdict"], str) else "–",
            number(row["difference"], 4, True) + interval(row["low"], row["high"]),
            p_value(row["p_holm"]),
        ]  # fmt: skip
        if row["verdict"] == "equivalent" and not shown_to_learn(row):
            marks[place, 1] = "†"
        if not is_reference and row["p_holm"] < alpha:
            marks[place, 3] = "*"
        measured = [mean_std(row["aubc_mean"], row["aubc_std"]), mean_std(row["final_mean"], row["final_std"])]
        measured[1] += f" ({row['labelled']:,})" if len(ends) > 1 else ""
        body.append([styles[row["strategy"]].name, *tested, *measured, str(row["seeds"])])
    if "†" in marks.values():
        notes.append("† It is not shown that anything was learned in which strategies could differ (see the summary).")
    notes += _reasons(rows)
    if len(rows["run"].unique()) > 1:
        notes.append("Tests are within a run; rows of different runs are not compared.")
    return Table(
        title="Comparison with the reference",
        columns=columns,
        rows=body,
        notes=list(dict.fromkeys(notes)),
        data=data,
        swatches=[(styles[s].colour, styles[s].glyph) for s in rows["strategy"]],
        strong=frozenset((row, column) for row in best if row is not None for column in (0, 4)),
        marks=marks,
    )


def _reasons(rows: pd.DataFrame) -> list[str]:
    """What is not counted and why, strategies with the same reason together."""
    alike: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        for why in ("dropped", "unmatched"):
            if not isinstance(row[why], str):
                continue
            # a curve of its own that is not whole was said already, among "dropped"
            twice = f": the curve of {row['strategy']} is not whole, "
            if said := "; ".join(part for part in row[why].split("; ") if twice not in part):
                alike.setdefault(said, []).append(row["strategy"])
    return [f"{', '.join(names)}: {reason}." for reason, names in alike.items()]


def last_stage(table: pd.DataFrame) -> pd.DataFrame:
    """Those rows of `curves` at the highest number of labels that each metric of a strategy reached."""
    return table[table["labelled"] == table.groupby(["strategy", "metric"])["labelled"].transform("max")]


OWN = ("score", "companion")  # what a strategy's own predictor of the loss is, beside baselines


def diagnosis_table(rows: pd.DataFrame, styles: dict[str, Look], data: str) -> Table:
    """Ranking accuracy and Spearman's ρ at the last stage, the score beside its baselines. rows: `last_stage`."""
    cell = {(r["strategy"], r["metric"]): mean_std(r["mean"], r["std"], 3) for r in rows.to_dict("records")}
    wanted = [
        ("test, score", "ranking-accuracy/test/score"),
        ("test, companion", "ranking-accuracy/test/companion"),
        ("test, entropy", "ranking-accuracy/test/entropy"),
        ("test, margin", "ranking-accuracy/test/margin"),
        ("test, trivial", "ranking-accuracy/test/trivial"),
        ("ρ of score", "spearman/test/score"),
        ("ρ of entropy", "spearman/test/entropy"),
        ("candidates, score", "ranking-accuracy/candidates/score"),
    ]
    wanted = [(heading, metric) for heading, metric in wanted if (rows["metric"] == metric).any()]
    shown = [s for s in styles if any((s, f"ranking-accuracy/test/{own}") in cell for own in OWN)]
    return Table(
        title="What the score says about the loss, where it was last measured",
        columns=["strategy", *(heading for heading, _ in wanted)],
        rows=[[styles[s].name, *(cell.get((s, m), "–") for _, m in wanted)] for s in shown],
        notes=[
            "Share of pairs of samples whose true losses are ordered as predicted (one half is chance), and Spearman's "
            "ρ on the test set (0 is chance); mean ± standard deviation over seeds. Entropy, margin and the trivial "
            "predictor are measured on the same model, so they say what the score adds. companion: what a module "
            "predicts that was trained beside the model, where the strategy does not select by it. The CSV has more."
        ],
        data=data,
        swatches=[(styles[s].colour, styles[s].glyph) for s in shown],
    )


def costs_table(costs: pd.DataFrame, styles: dict[str, Look], folder: Folder, name: str) -> Table | None:
    """Seconds per trial (summed over stages) and peak memory, mean over seeds; None where none were recorded."""
    if costs.empty:
        return None
    seconds = costs[costs["metric"].str.startswith("seconds/")]
    totals = seconds.groupby(["strategy", "metric", "seed"])["value"].sum().groupby(["strategy", "metric"]).mean()
    memory = costs[costs["metric"].str.startswith("peak-memory/")]
    peaks = memory.groupby(["strategy", "metric"])["value"].max() / 2**20
    table = pd.concat([totals, peaks]).unstack("metric")
    headings = {
        "seconds/train": "train,\u00a0s",
        "seconds/evaluate": "evaluate,\u00a0s",
        "seconds/observe": "score candidates,\u00a0s",
        "seconds/select": "select,\u00a0s",
        "peak-memory/train": "peak memory, MiB",
    }
    shown = [column for column in headings if column in table.columns]
    strategies = [s for s in styles if s in table.index]
    saved = folder.csv(table.loc[strategies, shown].reset_index(), name)
    return Table(
        title="Cost of a trial",
        columns=["strategy", *(headings[c] for c in shown)],
        rows=[
            [styles[s].name, *(number(table.loc[[s], c].item(), 0 if c.startswith("peak") else 2) for c in shown)]
            for s in strategies
        ],
        notes=[
            "Wall-clock seconds summed over a trial's stages, mean over seeds; trials may have shared the machine. "
            "A training that several trials share was done once and is counted in each of them. Memory is the most "
            "that was held while training: on a CPU by the whole process, so strategies hardly differ there.",
            *["What compiling took, once a process, is in costs.csv alone."] * ("seconds/compile" in table.columns),
        ],
        data=saved,
        swatches=[(styles[s].colour, styles[s].glyph) for s in strategies],
    )


def other_metrics(
    measured: pd.DataFrame, primary: str, styles: dict[str, Look], folder: Folder, name: str
) -> list[Table]:
    """What else was measured at the last stage: whole metrics, then a metric's parts (classes, joints).

    A column for each strategy; with very many strategies a row for each.
    """
    rows = last_stage(measured)
    rows = rows[~rows["metric"].str.startswith((*DIAGNOSES, "selected/")) & (rows["metric"] != primary)]
    if rows.empty:
        return []
    saved = folder.csv(rows, name)
    is_part = rows["metric"].str.contains("/")
    whole = _by_metric(rows[~is_part], styles, "Other metrics, at the last stage", saved)
    parts = _by_metric(rows[is_part], styles, "By part, at the last stage", saved, folded=True)
    return [table for table in (whole, parts) if table is not None]


def _by_metric(
    rows: pd.DataFrame, styles: dict[str, Look], title: str, data: str, folded: bool = False
) -> Table | None:
    if rows.empty:
        return None
    cell = {(row["metric"], row["strategy"]): mean_std(row["mean"], row["std"], 3) for row in rows.to_dict("records")}
    shown = present(styles, rows)
    last = rows.groupby("strategy")["labelled"].max()
    at = " at {:,} labels" if last.nunique() > 1 else ""
    metrics = {m: _part_name(m) for m in rows["metric"].unique()}
    names = {s: styles[s].name + at.format(last[s]) for s in shown}
    upright = len(names) > max(WIDE, len(metrics))
    if upright:
        table = [[name, *(cell.get((m, s), "–") for m in metrics)] for s, name in names.items()]
    else:
        table = [[name, *(cell.get((m, s), "–") for s in names)] for m, name in metrics.items()]
    return Table(
        title=title,
        columns=["strategy", *metrics.values()] if upright else ["metric", *names.values()],
        rows=table,
        notes=["Mean ± standard deviation over seeds."],
        data=data,
        folded=folded,
    )


def _part_name(metric: str) -> str:
    head, slash, part = metric.partition("/")
    return metric_name(head) + (f", {part}" if slash else "")


def facts_table(title: str, rows: Sequence[tuple[str, ...]]) -> Table:
    """Names and what they are, without headings."""
    return Table(title=title, columns=[""] * len(rows[0]), rows=[list(row) for row in rows], numeric=False)
