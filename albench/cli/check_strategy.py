"""`albench check-strategy NAME|FILE`: the contract suite on a strategy, task by task."""

from itertools import groupby
from pathlib import Path
from typing import Any

import click


@click.command("check-strategy")
@click.argument("strategy", metavar="NAME|FILE")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE", help="A Python file to load first.")
@click.option("--verbose", is_flag=True, help="A line for every check, not only for those that fail.")
@click.pass_context
def command(context: click.Context, strategy: str, plugins: tuple[str, ...], verbose: bool) -> None:
    """Try a registered strategy, or all that a Python file registers, on a miniature of every task.

    A line a task, and one for each check that fails.

    Exit codes: 0 every check passes, 1 some fail, 2 there is no such strategy or file.
    """
    import torch
    from rich.console import Console
    from rich.text import Text

    from albench import registry
    from albench.checking import check_everywhere
    from albench.errors import AlbenchError

    torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other
    console = Console(highlight=False, soft_wrap=True)
    for file in plugins:
        registry.load_plugin(file)
    names = [strategy]
    if strategy.endswith(".py") or Path(strategy).is_file():
        names = registry.load_plugin(strategy)
        if not names:
            raise AlbenchError(
                f'{strategy} registers no strategy; put @albench.register_strategy("name") above the class'
            )
    failed = 0
    for name in names:
        console.print(Text(registry.strategies.resolve(name), style="bold"))
        for task, found in groupby(check_everywhere(name), lambda finding: finding.task):
            findings = []
            for finding in found:
                findings.append(finding)
                failed += finding.passed is False
                if verbose or finding.passed is False:
                    console.print(_line(finding))
            if not verbose and all(finding.passed is not False for finding in findings):
                console.print(_summary(task, findings))
    console.print("Every check passes." if not failed else f"{failed} check{'s' if failed > 1 else ''} failed.")
    context.exit(1 if failed else 0)


def _line(finding: Any) -> Any:
    """A check with its mark."""
    from rich.text import Text

    text = f": {finding.text}" if finding.text else ""
    return Text.assemble(_mark(finding.passed), f"{finding.task} · {finding.check}{text}")


def _summary(task: str, findings: list[Any]) -> Any:
    """'✓ digits: 10 checks pass (order: it draws at random)', with why others do not apply."""
    from rich.text import Text

    passed = sum(finding.passed is True for finding in findings)
    others = "; ".join(f"{f.check}: {f.text}" if f.check != "defined" else f.text for f in findings if f.passed is None)
    if not passed:
        return Text.assemble(_mark(None), f"{task}: {others}")
    said = f"{task}: {passed} {'check passes' if passed == 1 else 'checks pass'}"
    return Text.assemble(_mark(True), said + (f" ({others})" if others else ""))


def _mark(passed: bool | None) -> tuple[str, str]:
    mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[passed]
    return f"  {mark} ", style
