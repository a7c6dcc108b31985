"""Connections of peers that misbehave: many at once, and always closed."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence

CONNECT_S = 10.0
# A service may wait longer for the rest of a handshake; who wants to see that counts descriptors.
ANSWER_S = 1.0
Address = tuple[str, int]


def deliver(address: Address, contents: Sequence[bytes], timeout_s: float = ANSWER_S) -> int:
    """Send each of some contents on a connection of its own, and read until the service closes all of them.

    The connections are open at the same time; each is shut down for writing after its content.

    Returns:
        How many connections the service closed in time.
    Raises:
        OSError: nobody listens there.
    """
    with contextlib.ExitStack() as stack:
        poller, waiting = select.poll(), {}
        for content in contents:
            connection = stack.enter_context(socket.create_connection(address, CONNECT_S))
            connection.settimeout(CONNECT_S)
            with contextlib.suppress(OSError):  # it may have had enough before the end
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            waiting[connection.fileno()] = connection
            poller.register(connection, select.POLLIN | select.POLLHUP)
        end_s = time.monotonic() + timeout_s
        while waiting and time.monotonic() < end_s:
            for number, _ in poller.poll(50):
                if not _read(waiting[number]):
                    poller.unregister(number)
                    del waiting[number]
        return len(contents) - len(waiting)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer if the peer closes."""
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < count and (chunk := connection.recv(count - len(data))):
            data += chunk
    return data


def drain(connection: socket.socket, limit: int = 1 << 20) -> None:
    """Read until the peer closes, or says nothing for the connection's time-out."""
    with contextlib.suppress(OSError):
        while limit > 0 and (chunk := connection.recv(1 << 16)):
            limit -= len(chunk)


def _read(connection: socket.socket) -> bool:
    """Read once; whether there may be more."""
    try:
        return bool(connection.recv(1 << 16))
    except OSError:
        return False
