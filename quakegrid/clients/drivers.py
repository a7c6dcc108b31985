"""Asks the agent of this machine for a driver, gives it signals and the terminal, and waits for its end.

Imports no engine, numpy, grpc or zmq, so that a command line starts at once.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from quakegrid import errors
from quakegrid.clients import agent_sockets
from quakegrid.clients.terminal_signals import Signals
from quakegrid.machine import process_limits
from quakegrid.settings.agent_accounts import account_name
from quakegrid.settings.config import Settings

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DriverRequest:
    """What a driver is to do.

    Args:
        argv: the arguments, as after `oq`.
        mode: with "oq" the driver gets this terminal; with "run" it sends events, and the agent gives it a
            log file.
        is_detachable: whether the driver goes on when the command line is gone; in mode "run" only.
        cwd: where it works; None for the current folder.
        environ: its environment; None for that of this process.
        notify: commands and URLs that are told the ends of its jobs.
    """

    argv: Sequence[str]
    mode: str = "run"
    is_detachable: bool = False
    cwd: str | None = None
    environ: Mapping[str, str] | None = None
    notify: Sequence[str] = ()


class DriverLink:
    """A command line's connection to the agent, for one driver. A context manager, which closes it.

    Args:
        settings: of the cluster; its agent must run on this machine.
        request: what the driver is to do.
    Raises:
        PeerUnreachableError: there is no agent.
        UsageError: the current folder cannot be entered.
        StateError: the cluster is reached by a credential, so its agents are elsewhere; or this user may not
            connect.
    """

    def __init__(self, settings: Settings, request: DriverRequest) -> None:
        folder = request.cwd or _current_folder()
        _refuse_elsewhere(settings)
        self._settings = settings
        self._connection = agent_sockets.connect(settings)
        self._buffer = b""
        environ = dict(os.environ if request.environ is None else request.environ)
        message = {
            "argv": list(request.argv),
            "cwd": folder,
            "environ": environ,
            "mode": request.mode,
            "is_detachable": request.is_detachable,
            "notify": list(request.notify),
            "limits": process_limits.own(),
        }
        with contextlib.suppress(ConnectionError):  # the agent has gone, which reading shows
            _send_request(self._connection, message, [0, 1, 2] if request.mode == "oq" else [])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()

    def fileno(self) -> int:
        """Readable when an event came, or the agent has gone."""
        return self._connection.fileno()

    def read(self) -> list[Event]:
        """Wait for data; the events in it, none if an event is not complete yet.

        Raises:
            PeerUnreachableError: the agent has gone.
            EngineMissingError: the agent could start no driver.
        """
        try:
            data = self._connection.recv(1 << 16)
        except ConnectionResetError:  # the agent was killed before it had read everything
            data = b""
        if not data:
            raise errors.PeerUnreachableError(
                "the agent went away while the calculation ran; `quakegrid jobs list` shows what became of "
                f"it, {self._settings.log_dir / 'agent.log'} why"
            )
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        events = [event for event in map(read_event, lines) if event]
        for event in events:
            if event["event"] == "refused":
                raise errors.EngineMissingError(event["message"])
        return events

    def signal(self, number: int) -> None:
        """Pass a signal on to the driver."""
        with contextlib.suppress(ConnectionError):  # first the events that the agent sent before it closed
            self._connection.sendall(json.dumps({"signal": number}).encode() + b"\n")


def run_driver(
    settings: Settings,
    argv: Sequence[str],
    *,
    mode: str = "oq",
    on_event: Callable[[Event], None] | None = None,
) -> int:
    """Run a command in a driver and return its exit code, 128 + n if signal n ended it.

    The driver is terminated when this process ends. Signals are passed on to it.

    Args:
        settings: of the cluster; its agent must run on this machine.
        argv: the arguments, as after `oq`.
        mode: "oq" or "run", as in `DriverRequest`.
        on_event: called with each event.
    Raises:
        As `DriverLink`, and `PeerUnreachableError` if the agent goes away.
        EngineMissingError: the agent could not load the engine.
    """
    with DriverLink(settings, DriverRequest(argv, mode)) as link, Signals() as signals:
        for event in _events(link, signals):
            if event["event"] == "exit":
                return int(event["code"])
            if on_event:
                on_event(event)
    raise AssertionError("the events of a driver end with its exit code, or an error")


def _refuse_elsewhere(settings: Settings) -> None:
    if settings.credential is not None:
        raise errors.StateError(
            f"the engine's own commands run on a machine of the cluster {settings.credential.cluster}; give "
            "this one there, without a credential. `quakegrid run` and `jobs export` work from anywhere"
        )


def no_folder(folder: str, exc: OSError) -> str:
    """Why no calculation can start in a folder, and what to do."""
    user = own_name()
    if isinstance(exc, PermissionError):
        return (
            f"user {user} may not enter the current folder {folder}; change to a folder that {user} may "
            "enter, such as that of the model, and try again"
        )
    return f"the current folder {folder} cannot be entered ({exc.strerror}); change to another one"


def own_name() -> str:
    """The user whose rights this process has."""
    return account_name(os.getuid()) or str(os.getuid())


def _current_folder() -> str:
    """The current folder, in which the driver will work.

    Raises:
        UsageError: the driver could not enter it.
    """
    try:
        folder = str(Path.cwd())
    except OSError as exc:
        raise errors.UsageError("the current folder is gone; change to another one and try again") from exc
    if not os.access(folder, os.X_OK):
        raise errors.UsageError(no_folder(folder, PermissionError()))
    return folder


def _send_request(connection: socket.socket, request: dict[str, Any], fds: Sequence[int]) -> None:
    data = json.dumps(request).encode() + b"\n"
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = connection.sendmsg([data], ancillary)
    if sent < len(data):  # otherwise the agent may have answered and closed the connection
        connection.sendall(data[sent:])


def read_event(line: bytes) -> Event:
    """Read an event; an empty one for a line that the driver could not complete before it was killed."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) and "event" in event else {}


def _events(link: DriverLink, signals: Signals) -> Iterator[Event]:
    """The events of the driver, and an event for each signal that was passed on to it."""
    poller = select.poll()
    poller.register(link, select.POLLIN)
    poller.register(signals, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        for number in signals.read() if signals.fileno() in ready else ():
            link.signal(number)
            yield {"event": "signal", "signal": number}
        if link.fileno() in ready:
            yield from link.read()
