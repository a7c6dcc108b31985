"""The agent's unix socket: command lines of this machine ask for drivers here.

One JSON line with three descriptors asks for a driver; JSON lines come back: what the driver tells, then
its exit code. Lines that follow the request pass signals on. When the command line goes away its
driver is terminated. Only the agent's own user may connect.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any

from quakegrid import service_life
from quakegrid.template_state import TemplateKind
from services.agent.agent import Agent

log = logging.getLogger("quakegrid.agent")
MAX_REQUEST_BYTES = 8 << 20
ACCEPT_PAUSE_S = 0.2


class LocalSocket:
    """Listens on a unix socket and serves each connection in a task.

    Args:
        agent: forks the drivers.
        path: of the socket; its folder is private to the user.
    """

    def __init__(self, agent: Agent, path: Path) -> None:
        self._agent, self._path = agent, path
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Bind, private to this user, and accept."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        umask = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        finally:
            os.umask(umask)
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
        try:
            with connection:
                connection.setblocking(False)
                if _peer_uid(connection) not in (os.getuid(), 0):
                    return
                request, rest = await _read_request(connection, fds)
                await self._drive(connection, request, fds, rest)
        except (OSError, ValueError, TypeError) as exc:
            log.warning("local_request_refused reason=%r", exc)
        finally:
            _close(fds)

    async def _drive(
        self, connection: socket.socket, request: dict[str, Any], fds: list[int], rest: bytes
    ) -> None:
        loop = asyncio.get_running_loop()
        state = self._agent.template_state
        if state.kind is TemplateKind.FAILED:
            await _send(loop, connection, {"event": "refused", "message": f"the template {state}"})
            return
        if self._agent.engine_missing:
            await _send(loop, connection, {"event": "refused", "message": self._agent.engine_missing})
            return
        if not state.is_ready:
            await _send(loop, connection, {"event": "warming"})
        ended: asyncio.Future[tuple[int, str]] = loop.create_future()

        def on_end(code: int, reason: str) -> None:
            if not ended.done():
                ended.set_result((code, reason))

        name = self._agent.start_driver(request, connection.fileno(), fds, on_end)
        _close(fds)
        listening = loop.create_task(self._pass_signals(connection, name, rest))
        try:
            waits: tuple[asyncio.Future[Any], ...] = (ended, listening)
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():  # the command line is gone
                return
            code, reason = ended.result()
            if reason:
                await _send(loop, connection, {"event": "refused", "message": reason})
            await _send(loop, connection, {"event": "exit", "code": code})
        finally:
            listening.cancel()
            self._agent.end_driver(name)  # no driver without somebody who listens

    async def _pass_signals(self, connection: socket.socket, name: str, rest: bytes) -> None:
        loop = asyncio.get_running_loop()
        buffer = rest
        while True:
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                self._agent.signal_driver(name, int(json.loads(line)["signal"]))
            try:
                data = await loop.sock_recv(connection, 4096)
            except ConnectionError:
                return
            if not data:
                return
            buffer += data


def _peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


async def _read_request(connection: socket.socket, fds: list[int]) -> tuple[dict[str, Any], bytes]:
    """Read the request line, and into `fds` its descriptors; returns what came after the line too."""
    buffer = b""
    while b"\n" not in buffer:
        await _readable(connection)
        data, received, _flags, _address = socket.recv_fds(connection, 1 << 16, 3)
        fds += received
        buffer += data
        if not data or len(buffer) > MAX_REQUEST_BYTES:
            raise ValueError("the request was cut short or is too large")
    line, _, rest = buffer.partition(b"\n")
    request = json.loads(line)
    if len(fds) != 3 or not {"argv", "cwd", "environ", "mode"} <= set(request):
        raise ValueError("the request lacks descriptors or fields")
    return request, rest


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


async def _send(loop: asyncio.AbstractEventLoop, connection: socket.socket, event: dict[str, Any]) -> None:
    try:
        await loop.sock_sendall(connection, json.dumps(event).encode() + b"\n")
    except ConnectionError as exc:
        log.info("command_line_gone reason=%s", exc)
