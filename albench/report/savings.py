"""Label efficiency: what strategies need for values that the reference reaches, in labels, annotations or money."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from albench.analysis.label_efficiency import (
    SHARES,
    costs_from,
    efficiency,
    mean_curves,
    rise,
    target_at,
    targets_within,
)
from albench.report import diagrams
from albench.report.blocks import Block, Folder, Table, Text
from albench.report.evidence import Styles, wide
from albench.report.numbers import number, percent
from albench.report.runs import Run
from albench.report.tables import against
from albench.report.words import NAMED, count, listed

FEW = 8  # strategies, beyond which the figure shows one target instead of all
LAST = 1.0  # the "share" of the reference's own mean final value


@dataclass(frozen=True)
class Savings:
    """What a run says of label efficiency on a task.

    tables: `analysis.efficiency` by unit, with columns share (of the reference's rise that a target is),
    reference, rise, rise_low, rise_high and told; empty where there is nothing to compare. reason: why labels saved
    are not told, or ''. budget: labels at the last stage.
    """

    run: Run
    tables: dict[str, pd.DataFrame]
    reason: str
    budget: int


def measured(runs: list[Run], task: str) -> list[Savings]:
    """What strategies need for values within the reference's rise: in labels, annotations, the suite's price."""
    return [_measured(run, task) for run in runs]


def _measured(run: Run, task: str) -> Savings:
    results, metric, reference = run.primary(task), run.tasks[task]["metric"], run.reference
    if results["strategy"].nunique() < 2 or results["labelled"].nunique() < 2:
        return Savings(run, {}, "", 0)
    budget = int(results["labelled"].max())
    if reference not in set(results["strategy"]):
        return Savings(run, {}, f"Labels saved are not told: {reference} has no results to compare with.", budget)
    higher = run.higher(task)
    if reference not in mean_curves(results, metric):
        return Savings(
            run, {}, f"Labels saved are not told yet: {reference} has no complete curve to compare with.", budget
        )
    targets = targets_within(results, metric, reference, run.suite.get("efficiency", SHARES), higher)
    if not targets:
        reason = (
            f"Labels saved cannot be told: the mean curve of {reference} does not rise, so there are no values to "
            "reach; the training may be too short."
        )
        return Savings(run, {}, reason, budget)
    targets[LAST] = target_at(results, metric, reference)
    risen, low, high, seeds = rise(results, metric, reference, higher_is_better=higher)
    tables = {}
    for unit, cost in _costs(run, task).items():
        table = efficiency(results, metric, reference, list(targets.values()), cost=cost, higher_is_better=higher)
        share = table["target"].map({value: share for share, value in targets.items()})
        table = table.assign(share=share, reference=reference, told=low > 0)
        tables[unit] = table.assign(rise=risen, rise_low=low, rise_high=high)
    return Savings(run, tables, "" if low > 0 else _by_chance(reference, risen, low, high, seeds), budget)


def _by_chance(reference: str, risen: float, low: float, high: float, seeds: int) -> str:
    """Why values within a reference's rise are no targets."""
    over = f"of {number(risen, 4, True)} from its first to its last labels"
    if seeds < 2:
        return f"Labels saved cannot be told: with one seed, {reference}'s own rise {over} may be chance."
    return (
        f"Labels saved cannot be told: {reference}'s own rise {over} may be chance (95\u202f% interval "
        f"{number(low, 4, True)} to {number(high, 4, True)}, {count(seeds, 'seed')}), and so may when a curve reaches "
        "a value within it."
    )


def sentence(found: Savings) -> str:
    """Which strategies save how many labels, in reaching the middle target; '' where there is nothing to compare."""
    if found.reason or not found.tables:
        return found.reason
    table = found.tables["labels"]
    shares = sorted(table.loc[table["share"] < LAST, "share"].unique())
    rows = table[(table["share"] == shares[len(shares) // 2]) & ~table["strategy"].isin(found.run.cheats)]
    rows = rows[rows["pairs"] > 0].sort_values("saved", ascending=False, kind="stable")
    if rows.empty:
        return ""
    first, fewer = rows.iloc[0], rows[rows["saved_low"] > 0]
    value = (
        f"{first['reference']}'s value at {percent(first['share'])} of its rise ({number(first['target'])}, on its "
        f"mean curve after {first['mean_curve_reference']:,.0f} of {found.budget:,} labels)"
    )
    others = rows[~rows["strategy"].isin(fewer["strategy"])]
    named = others.head(max(0, NAMED - len(fewer)))
    rest, claimed = len(others) - len(named), len(fewer) - NAMED
    said = [_said_of(r) for r in named.to_dict("records")] + [f"{rest} more (see the table)"] * bool(rest)
    level = "95\u202f% intervals, unadjusted"
    if fewer.empty:
        start = f"No strategy is shown to save labels in reaching {value}"
        return f"{start}. Labels saved ({level}): {'; '.join(said)}."
    claims = [_fewer(r) for r in fewer.head(NAMED).to_dict("records")]
    claims += [f"{claimed} more also need fewer (see the table)"] if claimed > 0 else []
    not_shown = f" Not shown to save any: {'; '.join(said)}." if said else ""
    return f"To reach {value}, {listed(claims)} ({level}).{not_shown}"


def _said_of(row: dict[Hashable, Any]) -> str:
    """'entropy +3 [−8, +13]', or in how many seeds it does not arrive."""
    if row["saved"] == -np.inf:
        return f"{row['strategy']} does not reach it in {row['not_reached']} of {count(row['pairs'], 'seed')}"
    return f"{row['strategy']} {saving(row['saved'], row['saved_low'], row['saved_high'])}{_at_once(row)}"


def _at_once(row: dict[Hashable, Any]) -> str:
    """' (8 of 8 seeds were there with the first labels)'; '' where none was."""
    both = ((f"{row['reference']}'s", row["at_once_reference"]), ("its", row["at_once"]))
    said = [f"{number_of} of {whose} {count(row['pairs'], 'seed')}" for whose, number_of in both if number_of]
    return f" ({' and '.join(said)} were there with the first labels)" if said else ""


def _fewer(row: dict[Hashable, Any]) -> str:
    """'core-set needs 120 labels fewer [20, 210]'; the least where the reference itself did not arrive."""
    if np.isinf(row["saved"]):
        least = saving(row["saved_low"], np.nan, np.nan).lstrip("+")
        return f"{row['strategy']} needs at least {least} labels fewer"
    written = saving(row["saved"], row["saved_low"], row["saved_high"]).replace("+", "")
    amount, _, between = written.partition(" ")
    early = {"≥": "at least ", "≤": "at most "}.get(_early(row), "")
    return f"{row['strategy']} needs {early}{amount} labels fewer {between}{_at_once(row)}"


def label_efficiency(savings: list[Savings], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    """The figure of labels saved, or why there is none, and a table for each unit."""
    several = len(savings) > 1
    blocks: list[Block] = [Text((f"{one.run.name}: " if several else "") + one.reason) for one in savings if one.reason]
    order = {strategy: place for place, strategy in enumerate(styles)}
    for unit in dict.fromkeys(unit for one in savings for unit in one.tables):
        table = pd.concat([one.tables[unit] for one in savings if unit in one.tables])
        table = table.sort_values(["share", "strategy"], key=lambda c: c.map(order) if c.name == "strategy" else c)
        saved = folder.csv(table, f"efficiency-{slugged(unit)}-{name}")
        if unit == "labels" and table["told"].any():
            budget = max(float(np.ptp(one.run.primary(task)["labelled"])) for one in savings if one.tables)
            blocks.append(_figure(table[table["told"]], styles, budget, task, folder, name, saved))
        blocks.append(_table(table, styles, unit, saved))
    return blocks


def _costs(run: Run, task: str) -> dict[str, pd.DataFrame | None]:
    """Unit → cumulative costs per stage; None for plain labels. Annotations only where samples hold unequal numbers."""
    units: dict[str, pd.DataFrame | None] = {"labels": None}
    labels = run.rows("labels", task)
    if labels.empty:
        return units
    counted = costs_from(labels)
    each = counted["value"] / counted["labelled"]
    if not np.allclose(each, each.iloc[0]):
        units["annotations"] = counted
    price = run.tasks[task]["entry"].get("price")
    if price:
        units[price["unit"]] = costs_from(labels, price)
    return units


def slugged(unit: str) -> str:
    """A unit as part of a file name."""
    return "".join(c if c.isalnum() else "-" for c in unit).strip("-") or "cost"


def _figure(
    table: pd.DataFrame, styles: Styles, budget: float, task: str, folder: Folder, name: str, data: str
) -> Block:
    """A sentence where no line of it would hold anything."""
    inside = table[table["share"] < LAST]
    shares = sorted(inside["share"].unique())
    if inside["strategy"].nunique() > FEW:
        shares = [shares[len(shares) // 2]]
    reference = against(table)
    drawn = inside[inside["share"].isin(shares)].rename(
        columns={"saved": "mean", "saved_low": "low", "saved_high": "high"}
    )
    if drawn["mean"].isna().all():
        return Text(
            "There is no figure of labels saved, since none can be estimated: where neither a strategy nor "
            f"{reference} arrives, not even the sign is known."
        )
    bounded = " with 95\u202f% intervals," * bool(np.isfinite(drawn[["low", "high"]]).any(axis=None))
    pointed = np.isfinite(drawn["mean"]) & np.isinf(drawn[["low", "high"]]).all(axis=1)
    drawn = drawn.assign(task=[_goal(*pair) for pair in zip(drawn["share"], drawn["target"], strict=True)])
    picture = folder.picture(
        wide(diagrams.efficiency, drawn, styles, f"labels saved against {reference}", budget),
        f"efficiency-{name}",
        "Labels saved",
        alt=f"Labels saved by each strategy on {task} in reaching {listed(list(drawn['task'].unique()))}.",
        caption=f"Labels that a strategy needs less (right) or more (left) than {reference} for values that "
        f"{reference}'s mean curve reaches within its rise,{bounded} on monotone curves, paired by seed. "
        f"In brackets: which part of {reference}'s rise that is. The axis ends at all labels that were "
        "bought after the first at the latest; an open arrow: not reached, or the interval goes on beyond."
        + " A point without a line is a median without an interval."
        * bool(pointed.any()),
        data=data,
        column=True,
    )
    return picture


def _goal(share: float, target: float) -> str:
    """'0.4730 (75 %)'."""
    written = "final" if share == LAST else f"{share:.0%}".replace("%", "\u202f%")
    return f"{number(target)}\u00a0({written})"


def _early(row: dict[Hashable, Any]) -> str:
    """Which way labels saved are bounded where seeds were at the target with the first labels; '' where none was."""
    ours, theirs = row["at_once"], row["at_once_reference"]
    if ours and theirs:
        return "‡"
    return "≥" if ours else "≤" if theirs else ""


def _table(table: pd.DataFrame, styles: Styles, unit: str, data: str) -> Table:
    reference = against(table)
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    for place, r in enumerate(table.to_dict("records")):
        # at the last value about half of the reference's own seeds end below it: only the mean curves say much
        untold = r["share"] == LAST or not r["told"]
        unreached = f"{r['not_reached']} of {r['pairs']}" + (
            f" ({reference}: {r['not_reached_reference']})" if r["not_reached_reference"] else ""
        )
        rows.append(
            [
                styles[r["strategy"]].name,
                _goal(r["share"], r["target"]),
                _curves(r["mean_curve"], r["mean_curve_reference"]),
                "–" if untold else saving(r["saved"], r["saved_low"], r["saved_high"]),
                "–" if untold else speed(r["speed_up"], r["speed_up_low"], r["speed_up_high"]),
                unreached,
            ]
        )
        if not untold and (early := _early(r)):
            marks |= {(place, 3): early, (place, 4): early}
    columns = [
        *("strategy", f"to reach (of {reference}'s rise)", f"mean curves: {unit} needed (by {reference})"),
        *(f"{unit} saved [interval]", "speed-up [interval]", "seeds not reaching"),
    ]
    if not (table["told"] & (table["share"] != LAST)).any():  # nothing but dashes
        columns, rows = columns[:3] + columns[5:], [row[:3] + row[5:] for row in rows]
    early_notes = {
        "≥": "≥ A strategy's seeds were at the target with their first labels: it saves at least so much.",
        "≤": f"≤ {reference}'s seeds were at the target with their first labels: at most so much is saved.",
        "‡": "‡ Seeds of both were at the target with their first labels, so how much is saved is not known.",
    }
    chance = [
        "Labels saved and speed-ups are left out, since the rise that the values lie in may be chance: "
        "the CSV has what comes out."
    ]
    notes = [
        *([] if table["told"].all() else chance),
        f"Targets lie within the rise of {reference}'s mean curve, from its first to its last value; at its last value "
        f"itself about half of {reference}'s own seeds never arrive, so only the mean curves are compared there, as "
        "papers do by eye. Savings and speed-ups are paired by seed: means, or medians with intervals of order "
        "statistics as soon as a seed did not arrive, since “more than was tried” is no number. Intervals are "
        "95\u202f%; “no interval”: order statistics give a median none below six seeds, and none where too few seeds "
        "arrived; “no estimate”: neither side arrived in so many seeds that the median itself is unknown.",
        *(early_notes[mark] for mark in early_notes if mark in marks.values()),
    ]
    if unit == "annotations":
        notes.append(
            "Counted in annotated objects or joints: a strategy that picks crowded samples pays for them here."
        )
    return Table(
        title=f"Label efficiency in {unit}",
        columns=columns,
        rows=rows,
        notes=notes,
        data=data,
        swatches=[(styles[s].colour, styles[s].glyph) for s in table["strategy"]],
        folded=unit != "labels",
        marks=marks,
    )


def _curves(ours: float, theirs: float) -> str:
    """'1,200 (2,000)'; words for a mean curve that ends below."""
    written = ["–" if np.isnan(v) else "not reached" if np.isinf(v) else f"{v:,.0f}" for v in (ours, theirs)]
    return f"{written[0]} ({written[1]})"


def saving(mean: float, low: float, high: float) -> str:
    """Labels saved in words and numbers; no infinity is printed.

    >>> saving(120.0, -30.0, 270.0), saving(120.0, 20.0, np.inf), saving(-np.inf, -np.inf, -40.0)
    ('+120 [−30,\xa0+270]', '+120 (at least +20)', 'not reached (at most −40)')
    >>> saving(0.52, -0.23, 1.27), saving(9.0, -np.inf, np.inf)
    ('+0.5 [−0.2,\xa0+1.3]', '+9 (no interval)')
    """
    ends = np.abs([mean, low, high])
    digits = 1 if ends[np.isfinite(ends)].max(initial=0) < 4.95 else 0

    def write(value: float) -> str:
        return f"{value:+,.{digits}f}".replace("-", "−") if round(value, digits) else "0"

    return _said(mean, low, high, write)


def speed(mean: float, low: float, high: float) -> str:
    """A ratio of labels needed likewise: a strategy that never arrives has 0, against a reference that does not ∞.

    >>> speed(1.5, 1.2, 1.9), speed(0.0, 0.0, 0.8), speed(np.nan, 0.0, np.inf)
    ('1.50× [1.20×,\xa01.90×]', 'not reached (at most 0.80×)', 'no estimate')
    """
    with np.errstate(divide="ignore"):
        a, b, c = (float(np.log(value)) for value in (mean, low, high))
    return _said(a, b, c, lambda v: f"{np.exp(v):.2f}×")


def _said(mean: float, low: float, high: float, write: Callable[[float], str]) -> str:
    start = diagrams.reached(mean) or write(mean)
    if np.isinf([low, high]).all() and np.isfinite(mean):
        return f"{start} ({diagrams.NO_INTERVAL})"
    if np.isnan([low, high]).any() or np.isinf([low, high]).all():
        return start
    if np.isinf(low):
        return f"{start} (at most {write(high)})"
    return f"{start} (at least {write(low)})" if np.isinf(high) else f"{start} [{write(low)},\u00a0{write(high)}]"
