"""Commands `workers` and `abort`: what the broker knows, and what it can end.

Knows the broker's client and how to print its answers.
"""

from __future__ import annotations

from contextlib import closing

import click

from quakegrid import errors, fleet, jobs
from quakegrid.cli import cluster, fleet_commands, options, status, workers_debug


@click.group()
def workers() -> None:
    """Show, start, stop, restart and wait for the cluster's nodes."""


for _command in fleet_commands.COMMANDS:
    workers.add_command(_command)


workers.add_command(workers_debug.debug)


@workers.command("status")
@click.option(
    "--output",
    type=click.Choice(["table", "json", "quiet", "oq"]),
    default="table",
    show_default=True,
    help="json: complete and stable, for scripts; oq: as `oq workers status` prints it.",
)
def workers_status(output: str) -> None:
    """Show the nodes, their cores, workers and running tasks."""
    with closing(fleet.BrokerClient(options.cluster_settings())) as broker:
        found = broker.status()
    if output == "oq":
        nodes = [node for node in found.nodes if node.is_up]
        click.echo(repr([(node.host, node.running_count, node.core_count) for node in nodes]))
    else:
        status.print_nodes(output, found)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True, type=int)
def abort(job_ids: tuple[int, ...]) -> None:
    """Abort jobs, wherever they run.

    Seconds later none of their processes is left, and their status is `aborted`. A negative ID is
    the nth last job.
    """
    settings = options.cluster_settings()
    failed = 0
    with closing(fleet.BrokerClient(settings)) as broker, jobs.DbClient(settings) as database:
        for number in job_ids:
            try:
                job_id = database.get_job(number).id  # negative: the nth last
                was_running = broker.abort_job(job_id)
            except (errors.NotFoundError, errors.StateError) as exc:
                cluster.say(f"quakegrid: {exc}")
                failed += 1
                continue
            cluster.say(f"job {job_id} aborted" if was_running else f"job {job_id} was not running")
    if failed:
        click.get_current_context().exit(1)
