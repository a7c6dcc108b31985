"""A worker's end of its lane, with a lane that is played by hand."""

from __future__ import annotations

import queue
import select
import threading
from collections.abc import Iterator

import pytest

from quakegrid.services.agent.worker import guard as guards
from quakegrid.services.agent.worker import holdings
from quakegrid.services.agent.worker.holdings import RefusedError
from quakegrid.services.agent.worker.inbox import Inbox
from quakegrid.services.lane import codec
from quakegrid.services.lane.tasks.events import Lease, SessionId, TaskId
from quakegrid.session import options
from quakegrid.transport import lane_sockets as lanes
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

LEASE = Lease(SessionId(1), TaskId(7), 1)
HELLO = codec.hello("")
WAIT_MS = 20_000


def run_task(lease: Lease, outcome_count: int) -> bytes:
    """The header that gives a task."""
    return codec.RunTaskEncoder(lease.session_id).encode(lease, (), outcome_count)


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
        self.say(run_task(lease, outcome_count), b"payload")


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
    lane.say(run_task(LEASE, 0), b"payload")
    lane.say(codec.drain(0))
    assert inbox.next_task() is not None
    lease = codec.encode_lease(LEASE)
    assert not lane.hear().worker_ready.held

    inbox.send_outcome(lane_pb2.Outcome(lease=lease, worker_id="w0"), [])
    assert lane.hear().outcome.lease == lease
    lane.say(HELLO)
    lane.say(codec.drain(1))

    assert inbox.next_task() is None
    assert lane.hear().worker_ready.held == [lease]  # it still listened


def test_worker_whose_session_is_over_ends_at_once(lane: PlayedLane) -> None:
    """Nobody wants its outcome."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    lane.say(run_task(LEASE, 0), b"payload")
    assert inbox.next_task() is not None
    inbox.send_outcome(lane_pb2.Outcome(lease=codec.encode_lease(LEASE), worker_id="w0"), [])

    lane.say(codec.drain(0))
    lane.say(codec.STOP)

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
        lane.say(codec.blob(b"id"), content)
    first = bytes(inbox.fetch_blob(b"id").buffer)
    inbox.read_ready()
    lane.say(codec.blob(b"id"), b"third")

    assert (first, bytes(inbox.fetch_blob(b"id").buffer)) == (b"first", b"third")


UNKNOWN = codec.refused("session 1 is not open on this lane", is_unknown_session=True)


@pytest.fixture
def is_hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that refused is told again at once."""
    monkeypatch.setattr(holdings, "REFUSED_RETRY_S", 0.01)


def hear_ready(lane: PlayedLane) -> list[int]:
    """The tasks that a worker says that it has; nothing else may come before."""
    message = lane.hear()
    assert message.WhichOneof("body") == "worker_ready"
    return [lease.task_id for lease in message.worker_ready.held]


@pytest.mark.usefixtures("is_hasty")
def test_lane_that_does_not_know_the_session_yet_is_told_again(lane: PlayedLane) -> None:
    """A broker that was started again may hear of a worker before it hears of its driver."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    lane.give(1, 0)
    finish(inbox)
    assert lane.hear().outcome.lease.task_id == 1
    found = []
    waiting = threading.Thread(target=lambda: found.append(inbox.next_task()), daemon=True)
    lane.say(HELLO)
    waiting.start()

    for _ in range(3):
        assert hear_ready(lane) == [1]
        assert lane.hear().outcome.lease.task_id == 1
        lane.say(UNKNOWN)
    lane.give(2, 1)
    waiting.join(WAIT_MS / 1000)

    assert [task.run.lease.task_id for task in found if task] == [2]


@pytest.mark.usefixtures("is_hasty")
def test_running_task_outlives_a_lane_that_does_not_know_the_session_yet(lane: PlayedLane) -> None:
    """The guard tells the lane again, and the outcome is sent when the task has ended."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    lane.give(1, 0)
    task = inbox.next_task()
    assert task is not None
    with inbox.guarded():
        lane.say(HELLO)
        for _ in range(3):
            assert hear_ready(lane) == [1]
            lane.say(UNKNOWN)
        assert hear_ready(lane) == [1]
    inbox.send_outcome(lane_pb2.Outcome(lease=task.run.lease, worker_id="w0"), [])

    assert lane.hear().outcome.lease.task_id == 1


@pytest.mark.usefixtures("is_hasty")
def test_blob_is_asked_for_again_of_a_lane_that_did_not_know_the_session(lane: PlayedLane) -> None:
    """Both the worker and its question were refused; a blob alone does not say that the worker is known."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    found = []
    waiting = threading.Thread(
        target=lambda: found.append(bytes(inbox.fetch_blob(b"id").buffer)), daemon=True
    )
    waiting.start()
    assert lane.hear().WhichOneof("body") == "get_blob"
    lane.say(UNKNOWN)

    assert hear_ready(lane) == []
    assert lane.hear().get_blob.blob_id == b"id"
    lane.say(UNKNOWN)
    lane.say(codec.blob(b"id"), b"content")
    waiting.join(WAIT_MS / 1000)
    assert found == [b"content"]

    working = threading.Thread(target=inbox.next_task, daemon=True)
    working.start()
    assert hear_ready(lane) == []
    lane.give(1, 0)
    working.join(WAIT_MS / 1000)


def test_other_refusals_end_a_worker_at_once(lane: PlayedLane) -> None:
    """Such as that its agent has said that it is dead."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    lane.say(codec.refused("worker w0 has no session 1 here"))

    with pytest.raises(RefusedError, match="w0 has no session"):
        inbox.next_task()


def test_patience_with_a_lane_ends_and_begins_anew_when_it_knew_us() -> None:
    """Workers wait for as long as drivers look for a broker, whatever went before."""
    end_s = holdings.REFUSED_PATIENCE_S
    assert end_s == options.PATIENCE.broker_s
    unknown = lane_pb2.Refused(reason="not open", is_unknown_session=True)
    patience = holdings._Patience()
    for now_s in range(int(end_s)):
        patience.refuse(unknown, now_s)
    assert patience.retry_s == holdings.REFUSED_RETRY_S
    with pytest.raises(RefusedError, match="not open"):
        patience.refuse(unknown, end_s)

    patience.end()
    patience.refuse(unknown, end_s + 1.0)
    # It refused nothing for long while a task ran: this lane is another broker's.
    patience.refuse(unknown, end_s * 3)


class CountedWaits:
    """Waits of the kernel, which tell when the guard goes to rest and how often it does something else."""

    def __init__(self) -> None:
        self.rests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.looks = 0
        self._epoll = select.epoll()

    def __call__(self) -> CountedWaits:
        """Stands for `select.epoll`."""
        return self

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        """Wait; without end is a rest."""
        if timeout_s is None:
            self.rests.put(None)
        else:
            self.looks += 1
        return self._epoll.poll(timeout_s)

    def __getattr__(self, name: str) -> object:
        return getattr(self._epoll, name)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> CountedWaits:
    """Of the next guard."""
    found = CountedWaits()
    monkeypatch.setattr(guards.select, "epoll", found)
    return found


def test_guard_sleeps_between_tasks_and_answers_for_each_long_one(
    lane: PlayedLane, waits: CountedWaits
) -> None:
    """A worker that waits does not wake, and a lane that is new hears of its next task all the same."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    for task_id in (1, 2, 3):
        waits.rests.get(timeout=WAIT_MS / 1000)
        lane.give(task_id, 0)
        task = inbox.next_task()
        assert task is not None
        with inbox.guarded():
            assert waits.rests.empty()  # one sleep for each pause
            lane.say(HELLO)
            while (message := lane.hear()).WhichOneof("body") != "worker_ready":
                pass  # the outcome before
        assert message.worker_ready.held[0].task_id == task_id
        inbox.send_outcome(lane_pb2.Outcome(lease=task.run.lease, worker_id="w0"), [])


def test_guard_sleeps_while_tasks_come_one_after_the_other(lane: PlayedLane, waits: CountedWaits) -> None:
    """It would wake thrice for each task of a second; none of these has anything for it."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    waits.rests.get(timeout=WAIT_MS / 1000)
    looks = waits.looks
    for task_id in range(1, 50):
        lane.give(task_id, task_id - 1)
        task = inbox.next_task()
        assert task is not None
        with inbox.guarded():
            pass
        inbox.send_outcome(lane_pb2.Outcome(lease=task.run.lease, worker_id="w0"), [])

    assert waits.looks == looks
    lane.give(50, 49)
    assert inbox.next_task() is not None
    with inbox.guarded():
        lane.say(HELLO)
        while lane.hear().WhichOneof("body") != "worker_ready":
            pass


def test_message_that_came_with_its_task_is_answered_while_the_task_runs(
    lane: PlayedLane, waits: CountedWaits
) -> None:
    """ZeroMQ announces nothing after what was not read."""
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    waits.rests.get(timeout=WAIT_MS / 1000)
    lane.give(1, 0)
    lane.say(HELLO)
    assert inbox.next_task() is not None
    with inbox.guarded():
        assert hear_ready(lane) == [1]


def test_refusal_while_a_task_runs_is_raised_when_the_task_ends(lane: PlayedLane) -> None:
    """The guard has nobody to tell."""
    others = set(threading.enumerate())
    inbox = Inbox(lane.dealer, 1, "w0", "node")
    (guard,) = set(threading.enumerate()) - others
    lane.give(1, 0)
    assert inbox.next_task() is not None
    lane.say(HELLO)

    def run_long_task() -> None:
        with inbox.guarded():
            assert hear_ready(lane) == [1]
            lane.say(codec.refused("worker w0 has no session 1 here"))
            guard.join(WAIT_MS / 1000)
            assert not guard.is_alive()

    with pytest.raises(RefusedError, match="has no session"):
        run_long_task()
