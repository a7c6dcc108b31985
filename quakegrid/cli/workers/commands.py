"""Commands `workers ...`: show the nodes of the cluster, and tell all of them what to do.

The commands have upstream's names, but workers are forked on request: a node that serves gives workers to any
session that needs them, a node that is stopped gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import click

from quakegrid import errors
from quakegrid.cli import options, status
from quakegrid.cli.shell.groups import CommandGroup
from quakegrid.cli.views import render
from quakegrid.cli.workers.debug import debug
from quakegrid.clients import broker as fleet
from quakegrid.clients import fleet_control
from quakegrid.clients.fleet_control import FleetControl, NodeAnswer


@click.group(cls=CommandGroup)
def workers() -> None:
    """Show, start, stop, restart and wait for the cluster's nodes."""


workers.add_command(debug)


@workers.command()
@options.output_option
def start(output: str) -> None:
    """Let every node serve.

    Each serves as many cores as before it was stopped. No workers wait for work: they are forked when a job
    needs them.
    """
    with FleetControl(options.cluster_settings()) as control:
        answers = control.start()
        for answer in answers:
            if answer.is_reached:
                verb = "serves already" if answer.was_serving else "serves"
                render.say(f"{answer.host}: {answer.node} {verb}")
        _report(control, answers, output)


@workers.command()
@click.option("--no-wait", is_flag=True, help="Do not wait until the workers have ended.")
@options.output_option
def stop(no_wait: bool, output: str) -> None:
    """Let no node serve: workers end after their tasks.

    Nothing is lost: jobs wait until `workers start`. A node stays stopped when its agent is started again,
    but not after `quakegrid up`.
    """
    with FleetControl(options.cluster_settings()) as control:
        answers = control.stop(is_forced=False)
        if not no_wait:
            _drain(control, answers)
        _report(control, answers, output)


@workers.command()
@options.output_option
def kill(output: str) -> None:
    """Let no node serve, and kill every worker at once.

    What they ran is run again after `workers start`. To end a job, use `quakegrid abort`.
    """
    with FleetControl(options.cluster_settings()) as control:
        answers = control.stop(is_forced=True)
        _drain(control, answers)
        _report(control, answers, output)


@workers.command()
@click.option("--force", is_flag=True, help="Kill the workers instead of letting them end their tasks.")
@options.output_option
def restart(force: bool, output: str) -> None:
    """Give every node fresh workers and a fresh template.

    Workers end after their tasks, the template is loaded anew, the node serves again.
    """
    with FleetControl(options.cluster_settings()) as control:
        answers = control.restart(is_forced=force)
        _drain(control, answers)
        _report(control, answers, output)


@workers.command()
@click.option("--any", "any_node", is_flag=True, help="Wait for one node only.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=fleet_control.WAIT_S,
    show_default=True,
)
@options.output_option
def wait(any_node: bool, timeout_s: float, output: str) -> None:
    """Wait until all nodes can start workers.

    Ends with exit code 3 if they cannot in time, and says why.
    """
    with FleetControl(options.cluster_settings()) as control:
        control.wait_until_up(timeout_s, any_node=any_node)
        status.print_nodes(output, control.status())


@workers.command()
@click.argument("node")
@options.output_option
def forget(node: str, output: str) -> None:
    """Forget a NODE that joined and is gone for good.

    One that comes back joins again by itself; a node that lives leaves by `agentctl leave`.
    """
    with FleetControl(options.cluster_settings()) as control:
        host = control.forget(node)
        render.say(f"{host} is forgotten")
        status.print_nodes(output, control.status())


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


def _drain(control: FleetControl, answers: Sequence[NodeAnswer]) -> None:
    def tell(count: int) -> None:
        if count:
            workers = "1 worker has" if count == 1 else f"{count} workers have"
            render.say(f"waiting: {workers} to end, after the task at hand")

    control.wait_until_drained(answers, tell)


def _report(control: FleetControl, answers: Sequence[NodeAnswer], output: str) -> None:
    """Print the nodes as they are now.

    Raises:
        PeerUnreachableError: some nodes did not get the order.
    """
    status.print_nodes(output, control.status())
    missing = [answer.host for answer in answers if not answer.is_reached]
    if missing:
        raise errors.PeerUnreachableError(
            f"not reached, and so not told: {', '.join(missing)}; `quakegrid workers status` says why"
        )
