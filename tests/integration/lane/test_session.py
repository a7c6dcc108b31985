"""A driver's session against a broker and a lane that are played by hand, over real sockets."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from quakegrid import errors, testing
from quakegrid.internal.v1 import sessions_pb2_grpc
from quakegrid.sdk.futures import CallFuture
from quakegrid.sdk.sender import BrokenClusterError, Sender
from quakegrid.session import worker_output
from quakegrid.session.lane_tasks import LaneTask
from quakegrid.session.options import Patience, SessionOptions
from quakegrid.session.session import Session
from quakegrid.session.stream_rules import StreamState
from quakegrid.settings import config, lane_secrets
from quakegrid.testing import fake_lane
from quakegrid.testing.fake_broker import FakeBroker
from quakegrid.testing.fake_lane import Answer, FakeLane, LaneReply
from quakegrid.transport import credentials, lane_names, lane_sockets
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

SESSION = 77
WAIT_S = 20.0
QUICK = Patience(refused_retry_s=0.05, broker_retry_s=0.05)


@dataclass
class Played:
    """A broker and a lane."""

    settings: config.Settings
    broker: FakeBroker
    lane: FakeLane

    def open(self, patience: Patience = QUICK) -> Session:
        """A session that is asked for."""
        return Session(self.settings, SessionOptions("me", b""), patience)

    def admit(self) -> None:
        """The broker admits the session."""
        self.broker.admit(self.settings, SESSION, self.lane.endpoint)

    @contextmanager
    def session(self, patience: Patience = QUICK) -> Iterator[Session]:
        """An open session that has joined."""
        self.admit()
        found = self.open(patience)
        try:
            found.wait_for_turn(lambda _ahead: None)
            yield found
        finally:
            found.close()


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    """Both run."""
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    broker = FakeBroker()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    sessions_pb2_grpc.add_SessionsServicer_to_server(broker, server)
    server.add_secure_port(settings.broker_address, credentials.server_credentials(settings.authkey))
    server.start()
    try:
        with FakeLane(settings) as lane:
            yield Played(settings, broker, lane)
    finally:
        server.stop(None).wait(WAIT_S)


def test_driver_proves_who_it_is_to_the_lane(played: Played) -> None:
    """By its routing id, with what the broker gave it."""
    with played.session():
        key = lane_keys.token_key(lane_secrets.of_broker(played.settings.state_dir))
        names = [lane_names.read_name(peer, key) for peer in played.lane.peers]

    assert names == [lane_names.DriverName(SESSION)]
    assert played.broker.closed.is_set()


def knows_after(refused_count: int) -> Answer:
    """A lane that refuses a session so often, then takes it in, and has the outcome of its first task."""
    joins = 0

    def answer(message: lane_pb2.LaneMessage, payload: Sequence[bytes]) -> Iterable[LaneReply]:
        nonlocal joins
        joins += message.HasField("join")
        if joins <= refused_count:
            yield from fake_lane.refuses_session(message, payload)
        elif message.HasField("join"):
            yield fake_lane.joined(SESSION)
            yield fake_lane.outcome(SESSION, 1, error="told")

    return answer


def test_driver_tells_a_lane_again_that_does_not_know_its_session_yet(played: Played) -> None:
    """A new broker's lane may be asked before the broker has told it of the session: no task is lost."""
    with played.session() as found:
        played.lane.answer = knows_after(3)
        found.submit([b"payload"], LaneTask("op"))

        outcome = found.receive()

    told = [played.lane.hear("submit_task").submit_task.task_id for _ in range(5)]
    assert outcome.error == "told"
    assert told == [1] * 5  # as it was submitted, and before each join


def knows_from_join(number: int) -> Answer:
    """A lane that hears of a session between a task and the join behind it, and runs what it takes in.

    Like a real one it refuses the join behind a task that it refused.
    """
    joins, has_refused = 0, False

    def answer(message: lane_pb2.LaneMessage, payload: Sequence[bytes]) -> Iterable[LaneReply]:
        nonlocal joins, has_refused
        joins += message.HasField("join")
        if joins < number or (has_refused and message.HasField("join")):
            has_refused = message.HasField("submit_task")
            yield from fake_lane.refuses_session(message, payload)
        elif message.HasField("submit_task"):
            yield fake_lane.outcome(SESSION, 1, error="told")
        else:
            yield fake_lane.joined(SESSION)

    return answer


@pytest.mark.parametrize("number", [1, 3])
def test_task_that_was_refused_before_the_join_behind_it_is_told_again(played: Played, number: int) -> None:
    """So is the join: a driver that forgot the refusals would wait for ever."""
    with played.session() as found:
        played.lane.hear("join")
        played.lane.answer = knows_from_join(number)
        found.submit([b"payload"], LaneTask("op"))
        end_s = time.monotonic() + WAIT_S
        while (outcome := found.receive_ready()) is None:
            assert time.monotonic() < end_s, "the driver has forgotten the task"
            time.sleep(0.01)

    assert outcome.error == "told"


def test_driver_that_is_refused_while_it_joins_tries_again(played: Played) -> None:
    """It does not take silence, or a lane that is late, for its admission."""
    played.lane.answer = knows_after(2)

    with played.session():
        pass

    assert [played.lane.hear("join").join.session_id for _ in range(3)] == [SESSION] * 3


def test_session_that_its_lane_never_knows_ends_with_an_error(played: Played) -> None:
    """Not with silence."""
    with played.session(Patience(broker_s=0.2, refused_retry_s=0.05)) as found:
        played.lane.answer = fake_lane.refuses_session
        found.submit([b"payload"], LaneTask("op"))

        with pytest.raises(errors.QuakeGridError, match="refused this session: no "):
            found.receive()


def test_message_that_the_lane_cannot_take_is_an_error(played: Played) -> None:
    """Whatever was wrong with it, its outcome will not come."""
    with played.session() as found:
        played.lane.answer = lambda _message, _payload: [fake_lane.refused("a task has a name")]
        found.submit([b"payload"], LaneTask("op"))

        with pytest.raises(errors.QuakeGridError, match="a task has a name"):
            found.receive()


def test_many_tasks_are_cancelled_in_several_messages(played: Played) -> None:
    """No header is a mebibyte or more."""
    with played.session() as found:
        found.cancel(range(1, 400_001))

        told = [played.lane.hear("cancel_tasks") for _ in range(8)]

    assert sum(len(message.cancel_tasks.task_ids) for message in told) == 400_000
    assert max(message.ByteSize() for message in told) < lane_sockets.PIECE_BYTES


def test_header_is_never_cut(played: Played) -> None:
    """Frames of a payload are; a header of more than a mebibyte arrives whole, to be refused in words."""
    with played.session() as found:
        monster = "x" * lane_sockets.PIECE_BYTES
        message = lane_pb2.LaneMessage(refused=lane_pb2.Refused(reason=monster)).SerializeToString()
        found._socket.send([message, bytes(2 * lane_sockets.PIECE_BYTES)])

        assert played.lane.hear("refused").refused.reason == monster


def test_driver_shows_its_token_to_a_broker_that_was_started_again(played: Played) -> None:
    """The broker gave it, and believes nobody without it."""
    with played.session() as found:
        assert played.broker.hear().resumed_session_id == 0
        played.broker.break_stream()
        resumed = played.broker.hear()

        key = lane_keys.token_key(lane_secrets.of_broker(played.settings.state_dir))
        assert resumed.resumed_session_id == found.session_id == SESSION
        assert lane_keys.is_token(resumed.resumed_token, lane_keys.session_token(key, SESSION))


def test_closed_session_opens_no_stream_any_more(played: Played) -> None:
    """Also when its thread is just about to: the broker would keep workers for nobody."""
    with played.session() as found:
        played.broker.hear()
        found._stream._lock = lock = ObservedLock()  # type: ignore[assignment]
        with lock.lock:
            played.broker.break_stream()
            thread = lock.waiting.get(timeout=WAIT_S)
            found._stream._rules.state = StreamState.CLOSED
        thread.join(WAIT_S)

        assert thread.name == "session"
        assert not thread.is_alive()
        assert played.broker.requests.empty()
        found._stream._rules.state = StreamState.ADMITTED  # so that `close` does its work


class ObservedLock:
    """A lock that tells who is about to wait for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()

    def __enter__(self) -> None:
        self.waiting.put(threading.current_thread())
        self.lock.acquire()

    def __exit__(self, *_exc: object) -> None:
        self.lock.release()


def test_wake_before_the_lane_answers_does_not_keep_the_processor_busy(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read, and not lost: the first wait ends at once."""
    played.lane.answer = lambda _message, _payload: []
    played.admit()
    found = played.open(Patience(hello_s=0.3))
    poller = found._socket._poller
    poll, counted = poller.poll, list[object]()
    monkeypatch.setattr(poller, "poll", lambda wait_ms: counted.append(wait_ms) or poll(wait_ms))
    found.wake()
    try:
        with pytest.raises(errors.PeerUnreachableError, match="does not answer; does a firewall"):
            found.wait_for_turn(lambda _ahead: None)
    finally:
        found.close()

    assert len(counted) < 20


@pytest.fixture
def interrupts() -> Iterator[list[int]]:
    """The interrupts of this process, which end nothing."""
    found: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: found.append(number))
    yield found
    signal.signal(signal.SIGINT, before)


def test_aborted_driver_goes_on_with_no_other_broker(played: Played, interrupts: list[int]) -> None:
    """The broker may be killed between telling it and ending its session; the next one knows of no abort."""
    with played.session() as found:
        played.broker.hear()
        played.broker.tell(aborted={"reason": "aborted by ann"})
        played.broker.break_stream()
        played.broker.tell(failed={"reason": "it went on"})

        with pytest.raises(errors.StateError, match="the session has ended: aborted by ann"):
            found.receive()

    assert interrupts == [signal.SIGINT]
    assert played.broker.requests.empty()


def test_program_whose_job_was_aborted_waits_for_no_outcome(played: Played, interrupts: list[int]) -> None:
    """Its executor ends by itself, whatever the program makes of the interrupt, and closes the session."""
    played.admit()
    found = played.open()
    found.wait_for_turn(lambda _ahead: None)
    sender = Sender(found, 2, None)
    call: CallFuture[int] = CallFuture(sender.shared, pow, (2, 3), None)
    sender.queue.append(call)
    sender.wake()
    played.lane.hear("submit_task")
    played.broker.tell(aborted={"reason": "aborted by ann"})

    sender.stop()
    sender.thread.join(WAIT_S)

    assert not sender.thread.is_alive()
    assert isinstance(call.exception(0), BrokenClusterError)
    assert "aborted by ann" in str(call.exception(0))
    assert interrupts == [signal.SIGINT]
    assert played.broker.closed.is_set()


def test_thread_of_a_session_that_fails_ends_the_session(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that waits for outcomes would wait for ever."""
    with played.session() as found:
        monkeypatch.setattr(worker_output, "from_output", fail_to_show)
        played.broker.tell(worker_output={"session_id": SESSION, "lines": [{"text": "x"}]})

        with pytest.raises(errors.QuakeGridError, match="the terminal is gone"):
            found.receive()


def fail_to_show(_words: object) -> None:
    """What a driver prints to may be closed."""
    raise OSError("the terminal is gone")


def test_words_that_cannot_be_shown_end_nothing(played: Played, caplog: pytest.LogCaptureFixture) -> None:
    """They are worth no calculation; the session hears on."""
    played.admit()
    found = played.open()
    found.wait_for_turn(lambda _ahead: None, fail_to_show)
    try:
        played.broker.tell(worker_output={"session_id": SESSION, "lines": [{"text": "x"}]})
        played.broker.tell(failed={"reason": "enough"})

        with pytest.raises(errors.QuakeGridError, match="enough"):
            found.receive()
    finally:
        found.close()
    assert "words_lost" in caplog.text
