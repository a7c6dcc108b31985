"""A worker's end of its lane, with a lane that is played by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quakegrid.curve import zmq
from quakegrid.wire.v1 import lane_pb2
from services.agent.inbox import Inbox
from services.broker import lane_messages
from services.broker.lane_events import Lease, SessionId, TaskId

LEASE = Lease(SessionId(1), TaskId(7), 1)


class PlayedLane:
    """The other end of a worker's socket."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket = context.socket(zmq.PAIR)
        self.socket.bind("inproc://lane")
        self.dealer = context.socket(zmq.PAIR)
        self.dealer.connect("inproc://lane")

    def say(self, *frames: bytes) -> None:
        """Send a message."""
        self.socket.send_multipart(frames)

    def hear(self) -> lane_pb2.LaneMessage:
        """The next message."""
        return lane_pb2.LaneMessage.FromString(self.socket.recv_multipart()[0])


@pytest.fixture
def lane() -> Iterator[PlayedLane]:
    """A lane that says what the test wants."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield PlayedLane(context)
    finally:
        context.destroy(linger=0)


def test_drained_worker_ends_when_the_lane_has_its_outcome(lane: PlayedLane) -> None:
    """Its exit must not be known before what it did; else that is done again elsewhere."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    lane.say(lane_messages.run_task(LEASE, (), 0), b"payload")
    lane.say(lane_messages.drain(0))
    assert inbox.next_task() is not None
    lease = lane_messages.encode_lease(LEASE)

    inbox.send_outcome(lane_pb2.Outcome(lease=lease, worker_id="w0"), [])
    assert lane.hear().outcome.lease == lease
    lane.say(lane_messages.blob(b"b"), b"it still listened")
    lane.say(lane_messages.drain(1))

    assert inbox.next_task() is None
    assert b"b" in inbox._blobs


def test_worker_whose_session_is_over_ends_at_once(lane: PlayedLane) -> None:
    """Nobody wants its outcome."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    lane.say(lane_messages.run_task(LEASE, (), 0), b"payload")
    assert inbox.next_task() is not None
    inbox.send_outcome(lane_pb2.Outcome(lease=lane_messages.encode_lease(LEASE), worker_id="w0"), [])

    lane.say(lane_messages.drain(0))
    lane.say(lane_messages.STOP)

    assert inbox.next_task() is None
