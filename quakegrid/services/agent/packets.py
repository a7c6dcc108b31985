"""Orders and reports as packets: a JSON object and file descriptors on the socket pair of agent and template.

A packet is small. Large data, such as an environment or a pickled setup, travels in a memfd beside it. All
input is checked here, so every order and report that this module returns has fields of the right types and
ranges.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import assert_never

from quakegrid.errors import PeerError
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent.orders import (
    EndTemplate,
    Exited,
    ForkDriver,
    Forked,
    ForkWorker,
    LoadedCode,
    LoadingFailed,
    NotForked,
    Order,
    OrderRefused,
    Ping,
    Pong,
    Ready,
    Report,
    SignalChild,
    WorkerSpec,
)
from quakegrid.services.agent.rules.persons import Account

PACKET_BYTES = 1 << 16
MAX_FDS = 9
# Of these, what a driver without a terminal may be given for its own use.
MAX_GIVEN = 3
# Errors for want of room in the kernel, for example for descriptors on their way; the sender tries again.
BUSY_ERRORS = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)
MAX_PID = (1 << 31) - 1
MAX_SIGNAL = 64
MAX_ID = (1 << 32) - 2  # of an account or a group
MAX_WAIT_STATUS = (1 << 16) - 1
MAX_COUNT = (1 << 63) - 1


class OrderRefusedError(PeerError):
    """A packet is no order; `fork_name` names the child that it asks for, and is None if it asks for none."""

    def __init__(self, reason: str, fork_name: str | None) -> None:
        super().__init__(reason)
        self.fork_name = fork_name


def encode_order(order: Order) -> bytes:
    """The packet of an order.

    Raises:
        PeerError: it is larger than the template would read.
    """
    match order:
        case ForkWorker(name, worker, account):
            fields = {"order": "fork_worker", "name": name, "worker": _plain(worker)}
            return _pack(fields | ({"account": _plain(account)} if account else {}))
        case ForkDriver(name, account, given_count):
            fields = {"order": "fork_driver", "name": name}
            given = {"given_count": given_count} if given_count else {}
            return _pack(fields | given | ({"account": _plain(account)} if account else {}))
        case SignalChild(pid, number):
            return _pack({"order": "signal", "pid": pid, "signal": number})
        case Ping():
            return _pack({"order": "ping"})
        case EndTemplate():
            return _pack({"order": "end"})
        case _ as unreachable:
            assert_never(unreachable)


def encode_report(report: Report) -> bytes:
    """The packet of a report.

    Raises:
        PeerError: it is larger than the agent would read.
    """
    match report:
        case Ready(state, code, duration_s):
            return _pack(
                {
                    "report": "ready",
                    "kind": state.kind.value,
                    "reason": state.reason,
                    "engine_version": code.engine_version,
                    "engine_missing": code.engine_missing,
                    "fingerprint": dict(code.fingerprint),
                    "duration_s": duration_s,
                }
            )
        case LoadingFailed(reason):
            return _pack({"report": "failed", "reason": reason})
        case Pong():
            return _pack({"report": "pong"})
        case Forked(name, pid):
            return _pack({"report": "forked", "name": name, "pid": pid})
        case NotForked(name, reason):
            return _pack({"report": "not_forked", "name": name, "reason": reason})
        case Exited(pid, status, peak_bytes):
            return _pack({"report": "exited", "pid": pid, "status": status, "peak_memory_bytes": peak_bytes})
        case OrderRefused(reason):
            return _pack({"report": "refused", "reason": reason})
        case _ as unreachable:
            assert_never(unreachable)


def send(channel: socket.socket, packet: bytes, fds: Sequence[int] = ()) -> None:
    """Send one packet with file descriptors, which stay open here.

    Raises:
        OSError: the other end is gone or does not read, or the kernel has no room.
    """
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([packet], ancillary)


def receive_order(channel: socket.socket) -> tuple[Order | None, list[int]]:
    """Receive one order and the descriptors that came along; (None, []) when the agent closed its end.

    Raises:
        OrderRefusedError: the packet is no order, or was cut; its descriptors are closed.
    """
    data, fds, is_cut = _receive(channel)
    if not data:
        close_all(fds)
        return None, []
    fields = _Fields({}, "order")
    try:
        fields = _unpack(data, "order", is_cut=is_cut)
        return _read_order(fields, len(fds)), fds
    except PeerError as exc:
        close_all(fds)
        raise OrderRefusedError(str(exc), fields.fork_name) from None


def receive_report(channel: socket.socket) -> Report | None:
    """Receive one report; None when the template closed its end. Descriptors that came along are closed.

    Raises:
        PeerError: the packet is no report, or was cut.
    """
    data, fds, is_cut = _receive(channel)
    close_all(fds)
    return _read_report(_unpack(data, "report", is_cut=is_cut)) if data else None


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


def write_memfd(name: str, data: bytes) -> int:
    """A memfd that holds `data`; the caller closes it.

    Raises:
        OSError: there is no descriptor or no memory left for it; nothing stays open.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_memfd(fd: int) -> bytes:
    """All bytes of a memfd, which is closed.

    Workers that are forked together read the same open file, so its position is not used.
    """
    try:
        size = os.fstat(fd).st_size
        chunks: list[bytes] = []
        while size > (offset := sum(map(len, chunks))):
            chunks.append(os.pread(fd, size - offset, offset))
        return b"".join(chunks)
    finally:
        os.close(fd)


class _Fields:
    """The fields of a packet, or of an object in it.

    Each read raises `PeerError` unless the field is as asked.
    """

    def __init__(self, fields: Mapping[str, object], what: str) -> None:
        self._fields, self._what = fields, what

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return name in self._fields

    def text(self, name: str) -> str:
        """A text that can be encoded in UTF-8."""
        value = self._fields.get(name)
        if isinstance(value, str) and _is_text(value):
            return value
        raise self._error(name, "a text")

    def integer(self, name: str, least: int, most: int) -> int:
        """An integer from `least` to `most`."""
        value = self._fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise self._error(name, f"an integer from {least} to {most}")

    def real(self, name: str) -> float:
        """A number with a fraction."""
        value = self._fields.get(name)
        if isinstance(value, float):
            return value
        raise self._error(name, "a number")

    def integers(self, name: str, least: int, most: int) -> tuple[int, ...]:
        """A list of integers, each from `least` to `most`."""
        values = self._fields.get(name)
        if not isinstance(values, list):
            raise self._error(name, "a list")
        items = _Fields({str(place): value for place, value in enumerate(values)}, f"{self._what}'s {name}")
        return tuple(items.integer(str(place), least, most) for place in range(len(values)))

    def texts(self, name: str) -> dict[str, str]:
        """An object whose values are texts."""
        values = self._fields.get(name)
        if not isinstance(values, dict) or not all(map(_is_text, values)):
            raise self._error(name, "an object")
        items = _Fields(values, f"{self._what}'s {name}")
        return {key: items.text(key) for key in values}

    def below(self, name: str) -> _Fields:
        """The fields of an object in the packet."""
        value = self._fields.get(name)
        if isinstance(value, dict):
            return _Fields(value, name)
        raise self._error(name, "an object")

    @property
    def fork_name(self) -> str | None:
        """The name of the child if the packet asks for one, whatever else is wrong with it."""
        kind, name = self._fields.get("order"), self._fields.get("name")
        return name if isinstance(name, str) and str(kind).startswith("fork_") else None

    def _error(self, name: str, wanted: str) -> PeerError:
        return PeerError(f"the {self._what} has no {name} that is {wanted}")


def _read_order(fields: _Fields, fd_count: int) -> Order:
    """An order that came with so many descriptors."""
    kind = fields.text("order")
    given_count = fields.integer("given_count", 1, MAX_GIVEN) if fields.has("given_count") else 0
    if fd_count not in {"fork_worker": (2, 4), "fork_driver": (6 + given_count,)}.get(kind, (0,)):
        raise PeerError(f"the order {kind[:40]!r} came with {fd_count} descriptors")
    match kind:
        case "fork_worker":
            worker = _read_worker(fields.below("worker"))
            return ForkWorker(fields.text("name"), worker, _read_account(fields))
        case "fork_driver":
            return ForkDriver(fields.text("name"), _read_account(fields), given_count)
        case "signal":
            pid = fields.integer("pid", 1, MAX_PID)
            return SignalChild(pid, fields.integer("signal", 1, MAX_SIGNAL))
        case "ping":
            return Ping()
        case "end":
            return EndTemplate()
        case _:
            raise PeerError(f"there is no order {kind[:40]!r}")


def _read_worker(fields: _Fields) -> WorkerSpec:
    return WorkerSpec(
        worker_id=fields.text("worker_id"),
        session_id=fields.integer("session_id", 0, MAX_COUNT),
        lane_endpoint=fields.text("lane_endpoint"),
        node=fields.text("node"),
        cores=fields.integers("cores", 0, MAX_COUNT),
        memory_bytes=fields.integer("memory_bytes", 0, MAX_COUNT),
        nice=fields.integer("nice", -20, 19),
        cgroup=fields.text("cgroup"),
        blob_dir=fields.text("blob_dir"),
    )


def _read_account(order: _Fields) -> Account | None:
    """The account of a child; None if the order names none."""
    if not order.has("account"):
        return None
    fields = order.below("account")
    return Account(
        name=fields.text("name"),
        uid=fields.integer("uid", 1, MAX_ID),  # never root
        gid=fields.integer("gid", 0, MAX_ID),
        home=fields.text("home"),
        groups=fields.integers("groups", 0, MAX_ID),
    )


def _read_report(fields: _Fields) -> Report:
    kind = fields.text("report")
    match kind:
        case "ready":
            return _read_ready(fields)
        case "failed":
            return LoadingFailed(fields.text("reason"))
        case "pong":
            return Pong()
        case "forked":
            return Forked(fields.text("name"), fields.integer("pid", 1, MAX_PID))
        case "not_forked":
            return NotForked(fields.text("name"), fields.text("reason"))
        case "exited":
            pid = fields.integer("pid", 1, MAX_PID)
            status = fields.integer("status", 0, MAX_WAIT_STATUS)
            return Exited(pid, status, fields.integer("peak_memory_bytes", 0, MAX_COUNT))
        case "refused":
            return OrderRefused(fields.text("reason"))
        case _:
            raise PeerError(f"there is no report {kind[:40]!r}")


def _read_ready(fields: _Fields) -> Ready:
    try:
        kind = TemplateKind(fields.text("kind"))
    except ValueError:
        raise PeerError(f"no template is {fields.text('kind')[:40]!r}") from None
    code = LoadedCode(
        fields.text("engine_version"), fields.text("engine_missing"), fields.texts("fingerprint")
    )
    return Ready(TemplateState(kind, fields.text("reason")), code, fields.real("duration_s"))


def _plain(value: WorkerSpec | Account) -> dict[str, object]:
    """The fields of a value. Not `asdict`, which copies each of them, too."""
    return {name: getattr(value, name) for name in value.__slots__}


def _pack(fields: Mapping[str, object]) -> bytes:
    packet = json.dumps(fields).encode()
    if len(packet) > PACKET_BYTES:
        raise PeerError(f"a packet of {len(packet)} bytes is larger than {PACKET_BYTES}")
    return packet


def _unpack(data: bytes, what: str, *, is_cut: bool) -> _Fields:
    """The fields of a packet that is to be an order or a report."""
    if is_cut:
        raise PeerError("a packet was cut")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise PeerError(f"a packet cannot be read: {type(exc).__name__}") from None
    if not isinstance(fields, dict):
        raise PeerError("a packet is no object with fields")
    return _Fields(fields, what)


def _receive(channel: socket.socket) -> tuple[bytes, list[int], bool]:
    """One packet, its descriptors, and whether either was cut; without bytes if the other end is closed."""
    data, fds, flags, _address = socket.recv_fds(channel, PACKET_BYTES, MAX_FDS)
    return data, list(fds), bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
