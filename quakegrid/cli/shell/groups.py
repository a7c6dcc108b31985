"""What groups of commands have in common: a list with whole sentences, a word for one that there is not."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click

# Characters of a command's line in a list; a first sentence is shorter.
_WHOLE = 200


class CommandGroup(click.Group):
    """A group of commands, whose list has the first sentence of each as a whole."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(_WHOLE))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named.

        Raises:
            UsageError: there is none; with what may be meant.
        """
        name = args[0]
        is_option = name.startswith("-")
        if not is_option and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            from quakegrid.cli.shell import near_words  # noqa: PLC0415 - seldom needed

            program = ctx.command_path
            raise click.UsageError(near_words.sentence(name, program, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


def wants_colour(environ: Mapping[str, str] = os.environ) -> bool | None:
    """Whether output may have colours and bold letters: None lets the terminal decide.

    Args:
        environ: `NO_COLOR` (https://no-color.org) and `TERM` are looked up there.
    """
    return False if environ.get("NO_COLOR") or environ.get("TERM") == "dumb" else None
