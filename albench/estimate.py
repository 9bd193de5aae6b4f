"""What a suite will cost on this machine, from a few measured steps of each network, before anything starts."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from rich.table import Table

from albench import manifest, training
from albench.cycle import Plan, initial_set
from albench.devices import default_jobs, pick_device
from albench.evaluation import measured
from albench.memory import peak_memory, reset_peak_memory
from albench.observing import observe
from albench.recipe import Recipe
from albench.store import CEILING, Trial
from albench.strategy import Strategy
from albench.suite import Suite, companion_params, resolve, twins
from albench.training import Setup
from albench.worker import Run, trial_run

ENOUGH = 3.0  # seconds that one measurement should take; big networks take a few steps whatever they cost
STEPS = (3, 60)  # fewest and most training steps of a measurement; the first half of them warms up
PLAIN = ""  # the kind of a training without a companion
WARM = 8  # steps on a GPU before anything is measured: kernels are chosen there, graphs compiled


@dataclass(frozen=True)
class Estimate:
    """One task's part of a suite. Seconds are those of one worker; selection itself (k-center, say) is not in them.

    trainings counts what strategies share once (a stage 0, a replay). step: seconds of a training step, with the
    costliest companion. compile: what it takes to compile the networks' steps, once a worker. memory: bytes, as
    `memory.peak_memory` has it. disk: bytes of the weights and outcomes that stay. jobs: how many
    trials run at once here unless one says otherwise.
    """

    task: str
    trials: int
    trainings: int
    steps: int
    step: float
    train: float
    evaluate: float
    observe: float
    compile: float
    memory: int
    disk: int
    jobs: int

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.train + self.evaluate + self.observe + self.compile


@dataclass(frozen=True)
class _Cost:
    """What was measured of one network with its companion (or none): seconds, and bytes."""

    step: float
    compile: float
    measure: float  # of a sample
    weights: int
    outcomes: float  # of a sample


def estimate(run: Run) -> list[Estimate]:
    """Every task of a suite that is not resolved yet; its data are loaded, and nothing is written.

    Raises:
        AlbenchError: what would stop the run: wrong names, missing data, a plan that does not fit, too little memory.
    """
    device = pick_device(run.device)
    run = replace(run, suite=resolve(run.suite, device), device=device)
    with run.suite.numerics.in_force():
        return [_task(run, label) for label in run.suite.tasks]


def _task(run: Run, label: str) -> Estimate:
    suite, plan = run.suite, run.plan(label)
    trials = {name: trial_run(run, Trial(label, name, 0), "") for name in suite.strategies}
    whole = trial_run(run, Trial(label, CEILING, 0), "").setup
    manifest.task_facts(label, suite.tasks[label], whole.task, whole.data, plan)
    reset_peak_memory(whole.device)
    setups = {_kind(suite, label, name): trial.setup for name, trial in trials.items()}
    setups |= {PLAIN: whole} if suite.ceiling else {}
    costs = {kind: _cost(setup, plan) for kind, setup in setups.items()}
    planned = _trainings(suite, label, plan) + [(PLAIN, len(whole.data.pool))] * suite.ceiling
    trainings = [(costs[kind], whole.recipe.length(labelled)) for kind, labelled in planned]
    seen = [_observing(t.setup, t.strategy(), plan) for t in trials.values()]
    # of a trial the weights of the first stage, which strategies share, and of the last one stay
    ends = {plan.labelled(0), plan.labelled(plan.stages - 1), len(whole.data.pool)}
    kept = sum(costs[kind].weights for kind, labelled in planned if labelled in ends)
    test = len(whole.data.test)
    return Estimate(
        task=label,
        trials=_trials(suite),
        trainings=len(trainings),
        steps=sum(steps for _, steps in trainings),
        step=max(cost.step for cost in costs.values()),
        train=sum(steps * cost.step for cost, steps in trainings),
        evaluate=sum(test * cost.measure for cost, _ in trainings),
        observe=suite.seeds * sum(seen),
        compile=sum(cost.compile for cost in costs.values()),
        memory=peak_memory(whole.device),
        disk=round(kept + sum(test * cost.outcomes for cost, _ in trainings)),
        jobs=default_jobs(run.device, suite.numerics.threads),
    )


def counts(run: Run) -> list[str]:
    """What a suite that is not resolved yet comes to without a look at any data, a line per task.

    Raises:
        AlbenchError: wrong names, or a plan that does not fit.
    """
    suite = resolve(run.suite, pick_device(run.device))
    run = replace(run, suite=suite)
    lines = []
    for label, entry in suite.tasks.items():
        planned = _trainings(suite, label, run.plan(label))
        recipe = Recipe.model_validate(entry.recipe)
        steps = sum(recipe.length(labelled) for _, labelled in planned)
        ceilings = f", and {suite.ceiling} on the whole pool" if suite.ceiling else ""
        lines.append(
            f"{label}: {_trials(suite):,} trials, {len(planned):,} trainings of {steps:,} training steps{ceilings}"
        )
    return lines


def _trials(suite: Suite) -> int:
    return suite.seeds * len(suite.strategies) + suite.ceiling


def _trainings(suite: Suite, label: str, plan: Plan) -> list[tuple[str, int]]:
    """(kind, number of labels) of each training but the ceilings'; what strategies share is there once."""
    kinds = {name: _kind(suite, label, name) for name in suite.strategies}
    begun = [(kind, plan.labelled(0)) for kind in dict.fromkeys(kinds.values())]
    apart = [kind for name, kind in kinds.items() if not _is_shared(suite, name)]
    return (begun + [(kind, plan.labelled(stage)) for kind in apart for stage in range(1, plan.stages)]) * suite.seeds


def _is_shared(suite: Suite, name: str) -> bool:
    """Whether a strategy before this one has all of its trainings."""
    before = list(suite.strategies)[: list(suite.strategies).index(name)]
    return not set(before).isdisjoint(twins(suite, name))


def _kind(suite: Suite, label: str, name: str) -> str:
    """A strategy's companion and its parameters: trainings of one kind are shared where they begin."""
    strategy = suite.strategies[name]
    if strategy.companion is None:
        return PLAIN
    return repr((strategy.companion, sorted(companion_params(suite.tasks[label], strategy).items())))


def _cost(setup: Setup, plan: Plan) -> _Cost:
    """Measured on the first labels: training steps, and the evaluation of test samples."""
    rows = initial_set(setup, plan)
    compiling = _steps(setup, rows, WARM)[1].compiling if setup.device.type == "cuda" else 0.0
    step, fitted = _steps(setup, rows, STEPS[0])
    compiling += fitted.compiling
    if step * STEPS[0] < ENOUGH / 2:
        step, fitted = _steps(setup, rows, min(STEPS[1], int(ENOUGH / step)))
    state = training.state_dict(fitted)
    sizes: list[float] = []

    def measure(count: int) -> None:
        _, outcomes = measured(setup, fitted.model, setup.data.test, torch.arange(count))
        sizes.append(sum(values.nbytes for values in outcomes.values()) / count)

    seconds = _per_sample(measure, _most(setup, len(setup.data.test)), setup.device)
    return _Cost(step, compiling, seconds, sum(t.nbytes for t in state.values()), sizes[-1])


def _steps(setup: Setup, rows: torch.Tensor, count: int) -> tuple[float, training.Fitted]:
    """Seconds of a training step, the first half of `count` left out, and what it trained."""
    ticks: list[float] = []

    def tick(update: int, updates: int) -> None:
        if update in (count // 2, count):  # a GPU is waited for nowhere else: steps are to overlap as in a run
            _wait(setup.device)
            ticks.append(time.perf_counter())

    short = replace(setup, recipe=setup.recipe.merged({"updates": count}))
    fitted, _ = training.fit(short, 0, rows, on_update=tick)
    return (ticks[1] - ticks[0]) / (count - count // 2), fitted


def _observing(setup: Setup, strategy: Strategy, plan: Plan) -> float:
    """Seconds of one trial: candidates (and labelled), and the test set where there is something to diagnose."""
    if not strategy.observes() and (setup.companion is None or not setup.companion.predicts()):
        return 0.0
    fitted, scored = training.build(setup, 0), False

    def look(count: int) -> None:
        nonlocal scored
        _, diagnosis = observe(setup, strategy, fitted, setup.data.pool, torch.arange(count), 0, diagnose=True)
        scored = diagnosis is not None and bool(diagnosis.predicted)

    seconds = _per_sample(look, _most(setup, len(setup.data.pool)), setup.device)
    samples = 0
    for stage in range(plan.stages - 1 if strategy.observes() else 0):
        free = len(setup.data.pool) - plan.labelled(stage)
        samples += min(free, plan.subset) if plan.subset and not strategy.whole_pool else free
        samples += plan.labelled(stage) if strategy.sees_labelled else 0
    return seconds * (samples + plan.stages * len(setup.data.test) * scored)


def _most(setup: Setup, there: int) -> int:
    return min(there, 4 * setup.numerics.scoring_batch)


def _per_sample(work: Callable[[int], None], most: int, device: torch.device) -> float:
    """Seconds a sample, from as few samples as take long enough to be timed."""
    count = min(4, most)
    work(count)  # warms up
    while True:
        if device.type == "cuda":
            work(count)  # for this shape, too
        _wait(device)
        start = time.perf_counter()
        work(count)
        _wait(device)
        took = time.perf_counter() - start
        if took > ENOUGH / 4 or count == most:
            return took / count
        count = min(most, 4 * count)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(estimates: list[Estimate], jobs: int) -> Table:
    """The estimates side by side, for the terminal; the last row divides by the trials that run at once."""
    shown = Table(title="Estimate from a few measured steps", title_justify="left")
    shown.add_column("")
    for part in estimates:
        shown.add_column(part.task, justify="right")
    rows: list[tuple[str, Callable[[Estimate], str]]] = [
        ("trials", lambda e: f"{e.trials:,}"),
        ("trainings (shared ones once)", lambda e: f"{e.trainings:,}"),
        ("training steps", lambda e: f"{e.steps:,}"),
        ("a training step, the costliest", lambda e: f"{1000 * e.step:.3g} ms" if e.step < 1 else f"{e.step:.3g} s"),
        ("training", lambda e: clock(e.train)),
        ("compiling, once a worker", lambda e: clock(e.compile) if e.compile else "–"),
        ("evaluation", lambda e: clock(e.evaluate)),
        ("observing and diagnosing", lambda e: clock(e.observe)),
        ("peak memory of a trial", lambda e: f"{e.memory / 2**30:,.2f} GiB"),
        ("disk", lambda e: f"{e.disk / 2**20:,.0f} MiB"),
        ("all, one trial at a time", lambda e: clock(e.seconds)),
    ]
    for name, cell in rows:
        shown.add_row(name, *(cell(part) for part in estimates))
    total, compiling = sum(part.seconds for part in estimates), sum(part.compile for part in estimates)
    shown.caption = (
        f"Together {clock(total)}; at best {clock(compiling + (total - compiling) / jobs)} with {jobs} trials at once. "
        "What selections take (k-center, say) is not in it."
    )
    shown.caption_justify = "left"
    return shown


def clock(seconds: float) -> str:
    """A duration as people say it.

    >>> [clock(s) for s in (4.2, 90, 4000, 200000)]
    ['4 s', '1.5 min', '1.1 h', '2.3 days']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    for size, unit in ((60, "min"), (3600, "h")):
        if seconds < size * (60 if unit == "min" else 48):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"
