"""A session between a broker in memory and a played lane: how it joins, what it tells again, how it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.session.lane_tasks import LaneTask
from quakegrid.session.options import Patience, SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from quakegrid.testing import fake_lane
from quakegrid.testing.fake_broker import FakeBroker
from quakegrid.testing.fake_lane import Answer, FakeLane, LaneReply
from quakegrid.transport import lane_sockets
from quakegrid.wire.v1 import lane_pb2
from tests.support.nodes import wait_until

SESSION = 77
QUICK = Patience(hello_s=10.0, broker_s=10.0, broker_retry_s=0.01, refused_retry_s=0.01, flush_s=0.1)


@dataclass
class Played:
    """A broker and a lane."""

    settings: config.Settings
    broker: FakeBroker
    lane: FakeLane

    def open(self, patience: Patience = QUICK) -> Session:
        """A session that is asked for."""
        return Session(self.settings, SessionOptions("me", b""), patience, self.broker.connect)

    def admit(self) -> None:
        """The broker admits the session."""
        self.broker.admit(self.settings, SESSION, self.lane.endpoint)

    def joined(self, patience: Patience = QUICK) -> Session:
        """A session that has joined its lane."""
        self.admit()
        found = self.open(patience)
        found.wait_for_turn(lambda _ahead: None)
        return found


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    """Both are there."""
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    with FakeLane(settings) as lane:
        yield Played(settings, FakeBroker(), lane)


@pytest.fixture
def session(played: Played) -> Iterator[Session]:
    """A session that has joined its lane."""
    found = played.joined()
    yield found
    found.close()


def runs_tasks(message: lane_pb2.LaneMessage, payload: Sequence[bytes]) -> Iterable[LaneReply]:
    """A lane whose workers give each payload back."""
    if message.HasField("submit_task"):
        yield fake_lane.outcome(SESSION, message.submit_task.task_id, payload)
    yield from fake_lane.knows_session(message, payload)


def knows_from_join(number: int) -> Answer:
    """A lane that refuses a session until it was told of it so often, and the join behind a refused task."""
    joins, has_refused = 0, False

    def answer(message: lane_pb2.LaneMessage, payload: Sequence[bytes]) -> Iterable[LaneReply]:
        nonlocal joins, has_refused
        joins += message.HasField("join")
        is_refused = joins < number or (has_refused and message.HasField("join"))
        has_refused = is_refused and message.HasField("submit_task")
        return (fake_lane.refuses_session if is_refused else runs_tasks)(message, payload)

    return answer


def test_driver_that_waits_hears_of_its_place_and_joins(played: Played) -> None:
    """Late, after the others."""
    ahead: list[list[int]] = []
    session = played.open()
    played.broker.tell(queued={"ahead_job_ids": [7, 8]})
    played.broker.tell(queued={"ahead_job_ids": [8]})
    played.admit()

    session.wait_for_turn(lambda job_ids: ahead.append(list(job_ids)))

    assert ahead == [[7, 8], [8]]
    assert (session.session_id, session.core_count) == (SESSION, 2)
    assert played.lane.hear("join").join.session_id == SESSION
    session.close()


def test_payload_of_any_size_comes_back_whole(played: Played, session: Session) -> None:
    """Frames are cut on their way there and on their way back."""
    played.lane.answer = runs_tasks
    frames = [b"head", bytes(3 * lane_sockets.PIECE_BYTES), b"", b"tail"]

    task_id = session.submit(frames, LaneTask("op"))
    outcome = session.receive()

    assert outcome.task_id == task_id == 1
    assert [bytes(frame.buffer) for frame in outcome.frames] == frames


def test_task_is_told_again_until_the_lane_knows_the_session(played: Played, session: Session) -> None:
    """A new broker's lane may hear of the session between the task and the join that follows it."""
    played.lane.hear("join")
    played.lane.answer = knows_from_join(3)

    session.submit([b"payload"], LaneTask("op"))

    assert session.receive().task_id == 1
    kinds = [played.lane.heard.get(timeout=1.0).WhichOneof("body") for _ in range(8)]
    assert kinds == ["submit_task", *["submit_task", "join"] * 3, "submit_task"]


def test_join_that_is_refused_is_repeated(played: Played) -> None:
    """Silence, or a lane that is late, is no admission."""
    played.lane.answer = knows_from_join(3)

    played.joined().close()

    assert [played.lane.hear("join").join.session_id for _ in range(3)] == [SESSION] * 3


def test_session_that_its_lane_never_knows_ends_with_an_error(played: Played) -> None:
    """Not with silence, and not before its patience ends."""
    played.lane.answer = fake_lane.refuses_session
    played.admit()
    session = played.open(Patience(broker_s=0.2, refused_retry_s=0.01))

    with pytest.raises(errors.QuakeGridError, match="refused this session: no join here"):
        session.wait_for_turn(lambda _ahead: None)

    session.close()
    assert len(played.lane.peers) == 1


def test_lane_that_says_nothing_is_given_up(played: Played) -> None:
    """With what may be the cause."""
    played.lane.answer = lambda _message, _payload: []
    played.admit()
    session = played.open(Patience(hello_s=0.1))

    with pytest.raises(errors.PeerUnreachableError, match="does a firewall let through"):
        session.wait_for_turn(lambda _ahead: None)

    session.close()


def test_lane_of_another_version_is_an_error(played: Played) -> None:
    """Which names both versions."""
    played.lane.protocol_version = 99
    played.admit()
    session = played.open()

    with pytest.raises(errors.PeerError, match=f"version 99 .* version {lane_sockets.PROTOCOL_VERSION}"):
        session.wait_for_turn(lambda _ahead: None)

    session.close()


def test_lane_that_refused_is_told_everything_as_soon_as_a_new_broker_admits_the_session(
    played: Played,
) -> None:
    """Without the pause: the lane knows the session now."""
    session = played.joined(Patience(broker_s=90.0, broker_retry_s=0.01, refused_retry_s=60.0, flush_s=0.1))
    played.lane.hear("join")
    played.lane.answer = fake_lane.refuses_session
    session.submit([b"payload"], LaneTask("op"))
    played.lane.hear("submit_task")
    while session._lane._retelling.due_s == math.inf:  # it has not heard of the refusal yet
        assert session.receive_ready() is None
    played.lane.answer = runs_tasks

    played.broker.break_stream()
    played.admit()

    assert session.receive().task_id == 1
    assert played.lane.hear("submit_task").submit_task.task_id == 1
    assert played.lane.hear("join").join.session_id == SESSION
    session.close()


def test_lane_that_refused_nothing_is_told_nothing_twice(played: Played, session: Session) -> None:
    """What it did since, it would do again: the outcomes may be on their way when it is told the tasks."""
    played.lane.hear("join")
    session.submit([b"one"], LaneTask("op"))
    played.broker.break_stream()
    played.admit()
    wait_until(lambda: session._stream.admission_count == 2)
    played.lane.answer = runs_tasks

    assert session.receive_ready() is None
    session.submit([b"two"], LaneTask("op"))

    assert session.receive().task_id == 2
    kinds = [played.lane.heard.get(timeout=1.0) for _ in range(2)]
    assert [message.submit_task.task_id for message in kinds] == [1, 2]
    assert played.lane.heard.empty()


def test_failure_ends_a_wait_and_every_call_after_it(played: Played, session: Session) -> None:
    """Whatever the driver does next."""
    session.submit([b"payload"], LaneTask("op"))
    played.broker.tell(failed={"reason": "its setup crashes"})

    for call in (session.receive, session.receive_ready, lambda: session.submit([b"x"], LaneTask("op"))):
        with pytest.raises(errors.QuakeGridError, match="its setup crashes"):
            call()


def test_task_that_the_lane_gives_up_has_its_reasons(played: Played, session: Session) -> None:
    """One a worker; attempt 0 is a task that the lane did not take in."""
    for task_id, attempt in ((1, 2), (2, 0)):
        session.submit([b"payload"], LaneTask("op"))
        lease = lane_pb2.Lease(session_id=SESSION, task_id=task_id, attempt=attempt)
        failed = lane_pb2.TaskFailed(lease=lease, operation="op", reasons=["one", "two"][: attempt or 1])
        played.lane.hear("submit_task")
        played.lane.say(LaneReply(lane_pb2.LaneMessage(task_failed=failed)))

    given_up, not_taken = session.receive(), session.receive()

    assert given_up.reasons == ("one", "two")
    assert "ended its worker 2 times" in given_up.error
    assert not_taken.reasons == ()
    assert not_taken.error == "task 2 (op): one"


def test_cancelled_task_has_no_outcome(played: Played, session: Session) -> None:
    """Though it was on its way."""
    first, second = (session.submit([b"payload"], LaneTask("op")) for _ in range(2))
    session.cancel([first])
    played.lane.hear("cancel_tasks")

    for task_id in (first, second):
        played.lane.say(fake_lane.outcome(SESSION, task_id))

    assert session.receive().task_id == second
    assert session.receive_ready() is None


def test_close_waits_for_the_last_lines_and_happens_once(played: Played, session: Session) -> None:
    """Nothing is sent after it."""
    session.close()
    session.close()
    session.cancel([1])

    assert played.broker.flush_count == 1
    assert played.broker.closed.is_set()


@pytest.mark.parametrize(
    "end", [FakeBroker.break_stream, lambda broker: broker.tell(failed={"reason": "no"})]
)
def test_session_that_never_had_its_turn_is_closed_without_a_call(
    played: Played, end: Callable[[FakeBroker], None]
) -> None:
    """There is nothing to flush and nothing to close."""
    session = played.open()
    end(played.broker)
    with pytest.raises(errors.QuakeGridError):
        session.wait_for_turn(lambda _ahead: None)

    session.close()

    assert played.broker.flush_count == 0
    assert not played.broker.closed.is_set()
