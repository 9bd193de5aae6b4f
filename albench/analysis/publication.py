"""What a suite says of a publication: which curves stand beside a task's own, and its settings by name."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from albench.errors import AlbenchError, did_you_mean


class Published(BaseModel):
    """[tasks.LABEL.published]: which published curves are this task's, and whose protocol it follows.

    file: a bundled name ("ll4al") or a CSV of the same columns. task, metric: values of its columns of these names
    (default: the suite's label; the only metric there). measured: the metric of this task that is the published one
    (default: the task's own). strategies: label in this suite → strategy in the file; equal names need no line.
    ranking: strategy in this suite → the ranking accuracy that was published for it, as a share.
    protocol: the bundled suite that writes the publication's protocol down (default: none), and protocol_task, its
    label there (default: as here).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    task: str | None = None
    metric: str | None = None
    measured: str | None = None
    strategies: dict[str, str] = {}
    ranking: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    protocol: str | None = None
    protocol_task: str | None = None

    def resolved(self, label: str, metric: str) -> "Published":
        """With the defaults written out, for a task of a label and metric.

        Raises:
            AlbenchError: the file cannot be read, or holds no such task, metric or strategy.
        """
        from albench.analysis.published import of, read  # with pandas and scipy, which a run needs for nothing else

        task = self.task or label
        rows = of(read(self.file), task, self.metric)
        there = list(rows["strategy"].unique())
        for name in self.strategies.values():
            if name not in there:
                raise AlbenchError(
                    f"published: {self.file} has no strategy {name!r} for {task!r}.{did_you_mean(name, there)} "
                    f"There are: {', '.join(there)}"
                )
        defaults = {"task": task, "metric": str(rows["metric"].iloc[0]), "measured": self.measured or metric}
        if self.protocol:
            defaults["protocol_task"] = self.protocol_task or label
        return self.model_copy(update=defaults)


def settings(suite: dict, task: str) -> dict[str, Any]:
    """Every setting of a resolved suite (dumped) by its key path; a task's begin inside its own table.

    >>> settings({"stages": 5, "tasks": {"digits": {"params": {"pad": 1}}}}, "digits")
    {'stages': 5, 'params': {'pad': 1}, 'params.pad': 1}
    """
    general = {key: value for key, value in suite.items() if key != "tasks"}
    return _paths(general) | _paths({k: v for k, v in suite["tasks"][task].items() if k != "uncertain"})


def _paths(table: dict, above: str = "") -> dict[str, Any]:
    found = {}
    for key, value in table.items():
        found[f"{above}{key}"] = value
        if isinstance(value, dict):
            found |= _paths(value, f"{above}{key}.")
    return found
