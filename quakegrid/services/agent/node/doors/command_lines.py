"""The agent's unix socket: command lines of this machine ask for drivers here.

A command line sends one JSON line that asks for a driver, with three descriptors if the driver is to have a
terminal; without one it may send two for the driver's own use. It gets JSON lines back: the driver's events,
then its exit code. Further lines from it pass signals on. When the command line goes away, its driver goes on
if it is detachable, and is terminated if it is not. The agent's own user and root may connect. If the agent
may change users, the members of `[agent] group` may, too. A refused command line gets the reason in words.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

from quakegrid.errors import NotAllowedError, QuakeGridError, StateError, UsageError
from quakegrid.machine import service_life
from quakegrid.machine.own_cluster import MAX_SOCKET_PATH_BYTES
from quakegrid.services.agent.node.doors import askers, request_checks
from quakegrid.services.agent.node.doors.askers import MAX_COMMAND_LINES, Asker, AskerCounts
from quakegrid.services.agent.node.doors.driver_runs import DriverRun, DriverRuns
from quakegrid.services.agent.node.doors.preparation import Preparation
from quakegrid.services.agent.node.doors.socket_audit import SocketAudit
from quakegrid.services.agent.node.drivers import DriverFiles, Drivers
from quakegrid.services.agent.node.persons.accounts import NodeAccounts
from quakegrid.services.agent.node.persons.shared_socket import open_to_group
from quakegrid.services.agent.packets import MAX_GIVEN, close_all
from quakegrid.services.agent.rules.persons import Account

log = logging.getLogger("quakegrid.agent")
MAX_REQUEST_BYTES = 8 << 20
REQUEST_TIMEOUT_S = 30.0
STDIO_COUNT = 3
ACCEPT_PAUSE_S = 0.2


class LocalSocket:
    """Listens on a unix socket and serves each connection in a task.

    Args:
        drivers: of this node.
        accounts: of this node.
        path: of the socket, in the folder `run` of the state directory.
        preparation: gives each driver its certificate and its account.
        runs: of drivers.
        audit: is told who asks.
    """

    def __init__(
        self,
        drivers: Drivers,
        accounts: NodeAccounts,
        path: Path,
        preparation: Preparation,
        runs: DriverRuns,
        audit: SocketAudit,
    ) -> None:
        self._drivers, self._accounts, self._path = drivers, accounts, path
        self._preparation, self._runs, self._audit = preparation, runs, audit
        self._is_shared = False  # open to the members of a group
        self._counts = AskerCounts()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def bind(self) -> None:
        """Make the socket, which only this user may reach, and the members of the group, if there is one.

        Raises:
            QuakeGridError: the socket cannot be made at this path.
        """
        if len(os.fsencode(self._path)) > MAX_SOCKET_PATH_BYTES:
            raise QuakeGridError(
                f"the path of the agent's socket, {self._path}, is longer than {MAX_SOCKET_PATH_BYTES} "
                "bytes; give a state directory with a shorter path with --state-dir"
            )
        umask = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            self._listener.bind(str(self._path))
        except OSError as exc:
            raise QuakeGridError(
                f"cannot make the agent's socket {self._path}: {exc.strerror}; make its folder writable, or "
                "free space"
            ) from None
        finally:
            os.umask(umask)
        gid = self._accounts.group_id
        self._is_shared = gid is not None and open_to_group(self._path, gid, self._accounts.rights)

    def start(self) -> None:
        """Accept command lines."""
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._spawn_accept()

    def stop(self) -> None:
        """Close the socket and every connection."""
        for task in self._tasks:
            task.cancel()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _spawn_accept(self) -> None:
        accepting = asyncio.get_running_loop().create_task(self._accept(), name="command lines")
        accepting.add_done_callback(service_life.must_not_fail)
        self._keep(accepting)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as exc:  # no descriptor is free: the command line waits in the backlog
                log.warning("accept_failed reason=%s", exc)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            self._keep(loop.create_task(self._serve(connection)))

    async def _serve(self, connection: socket.socket) -> None:
        fds: list[int] = []
        number = connection.fileno()
        try:
            with connection:
                connection.setblocking(False)
                asker = askers.of(connection)
                if not (asker.is_trusted or self._is_shared):
                    self._audit.sent_away(asker)
                    return
                try:
                    self._counts.enter(number, asker)
                    line, rest = await asyncio.wait_for(_read_line(connection, fds), REQUEST_TIMEOUT_S)
                    request, account = await self._preparation.for_asker(_read_request(line, fds), asker)
                    await self._drive(connection, request, fds, rest, asker=asker, account=account)
                except QuakeGridError as exc:
                    log.warning("local_request_refused reason=%s", exc)
                    self._audit.refused(asker, exc)
                    is_forbidden = isinstance(exc, NotAllowedError)
                    refusal = {"event": "refused", "message": str(exc), "is_forbidden": is_forbidden}
                    await _send(connection, refusal)
        except (OSError, TimeoutError) as exc:
            log.warning("local_request_failed reason=%r", exc)
        finally:
            self._counts.leave(number)
            close_all(fds)

    async def _drive(
        self,
        connection: socket.socket,
        request: dict[str, Any],
        fds: list[int],
        rest: bytes,
        *,
        asker: Asker,
        account: Account | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        if request["is_detachable"]:
            await _send(connection, {"event": "detachable"})  # agents of older releases do not say it
        if self._drivers.is_warming:
            await _send(connection, {"event": "warming"})
        ended: asyncio.Future[tuple[int, str]] = loop.create_future()

        def on_end(code: int, reason: str) -> None:
            if not ended.done():
                ended.set_result((code, reason))

        _check_count(self._drivers, asker)
        run = self._runs.start(request, _files_of(connection, request, fds), on_end, account)
        close_all(fds)
        fds.clear()
        self._audit.asked(asker, request)
        listening = loop.create_task(self._pass_signals(connection, run, rest))
        is_left = False
        try:
            waits: tuple[asyncio.Future[Any], ...] = (ended, listening)
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():  # the command line is gone, or sent an invalid line
                listening.result()
                is_left = request["is_detachable"]
                return
            code, reason = ended.result()
            if reason:
                await _send(connection, {"event": "refused", "message": reason})
            await _send(connection, {"event": "exit", "code": code})
        finally:
            listening.cancel()
            # Nobody would read the events of a driver that is not detachable.
            (run.detach if is_left else run.terminate)()

    async def _pass_signals(self, connection: socket.socket, run: DriverRun, rest: bytes) -> None:
        """Pass signals on until the command line is gone.

        Raises:
            UsageError: a line asks for something else.
        """
        loop = asyncio.get_running_loop()
        buffer = rest
        while True:
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                run.signal(request_checks.read_signal(line))
            if len(buffer) > request_checks.MAX_SIGNAL_BYTES:
                raise UsageError("a line is too long to name a signal")
            try:
                data = await loop.sock_recv(connection, 4096)
            except ConnectionError:
                return
            if not data:
                return
            buffer += data


def _files_of(connection: socket.socket, request: dict[str, Any], fds: list[int]) -> DriverFiles:
    if request["mode"] == "oq":
        return DriverFiles(connection.fileno(), fds)
    return DriverFiles(connection.fileno(), given=fds)


def _check_count(drivers: Drivers, asker: Asker) -> None:
    """Refuse a further driver to an account that has too many, with or without command lines.

    Raises:
        StateError: it has, and others would find no room.
    """
    if not asker.is_trusted and drivers.count_of(asker.name) >= MAX_COMMAND_LINES:
        raise StateError(f"{asker.name} has {MAX_COMMAND_LINES} calculations here; wait until one ends")


async def _read_line(connection: socket.socket, fds: list[int]) -> tuple[bytes, bytes]:
    """Read the request line, and its descriptors into `fds`; returns the line and what came after it."""
    buffer = bytearray()
    while b"\n" not in buffer:
        await _readable(connection)
        data, received, _flags, _address = socket.recv_fds(connection, 1 << 16, STDIO_COUNT)
        fds += received
        buffer += data
        if not data:
            raise UsageError("the request was cut short")
        if len(buffer) > MAX_REQUEST_BYTES or len(fds) > STDIO_COUNT:
            raise UsageError("the request is too large: is it the arguments, or the environment?")
    line, _, rest = bytes(buffer).partition(b"\n")
    return line, rest


def _read_request(line: bytes, fds: list[int]) -> dict[str, Any]:
    request = request_checks.read_driver_request(line)
    if request["mode"] != "run" and len(fds) != STDIO_COUNT:
        raise UsageError("the request came without a terminal's descriptors")
    if request["mode"] == "run" and len(fds) > MAX_GIVEN:
        raise UsageError(f"the request came with more than {MAX_GIVEN} descriptors")
    return request


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(connection, on_ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


async def _send(connection: socket.socket, event: dict[str, Any]) -> None:
    """Send an event on a line of its own, since a driver that was killed may have sent half a line."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(connection, b"\n" + json.dumps(event).encode() + b"\n")
    except ConnectionError as exc:
        log.info("command_line_gone reason=%s", exc)
