"""Packets between the agent and its template: a JSON object and file descriptors on a socket pair.

A packet is small; what may be large (an environment, a pickled setup) travels in a memfd beside it. The kinds
of packets and their fields are a closed list here; both ends check what comes in against it.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from quakegrid.errors import PeerError
from quakegrid.nodes.template_state import TemplateKind

PACKET_BYTES = 1 << 16
MAX_FDS = 8
# What the kernel lacks for the moment, such as room for descriptors on their way: whoever sends tries again.
BUSY_ERRORS = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)
# What a report says in words is cut to so many characters, so that it fits.
MAX_REASON_CHARS = 4000
# Fields of each kind, with their types. A packet may have more fields, which are ignored.
ORDERS: Mapping[str, Mapping[str, type]] = {
    "fork_worker": {"name": str, "worker": dict},
    "fork_driver": {"name": str},
    "signal": {"pid": int, "signal": int},
    "ping": {},
    "end": {},
}
REPORTS: Mapping[str, Mapping[str, type]] = {
    "ready": {
        "kind": str,
        "reason": str,
        "engine_version": str,
        "engine_missing": str,
        "fingerprint": dict,
        "duration_s": float,
    },
    "failed": {"reason": str},
    "pong": {},
    "forked": {"name": str, "pid": int},
    "not_forked": {"name": str, "reason": str},
    "exited": {"pid": int, "status": int, "peak_memory_bytes": int},
    "refused": {"reason": str},
}
# How many descriptors an order to fork may bring: a worker's setup, and pipes for stdout and stderr if there
# are any; a driver's request, its events, and 0, 1 and 2.
_FD_COUNTS = {"fork_worker": (1, 3), "fork_driver": (5,)}


def send_packet(channel: socket.socket, packet: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one packet with file descriptors, which stay open here.

    Raises:
        PeerError: the packet is larger than the other end would read; nothing is sent.
        OSError: the other end is gone or does not read, or the kernel has no room.
    """
    data = encode(packet)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([data], ancillary)


def encode(packet: Mapping[str, Any]) -> bytes:
    """The bytes of a packet.

    Raises:
        PeerError: there are too many.
    """
    data = json.dumps(packet).encode()
    if len(data) > PACKET_BYTES:
        raise PeerError(f"a packet of {len(data)} bytes is larger than {PACKET_BYTES}")
    return data


def receive_packet(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive one packet and the descriptors that came along; ({}, []) when the other end closed.

    Raises:
        PeerError: it is no packet, or was cut; its descriptors are closed.
    """
    data, fds, flags, _address = socket.recv_fds(channel, PACKET_BYTES, MAX_FDS)
    if not data:
        close_all(fds)
        return {}, []
    try:
        return _decode(data, flags), list(fds)
    except PeerError:
        close_all(fds)
        raise


def check_order(packet: Mapping[str, Any], fd_count: int) -> None:
    """Check an order with so many descriptors.

    Raises:
        PeerError: it is none.
    """
    kind = _check("order", packet, ORDERS)
    if fd_count not in _FD_COUNTS.get(kind, (0,)):
        raise PeerError(f"the order {kind} came with {fd_count} descriptors")


def check_report(packet: Mapping[str, Any]) -> None:
    """Check a report.

    Raises:
        PeerError: it is none.
    """
    if _check("report", packet, REPORTS) == "ready":
        words = [*packet["fingerprint"], *packet["fingerprint"].values()]
        if not all(isinstance(each, str) for each in words):
            raise PeerError("a fingerprint has a value that is no text")
        if packet["kind"] not in {kind.value for kind in TemplateKind}:
            raise PeerError(f"no template is {packet['kind'][:40]!r}")


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


def _decode(data: bytes, flags: int) -> dict[str, Any]:
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise PeerError("a packet was cut")
    try:
        packet = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise PeerError(f"a packet cannot be read: {type(exc).__name__}") from None
    if not isinstance(packet, dict) or not packet:
        raise PeerError("a packet is no object with fields")
    return packet


def _check(role: str, packet: Mapping[str, Any], kinds: Mapping[str, Mapping[str, type]]) -> str:
    """The kind of a packet whose fields are all there, each of its type."""
    kind = packet.get(role)
    if not isinstance(kind, str) or kind not in kinds:
        raise PeerError(f"there is no {role} {str(kind)[:40]!r}")
    for name, wanted in kinds[kind].items():
        # Exactly: True would pass for a number.
        if type(packet.get(name)) is not wanted:
            raise PeerError(f"the {role} {kind} has no {name} that is a {wanted.__name__}")
    return kind
