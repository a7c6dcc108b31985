"""Doors inside of a node: the agent's unix socket, and the packets between an agent and its template."""

from __future__ import annotations

import array
import contextlib
import json
import os
import random
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from quakegrid.services.agent.packets import PACKET_BYTES
from quakegrid.settings.config import agent_socket
from tests.fuzz import values
from tests.fuzz.door import Door
from tests.fuzz.sockets import drain
from tests.fuzz.template_scenes import AgentScene, TemplateScene, send

WAIT_S = 2.0
# More than a packet may have; the kernel refuses much more.
_TOO_LARGE = PACKET_BYTES + 10_000
MAX_SENT_FDS = 12


def damaged(chance: random.Random, packet: dict[str, Any]) -> bytes:
    """A packet with wrong values, without a field, with one more, not JSON, or too large."""
    changed = dict(packet)
    for _ in range(chance.choice((0, 1, 1, 2))):
        name = chance.choice([*changed, "more"])
        if chance.random() < 0.3:
            changed.pop(name, None)
        else:
            changed[name] = values.json_value(chance)
    kind = chance.random()
    if kind < 0.05:
        return json.dumps(values.json_value(chance)).encode() or b"0"
    content = json.dumps(changed).encode()
    if kind < 0.15:
        return values.mutate(chance, content)
    if kind < 0.17:
        return content[:-1] + b', "long": "' + b"x" * _TOO_LARGE + b'"}'
    return content


@dataclass(frozen=True, slots=True)
class Request:
    """What a command line sends: its first line with descriptors, and lines after it."""

    content: bytes
    fd_count: int


class UnixSocket(Door):
    """Command lines of this machine that ask for drivers, and do not know how."""

    name: ClassVar[str] = "unix-socket"
    scene: ClassVar[str] = "agent"
    neighbours: ClassVar[tuple[str, ...]] = ("agent",)
    log_bytes_each: ClassVar[int] = 400
    batch_count: ClassVar[int] = 40
    test_count: ClassVar[int] = 1500

    def make(self, chance: random.Random) -> Request:
        """A request, right or damaged, and signals after it."""
        right = {"argv": ["info", "cfg"], "cwd": "/", "environ": {"A": "b"}, "mode": "oq"}
        right |= {"is_detachable": False, "notify": []}
        for name in right:
            if chance.random() < 0.2:
                right[name] = values.json_value(chance)
        line = damaged(chance, right) + b"\n"
        if chance.random() < 0.1:
            line = chance.choice((b"\n", b"\n\n\n", b"\xff\xfe\n", b"[" * 5000 + b"\n", b"0\n", b"{}\n", b""))
        lines = [self._signal(chance) for _ in range(chance.choice((0, 0, 1, 3)))]
        return Request(line + b"".join(lines), chance.choice((3, 3, 3, 3, 0, 1, 2, 4, MAX_SENT_FDS)))

    def open(self, scene: AgentScene) -> None:
        """Find the socket."""
        self._path = str(agent_socket(scene.settings.state_dir))

    def send(self, batch: Sequence[Request]) -> None:
        """One connection for each, all at once; then read until the agent closes."""
        with contextlib.ExitStack() as stack:
            connections = []
            for request in batch:
                connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                connection.settimeout(WAIT_S)
                connection.connect(self._path)
                connections.append(connection)
                with contextlib.suppress(OSError):  # it has had enough
                    self._write(connection, request)
                    connection.shutdown(socket.SHUT_WR)
            for connection in connections:
                drain(connection)

    def _write(self, connection: socket.socket, request: Request) -> None:
        if not request.content:
            return
        fds = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(request.fd_count)]
        try:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            sent = connection.sendmsg([request.content], ancillary)
        finally:
            for fd in fds:
                os.close(fd)
        connection.sendall(request.content[sent:])

    def _signal(self, chance: random.Random) -> bytes:
        numbers = (2, 15, 9, 0, 65, -1, 1 << 70, "15", None, 15.5, [])
        line = json.dumps({"signal": chance.choice(numbers)}).encode()
        return (values.mutate(chance, line) if chance.random() < 0.3 else line) + b"\n"


class TemplateReports(Door):
    """Reports of a template to its agent."""

    name: ClassVar[str] = "template-reports"
    scene: ClassVar[str] = "agent"
    neighbours: ClassVar[tuple[str, ...]] = ("agent",)
    log_bytes_each: ClassVar[int] = 1000
    batch_count: ClassVar[int] = 25
    test_count: ClassVar[int] = 500

    def make(self, chance: random.Random) -> tuple[bytes, int]:
        """A report and how many descriptors come with it."""
        pid = chance.choice((0, 1, -1, 5, 1 << 22, (1 << 31) - 1, 1 << 40))
        reports: tuple[dict[str, Any], ...] = (
            {"report": "forked", "name": chance.choice(("driver-1", "w", "")), "pid": pid},
            {
                "report": "not_forked",
                "name": chance.choice(("driver-1", "w", "")),
                "reason": values.text(chance),
            },
            {
                "report": "exited",
                "pid": pid,
                "status": chance.choice((0, 9, -1, 1 << 40)),
                "peak_memory_bytes": chance.choice((0, 1 << 30, -1)),
            },
            {"report": "pong"},
            {"report": values.text(chance)},
            {
                "report": "ready",
                "kind": chance.choice(("warm", "cold", "hot", "")),
                "reason": values.text(chance),
                "engine_version": values.text(chance),
                "engine_missing": "",
                "fingerprint": values.json_value(chance),
                "duration_s": values.real(chance),
            },
        )
        fd_count = chance.choice((0, 0, 0, 0, 1, MAX_SENT_FDS))
        return damaged(chance, chance.choice(reports)) or b"0", fd_count

    def open(self, scene: AgentScene) -> None:
        """Be the template of this agent."""
        self._scene = scene

    def send(self, batch: Sequence[tuple[bytes, int]]) -> None:
        """Report all of it."""
        for packet, fd_count in batch:
            self._scene.report(packet, fd_count)


class TemplateOrders(Door):
    """Orders of an agent to its template, which answers a ping after each batch.

    Not among them: the order to end, and an empty packet, which says that the agent has gone. Nor a ping, so
    that the one after the batch is answered when the whole batch was read.
    """

    name: ClassVar[str] = "template-orders"
    scene: ClassVar[str] = "template"
    neighbours: ClassVar[tuple[str, ...]] = ()
    log_bytes_each: ClassVar[int] = 2000  # of children that end with a traceback
    batch_count: ClassVar[int] = 20
    test_count: ClassVar[int] = 300

    def make(self, chance: random.Random) -> tuple[bytes, int]:
        """An order and how many descriptors come with it."""
        worker = {
            "worker_id": values.text(chance),
            "session_id": values.integer(chance, 64, is_signed=True),
            "lane_endpoint": values.text(chance),
            "node": values.text(chance),
            "cores": [chance.choice((0, 0, 1, 1 << 20, -1))],
            "memory_bytes": chance.choice((0, 0, 1 << 30, -1)),
            "nice": chance.choice((0, 19, 20)),
            "cgroup": chance.choice(("", "", values.text(chance))),
            "blob_dir": values.text(chance),
        }
        orders: tuple[dict[str, Any], ...] = (
            {
                "order": "signal",
                "pid": chance.choice((0, 1, -1, 1 << 40)),
                "signal": chance.choice((0, 9, 65, -1)),
            },
            {"order": values.text(chance)},
            {"order": "fork_worker", "name": values.text(chance), "worker": worker},
            {"order": "fork_driver", "name": values.text(chance)},
        )
        order = chance.choices(orders, (10, 10, 1, 1))[0]
        fd_count = chance.choice((0, 0, 2, 4, 5, MAX_SENT_FDS))
        content = damaged(chance, order) or b"0"
        is_meant = b'"end"' in content or b'"ping"' in content
        return (b"0" if is_meant else content), fd_count

    def open(self, scene: TemplateScene) -> None:
        """Be the agent of this template."""
        self._control = scene.control

    def send(self, batch: Sequence[tuple[bytes, int]]) -> None:
        """Order all of it, then ask for a sign of life; who was forked meanwhile is killed."""
        for packet, fd_count in batch:
            with contextlib.suppress(BlockingIOError):
                send(self._control, packet, fd_count)
        send(self._control, json.dumps({"order": "ping"}).encode(), 0)
        forked: set[int] = set()
        while self._note(forked) != "pong":
            pass
        self._kill(forked)

    def _kill(self, forked: set[int]) -> None:
        for pid in forked:
            send(
                self._control,
                json.dumps({"order": "signal", "pid": pid, "signal": signal.SIGKILL}).encode(),
                0,
            )
        while forked:
            self._note(forked)

    def _note(self, forked: set[int]) -> str:
        """Take the next report."""
        data, *_ = socket.recv_fds(self._control, PACKET_BYTES, 1)
        if not data:
            raise ConnectionResetError("the template has closed its end")
        report = json.loads(data)
        if report["report"] == "forked":
            forked.add(report["pid"])
        elif report["report"] == "exited":
            forked.discard(report["pid"])
        return str(report["report"])
