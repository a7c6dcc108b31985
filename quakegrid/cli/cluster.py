"""Commands `up`, `down`, `status` and `authkey`: the cluster of this machine.

Knows the order of things and what to say; `quakegrid.local_services` does the work with processes.
"""

from __future__ import annotations

import datetime
import os
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from quakegrid import (
    __version__,
    config,
    embedded,
    engine_version,
    errors,
    fleet,
    local_services,
    run_records,
    security,
)
from quakegrid.cli import options, render
from quakegrid.config import Settings

EXIT_NOT_RUNNING = 3
# Who needs whom: the agent serves the broker, and the broker writes to the dbserver.
STOP_ORDER = ("agent", "broker", "dbserver")


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service of this machine, as its run record tells."""

    service: str
    is_up: bool
    pid: int | None
    address: str
    version: str
    since_time: datetime.datetime | None


def say(text: str = "") -> None:
    """Talk to the user; results go elsewhere."""
    click.echo(text, err=True)


@click.command()
@options.state_dir_option
@click.option(
    "--cores", type=click.IntRange(min=1), metavar="N", help="Use N cores of this machine (default: all)."
)
def up(cores: int | None) -> None:
    """Start the cluster of this machine.

    Starts dbserver, broker and agent in the background. The first time, it makes the state folder with
    a configuration file, which holds a random key that only you can read.
    """
    settings, started = bring_up(options.state_dir(), cores)
    if not started:
        say("QuakeGrid is already up on this machine:")
    else:
        say(f"QuakeGrid is up on this machine ({_cores_text(settings)}):")
    for name, record in local_services.running(settings).items():
        say(f"  {name:<9} pid {record.pid:<8} {record.address}")
    say(f"  state and logs in {settings.state_dir}")
    if "agent" in started:
        say("The engine is being loaded in the background; after an installation this takes a minute or two.")
    program = options.program()
    say(f"Next: `{program} demo`, `{program} run job.ini`, `{program} status`, `{program} down`")


def bring_up(state_dir: Path | None, cores: int | None) -> tuple[Settings, tuple[str, ...]]:
    """Start what does not run yet.

    Returns:
        The settings, and the services that were started now.
    """
    state_dir = state_dir or config.default_state_dir()
    if config.load_settings(state_dir).preload == "openquake":
        engine_version.check_engine()
    with embedded.locked(
        state_dir, lambda: say("another `quakegrid up` or `down` is at work; waiting for it")
    ):
        before = local_services.running(config.load_settings(state_dir))
        if "agent" in before and cores is not None:
            raise errors.StateError("the cluster runs already; `quakegrid down`, then `up --cores` again")
        embedded.prepare_state(state_dir, security.new_authkey, cores)
        settings = config.load_settings(state_dir)
        missing = tuple(name for name in run_records.SERVICES if name not in before)
        local_services.check_ports(settings, missing)
        local_services.start(settings, missing)
    return settings, missing


def _cores_text(settings: Settings) -> str:
    cores = settings.agent_host_cores[0].cores
    count = (os.cpu_count() or 1) if cores == -1 else cores
    return "1 core" if count == 1 else f"{count} cores"


@click.command()
@options.state_dir_option
@click.option("--force", is_flag=True, help="Do not ask, even if jobs are executing: abort them.")
def down(force: bool) -> None:
    """Stop the cluster of this machine."""
    settings = options.settings()
    if not local_services.running(settings):
        say(f"QuakeGrid is not running (state in {settings.state_dir})")
        return
    with embedded.locked(settings.state_dir, lambda: say("another `quakegrid up` or `down` is at work")):
        records = local_services.running(settings)
        if "broker" in records:
            _end_jobs(settings, force=force)
        for name in STOP_ORDER:
            if name not in records:
                continue
            was_orderly = local_services.stop(records[name])
            say(f"stopped {name}" if was_orderly else f"killed {name}, which did not stop in time")
    say("QuakeGrid is down; `quakegrid up` starts it again")


def _end_jobs(settings: Settings, *, force: bool) -> None:
    """Abort what executes, if the user agrees."""
    with closing(fleet.BrokerClient(settings)) as broker:
        try:
            sessions = broker.status().sessions
        except errors.PeerUnreachableError:
            return  # a broker that does not answer can tell of no job, and must be stoppable
        if not sessions:
            return
        job_ids = [job_id for session in sessions for job_id in session.job_ids]
        names = " and ".join(f"job {job_id}" for job_id in job_ids) or f"{len(sessions)} sessions"
        verb = "is" if len(job_ids) == 1 else "are"
        if not force:
            if not sys.stdin.isatty():
                raise errors.StateError(
                    f"{names} {verb} executing; wait for the end, or stop by `quakegrid down --force`"
                )
            click.confirm(f"{names} {verb} executing. Abort and stop the cluster?", abort=True, err=True)
        for job_id in job_ids:
            was_running = broker.abort_job(job_id)
            say(f"aborted job {job_id}" if was_running else f"job {job_id} had ended")


@click.command()
@options.state_dir_option
@options.output_option
def status(output: str) -> None:
    """Show services, nodes, sessions and lanes.

    Ends with exit code 0 if everything is up and with 3 if the cluster is not running.
    """
    settings = options.settings()
    services = [service_status(settings, name) for name in run_records.SERVICES]
    fleet_status, trouble = _ask_broker(settings, services)
    is_up = fleet_status is not None and (
        not settings.is_embedded or all(service.is_up for service in services)
    )
    if output == "json":
        nodes, sessions, lanes = (
            (fleet_status.nodes, fleet_status.sessions, fleet_status.lanes) if fleet_status else ((), (), ())
        )
        render.print_json(
            {"is_up": is_up, "services": services, "nodes": nodes, "sessions": sessions, "lanes": lanes}
        )
    else:
        _print_status(output, services, fleet_status)
    if trouble:
        say(trouble)
    if not is_up:
        say("QuakeGrid is not running, or not all of it; `quakegrid up` starts what is missing")
        click.get_current_context().exit(EXIT_NOT_RUNNING)


def _ask_broker(settings: Settings, services: list[ServiceStatus]) -> tuple[fleet.FleetStatus | None, str]:
    is_here = any(service.is_up and service.service == "broker" for service in services)
    if not settings.authkey or (settings.is_embedded and not is_here):
        return None, ""
    with closing(fleet.BrokerClient(settings)) as broker:
        try:
            return broker.status(), ""
        except errors.PeerUnreachableError as exc:
            return None, str(exc)


def service_status(settings: Settings, service: str) -> ServiceStatus:
    """What this machine knows of one of its services."""
    record = run_records.read_record(settings, service)
    if record is None:
        return ServiceStatus(service, is_up=False, pid=None, address="", version="", since_time=None)
    since_time = _start_time(record.start_ticks)
    return ServiceStatus(
        service,
        is_up=True,
        pid=record.pid,
        address=record.address,
        version=record.version,
        since_time=since_time,
    )


def _start_time(start_ticks: int) -> datetime.datetime:
    lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
    boot_s = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    return datetime.datetime.fromtimestamp(boot_s + start_ticks / os.sysconf("SC_CLK_TCK"), datetime.UTC)


def _print_status(output: str, services: list[ServiceStatus], found: fleet.FleetStatus | None) -> None:
    columns = {
        "service": "service",
        "is_up": "up",
        "pid": "pid",
        "address": "address",
        "version": "version",
        "since_time": "since",
    }
    render.print_listing(output, services, columns)
    if found is None or output == "quiet":
        return
    click.echo()
    print_nodes(output, found)
    click.echo()
    if found.sessions:
        columns = {
            "job_ids": "jobs",
            "user_name": "user",
            "state": "state",
            "worker_count": "workers",
            "queued_count": "queued",
            "running_count": "running",
            "done_count": "done",
            "requeued_count": "requeued",
            "lane_port": "lane",
            "pid": "driver pid",
        }
        render.print_listing(output, found.sessions, columns)
        click.echo()
    render.print_listing(output, found.lanes, {"port": "lane", "pid": "pid", "session_count": "sessions"})


def print_nodes(output: str, found: fleet.FleetStatus) -> None:
    """Print the nodes of the fleet."""
    columns = {
        "host": "host",
        "node": "node",
        "is_up": "up",
        "core_count": "cores",
        "worker_count": "workers",
        "running_count": "running",
        "state": "state",
    }
    render.print_listing(output, found.nodes, columns)


@click.command()
def authkey() -> None:
    """Make a key for a cluster of several machines.

    The cluster of one machine has its own already. Prints a new random key and changes nothing.
    """
    click.echo(security.new_authkey())
    say("Put it into openquake.cfg on every node, readable by the cluster's user only (chmod 600), as")
    say("  [dbserver]")
    say("  authkey = <this key>")
    say(f"then restart the cluster there. QuakeGrid {__version__} uses it for all its connections.")
