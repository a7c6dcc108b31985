"""The services of this machine as processes: check their ports, start them, wait for them, stop them.

Uses the services' module names, service files, signals and logs. Never imports a service.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quakegrid import errors
from quakegrid.machine import process_stats, service_files
from quakegrid.machine.pinned_processes import open_pin
from quakegrid.settings.config import Settings

# Enough for slow disks and a first import without bytecode. A service that fails ends much earlier.
START_DEADLINE_S = 60.0
# Longer than a service's own deadline for an orderly stop.
STOP_DEADLINE_S = 20.0
KILL_DEADLINE_S = 5.0
_POLL_MS = 20


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port that a service will listen on, and the setting that changes it."""

    service: str
    host: str
    number: int
    setting: str


def ports_of(settings: Settings, services: Sequence[str]) -> list[ServicePort]:
    """The ports that these services need from their start."""
    ports = [
        ServicePort("dbserver", settings.dbserver_listen, settings.dbserver_port, "[dbserver] port"),
        ServicePort("broker", settings.broker_listen, settings.broker_port, "[broker] port"),
        ServicePort("broker", settings.broker_listen, settings.lane_ports[0], "[dbserver] receiver_ports"),
        ServicePort("agent", settings.agent_listen, settings.agent_port, "[zworkers] ctrl_port"),
        ServicePort("web", settings.web_listen, settings.web_port, "[web] port"),
    ]
    return [port for port in ports if port.service in services]


def check_ports(settings: Settings, services: Sequence[str]) -> None:
    """Make sure that the services will be able to listen.

    Raises:
        QuakeGridError: another process listens there.
        SettingsError: the address is not of this machine, or this user may not use the port.
    """
    for port in ports_of(settings, services):
        where = f"{port.host}:{port.number}"
        try:
            family, _, _, _, address = socket.getaddrinfo(port.host, port.number, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
        except OSError as exc:
            remedy = f"change {port.setting} in openquake.cfg"
            if exc.errno == errno.EADDRINUSE:
                raise errors.QuakeGridError(
                    f"port {port.number}, which the {port.service} needs, is in use by "
                    f"{port_holder(port.number)}; end that, or {remedy}"
                ) from None
            message = f"the {port.service} cannot listen on {where}: {exc.strerror}; {remedy}"
            raise errors.SettingsError(message) from None


def port_holder(port: int) -> str:
    """Which process listens on a TCP port, in words, as far as this user may know."""
    import psutil  # noqa: PLC0415 - only wanted in this rare case

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        connections = []
    for connection in connections:
        is_listener = connection.status == psutil.CONN_LISTEN and connection.pid
        if is_listener and connection.laddr and connection.laddr.port == port:
            try:
                command = " ".join(psutil.Process(connection.pid).cmdline())[:80]
            except psutil.Error:
                command = ""
            return f"process {connection.pid} ({command or 'unknown'})"
    return "another process"


def running(settings: Settings) -> dict[str, service_files.ServiceFile]:
    """The live services of this machine by name."""
    records = {name: service_files.read(settings, name) for name in service_files.ALL_SERVICES}
    return {name: record for name, record in records.items() if record is not None}


@dataclass(frozen=True, slots=True)
class Owner:
    """The program that services belong to: they stop when `lifeline_fd` is closed.

    Args:
        lifeline_fd: reading end of a pipe; only the owner has the other end.
        hold_fd: a descriptor that the services keep open while they live.
        environ: their environment.
    """

    lifeline_fd: int
    hold_fd: int
    environ: Mapping[str, str]


def start(settings: Settings, services: Sequence[str], owner: Owner | None = None) -> list[int]:
    """Start services side by side, detached from this terminal, and wait until all are ready.

    Returns:
        Their process ids, for `reap`.
    Raises:
        QuakeGridError: a service ended before it was ready, or took too long. All of them are stopped again.
    """
    settings.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        sizes = {name: _log_size(settings, name) for name in services}
        for name in services:
            children[name] = _spawn(settings, name, owner)
        _wait_until_ready(settings, children, sizes)
    except BaseException:
        for child in reversed(children.values()):
            _end_child(child)
        raise
    for child in children.values():
        child.returncode = 0  # the services outlive this program; without this, the handle would warn of that
    return [child.pid for child in children.values()]


def reap(pids: Sequence[int]) -> None:
    """Take the exit codes of services that this process started and that have ended: no zombie stays."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):  # somebody else of this program waited for all children
            os.waitpid(pid, os.WNOHANG)


def log_path(settings: Settings, service: str) -> Path:
    """The file that gets the output of a service."""
    return settings.log_dir / f"{service}.log"


def _log_size(settings: Settings, service: str) -> int:
    try:
        return log_path(settings, service).stat().st_size
    except FileNotFoundError:
        return 0


def _spawn(settings: Settings, service: str, owner: Owner | None) -> subprocess.Popen[bytes]:
    environ = dict(owner.environ if owner else os.environ)
    if environ.get("OQ_CONFIG_FILE"):  # the service has another working directory
        environ["OQ_CONFIG_FILE"] = str(Path(environ["OQ_CONFIG_FILE"]).expanduser().absolute())
    command = [
        sys.executable,
        "-P",
        "-m",
        f"quakegrid.services.{service}",
        "--state-dir",
        str(settings.state_dir),
    ]
    if owner:
        command += ["--lifeline-fd", str(owner.lifeline_fd)]
    with log_path(settings, service).open("ab") as log:
        return subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # `-m` puts the working directory on the import path: take one that only the user can write to.
            cwd=settings.state_dir,
            start_new_session=True,
            pass_fds=[owner.lifeline_fd, owner.hold_fd] if owner else (),
        )


def _wait_until_ready(
    settings: Settings, children: dict[str, subprocess.Popen[bytes]], log_sizes: dict[str, int]
) -> None:
    deadline_s = time.monotonic() + START_DEADLINE_S
    waiting = dict(children)
    ends = select.poll()
    pins = [
        open_pin(child.pid) for child in children.values()
    ]  # these are children of this process and not reaped, so they exist
    descriptors = [descriptor for descriptor in pins if descriptor is not None]
    try:
        for descriptor in descriptors:
            ends.register(descriptor, select.POLLIN)
        while waiting:
            ends.poll(_POLL_MS)
            for name, child in children.items():
                if child.poll() is not None:
                    raise _failed_start(settings, name, child.returncode, log_sizes[name])
            waiting = {
                name: child for name, child in waiting.items() if not service_files.read(settings, name)
            }
            if waiting and time.monotonic() > deadline_s:
                names = " and ".join(waiting)
                raise errors.QuakeGridError(
                    f"{names} not ready after {START_DEADLINE_S:.0f} s; see the logs in {settings.log_dir}"
                )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _failed_start(settings: Settings, service: str, code: int, log_size: int) -> errors.QuakeGridError:
    path = log_path(settings, service)
    with path.open("rb") as log:
        log.seek(log_size)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    end = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
    said = lines[-1].removeprefix("quakegrid: ") if lines else "it said nothing"
    error = errors.QuakeGridError(f"the {service} did not start ({end}): {said} (log: {path})")
    error.exit_code = code if code > 0 else 1
    return error


def _end_child(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def stop(record: service_files.ServiceFile, deadline_s: float = STOP_DEADLINE_S) -> bool:
    """Ask a service to stop and wait until its process is gone; kill it after the deadline.

    Args:
        record: the service's live record.
        deadline_s: how long an orderly stop may take.
    Returns:
        Whether it stopped in order; False means that it was killed.
    Raises:
        QuakeGridError: the process belongs to another user, or does not end after SIGKILL.
    """
    try:
        descriptor = open_pin(record.pid)
    except ProcessLookupError:
        return True
    try:
        # The descriptor pins the process: from here on no other process can get its pid.
        if not _lives(record):
            return True
        if _signal_and_wait(record, descriptor, signal.SIGINT, deadline_s):
            return True
        if _signal_and_wait(record, descriptor, signal.SIGKILL, KILL_DEADLINE_S):
            return False
    except ProcessLookupError:
        return True
    except PermissionError:
        message = f"process {record.pid} ({record.service}) belongs to another user, who must stop it"
        raise errors.QuakeGridError(message) from None
    finally:
        if descriptor is not None:
            os.close(descriptor)
    raise errors.QuakeGridError(f"process {record.pid} ({record.service}) does not end, not even by SIGKILL")


def _signal_and_wait(
    record: service_files.ServiceFile, descriptor: int | None, number: signal.Signals, timeout_s: float
) -> bool:
    if descriptor is not None:
        signal.pidfd_send_signal(descriptor, number)
        end = select.poll()
        end.register(descriptor, select.POLLIN)
        return bool(end.poll(timeout_s * 1000))
    if not _lives(record):
        return True
    os.kill(record.pid, number)
    end_s = time.monotonic() + timeout_s
    while (is_there := _lives(record)) and time.monotonic() < end_s:
        time.sleep(_POLL_MS / 1000)
    return not is_there


def _lives(record: service_files.ServiceFile) -> bool:
    return process_stats.start_ticks(record.pid) == record.start_ticks
