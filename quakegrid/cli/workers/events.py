"""Command `events`: what happened to the cluster: nodes that came and went, lost workers, ended sessions."""

from __future__ import annotations

from collections.abc import Iterable

import click

from quakegrid.cli import options
from quakegrid.cli.views import render, widths
from quakegrid.clients.happenings.events import EventsClient, FleetEvent

# How long a broker that is started again is waited for.
RETRY_S = 600.0


@click.command()
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="The last N."
)
@click.option("--trouble", is_flag=True, help="Only those at which somebody may have to look.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new events (json: one document a line).")
@options.output_option
def events(limit: int, *, trouble: bool, follow: bool, output: str) -> None:
    """Show what happened to the cluster.

    Nodes that joined, came up, were stopped, lost or left out; workers that were lost; sessions of jobs that
    ended; lanes and brokers that were started again. The broker keeps the last 1000 events, also when it is
    started again.
    """
    with EventsClient(options.cluster_settings(), RETRY_S if follow else 0.0) as client:
        found = client.newest(limit)
        shown = [each for each in found if each.is_trouble or not trouble]
        if follow:
            _print_stream(shown, output)
            later = client.follow(found[-1].id if found else 0)
            _print_stream((each for each in later if each.is_trouble or not trouble), output)
        elif output == "json":
            render.print_json(shown)
        else:
            _print_stream(shown, output)


def _print_stream(found: Iterable[FleetEvent], output: str) -> None:
    for event in found:
        if output == "json":
            render.print_json_line(event)
        elif output == "quiet":
            click.echo(str(event.id))
        else:
            mark = "! " if event.is_trouble else "  "
            click.echo(widths.hanging(f"{render.cell(event.time)} {mark}", render.cell(event.words)))
