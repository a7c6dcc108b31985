"""Large messages over links that are slower than a lane's heartbeats."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from quakegrid.settings import authkeys
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys

KEY = authkeys.new_authkey()
# Two seconds for the message, and a third of one for a heartbeat.
RATE_HZ = 20e6
PAYLOAD = os.urandom(1 << 20) * 40
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 100, 350
TIMEOUT_S = 20.0


class SlowLine:
    """Passes bytes on between a client and a server, in either direction no faster than it may."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.connection_count = 0
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """End it and its connections."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_over.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(self._target)
            except OSError:  # the lane is gone: hang up
                client.close()
                continue
            self.connection_count += 1
            for way in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=self._pass_on, args=way))
                self._threads[-1].start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), source, target:
            while not self._is_over.is_set():
                if not select.select([source], [], [], 0.05)[0]:
                    continue
                data = source.recv(1 << 16)
                if not data:
                    return
                target.sendall(data)
                time.sleep(len(data) / RATE_HZ)


Ends = tuple[zmq.Socket[bytes], zmq.Socket[bytes], zmq.Socket[bytes], SlowLine]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """Who lets peers in, a lane's socket and a peer's, and the line between."""
    monkeypatch.setattr(lane_sockets, "_HEARTBEAT_MS", HEARTBEAT_MS)
    monkeypatch.setattr(lane_sockets, "_HEARTBEAT_TIMEOUT_MS", HEARTBEAT_TIMEOUT_MS)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    zap = lane_sockets.open_zap(context)
    port = socket.create_server(("127.0.0.1", 0))
    address = port.getsockname()
    port.close()
    router = lane_sockets.bind_router(context, f"tcp://127.0.0.1:{address[1]}", KEY)
    line = SlowLine(address)
    dealer = lane_sockets.connect_dealer(context, line.endpoint, lane_keys.curve_keys(KEY).door, b"peer")
    try:
        assert wait_for_message(zap, router, dealer) is not None  # that it is there
        yield zap, router, dealer, line
    finally:
        line.close()
        context.destroy(linger=0)


def wait_for_message(
    zap: zmq.Socket[bytes], router: zmq.Socket[bytes], dealer: zmq.Socket[bytes]
) -> list[zmq.Frame] | None:
    """The next message of a peer, which is let in as often as it connects; None if there is none."""
    client_public = lane_keys.curve_keys(KEY).door.client_public
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        if dealer.poll(0):
            dealer.send(dealer.recv())  # the probe of a new connection
        if zap.poll(20):
            lane_sockets.answer_zap(zap, client_public)
        frames = lane_sockets.receive_frames(router)
        if frames is not None:
            return frames
    return None


def test_large_message_outlives_heartbeats(ends: Ends) -> None:
    """It takes six times as long as a peer may be silent, and arrives whole on the one connection."""
    zap, router, dealer, line = ends
    sent = [b"header", PAYLOAD, b"", PAYLOAD[: lane_sockets.PIECE_BYTES], b"end"]

    lane_sockets.send_frames(dealer, lane_sockets.cut(sent))
    received = wait_for_message(zap, router, dealer)

    assert received is not None
    assert [bytes(frame.buffer) for frame in lane_sockets.join(received[1:])] == sent
    assert line.connection_count == 1


@pytest.mark.parametrize(
    "size", [0, 1, lane_sockets.PIECE_BYTES - 1, lane_sockets.PIECE_BYTES, 2 * lane_sockets.PIECE_BYTES + 5]
)
def test_frames_are_the_same_when_joined(size: int) -> None:
    """Of whatever size; small messages are not touched."""
    frames = [b"header", memoryview(bytearray(os.urandom(size))), b"x" * size]

    pieces = lane_sockets.cut(frames)
    whole = lane_sockets.join([zmq.Frame(bytes(piece)) for piece in pieces])

    assert [bytes(frame.buffer) for frame in whole] == [bytes(frame) for frame in frames]
    assert (pieces is frames) == (size < lane_sockets.PIECE_BYTES)
    assert all(len(piece) <= lane_sockets.PIECE_BYTES for piece in pieces)
