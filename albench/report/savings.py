"""Label efficiency: what strategies need for values that the reference reaches, in labels, annotations or money."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from albench.analysis.efficiency import SHARES, costs_from, efficiency, target_at, targets_within
from albench.report import diagrams
from albench.report.blocks import Block, Folder, Table, Text
from albench.report.evidence import Styles, wide
from albench.report.runs import Run
from albench.report.tables import against, number
from albench.report.words import listed

FEW = 8  # strategies, beyond which the figure shows one target instead of all
LAST = 1.0  # the "share" of the reference's own mean final value


def label_efficiency(runs: list[Run], task: str, styles: Styles, folder: Folder, name: str) -> list[Block]:
    """What a strategy needs for values within the reference's rise: in labels, annotations, the suite's price."""
    found: dict[str, list[pd.DataFrame]] = {}
    blocks: list[Block] = []
    for run in runs:
        results, metric = run.primary(task), run.tasks[task]["metric"]
        comparable = results["strategy"].nunique() > 1 and results["labelled"].nunique() > 1
        if not comparable or run.reference not in set(results["strategy"]):
            continue
        targets = targets_within(results, metric, run.reference, run.suite.get("efficiency", SHARES))
        if not targets:
            text = (
                f"The mean curve of {run.reference} does not rise, so labels saved in reaching its values cannot be "
                "measured; the training may be too short."
            )
            blocks.append(Text(text))
            continue
        targets[LAST] = target_at(results, metric, run.reference)
        for unit, cost in _costs(run, task).items():
            table = efficiency(results, metric, run.reference, list(targets.values()), cost=cost)
            share = table["target"].map({value: share for share, value in targets.items()})
            found.setdefault(unit, []).append(table.assign(share=share, reference=run.reference))
    for unit, parts in found.items():
        table = pd.concat(parts)
        order = {strategy: place for place, strategy in enumerate(styles)}
        table = table.sort_values(["share", "strategy"], key=lambda c: c.map(order) if c.name == "strategy" else c)
        saved = folder.csv(table, f"efficiency-{slugged(unit)}-{name}")
        if unit == "labels":
            budget = max(float(np.ptp(run.primary(task)["labelled"])) for run in runs if len(run.primary(task)))
            blocks += _figure(table, styles, budget, task, folder, name, saved)
        blocks.append(_table(table, styles, unit, saved))
    return blocks


def _costs(run: Run, task: str) -> dict[str, pd.DataFrame | None]:
    """Unit → cumulative costs per stage; None for plain labels. Annotations only where a sample may hold several."""
    units: dict[str, pd.DataFrame | None] = {"labels": None}
    labels = run.rows("labels", task)
    if labels.empty:
        return units
    counted = costs_from(labels)
    if not np.allclose(counted["value"], counted["labelled"]):
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
) -> list[Block]:
    """Nothing where no line of it would hold anything."""
    inside = table[table["share"] < LAST]
    shares = sorted(inside["share"].unique())
    if inside["strategy"].nunique() > FEW:
        shares = [shares[len(shares) // 2]]
    reference = against(table)
    drawn = inside[inside["share"].isin(shares)].rename(
        columns={"saved": "mean", "saved_low": "low", "saved_high": "high"}
    )
    if all(diagrams.reached(*row) == diagrams.NO_ESTIMATE for row in drawn[["mean", "low", "high"]].to_numpy(float)):
        return []
    bounded = " with 95\u202f% intervals," * bool(drawn["low"].notna().any())
    drawn = drawn.assign(task=[_goal(*pair) for pair in zip(drawn["share"], drawn["target"], strict=True)])
    picture = folder.picture(
        wide(diagrams.efficiency, drawn, styles, f"labels saved against {reference}", budget),
        f"efficiency-{name}",
        "Labels saved",
        alt=f"Labels saved by each strategy on {task} in reaching {listed(list(drawn['task'].unique()))}.",
        caption=f"Labels that a strategy needs less (right) or more (left) than {reference} for values that "
        f"{reference}'s mean curve reaches within its rise,{bounded} on monotone curves, paired by seed. "
        f"In brackets: which part of {reference}'s rise that is. The axis ends at all labels that were "
        "bought after the first at the latest; an open arrow: not reached, or the interval goes on beyond.",
        data=data,
        column=True,
    )
    return [picture]


def _goal(share: float, target: float) -> str:
    """'0.4730 (75 %)'."""
    written = "final" if share == LAST else f"{share:.0%}".replace("%", "\u202f%")
    return f"{number(target)}\u00a0({written})"


def _table(table: pd.DataFrame, styles: Styles, unit: str, data: str) -> Table:
    reference = against(table)
    rows = []
    for r in table.to_dict("records"):
        last = r["share"] == LAST  # about half of the reference's own seeds end below it: only the mean curves say much
        unreached = f"{r['not_reached']} of {r['pairs']}" + (
            f" ({reference}: {r['not_reached_reference']})" if r["not_reached_reference"] else ""
        )
        rows.append(
            [
                styles[r["strategy"]].name,
                _goal(r["share"], r["target"]),
                _curves(r["mean_curve"], r["mean_curve_reference"]),
                "–" if last else saving(r["saved"], r["saved_low"], r["saved_high"]),
                "–" if last else speed(r["speed_up"], r["speed_up_low"], r["speed_up_high"]),
                unreached,
            ]
        )
    notes = [
        f"Targets lie within the rise of {reference}'s mean curve, from its first to its last value; at its last value "
        f"itself about half of {reference}'s own seeds never arrive, so only the mean curves are compared there, as "
        "papers do by eye. Savings and speed-ups are paired by seed: means, or medians with intervals of order "
        "statistics as soon as a seed did not arrive, since “more than was tried” is no number. Intervals are "
        "95\u202f%; “no estimate”: it has no end on either side."
    ]
    if unit == "annotations":
        notes.append(
            "Counted in annotated objects or joints: a strategy that picks crowded samples pays for them here."
        )
    return Table(
        title=f"Label efficiency in {unit}",
        columns=[
            *("strategy", f"to reach (of {reference}'s rise)", f"mean curves: {unit} needed (by {reference})"),
            *(f"{unit} saved [interval]", "speed-up [interval]", "seeds not reaching"),
        ],
        rows=rows,
        notes=notes,
        data=data,
        swatches=[(styles[s].colour, styles[s].glyph) for s in table["strategy"]],
        folded=unit != "labels",
    )


def _curves(ours: float, theirs: float) -> str:
    """'1,200 (2,000)'; words for a mean curve that ends below."""
    written = ["–" if np.isnan(v) else "not reached" if np.isinf(v) else f"{v:,.0f}" for v in (ours, theirs)]
    return f"{written[0]} ({written[1]})"


def saving(mean: float, low: float, high: float) -> str:
    """Labels saved in words and numbers; no infinity is printed.

    >>> saving(120.0, -30.0, 270.0), saving(120.0, 20.0, np.inf), saving(-np.inf, -np.inf, -40.0)
    ('+120 [−30,\xa0+270]', '+120 (at least +20)', 'not reached (at most −40)')
    """
    return _said(mean, low, high, lambda v: f"{v:+,.0f}".replace("-", "−"))


def speed(mean: float, low: float, high: float) -> str:
    """A ratio of labels needed likewise: a strategy that never arrives has 0, against a reference that does not ∞.

    >>> speed(1.5, 1.2, 1.9), speed(0.0, 0.0, 0.8), speed(np.nan, 0.0, np.inf)
    ('1.50× [1.20×,\xa01.90×]', 'not reached (at most 0.80×)', 'no estimate')
    """
    with np.errstate(divide="ignore"):
        a, b, c = (float(np.log(value)) for value in (mean, low, high))
    return _said(a, b, c, lambda v: f"{np.exp(v):.2f}×")


def _said(mean: float, low: float, high: float, write: Callable[[float], str]) -> str:
    start = diagrams.reached(mean, low, high) or write(mean)
    if np.isnan([low, high]).any() or np.isinf([low, high]).all():
        return start
    if np.isinf(low):
        return f"{start} (at most {write(high)})"
    return f"{start} (at least {write(low)})" if np.isinf(high) else f"{start} [{write(low)},\u00a0{write(high)}]"
