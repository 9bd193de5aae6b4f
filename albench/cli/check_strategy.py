"""`albench check-strategy NAME|FILE`: the contract suite on a strategy, task by task."""

from pathlib import Path

import click


@click.command("check-strategy")
@click.argument("strategy", metavar="NAME|FILE")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE", help="A Python file to load first.")
@click.pass_context
def command(context: click.Context, strategy: str, plugins: tuple[str, ...]) -> None:
    """Try a registered strategy, or all that a Python file registers, on a miniature of every task.

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
        for finding in check_everywhere(name):
            failed += finding.passed is False
            mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[finding.passed]
            text = f": {finding.text}" if finding.text else ""
            console.print(Text.assemble((f"  {mark} ", style), f"{finding.task} · {finding.check}{text}"))
    console.print("Every check passes." if not failed else f"{failed} checks failed.")
    context.exit(1 if failed else 0)
