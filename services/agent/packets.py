"""Packets between the agent and its template: a JSON object and file descriptors on a socket pair.

A packet is small; what may be large (an environment, a pickled setup) travels in a memfd beside it.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

PACKET_BYTES = 1 << 16
MAX_FDS = 8


def send_packet(channel: socket.socket, packet: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one packet with file descriptors, which stay open here."""
    data = json.dumps(packet).encode()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([data], ancillary)


def receive_packet(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive one packet and the descriptors that came along; ({}, []) when the other end closed."""
    data, fds, _flags, _address = socket.recv_fds(channel, PACKET_BYTES, MAX_FDS)
    return (json.loads(data) if data else {}), list(fds)


def write_memfd(name: str, data: bytes) -> int:
    """A memfd that holds `data`; the caller closes it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
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
