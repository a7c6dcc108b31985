"""Command `oq`: hands its arguments, untouched, to the engine's own command line in a warm driver.

Does not read the arguments, not even `--help`.
"""

from __future__ import annotations

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.clients import drivers


class Untouched(click.Command):
    """A command that takes every argument as it stands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments; parse none."""
        ctx.params["args"] = tuple(args)
        return []


@click.command(cls=Untouched, add_help_option=False, options_metavar="ARGS...")
def oq(args: tuple[str, ...]) -> None:
    """Run any command of the OpenQuake engine, unchanged.

    `quakegrid oq engine --run job.ini` is `oq engine --run job.ini` on this cluster, in an engine that is
    loaded already. All arguments go to the engine, `--help` too: `quakegrid oq engine --help`.
    """
    ctx = click.get_current_context()
    try:
        code = drivers.run_driver(options.machine_settings(), args, mode="oq")
    except errors.PeerUnreachableError:
        if args not in {("--help",), ("-h",)}:
            raise
        click.echo(ctx.get_help())
        code = 0
    ctx.exit(code)
