"""The door of a lane without sockets: messages are given to it, and what it sends is read here."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from quakegrid.services.lane.door import Door
from quakegrid.services.lane.drivers import joining
from quakegrid.services.lane.payloads import Payloads
from quakegrid.services.lane.settings import DoorSettings
from quakegrid.services.lane.tasks.events import Peer
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

CONTROL_BYTES = lane_sockets.CONTROL_BYTES
SESSION = 5
OTHER = 6
TOKEN_KEY = lane_keys.token_key("a key of this test")
BLOB_ID = b"0123456789abcdef"


def driver(session_id: int = SESSION) -> Peer:
    """The name of a session's driver."""
    return Peer(lane_names.driver_name(session_id, lane_keys.session_token(TOKEN_KEY, session_id)))


def worker(worker_id: str, session_id: int = SESSION) -> Peer:
    """The name of a worker."""
    token = lane_keys.worker_token(TOKEN_KEY, session_id, worker_id)
    return Peer(lane_names.worker_name(session_id, worker_id, token))


class FakeRouter:
    """Takes what a ROUTER would send; those of `gone` are not connected."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []
        self.gone: set[bytes] = set()

    def send_frames(self, frames: Sequence[bytes | memoryview | zmq.Frame]) -> None:
        """Take a message."""
        contents = [frame.bytes if isinstance(frame, zmq.Frame) else bytes(frame) for frame in frames]
        if contents[0] in self.gone:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        self.sent.append(contents)


class PlayedDoor:
    """A door, and both its ends: peers and broker."""

    def __init__(self, folder: Path, control: socket.socket, ours: socket.socket) -> None:
        self.router, self.ours = FakeRouter(), ours
        self.payloads = Payloads(16 << 20, str(folder))
        settings = DoorSettings(TOKEN_KEY, folder / "records", folder)
        self.door = Door(self.router.send_frames, control, self.payloads, settings)
        self.now_s = time.monotonic()
        self.door.begin_turn(self.now_s)

    def order(self, **body: object) -> None:
        """Play the broker: one order."""
        self.door.obey(lane_pb2.ControlMessage(**body).SerializeToString())  # type: ignore[arg-type]

    def open(self, session_id: int = SESSION, **options: object) -> None:
        """Open a session."""
        opening = lane_pb2.OpenLaneSession(session_id=session_id, max_attempts=2, **options)  # type: ignore[arg-type]
        self.order(open=opening)

    def take(self, peer: bytes, *frames: bytes) -> None:
        """Give any message of a peer to the door."""
        self.door.take(Peer(peer), frames[0], [zmq.Frame(frame) for frame in frames[1:]])

    def say(self, peer: bytes, *payload: bytes, **body: object) -> None:
        """Give a well-formed message of a peer to the door."""
        header = lane_pb2.LaneMessage(**body).SerializeToString()  # type: ignore[arg-type]
        self.take(peer, header, *payload)

    def turn(self, later_s: float = 0.0) -> None:
        """End a turn of the loop, and begin the next one so much later."""
        self.door.finish_turn()
        self.now_s += later_s
        self.door.begin_turn(self.now_s)

    def heard(self, peer: bytes) -> list[lane_pb2.LaneMessage]:
        """What was sent to a peer since we last asked; what was sent to others is kept."""
        mine = [frames for frames in self.router.sent if frames[0] == peer]
        self.router.sent = [frames for frames in self.router.sent if frames[0] != peer]
        return [lane_pb2.LaneMessage.FromString(frames[1]) for frames in mine]

    def told(self) -> list[lane_pb2.ControlMessage]:
        """What the broker was told since we last asked."""
        found = []
        while True:
            try:
                packet = self.ours.recv(1 << 20, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            found.append(lane_pb2.ControlMessage.FromString(packet))

    # --- what honest peers say

    def join(self, session_id: int = SESSION) -> Peer:
        """A driver joins; returns its name."""
        peer = driver(session_id)
        join = lane_pb2.Join(protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=session_id)
        self.say(peer, join=join)
        return peer

    def ready(self, worker_id: str, session_id: int = SESSION, *held: lane_pb2.Lease) -> Peer:
        """A worker joins; returns its name."""
        peer = worker(worker_id, session_id)
        told = lane_pb2.WorkerReady(
            protocol_version=lane_sockets.PROTOCOL_VERSION,
            session_id=session_id,
            worker_id=worker_id,
            node="node",
            held=held,
        )
        self.say(peer, worker_ready=told)
        return peer

    def submit(self, task_id: int, session_id: int = SESSION, **options: object) -> None:
        """The driver submits a task."""
        task = lane_pb2.SubmitTask(session_id=session_id, task_id=task_id, operation="op", **options)  # type: ignore[arg-type]
        self.say(driver(session_id), b"payload", submit_task=task)

    def finish(self, worker_id: str, task_id: int, attempt: int = 1, session_id: int = SESSION) -> None:
        """A worker sends an outcome."""
        lease = lane_pb2.Lease(session_id=session_id, task_id=task_id, attempt=attempt)
        outcome = lane_pb2.Outcome(lease=lease, worker_id=worker_id, node="node", duration_s=0.1)
        self.say(worker(worker_id, session_id), b"result", outcome=outcome)


def bodies(messages: list[lane_pb2.LaneMessage]) -> list[str | None]:
    """The kinds of messages."""
    return [message.WhichOneof("body") for message in messages]


def refusals(played: PlayedDoor, peer: bytes) -> list[str]:
    """The words of what was refused to a peer."""
    return [message.refused.reason for message in played.heard(peer) if message.HasField("refused")]


def assert_serves(played: PlayedDoor) -> None:
    """A task of either session still comes back."""
    for session_id in (SESSION, OTHER):
        name = f"healthy-{session_id}"
        peer = driver(session_id)
        played.join(session_id)
        played.submit(900_001, session_id, weight=1.7e308)
        played.ready(name, session_id)
        played.turn(joining.SETTLE_S)  # a lane in place of another one settles
        played.turn()
        played.finish(name, 900_001, 1, session_id)
        played.turn()
        assert 900_001 in [message.outcome.lease.task_id for message in played.heard(peer)]


@contextmanager
def played_door(folder: Path) -> Iterator[PlayedDoor]:
    """A door without sessions."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CONTROL_BYTES)
    with ours, theirs:
        yield PlayedDoor(folder, theirs, ours)
