"""A worker's end of its lane, with a lane that is played by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quakegrid import lane as lanes
from quakegrid.curve import zmq
from quakegrid.wire.v1 import lane_pb2
from services.agent.inbox import Inbox
from services.broker import lane_messages
from services.broker.lane_events import Lease, SessionId, TaskId

LEASE = Lease(SessionId(1), TaskId(7), 1)
HELLO = lane_messages.hello("")
WAIT_MS = 20_000


class PlayedLane:
    """The other end of a worker's socket."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket, self.dealer = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        self.socket.bind("inproc://lane")
        self.dealer.connect("inproc://lane")
        for end in (self.socket, self.dealer):
            end.rcvtimeo = WAIT_MS

    def say(self, *frames: bytes) -> None:
        """Send a message."""
        self.socket.send_multipart(frames)

    def hear(self) -> lane_pb2.LaneMessage:
        """The next message."""
        return lane_pb2.LaneMessage.FromString(self.socket.recv_multipart()[0])

    def give(self, task_id: int, outcome_count: int) -> None:
        """Give a task."""
        lease = Lease(SessionId(1), TaskId(task_id), 1)
        self.say(lane_messages.run_task(lease, (), outcome_count), b"payload")


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
    lane.say(HELLO)
    lane.say(lane_messages.run_task(LEASE, (), 0), b"payload")
    lane.say(lane_messages.drain(0))
    assert inbox.next_task() is not None
    lease = lane_messages.encode_lease(LEASE)
    assert not lane.hear().worker_ready.held

    inbox.send_outcome(lane_pb2.Outcome(lease=lease, worker_id="w0"), [])
    assert lane.hear().outcome.lease == lease
    lane.say(HELLO)
    lane.say(lane_messages.drain(1))

    assert inbox.next_task() is None
    assert lane.hear().worker_ready.held == [lease]  # it still listened


def test_worker_whose_session_is_over_ends_at_once(lane: PlayedLane) -> None:
    """Nobody wants its outcome."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    lane.say(lane_messages.run_task(LEASE, (), 0), b"payload")
    assert inbox.next_task() is not None
    inbox.send_outcome(lane_pb2.Outcome(lease=lane_messages.encode_lease(LEASE), worker_id="w0"), [])

    lane.say(lane_messages.drain(0))
    lane.say(lane_messages.STOP)

    assert inbox.next_task() is None


def finish(inbox: Inbox) -> None:
    """Take the next task, and send its outcome."""
    task = inbox.next_task()
    assert task is not None
    inbox.send_outcome(lane_pb2.Outcome(lease=task.run.lease, worker_id="w0"), [b"done"])


def test_outcomes_are_kept_on_a_new_connection_until_the_lane_counts_anew(lane: PlayedLane) -> None:
    """A count from before its hello may be of later outcomes than those that were lost."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    lane.say(lanes.PROBE)
    lane.say(HELLO)
    lane.give(1, 0)
    finish(inbox)
    assert lane.socket.recv() == lanes.PROBE
    assert [lane.hear().WhichOneof("body") for _ in range(2)] == ["worker_ready", "outcome"]

    lane.say(lanes.PROBE)
    lane.give(2, 1)
    finish(inbox)
    lane.say(HELLO)
    inbox.read_ready()

    assert lane.socket.recv() == lanes.PROBE
    assert lane.hear().outcome.lease.task_id == 2
    assert [lease.task_id for lease in lane.hear().worker_ready.held] == [1, 2]
    assert [lane.hear().outcome.lease.task_id for _ in range(2)] == [1, 2]


def test_blob_that_comes_twice_is_not_kept(lane: PlayedLane) -> None:
    """It was asked for on two connections; whoever wants it again asks again."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    for content in (b"first", b"second"):
        lane.say(lane_messages.blob(b"id"), content)
    first = bytes(inbox.fetch_blob(b"id").buffer)
    inbox.read_ready()
    lane.say(lane_messages.blob(b"id"), b"third")

    assert (first, bytes(inbox.fetch_blob(b"id").buffer)) == (b"first", b"third")
