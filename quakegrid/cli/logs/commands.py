"""Command `logs`: the own log of a service of this machine, or of the agent of another node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.logs import places
from quakegrid.cli.views import render
from quakegrid.jobs import terminal_text
from quakegrid.settings import installation

if TYPE_CHECKING:
    from quakegrid.settings.config import Settings


@click.command()
@click.argument("service", type=click.Choice(places.SERVICES))
@click.option("--node", default="", metavar="HOST", help="Of this node, as `quakegrid status` calls it.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    "line_count",
    type=click.IntRange(0, 1_000_000),
    default=100,
    show_default=True,
    metavar="N",
    help="The last N lines.",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON document a line.")
def logs(service: str, node: str, follow: bool, line_count: int, is_json: bool) -> None:
    """Show the own log of a service.

    `drivers` is what the processes of calculations print. A calculation's own log: `quakegrid jobs logs ID`.

    Examples: `quakegrid logs broker -f`, `quakegrid logs agent --node n2 -n 20`
    """
    try:
        for line in (
            _remote(service, node, line_count, follow=follow)
            if node
            else _local(service, line_count, follow=follow)
        ):
            if is_json:
                render.print_json_line({"service": service, "node": node, "line": line})
            else:
                click.echo(terminal_text.one_line(line))
    except KeyboardInterrupt:
        if not follow:
            raise


def _local(service: str, line_count: int, *, follow: bool) -> Iterator[str]:
    """The lines of a service of this machine."""
    from quakegrid.settings import config  # noqa: PLC0415 - not for --help

    state_dir = (options.state_dir() or config.default_state_dir()).absolute()
    found = installation.find()
    if found is not None and found.runs(state_dir, os.environ) and service in places.UNITS:
        yield from _lines(places.in_journal(service, line_count, follow=follow))
        return
    path = state_dir / "logs" / f"{service}.log"
    if not path.is_file():
        raise errors.NotFoundError(f"there is no log of {service} here: {path} is not there")
    if not os.access(path, os.R_OK):
        whose = f"sudo -u {path.owner()} " if path.owner() else ""
        raise errors.NotAllowedError(f"you may not read {path}: `{whose}quakegrid logs {service}` may")
    yield from _lines(places.in_file(path, line_count, follow=follow))


def _lines(command: list[str]) -> Iterator[str]:
    """The output of a command, line by line."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        )
    except FileNotFoundError:
        raise errors.QuakeGridError(f"{command[0]} is not installed on this machine") from None
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield line.rstrip("\n")
        finally:
            process.terminate()
    if process.returncode > 0:
        raise errors.QuakeGridError(f"{command[0]} ended with exit code {process.returncode}")


def _remote(service: str, node: str, line_count: int, *, follow: bool) -> Iterator[str]:
    """The lines of an agent of the cluster, which keeps the last ones in memory."""
    settings = options.cluster_settings()
    if service != "agent":
        raise errors.UsageError(
            f"from here only the log of a node's agent can be read; on {node}: `quakegrid logs {service}`"
        )
    from quakegrid.clients.node_control import NodeControl  # noqa: PLC0415 - not for --help

    with closing(NodeControl(settings, _host(settings, node))) as control:
        yield from control.tail_log(line_count, follow=follow)


def _host(settings: Settings, node: str) -> str:
    """Where the agent of a node is, by any name that `status` shows for it.

    Raises:
        NotFoundError: the cluster has no such node.
    """
    from quakegrid.cli.shell import near_words  # noqa: PLC0415 - not for --help
    from quakegrid.clients.broker import BrokerClient  # noqa: PLC0415 - as above

    with closing(BrokerClient(settings)) as broker:
        nodes = broker.status().nodes
    for each in nodes:
        if node in {each.host, each.node}:
            return each.address.rpartition(":")[0] or each.host
    names = {name for each in nodes for name in (each.host, each.node) if name}
    near = near_words.nearest(node, names)
    hint = f"is {near} meant?" if near else f"there are {', '.join(sorted(names)) or 'none'}"
    raise errors.NotFoundError(f"the cluster has no node {node}; {hint}")
