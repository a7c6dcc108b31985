"""Asks the agent of this machine for a driver, gives it signals and the terminal, and waits for its end.

Imports no engine, numpy, grpc or zmq, so that a command line starts at once.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import pwd
import select
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from quakegrid import errors
from quakegrid.clients import agent_sockets
from quakegrid.machine import process_limits
from quakegrid.settings.config import Settings

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH)

Event = dict[str, Any]


def run_driver(
    settings: Settings,
    argv: Sequence[str],
    *,
    mode: str = "oq",
    on_event: Callable[[Event], None] | None = None,
) -> int:
    """Run a command in a driver and return its exit code, 128 + n if signal n ended it.

    Args:
        settings: of the cluster; its agent must run on this machine.
        argv: the arguments, as after `oq`.
        mode: with "oq" the driver gets this terminal; with "run" it sends events, and the agent gives it a
            log file.
        on_event: called with each event.
    Raises:
        PeerUnreachableError: there is no agent, or it went away.
        EngineMissingError: the agent could not load the engine.
        UsageError: the current folder cannot be entered.
        StateError: the cluster is reached by a credential, so its agents are elsewhere; or this user may not
            connect.
    """
    folder = _current_folder()
    _refuse_elsewhere(settings)
    connection = agent_sockets.connect(settings)
    with connection:
        stdio = [0, 1, 2] if mode == "oq" else []
        request = {
            "argv": list(argv),
            "cwd": folder,
            "environ": dict(os.environ),
            "mode": mode,
            "limits": process_limits.own(),
        }
        with contextlib.suppress(ConnectionError):  # the agent has gone, which reading shows
            _send_request(connection, request, stdio)
        with _Signals() as signals:
            for event in _events(connection, signals):
                match event["event"]:
                    case "exit":
                        return int(event["code"])
                    case "refused":
                        raise errors.EngineMissingError(event["message"])
                if on_event:
                    on_event(event)
    raise errors.PeerUnreachableError(
        "the agent went away while the calculation ran; `quakegrid jobs list` shows what became of it, "
        f"{settings.log_dir / 'agent.log'} why"
    )


def _refuse_elsewhere(settings: Settings) -> None:
    if settings.credential is not None:
        raise errors.StateError(
            f"calculations start on a machine of the cluster {settings.credential.cluster}; there, run the "
            "same command without a credential. With one, you list, watch and abort them from anywhere"
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
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's
        return str(os.getuid())


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


class _Signals:
    """The signals of this process, readable from a descriptor; a context manager that restores the handlers.

    A signal that is ignored stays ignored, so that `nohup` works.
    """

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous = {number: signal.getsignal(number) for number in FORWARDED}
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number, handler in self._previous.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)  # the wakeup descriptor tells
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Readable when a signal came."""
        return self._reader

    def read(self) -> list[int]:
        """Numbers of the signals that came."""
        return [number for number in os.read(self._reader, 64) if number in FORWARDED]


def _events(connection: socket.socket, signals: _Signals) -> Iterator[Event]:
    """The events of the driver, and an event for each signal that was passed on to it."""
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    poller.register(signals, select.POLLIN)
    buffer = b""
    while True:
        *lines, buffer = buffer.split(b"\n")
        yield from (event for event in map(read_event, lines) if event)
        ready = {fd for fd, _ in poller.poll()}
        for number in signals.read() if signals.fileno() in ready else ():
            with contextlib.suppress(
                ConnectionError
            ):  # first the events that the agent sent before it closed
                connection.sendall(json.dumps({"signal": number}).encode() + b"\n")
            yield {"event": "signal", "signal": number}
        if connection.fileno() in ready:
            try:
                data = connection.recv(1 << 16)
            except ConnectionResetError:  # the agent was killed before it had read everything
                return
            if not data:
                return
            buffer += data
