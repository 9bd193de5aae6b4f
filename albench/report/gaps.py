"""What a report cannot show: failed and unfinished trials, and outcomes that were not resampled."""

from albench.report.blocks import Block, Section, Table, Text
from albench.report.runs import Run, Unfinished
from albench.report.tables import facts_table
from albench.report.words import listed, ranges

NAMED = 12  # failed trials that are listed for one error; the run folder has all


def gaps(runs: list[Run], missing: dict[str, list[Unfinished]], unsampled: list[str]) -> list[Section]:
    """Failed and unfinished trials, and outcomes that were not resampled, where there are any."""
    blocks: list[Block] = []
    for run in runs:
        prefix = f"{run.name}: " if len(runs) > 1 else ""
        if run.failures:
            blocks.append(facts_table(f"{prefix}failed trials", _failed(run.failures)))
        if missing[run.name]:
            blocks.append(_unfinished(missing[run.name], f"{prefix}not finished", run.suite["stages"]))
    if unsampled:
        start = "Intervals for another test set are missing or rest on less: "
        blocks.append(Text(start + "; ".join(unsampled).rstrip(".") + "."))
    return [Section("What is missing", "missing", blocks)] if blocks else []


def _failed(failures: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Trials that failed by the same error together, with that error."""
    alike: dict[str, list[str]] = {}
    for failure in failures:
        alike.setdefault(failure["error"], []).append(failure["trial"])
    rows = []
    for error, trials in alike.items():
        more = f" and {len(trials) - NAMED} more" if len(trials) > NAMED else ""
        start = f"{len(trials):,} trials: " if len(trials) > 1 else ""
        rows.append((start + ", ".join(trials[:NAMED]) + more, error))
    return rows


def _unfinished(trials: list[Unfinished], title: str, stages: int) -> Table:
    """A row per task and number of stages done: strategies by their seeds, those with the same seeds together."""
    rows: dict[tuple[str, int], dict[str, list[int]]] = {}
    for trial in trials:
        rows.setdefault((trial.task, trial.stages), {}).setdefault(trial.strategy, []).append(trial.seed)
    cells = []
    for (task, done), strategies in rows.items():
        alike: dict[tuple[int, ...], list[str]] = {}
        for strategy, seeds in strategies.items():
            alike.setdefault(tuple(seeds), []).append(strategy)
        which = "; ".join(f"{listed(names)} ({ranges(seeds)})" for seeds, names in alike.items())
        cells.append([task, f"{done} of {stages}", which])
    return Table(title, ["task", "stages done", "strategies (seeds)"], cells, numeric=False)
