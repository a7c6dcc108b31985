"""A driver's session against a broker and a lane that are played by hand, over real sockets."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from quakegrid import errors, testing
from quakegrid.internal.v1 import sessions_pb2, sessions_pb2_grpc
from quakegrid.sdk.futures import CallFuture
from quakegrid.sdk.sender import BrokenClusterError, Sender
from quakegrid.session import session
from quakegrid.session.lane_tasks import LaneTask
from quakegrid.session.session import Session
from quakegrid.settings import config
from quakegrid.transport import credentials, lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

SESSION = 77
WAIT_S = 20.0
Response = sessions_pb2.OpenSessionResponse


@dataclass
class PlayedBroker(sessions_pb2_grpc.SessionsServicer):
    """Tells each stream what the test wants; None ends it."""

    requests: queue.SimpleQueue[sessions_pb2.OpenSessionRequest] = field(default_factory=queue.SimpleQueue)
    answers: queue.SimpleQueue[Response | None] = field(default_factory=queue.SimpleQueue)
    closed: threading.Event = field(default_factory=threading.Event)

    def OpenSession(  # noqa: N802
        self, request: sessions_pb2.OpenSessionRequest, context: grpc.ServicerContext
    ) -> Iterator[Response]:
        """A stream."""
        self.requests.put(request)
        context.send_initial_metadata(())
        while context.is_active():
            try:
                answer = self.answers.get(timeout=0.05)
            except queue.Empty:
                continue
            if answer is None:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the test wants it")
            else:
                yield answer

    def FlushSessionOutput(  # noqa: N802
        self,
        request: sessions_pb2.FlushSessionOutputRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> sessions_pb2.FlushSessionOutputResponse:
        """Nobody printed anything."""
        self.answers.put(Response(output_flushed={"session_id": request.session_id}))
        return sessions_pb2.FlushSessionOutputResponse()

    def CloseSession(  # noqa: N802
        self,
        request: sessions_pb2.CloseSessionRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> sessions_pb2.CloseSessionResponse:
        """The driver's end."""
        self.closed.set()
        return sessions_pb2.CloseSessionResponse()


class PlayedLane:
    """A ROUTER, and a thread that answers as the test wants.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: config.Settings) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = lane_sockets.open_zap(self.context)
        self.endpoint = f"tcp://127.0.0.1:{settings.lane_ports[0]}"
        self._router = lane_sockets.bind_router(self.context, self.endpoint, settings.authkey)
        self._public = credentials.curve_keys(settings.authkey).client_public
        self.answer: Callable[[str], list[lane_pb2.LaneMessage]] = answer_join
        self.heard: queue.SimpleQueue[tuple[str, lane_pb2.LaneMessage]] = queue.SimpleQueue()
        self.peers: set[bytes] = set()
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and free the port."""
        self._is_over = True
        self._thread.join(WAIT_S)
        self.context.destroy(linger=0)

    def hear(self, body: str) -> lane_pb2.LaneMessage:
        """The next message of this kind."""
        while True:
            kind, message = self.heard.get(timeout=WAIT_S)
            if kind == body:
                return message

    def _run(self) -> None:
        poller = zmq.Poller()
        for source in (self._zap, self._router):
            poller.register(source, zmq.POLLIN)
        while not self._is_over:
            ready = dict(poller.poll(20))
            if self._zap in ready:
                lane_sockets.answer_zap(self._zap, self._public)
            if self._router in ready:
                self._take(*self._router.recv_multipart())

    def _take(self, peer: bytes, header: bytes, *_payload: bytes) -> None:
        self.peers.add(peer)
        if header == lane_sockets.PROBE:
            hello = lane_pb2.Hello(protocol_version=lane_sockets.PROTOCOL_VERSION)
            self._router.send_multipart([peer, lane_pb2.LaneMessage(hello=hello).SerializeToString()])
            return
        message = lane_pb2.LaneMessage.FromString(header)
        body = message.WhichOneof("body") or ""
        self.heard.put((body, message))
        for answer in self.answer(body):
            self._router.send_multipart([peer, answer.SerializeToString()])


def answer_join(body: str) -> list[lane_pb2.LaneMessage]:
    """A lane that knows the session."""
    joined = lane_pb2.Joined(session_id=SESSION)
    return [lane_pb2.LaneMessage(joined=joined)] if body == "join" else []


def refuse(body: str) -> list[lane_pb2.LaneMessage]:
    """A lane that does not know the session."""
    refused = lane_pb2.Refused(reason=f"no {body} here", is_unknown_session=True)
    return [lane_pb2.LaneMessage(refused=refused)]


@dataclass
class Played:
    """A broker and a lane."""

    settings: config.Settings
    broker: PlayedBroker
    lane: PlayedLane

    def admit(self) -> None:
        """The broker admits the session."""
        token = credentials.session_token(credentials.token_key(self.settings.authkey), SESSION)
        admitted = sessions_pb2.SessionAdmitted(
            session_id=SESSION, lane_endpoint=self.lane.endpoint, core_count=2, session_token=token
        )
        self.broker.answers.put(Response(admitted=admitted))

    @contextmanager
    def session(self) -> Iterator[Session]:
        """An open session that has joined."""
        self.admit()
        found = Session(self.settings, (), user_name="me", worker_setup=b"")
        try:
            found.wait_for_turn(lambda _ahead: None)
            yield found
        finally:
            found.close()


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    """Both run; drivers are quick to try again."""
    monkeypatch.setattr(session, "REFUSED_RETRY_S", 0.05)
    monkeypatch.setattr(session, "BROKER_RETRY_S", 0.05)
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    broker = PlayedBroker()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    sessions_pb2_grpc.add_SessionsServicer_to_server(broker, server)
    server.add_secure_port(settings.broker_address, credentials.server_credentials(settings.authkey))
    server.start()
    played_lane = PlayedLane(settings)
    try:
        yield Played(settings, broker, played_lane)
    finally:
        played_lane.stop()
        server.stop(None).wait(WAIT_S)


def test_driver_proves_who_it_is_to_the_lane(played: Played) -> None:
    """By its routing id, with what the broker gave it."""
    with played.session():
        key = credentials.token_key(played.settings.authkey)
        names = [lane_names.read_name(peer, key) for peer in played.lane.peers]

    assert names == [lane_names.DriverName(SESSION)]
    assert played.broker.closed.is_set()


def knows_after(refused_count: int) -> Callable[[str], list[lane_pb2.LaneMessage]]:
    """A lane that refuses a session so often, then takes it in, and has the outcome of its first task."""
    joins = 0

    def answer(body: str) -> list[lane_pb2.LaneMessage]:
        nonlocal joins
        joins += body == "join"
        if joins <= refused_count:
            return refuse(body)
        lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
        outcome = lane_pb2.LaneMessage(outcome=lane_pb2.Outcome(lease=lease, error="told"))
        return [*answer_join(body), outcome] if body == "join" else []

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


def knows_from_join(number: int) -> Callable[[str], list[lane_pb2.LaneMessage]]:
    """A lane that hears of a session between a task and the join behind it, and runs what it takes in."""
    joins = 0

    def answer(body: str) -> list[lane_pb2.LaneMessage]:
        nonlocal joins
        joins += body == "join"
        if joins < number:
            return refuse(body)
        lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
        outcome = lane_pb2.LaneMessage(outcome=lane_pb2.Outcome(lease=lease, error="told"))
        return [outcome] if body == "submit_task" else answer_join(body)

    return answer


@pytest.mark.parametrize("number", [1, 3])
def test_task_that_was_refused_before_the_join_behind_it_is_told_again(played: Played, number: int) -> None:
    """The join is confirmed, the task is not: a driver that forgot the refusal would wait for ever."""
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


def test_session_that_its_lane_never_knows_ends_with_an_error(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with silence."""
    monkeypatch.setattr(session, "BROKER_PATIENCE_S", 0.2)
    with played.session() as found:
        played.lane.answer = refuse
        found.submit([b"payload"], LaneTask("op"))

        with pytest.raises(errors.QuakeGridError, match="refused this session: no "):
            found.receive()


def test_message_that_the_lane_cannot_take_is_an_error(played: Played) -> None:
    """Whatever was wrong with it, its outcome will not come."""
    with played.session() as found:
        refused = lane_pb2.LaneMessage(refused=lane_pb2.Refused(reason="a task has a name"))
        played.lane.answer = lambda _body: [refused]
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
        found._send([message, bytes(2 * lane_sockets.PIECE_BYTES)])

        assert played.lane.hear("refused").refused.reason == monster


def test_driver_shows_its_token_to_a_broker_that_was_started_again(played: Played) -> None:
    """The broker gave it, and believes nobody without it."""
    with played.session() as found:
        assert played.broker.requests.get(timeout=WAIT_S).resumed_session_id == 0
        played.broker.answers.put(None)
        resumed = played.broker.requests.get(timeout=WAIT_S)

        key = credentials.token_key(played.settings.authkey)
        assert resumed.resumed_session_id == found.session_id == SESSION
        assert credentials.is_token(resumed.resumed_token, credentials.session_token(key, SESSION))


def test_closed_session_opens_no_stream_any_more(played: Played) -> None:
    """Also when its thread is just about to: the broker would keep workers for nobody."""
    with played.session() as found:
        played.broker.requests.get(timeout=WAIT_S)
        found._stream_lock = lock = ObservedLock()  # type: ignore[assignment]
        with lock.lock:
            played.broker.answers.put(None)
            thread = lock.waiting.get(timeout=WAIT_S)
            found._closed.set()
        thread.join(WAIT_S)

        assert thread.name == "session"
        assert not thread.is_alive()
        assert played.broker.requests.empty()
        found._closed.clear()  # so that `close` does its work


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
    monkeypatch.setattr(session, "HELLO_TIMEOUT_S", 0.3)
    played.lane.answer = lambda _body: []
    played.admit()
    found = Session(played.settings, (), user_name="me", worker_setup=b"")
    poll, counted = found._poller.poll, list[object]()
    monkeypatch.setattr(found._poller, "poll", lambda wait_ms: counted.append(wait_ms) or poll(wait_ms))
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
        played.broker.requests.get(timeout=WAIT_S)
        played.broker.answers.put(Response(aborted={"reason": "aborted by ann"}))
        played.broker.answers.put(None)
        played.broker.answers.put(Response(failed={"reason": "it went on"}))

        with pytest.raises(errors.StateError, match="the session has ended: aborted by ann"):
            found.receive()

    assert interrupts == [signal.SIGINT]
    assert played.broker.requests.empty()


def test_program_whose_job_was_aborted_waits_for_no_outcome(played: Played, interrupts: list[int]) -> None:
    """Its executor ends by itself, whatever the program makes of the interrupt, and closes the session."""
    played.admit()
    found = Session(played.settings, (), user_name="me", worker_setup=b"")
    found.wait_for_turn(lambda _ahead: None)
    sender = Sender(found, 2, None)
    call: CallFuture[int] = CallFuture(sender.shared, pow, (2, 3), None)
    sender.queue.append(call)
    sender.wake()
    played.lane.hear("submit_task")
    played.broker.answers.put(Response(aborted={"reason": "aborted by ann"}))

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
        monkeypatch.setattr(session.worker_words, "from_output", fail_to_show)
        played.broker.answers.put(Response(worker_output={"session_id": SESSION, "lines": [{"text": "x"}]}))

        with pytest.raises(errors.QuakeGridError, match="the terminal is gone"):
            found.receive()


def fail_to_show(_words: object) -> None:
    """What a driver prints to may be closed."""
    raise OSError("the terminal is gone")


def test_words_that_cannot_be_shown_end_nothing(played: Played, caplog: pytest.LogCaptureFixture) -> None:
    """They are worth no calculation; the session hears on."""
    played.admit()
    found = Session(played.settings, (), user_name="me", worker_setup=b"")
    found.wait_for_turn(lambda _ahead: None, fail_to_show)
    try:
        played.broker.answers.put(Response(worker_output={"session_id": SESSION, "lines": [{"text": "x"}]}))
        played.broker.answers.put(Response(failed={"reason": "enough"}))

        with pytest.raises(errors.QuakeGridError, match="enough"):
            found.receive()
    finally:
        found.close()
    assert "words_lost" in caplog.text
