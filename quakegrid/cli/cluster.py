"""Commands `up`, `down` and `authkey`: the cluster of this machine.

Keeps the order of the steps and tells the person; `quakegrid.machine.local_services` works with processes.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import click

from quakegrid import __version__, errors, health
from quakegrid.cli import options
from quakegrid.cli.views.render import say
from quakegrid.clients import broker as fleet
from quakegrid.machine import local_services, node_state, own_cluster, service_files
from quakegrid.nodes import engine_version
from quakegrid.settings import authkeys, config, installation, sections
from quakegrid.settings.config import Settings

# A service stops before those that it needs: the agent works for the broker, which writes to the dbserver.
STOP_ORDER = ("web", "agent", "broker", "dbserver")


@click.command()
@options.state_dir_option
@click.option(
    "--cores", type=click.IntRange(min=1), metavar="N", help="Use N cores of this machine (default: all)."
)
@click.option(
    "--try-engine",
    "tries_engine",
    is_flag=True,
    help="Try a version of the engine that QuakeGrid does not know.",
)
def up(cores: int | None, tries_engine: bool) -> None:
    """Start the cluster of this machine.

    Starts dbserver, broker, agent and web pages in the background. The first time, it makes the state folder
    with a configuration file, which holds a random key that only you can read.
    """
    settings, started = bring_up(options.state_dir(), cores, tries_engine=tries_engine)
    _check_serving(settings)
    if not started:
        say("QuakeGrid is already up on this machine:")
    else:
        say(f"QuakeGrid is up on this machine ({_cores_text(settings)}):")
    for name, record in local_services.running(settings).items():
        address = f"{settings.web_scheme}://{record.address}/" if name == "web" else record.address
        say(f"  {name:<9} pid {record.pid:<8} {address}")
    say(f"  state and logs in {settings.state_dir}")
    for warning in (*settings.warnings, *_engine_warnings(settings)):
        say(f"warning: {warning}")
    if "agent" in started:
        say("The engine is being loaded in the background; after an installation this takes a minute or two.")
    program = options.program()
    say(f"Next: `{program} demo`, `{program} run job.ini`, `{program} status`, `{program} down`")


def _engine_warnings(settings: Settings) -> list[str]:
    """What is to be said of an engine that is only tried."""
    doubt = engine_version.doubt() if settings.try_engine and engine_version.installed_version() else ""
    return [doubt] if doubt else []


def bring_up(
    state_dir: Path | None, cores: int | None, *, tries_engine: bool = False
) -> tuple[Settings, tuple[str, ...]]:
    """Start what does not run yet.

    Returns:
        The settings, and the services that were started now.
    Raises:
        StateError: systemd runs the services of this machine, or they run with another number of cores.
    """
    state_dir = (state_dir or config.default_state_dir()).absolute()
    installation.refuse_if_installed(state_dir, "quakegrid up", "start")
    settings = config.load_settings(state_dir)
    if sections.ENGINE in settings.preload:
        engine_version.check_engine(tries_others=tries_engine or settings.try_engine)
    with own_cluster.locked(
        state_dir, lambda: say("another `quakegrid up` or `down` is at work; waiting for it")
    ):
        before = local_services.running(config.load_settings(state_dir))
        if "agent" in before and cores is not None:
            raise errors.StateError(
                f"the cluster runs already; `{_cores_command(state_dir, cores)}` changes its cores, "
                "and loses no task"
            )
        is_new = not (state_dir / config.CONFIG_NAME).exists()
        own_cluster.prepare_state(state_dir, authkeys.new_authkey, cores, tries_engine=tries_engine)
        if is_new:
            _step_aside(state_dir)
        settings = config.load_settings(state_dir)
        missing = tuple(name for name in service_files.SERVICES if name not in before)
        local_services.check_ports(settings, missing)
        missing += _web_if_possible(settings, before)
        if "agent" in missing and node_state.read(state_dir).is_stopped:
            node_state.change(state_dir, is_stopped=False)  # `up` lets a node serve that was stopped
        local_services.start(settings, missing)
    return settings, missing


def _cores_command(state_dir: Path, cores: int) -> str:
    """What changes the cores of a cluster that runs; other folders than the default one are named."""
    is_default = state_dir == config.default_state_dir()
    folder = "" if is_default else f"--state-dir {shlex.quote(str(state_dir))} "
    return f"agentctl {folder}cores {cores}"


def _step_aside(state_dir: Path) -> None:
    """Give a new cluster other ports if somebody on this machine has the usual ones, such as a colleague."""
    try:
        local_services.check_ports(config.load_settings(state_dir), service_files.ALL_SERVICES)
    except errors.SettingsError:
        return  # not for want of a free port
    except errors.QuakeGridError:
        path = state_dir / config.CONFIG_NAME
        ports = own_cluster.give_ports(path)
        say(
            f"The usual ports are in use on this machine, so this cluster has {ports[0]} to {ports[-1]} "
            f"(in {path})."
        )


def _web_if_possible(settings: Settings, running: Collection[str]) -> tuple[str, ...]:
    """The web service, if it is wanted and does not run.

    Calculations do not need it, so a port that is taken is no error.
    """
    if not settings.web_port or "web" in running:
        return ()
    try:
        local_services.check_ports(settings, ["web"])
    except errors.QuakeGridError as exc:
        say(f"warning: there will be no web pages: {exc}")
        return ()
    return ("web",)


def _check_serving(settings: Settings) -> None:
    """Raise `PeerUnreachableError` unless every service that runs also answers."""
    troubles = health.troubles(settings, local_services.running(settings))
    if troubles:
        raise errors.PeerUnreachableError(
            f"{'; '.join(troubles.values())} (logs in {settings.log_dir}); `{options.program()} down`, which "
            "ends what runs, and `up` start it anew"
        )


def _cores_text(settings: Settings) -> str:
    cores = settings.agent_host_cores[0].cores
    count = (os.cpu_count() or 1) if cores == -1 else cores
    return "1 core" if count == 1 else f"{count} cores"


@click.command()
@options.state_dir_option
@click.option("--force", is_flag=True, help="Do not ask, even if jobs are executing: abort them.")
def down(force: bool) -> None:
    """Stop the cluster of this machine."""
    state_dir = (options.state_dir() or config.default_state_dir()).absolute()
    installation.refuse_if_installed(state_dir, "quakegrid down", "stop")
    settings = options.settings()
    if not local_services.running(settings):
        say(f"QuakeGrid is not running (state in {settings.state_dir})")
        return
    with own_cluster.locked(settings.state_dir, lambda: say("another `quakegrid up` or `down` is at work")):
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
    """Abort the jobs that execute, if the user agrees."""
    with closing(fleet.BrokerClient(settings)) as broker:
        try:
            sessions = broker.status().sessions
        except errors.PeerUnreachableError as exc:
            if force:
                return
            raise errors.PeerUnreachableError(
                f"{exc}; it cannot be asked whether jobs run: `{options.program()} down --force` stops the "
                "cluster and what runs"
            ) from exc
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
def authkey() -> None:
    """Make a key for a cluster of several machines.

    The cluster of one machine has its own already. Prints a new random key and changes nothing.
    """
    click.echo(authkeys.new_authkey())
    say("Put it into openquake.cfg on every node, readable by the cluster's user only (chmod 600), as")
    say("  [dbserver]")
    say("  authkey = <this key>")
    say(f"then restart the cluster there. QuakeGrid {__version__} uses it for all its connections.")
