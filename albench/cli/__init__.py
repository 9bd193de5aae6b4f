"""The command line: one file a command, each loaded when it is asked for.

Exit codes: 0 done, 2 something the user can mend (one line, "Error: …"), 130 interrupted. A command may add its own.
"""

import atexit
import gc
from importlib import import_module
from typing import Any

import click

from albench import __version__
from albench.errors import AlbenchError, did_you_mean

# name → (module, what `albench --help` says). The text lives here because importing a command may import torch.
COMMANDS = {
    "run": ("albench.cli.run", "Run a suite: every task × strategy × seed, stage by stage; resumes what is there."),
    "tune": ("albench.cli.tune", "Choose a recipe on random selection's first labels alone."),
    "report": ("albench.cli.report", "Write the page, figures and tables of one or several runs."),
    "compare": ("albench.cli.compare", "Say what changed between two runs, and whether it is more than seed noise."),
    "power": ("albench.cli.power", "Say how many seeds the primary test needs for an effect."),
    "status": ("albench.cli.status", "Show what is done, running, failed and waiting, from any terminal."),
    "doctor": ("albench.cli.doctor", "Check that a run folder is sound; set bad records aside with --repair."),
    "verify": ("albench.cli.verify", "Repeat some finished stages and compare them with their records."),
    "list": ("albench.cli.list", "Show the tasks, strategies and suites there are."),
    "data": ("albench.cli.data", "List, check and fetch the data of tasks."),
    "check-strategy": ("albench.cli.check_strategy", "Check that a strategy keeps the contract, on every task."),
    "new-strategy": ("albench.cli.new_strategy", "Write a commented strategy file with its test, to start from."),
}


class UserError(click.ClickException):
    """An AlbenchError on its way to the terminal."""

    exit_code = 2


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they run, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # not list(…): here that name becomes the submodule albench.cli.list

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return import_module(COMMANDS[cmd_name][0]).command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            hint = did_you_mean(name, [*COMMANDS])
            ctx.fail(f"there is no command {name!r}.{hint} There are: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AlbenchError as error:
            raise UserError(str(error)) from error
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="albench")
def main() -> None:
    """Compare active-learning strategies on classification, pose estimation and detection: fair, fast, repeatable.

    Start with `albench run quick`; SUITE is a bundled name (`albench list suites`) or a TOML file.
    """
    atexit.register(gc.freeze)  # a process that ends need not look for garbage: 1.3 s of a report of 10,000 trials
