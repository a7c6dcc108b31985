"""Command `agentctl doctor`: what would break or slow calculations on this node."""

from __future__ import annotations

import click

from quakegrid.cli import doctor as printing
from quakegrid.cli import options


@click.command()
@options.state_dir_option
@printing.all_option
@options.output_option
def doctor(shows_all: bool, output: str) -> None:
    """Find what would break or slow calculations on this node.

    The agent looks, since its limits count; if it does not answer this command does. Each finding says what
    it breaks and how to mend it. Exit code 1 if anything would make a calculation fail, or keep this node
    out of it. `quakegrid doctor`, on the master node, asks all nodes and compares them.
    """
    from quakegrid.doctor import visits  # noqa: PLC0415 - `--help` needs no gRPC

    with printing.shown_progress() as progress:
        progress("looking at this machine")
        findings = visits.examine_here(options.settings())
    printing.finish(findings, output, shows_all=shows_all)
