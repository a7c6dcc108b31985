"""A lane's port and peers without the key."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from quakegrid.settings import authkeys
from quakegrid.transport import lane_sockets as lanes
from quakegrid.transport.fast_zmq import zmq

GREETING_BYTES = 64
GREETING = (b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"CURVE".ljust(20, b"\0")).ljust(
    GREETING_BYTES, b"\0"
)
LONG_COMMAND = 6
MEBIBYTE = bytes(1 << 20)


@pytest.fixture
def port() -> Iterator[int]:
    """Of a router as lanes have it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    zap = lanes.open_zap(context)
    router = lanes.bind_router(context, "tcp://127.0.0.1:0", authkeys.new_authkey())
    endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
    yield int(endpoint.rpartition(":")[2])
    router.close()
    zap.close()
    context.term()


def sent_bytes(port: int, announced_bytes: int, most_bytes: int) -> int:
    """How much of a frame a lane takes from somebody who has proved nothing."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(GREETING)
        seen = b""
        while len(seen) < GREETING_BYTES:
            seen += connection.recv(GREETING_BYTES)
        count = 0
        try:
            connection.sendall(bytes([LONG_COMMAND]) + struct.pack(">Q", announced_bytes))
            while count < most_bytes:
                connection.sendall(MEBIBYTE)
                count += len(MEBIBYTE)
        except ConnectionError:
            pass
        return count


@pytest.mark.parametrize("announced_bytes", [8 << 30, 1 << 40, lanes.LARGEST_FRAME_BYTES + 1])
def test_huge_frame_of_a_stranger_is_not_taken(port: int, announced_bytes: int) -> None:
    """Announced before the handshake, it would be kept in the lane's memory."""
    most_bytes = 256 << 20

    count = sent_bytes(port, announced_bytes, most_bytes)

    assert count < most_bytes // 2  # what the kernel's buffers hold


def test_largest_legal_piece_passes() -> None:
    """What is sent in pieces never meets the limit."""
    assert 2 * lanes.PIECE_BYTES < lanes.LARGEST_FRAME_BYTES
