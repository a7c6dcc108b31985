"""Command `agentctl doctor`: causes for calculations on this node to fail or be slow."""

from __future__ import annotations

import click

from quakegrid.cli import doctor as printing
from quakegrid.cli import options


@click.command()
@options.state_dir_option
@printing.all_option
@options.output_option
def doctor(shows_all: bool, output: str) -> None:
    """Find causes for calculations on this node to fail or be slow.

    The agent examines the node, since its limits apply to workers. If the agent does not answer, this command
    examines the node itself. Each finding tells its effect and how to fix it. The exit code is 1 if a
    calculation would fail, or this node would be left out of it. `quakegrid doctor`, on the master node, asks
    all nodes and compares them.
    """
    from quakegrid.doctor import visits  # noqa: PLC0415 - `--help` needs no gRPC
    from quakegrid.settings import config  # noqa: PLC0415 - as above

    with printing.shown_progress() as progress:
        progress("looking at this machine")
        findings = visits.examine_here(config.load_node_settings(options.state_dir()))
    printing.finish(findings, output, shows_all=shows_all)
