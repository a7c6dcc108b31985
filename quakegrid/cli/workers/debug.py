"""Command `workers debug`: runs a real task on every core of every node, and prints their answers.

`quakegrid.doctor.core_visits` runs the tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quakegrid.cli import doctor, options
from quakegrid.cli.views import render

if TYPE_CHECKING:
    from quakegrid.doctor.core_visits import NodeCores

COLUMNS = {
    "host": "host",
    "node": "node",
    "cores": "cores",
    "round_trip_ms": "trip ms",
    "clock_offset_ms": "clock ms",
    "sees_shared_dir": "shared dir",
    "quakegrid": "quakegrid",
    "engine": "engine",
    "python": "python",
    "numpy": "numpy",
}
# The host is that of the node most often; versions that differ are told below the table, too.
SPARE = ("numpy", "python", "engine", "quakegrid", "node")


@click.command()
@options.state_dir_option
@options.output_option
def debug(output: str) -> None:
    """Run a task on every core of every node, and show what it finds there.

    The tasks go the way of any program's: by a session, a lane and workers of their own. The round trip is
    the shortest of a task and its outcome, without the task itself. Exit code 1 if a core did not answer,
    shared_dir cannot be written to, or versions differ. A node that does not see shared_dir gets files over
    the lane.
    """
    from quakegrid.doctor import core_visits, visits  # noqa: PLC0415 - `--help` needs no gRPC

    settings = options.cluster_settings()
    with doctor.shown_progress() as progress, visits.nonce(settings.shared_dir) as shared:
        nodes, failures = core_visits.visit_cores(settings, shared, progress)
    print_nodes(nodes, failures, output)
    trouble = [f"{node.node}: {text}" for node in nodes for text in node.trouble]
    trouble += [f"shared_dir {shared.path} cannot be written to: {shared.error}"] if shared.error else []
    trouble += [f"a task failed: {text}" for text in dict.fromkeys(failures)]
    for text in trouble:
        render.say(text)
    if trouble:
        click.get_current_context().exit(1)


def print_nodes(nodes: list[NodeCores], failures: list[str], output: str) -> None:
    """Print a row for each node; json has all of it."""
    if output == "json":
        render.print_json({"nodes": nodes, "failures": failures})
    else:
        render.print_listing(output, [_row(node) for node in nodes], COLUMNS, spare=SPARE)


def _row(node: NodeCores) -> dict[str, Any]:
    versions = node.versions
    return {
        "host": node.host,
        "node": node.node,
        "cores": f"{node.reached_count} of {node.core_count}",
        "round_trip_ms": None if node.round_trip_s is None else 1000 * node.round_trip_s,
        "clock_offset_ms": None if node.clock_offset_s is None else 1000 * node.clock_offset_s,
        "sees_shared_dir": node.sees_shared_dir,
        "quakegrid": versions and versions.quakegrid,
        "engine": versions and (versions.engine or None),
        "python": versions and versions.python,
        "numpy": versions and (versions.numpy or None),
    }
