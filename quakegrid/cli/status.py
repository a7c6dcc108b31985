"""Commands `status` and `metrics`: the state of services, nodes, sessions and lanes, once or live.

Reads the service files of this machine, asks the broker, and prints the answers.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from quakegrid import errors, health
from quakegrid.cli import options
from quakegrid.cli.views import live, render, widths
from quakegrid.clients import broker as fleet
from quakegrid.doctor import web_door
from quakegrid.doctor.checks.web_checks import WebDoor
from quakegrid.jobs import terminal_text
from quakegrid.machine import local_services, own_addresses, service_files
from quakegrid.reports import explanations
from quakegrid.settings import installation
from quakegrid.settings.config import Settings

WATCH_RETRY_S = 1.0
MOST_WAITS = 5
SERVICE_COLUMNS = {
    "service": "service",
    "is_up": "up",
    "pid": "pid",
    "address": "address",
    "version": "version",
    "since_time": "since",
}
NODE_COLUMNS = {
    "host": "host",
    "node": "node",
    "is_up": "up",
    "core_count": "cores",
    "worker_count": "workers",
    "running_count": "running",
    "state": "state",
}
SESSION_COLUMNS = {
    "job_ids": "jobs",
    "user_name": "user",
    "state": "state",
    "worker_count": "workers",
    "queued_count": "queued",
    "running_count": "running",
    "done_count": "done",
    "done_rate_hz": "done/s",
    "requeued_count": "requeued",
    "failed_count": "failed",
    "lane_port": "lane",
    "pid": "driver pid",
}
SPARE_OF_SESSIONS = ("pid", "lane_port", "requeued_count", "failed_count", "done_rate_hz", "worker_count")
PERSON_COLUMNS = {
    "user_name": "user",
    "executing_count": "executing",
    "submitted_count": "submitted",
    "core_count": "cores",
    "core_share": "share",
    "running_count": "tasks running",
    "waiting_count": "tasks queued",
}
LANE_COLUMNS = {
    "port": "lane",
    "state": "state",
    "pid": "pid",
    "session_count": "sessions",
    "task_count": "tasks",
    "error": "error",
}


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service of this machine: its service file, and whether it answers."""

    service: str
    is_up: bool
    pid: int | None
    address: str
    version: str
    since_time: datetime.datetime | None
    # Why the service is not up although its process runs.
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class PersonStatus:
    """What one user has of the cluster now.

    `executing_count` and `submitted_count` are sessions; `core_share` is the part of the cores of all nodes,
    at most 1; `running_count` and `waiting_count` are tasks.
    """

    user_name: str
    executing_count: int
    submitted_count: int
    core_count: int
    core_share: float
    running_count: int
    waiting_count: int


@click.command()
@options.state_dir_option
@click.option("--watch", is_flag=True, help="Go on showing what changes, until Ctrl-C.")
@options.output_option
def status(watch: bool, output: str) -> None:
    """Show services, nodes, users, sessions and lanes.

    Ends with exit code 0 if the broker answers and no service of this machine is in trouble, otherwise with
    3. Nodes that are not up do not count. With --watch it goes on through restarts of the cluster; json is
    then one document a line.
    """
    settings = options.client_settings()
    services = service_statuses(settings)
    found, trouble = _ask_broker(settings, services)
    if watch and found is not None:
        _watch(settings, output)
        return
    _print(settings, output, services, found)
    told = [service.trouble for service in services if service.trouble]
    for line in told or ([trouble] if trouble else []):
        render.say(line)
    if not _is_up(settings, services, found):
        if settings.credential is None:
            render.say(
                "QuakeGrid is not running, or not all of it; "
                f"{installation.start_words(settings.dbserver_host)} starts what is missing"
            )
        click.get_current_context().exit(errors.EXIT_UNREACHABLE)


@click.command()
@options.state_dir_option
def metrics() -> None:
    """Print the cluster's metrics in the text format of Prometheus.

    [broker] metrics_port in openquake.cfg serves the same over HTTP.
    """
    with closing(fleet.BrokerClient(options.cluster_settings())) as broker:
        click.echo(broker.metrics(), nl=False)


def service_statuses(settings: Settings) -> list[ServiceStatus]:
    """The services of this machine, by their service files and their answers; none of another cluster."""
    if settings.credential is not None:
        return []
    records = local_services.running(settings)
    troubles = health.troubles(settings, records)
    wanted = _wanted(settings, records)
    names = [name for name in service_files.ALL_SERVICES if name in records or name in wanted]
    return [_service_status(name, records.get(name), troubles.get(name, "")) for name in names]


def _wanted(settings: Settings, running: Collection[str]) -> set[str]:
    """The services that should run here: a node has an agent, and only a master has the others.

    Whether this machine is the master may be a question to a name server: it is asked once, and only if a
    service of the master does not run here.
    """
    of_node = {"agent"}
    of_master = set(service_files.ALL_SERVICES) - ({"web"} if settings.web_port <= 0 else set())
    is_whole = of_master - of_node <= set(running)
    return of_master if is_whole or own_addresses.is_own(settings.dbserver_host) else of_node


def _service_status(service: str, record: service_files.ServiceFile | None, trouble: str) -> ServiceStatus:
    if record is None:
        return ServiceStatus(service, is_up=False, pid=None, address="", version="", since_time=None)
    return ServiceStatus(
        service,
        is_up=not trouble,
        pid=record.pid,
        address=record.address,
        version=record.version,
        since_time=_start_time(record.start_ticks),
        trouble=trouble,
    )


def _start_time(start_ticks: int) -> datetime.datetime:
    lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
    boot_s = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    return datetime.datetime.fromtimestamp(boot_s + start_ticks / os.sysconf("SC_CLK_TCK"), datetime.UTC)


def _ask_broker(settings: Settings, services: list[ServiceStatus]) -> tuple[fleet.FleetStatus | None, str]:
    is_here = any(service.is_up and service.service == "broker" for service in services)
    is_ours = settings.credential is None
    if is_ours and (not settings.authkey or (settings.is_embedded and not is_here)):
        return None, ""
    with closing(fleet.BrokerClient(settings)) as broker:
        try:
            return broker.status(), ""
        except errors.PeerUnreachableError as exc:
            return None, str(exc)


def _is_up(settings: Settings, services: list[ServiceStatus], found: fleet.FleetStatus | None) -> bool:
    is_whole = not settings.is_embedded or all(
        service.is_up for service in services if service.service in service_files.SERVICES
    )
    return found is not None and is_whole and not any(service.trouble for service in services)


# --- live


def _watch(settings: Settings, output: str) -> None:
    """Show every change; on a terminal in place."""
    live.show(
        _statuses(settings),
        output,
        lambda output, found: _print(settings, output, service_statuses(settings), found),
        lambda found: _document(settings, service_statuses(settings), found),
    )


def _statuses(settings: Settings) -> Iterator[fleet.FleetStatus | None]:
    """The broker's statuses, for ever; None once whenever it is gone."""
    is_gone = False
    while True:
        with (
            closing(fleet.BrokerClient(settings)) as broker,
            contextlib.suppress(errors.PeerUnreachableError),
        ):
            for found in broker.watch_status():
                is_gone = False
                yield found
        if not is_gone:
            yield None
        is_gone = True
        time.sleep(WATCH_RETRY_S)


# --- printing


def _document(
    settings: Settings, services: list[ServiceStatus], found: fleet.FleetStatus | None
) -> dict[str, Any]:
    return {
        "is_up": _is_up(settings, services, found),
        "services": services,
        "nodes": found.nodes if found else (),
        "users": persons(found) if found else (),
        "sessions": found.sessions if found else (),
        "lanes": found.lanes if found else (),
        "totals": found.totals if found else fleet.TaskTotals(),
        "web": _web_door(settings, services),
    }


def _print(
    settings: Settings, output: str, services: list[ServiceStatus], found: fleet.FleetStatus | None
) -> None:
    if output == "json":
        render.print_json(_document(settings, services, found))
        return
    if settings.credential is None:
        render.print_listing(output, services, SERVICE_COLUMNS, spare=("version", "since_time"))
        if output == "table" and (door := _web_door(settings, services)) is not None:
            click.echo(widths.hanging("web pages: ", door.words))
    if found is None or output == "quiet":
        return
    if settings.credential is None:
        click.echo()
    print_nodes(output, found)
    click.echo()
    if found.sessions:
        render.print_listing(output, persons(found), PERSON_COLUMNS, spare=("waiting_count", "running_count"))
        click.echo()
        rows = [_session_row(session) for session in found.sessions]
        render.print_listing(output, rows, SESSION_COLUMNS, spare=SPARE_OF_SESSIONS)
        _print_waits(found)
        click.echo()
    render.print_listing(output, found.lanes, LANE_COLUMNS, cut="error")


def _session_row(session: fleet.SessionStatus) -> dict[str, Any]:
    """A session as a table shows it: by its jobs, or by its own id if it has none, as that of a program."""
    row = {field: getattr(session, field) for field in SESSION_COLUMNS}
    return row | {"job_ids": session.job_ids or f"session {session.session_id}"}


def _web_door(settings: Settings, services: list[ServiceStatus]) -> WebDoor | None:
    is_up = any(service.service == "web" and service.is_up for service in services)
    return web_door.find(settings) if is_up else None


def persons(found: fleet.FleetStatus) -> list[PersonStatus]:
    """The users with sessions, those with most cores first."""
    core_count = sum(node.core_count for node in found.nodes)
    of_person: dict[str, list[fleet.SessionStatus]] = {}
    for session in found.sessions:
        of_person.setdefault(session.user_name, []).append(session)
    rows = [_person(user_name, sessions, core_count) for user_name, sessions in of_person.items()]
    return sorted(rows, key=lambda row: (-row.core_count, row.user_name))


def _person(user_name: str, sessions: list[fleet.SessionStatus], core_count: int) -> PersonStatus:
    submitted_count = sum(session.state == explanations.SUBMITTED for session in sessions)
    have = sum(session.core_count for session in sessions)
    return PersonStatus(
        user_name=user_name,
        executing_count=len(sessions) - submitted_count,
        submitted_count=submitted_count,
        core_count=have,
        core_share=round(have / core_count, 3) if core_count else 0.0,
        running_count=sum(session.running_count for session in sessions),
        waiting_count=sum(session.queued_count for session in sessions),
    )


def _print_waits(found: fleet.FleetStatus) -> None:
    """Why sessions wait, if not for their turn behind others; at most some of them."""
    waiting = [session for session in found.sessions if session.wait_reason]
    for session in waiting[:MOST_WAITS]:
        jobs = ", ".join(f"job {job_id}" for job_id in session.job_ids[:MOST_WAITS])
        click.echo(widths.paragraph(terminal_text.one_line(f"{jobs} waits: {session.wait_reason}"), 2))
    if len(waiting) > MOST_WAITS:
        click.echo(f"{len(waiting) - MOST_WAITS} more wait likewise")


def _print_troubles(nodes: Sequence[fleet.NodeStatus]) -> None:
    """Why nodes are not up, whole; at most some of them."""
    down = [node for node in nodes if not node.is_up]
    for node in down[:MOST_WAITS]:
        click.echo(widths.paragraph(f"node {node.node or node.host} is not up: {node.state}", 2))
    if len(down) > MOST_WAITS:
        click.echo(f"{len(down) - MOST_WAITS} more are not up")


def print_nodes(output: str, found: fleet.FleetStatus) -> None:
    """Print the nodes of the fleet."""
    is_cut = render.print_listing(output, found.nodes, NODE_COLUMNS, cut="state")
    _print_troubles([found.nodes[place] for place in is_cut])  # what is to be checked is at their ends
    for node in found.nodes if output == "table" else ():
        for left_out in node.left_out:
            jobs = [f"job {job_id}" for job_id in left_out.job_ids] or [f"session {left_out.session_id}"]
            reasons = ", ".join(left_out.differences)
            line = f"node {node.node or node.host} is left out of {', '.join(jobs)}: {reasons}"
            click.echo(widths.paragraph(line, 2))
