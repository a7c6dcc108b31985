"""Command `upgrade --check`: whether what runs is what is installed, here and on all nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click

import quakegrid
from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.checks import upgrade_plan
from quakegrid.cli.checks.upgrade_plan import RunningNode, RunningService
from quakegrid.cli.views import render, widths
from quakegrid.settings import installation
from quakegrid.settings.config import Settings

HOW = (
    "QuakeGrid does not upgrade itself. Install the new version into the same environment (`git pull && make "
    "install`, on an installed machine `make install-system` and `quakegrid install`), on all machines; then "
    "`quakegrid upgrade --check` says what to restart"
)


@click.command()
@click.option("--check", "is_check", is_flag=True, help="Compare what runs with what is installed.")
@options.plain_output_option
def upgrade(is_check: bool, output: str) -> None:
    """Say whether what runs is what is installed, here and on all nodes.

    Example: `quakegrid upgrade --check`

    Ends with exit code 1 if something has to be restarted or upgraded.
    """
    if not is_check:
        raise errors.UsageError(HOW)
    settings = options.cluster_settings()
    nodes, is_busy = _nodes(settings)
    services = [] if settings.credential is not None else list(_services(settings))
    found = upgrade_plan.plan(_installed(), services, nodes, is_busy=is_busy)
    if output == "json":
        render.print_json({"is_done": found.is_done, **render.plain(found)})
    else:
        for line in upgrade_plan.in_words(found, _restart()):
            click.echo(widths.paragraph(line, 4))
    if not found.is_done:
        click.get_current_context().exit(errors.EXIT_FAILED)


def _installed() -> tuple[str, str, float]:
    from quakegrid.nodes import engine_version  # noqa: PLC0415 - not for --help

    code = Path(quakegrid.__file__).parent
    changed_s = max(path.stat().st_mtime for path in code.rglob("*.py"))
    return quakegrid.__version__, engine_version.installed_version(), changed_s


def _services(settings: Settings) -> Iterator[RunningService]:
    from quakegrid.cli import status  # noqa: PLC0415 - not for --help

    for each in status.service_statuses(settings):
        if each.since_time is not None:
            yield RunningService(each.service, each.version, each.since_time.timestamp())


def _nodes(settings: Settings) -> tuple[list[RunningNode], bool]:
    """The nodes of the cluster, each asked for its versions; and whether calculations run or wait."""
    from quakegrid.clients.agent import AgentClient  # noqa: PLC0415 - not for --help
    from quakegrid.clients.broker import BrokerClient  # noqa: PLC0415 - as above

    with closing(BrokerClient(settings)) as broker:
        status = broker.status()
    found = []
    for node in status.nodes:
        name = node.node or node.host
        if not node.is_up:
            found.append(RunningNode(name, trouble=node.state or "it is not up"))
            continue
        try:
            with closing(AgentClient(settings, node.address.rpartition(":")[0] or node.host)) as agent:
                answer = agent.status()
            found.append(RunningNode(name, answer.version, answer.engine_version))
        except errors.QuakeGridError as exc:
            found.append(RunningNode(name, trouble=str(exc)))
    return found, bool(status.sessions)


def _restart() -> str:
    found = installation.find()
    state_dir = options.state_dir() or Path()
    if found is not None and found.runs(state_dir, os.environ):
        return "as root, systemctl restart, with quakegrid- before each:"
    return "`quakegrid down`, then `quakegrid up`, which restarts"
