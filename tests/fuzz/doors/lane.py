"""A lane: messages of a peer that has the key, with and without a session of its own."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Sequence
from typing import Any, ClassVar

from quakegrid.internal.v1 import sessions_pb2, sessions_pb2_grpc
from quakegrid.settings import lane_secrets
from quakegrid.transport import grpc_channels, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2
from tests.fuzz import values
from tests.fuzz.door import Door
from tests.fuzz.scenes import ClusterScene

KINDS = range(4)
WAIT_MS = 10_000
OPEN_S = 20.0
# Messages for a lane are tried more often than others.
_FOR_A_LANE = (
    "join",
    "submit_task",
    "worker_ready",
    "outcome",
    "cancel_tasks",
    "put_blob",
    "received",
    "get_blob",
    "task_returned",
)


def names_of(admitted: sessions_pb2.SessionAdmitted) -> list[bytes]:
    """The names of the peers: nobody, its session's driver, another without a proof, a worker of it."""
    session_id = admitted.session_id
    named = b"%d %s" % (session_id, getattr(admitted, "session_token", "").encode())
    return [b"fuzz", b"driver " + named, b"driver %d x" % (session_id + 1), b"worker " + named + b" w"]


class LaneMessages(Door):
    """Random messages with all their fields, odd frames, and sessions, leases and tokens of others.

    The peer knows the number of the neighbour's session, and has a session and a token of its own.
    """

    name: ClassVar[str] = "lane-messages"
    neighbours: ClassVar[tuple[str, ...]] = ("lane",)
    log_bytes_each: ClassVar[int] = 400
    batch_count: ClassVar[int] = 100
    test_count: ClassVar[int] = 3000

    def __init__(self) -> None:
        self._facts: dict[str, list[Any]] = {
            "session_id": [0],
            "protocol_version": [lane_sockets.PROTOCOL_VERSION],
            "task_id": [0, 1, 2, 3],
            "attempt": [0, 1, 2],
            "worker_id": ["w", "w2", "worker"],
            "blob_id": [bytes(16), b"\1" * 16, b"", bytes(200)],
            "byte_count": [-1, 0, 1, 1 << 20, -(1 << 62), 1 << 62],
        }

    def make(self, chance: random.Random) -> tuple[int, list[bytes]]:
        """Which peer says what."""
        return chance.randrange(len(KINDS)), [self._header(chance), *self._frames(chance)]

    def open(self, scene: ClusterScene) -> None:
        """Open a session without workers on the neighbour's lane, and connect."""
        status = scene.nodes.status()
        (theirs,) = [session.session_id for session in status.sessions]
        self._channel = grpc_channels.open_channel(scene.settings.broker_address, scene.settings.authkey)
        request = sessions_pb2.OpenSessionRequest(
            user_name="fuzz", host=socket.gethostname(), pid=os.getpid(), is_local=True
        )
        self._stream = sessions_pb2_grpc.SessionsStub(self._channel).OpenSession(request)
        admitted = next(each.admitted for each in self._stream if each.HasField("admitted"))
        for field, value in admitted.ListFields():
            self._facts[field.name] = [value]
        self._facts["session_id"] += [theirs, theirs + 1, 0]
        lanes = {f"tcp://127.0.0.1:{each.port}" for each in status.lanes if each.session_count}
        endpoints = sorted(lanes | {admitted.lane_endpoint})
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        door = lane_keys.curve_keys(lane_secrets.of_broker(scene.settings.state_dir)).door
        self._peers = [
            lane_sockets.connect_dealer(self._context, endpoint, door, name)
            for endpoint in endpoints
            for name in names_of(admitted)
        ]
        for peer in self._peers:
            peer.setsockopt(zmq.SNDTIMEO, WAIT_MS)
            self._greet(peer)

    def send(self, batch: Sequence[tuple[int, list[bytes]]]) -> None:
        """Send all to each lane, then wait until the lanes have read so far; answers are dropped."""
        for number, frames in batch:
            for peer in self._peers[number :: len(KINDS)]:
                peer.send_multipart(frames)
        for peer in self._peers:
            self._greet(peer)

    def close(self) -> None:
        """Leave."""
        for peer in self._peers:
            peer.close(linger=0)
        self._peers = []
        self._stream.cancel()
        self._channel.close()
        self._context.term()

    def _greet(self, peer: zmq.Socket[bytes]) -> None:
        """Say that we are there and wait for the answer: what was sent before has been read then."""
        peer.send(lane_sockets.PROBE)
        while peer.poll(WAIT_MS):
            header, *_ = peer.recv_multipart()
            if header and lane_pb2.LaneMessage.FromString(header).HasField("hello"):
                return
        raise OSError("the lane does not greet")

    def _header(self, chance: random.Random) -> bytes:
        kind = chance.random()
        if kind < 0.03:
            return chance.randbytes(chance.choice((1, 10, 1000)))
        message = lane_pb2.LaneMessage()
        if kind < 0.9:
            body = getattr(message, chance.choice(_FOR_A_LANE))
            body.SetInParent()
            values.fill(chance, body, self._facts, 1)
        else:
            values.fill(chance, message, self._facts)
        content = values.serialize(message)
        return values.mutate(chance, content) if chance.random() < 0.05 else content

    def _frames(self, chance: random.Random) -> list[bytes]:
        kind = chance.random()
        if kind < 0.4:
            return []
        if kind < 0.99:
            return [values.data(chance) for _ in range(chance.choice((1, 1, 2, 5)))]
        whole, end = bytes(lane_sockets.PIECE_BYTES), b"end"
        return chance.choice(([whole], [whole, end], [end, whole], [b""] * 2000))
