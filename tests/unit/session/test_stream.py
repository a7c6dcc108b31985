"""A session's stream from the broker, which is played in memory: admission, breaks and ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.session.options import Needs, Patience, SessionOptions
from quakegrid.session.stream import BrokerStream
from quakegrid.session.stream_rules import MOVES, StreamState
from quakegrid.session.wakeup import Wakeup
from quakegrid.settings import config
from quakegrid.testing.fake_broker import FakeBroker

SESSION = 77
LANE = "tcp://127.0.0.1:1912"
WAIT_S = 20.0
QUICK = Patience(broker_s=5.0, open_s=5.0, broker_retry_s=0.01, flush_s=0.1)
Start = Callable[..., BrokerStream]


@pytest.fixture
def settings(tmp_path: Path) -> config.Settings:
    """Of a cluster that is not there."""
    testing.write_cluster_config(tmp_path)
    return config.load_settings(tmp_path, testing.isolated_environ(tmp_path))


@pytest.fixture
def broker() -> FakeBroker:
    """A broker in memory."""
    return FakeBroker()


@pytest.fixture
def start(settings: config.Settings, broker: FakeBroker) -> Iterator[Start]:
    """Opens streams, and closes them at the end."""
    opened: list[BrokerStream] = []

    def open_stream(options: SessionOptions | None = None, patience: Patience = QUICK) -> BrokerStream:
        options = options or SessionOptions("ann", b"")
        opened.append(BrokerStream(settings, options, Wakeup(), patience, broker.connect))
        return opened[-1]

    yield open_stream
    for stream in opened:
        stream.close()


@pytest.fixture
def interrupts() -> Iterator[list[int]]:
    """The interrupts of this process, which end nothing."""
    found: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: found.append(number))
    yield found
    signal.signal(signal.SIGINT, before)


def answer_of(stream: BrokerStream) -> object:
    """What the driver hears next while it waits for its turn: the kind of an answer, or an error."""
    answer = stream.answers.get(timeout=WAIT_S)
    return answer if isinstance(answer, errors.QuakeGridError) else answer.WhichOneof("event")


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end_s = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def test_driver_hears_each_place_in_the_queue_and_its_admission(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """In their order."""
    stream = start()
    broker.tell(queued={"ahead_job_ids": [7, 8]})
    broker.tell(queued={"ahead_job_ids": [8]})
    broker.admit(settings, SESSION, LANE)

    assert [answer_of(stream) for _ in range(3)] == ["queued", "queued", "admitted"]
    assert stream.session_id == SESSION


def test_request_says_what_the_options_ask_for(start: Start, broker: FakeBroker) -> None:
    """Each of them, and who asks."""
    needs = Needs({"numpy": "2.2.6"})
    start(SessionOptions("ann", b"setup", (7, 8), max_workers=3, weight=2.0, cores_per_worker=4, needs=needs))

    request = broker.hear()

    assert (request.user_name, request.worker_setup, list(request.job_ids)) == ("ann", b"setup", [7, 8])
    assert (request.max_workers, request.weight, request.cores_per_worker) == (3, 2.0, 4)
    assert dict(request.fingerprint) == {"numpy": "2.2.6"}
    assert not request.is_local
    assert len(request.driver_nonce) == 16


def test_queued_driver_goes_on_with_the_next_broker_by_its_nonce(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """It has no session yet, and so no token."""
    stream = start()
    broker.tell(queued={})
    broker.break_stream()
    broker.admit(settings, SESSION, LANE)
    first, second = broker.hear(), broker.hear()

    assert first.driver_nonce == second.driver_nonce
    assert second.resumed_session_id == 0
    assert [answer_of(stream) for _ in range(2)] == ["queued", "admitted"]


def test_admitted_driver_shows_a_new_broker_what_it_had(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """Its session, its token and its lane's port. Nobody waits for the second admission."""
    stream = start()
    broker.admit(settings, SESSION, LANE)
    assert answer_of(stream) == "admitted"
    broker.break_stream()
    broker.admit(settings, SESSION, LANE)
    broker.hear()
    second = broker.hear()

    assert (second.resumed_session_id, second.lane_port) == (SESSION, 1912)
    assert second.resumed_token
    wait_until(lambda: stream.admission_count == 2)
    assert stream.answers.empty()


def test_admitted_driver_is_not_queued_any_more(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """A broker that says so afterwards is late."""
    stream = start()
    broker.admit(settings, SESSION, LANE)
    broker.tell(queued={"ahead_job_ids": [7]})
    broker.admit(settings, SESSION, LANE)

    assert answer_of(stream) == "admitted"
    wait_until(lambda: stream.admission_count == 2)
    assert stream.answers.empty()


def test_program_hears_at_once_that_there_is_no_broker(start: Start, broker: FakeBroker) -> None:
    """It runs no job that could wait."""
    broker.is_up = False

    assert isinstance(answer_of(start()), errors.PeerUnreachableError)


def test_calculation_says_once_that_it_waits_for_a_broker(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """And gets its turn when there is one."""
    broker.is_up = False
    said: list[str] = []
    stream = start(SessionOptions("ann", b"", (7,), needs=Needs({}, said.append)))
    wait_until(lambda: bool(said))
    time.sleep(5 * QUICK.broker_retry_s)
    broker.is_up = True
    broker.admit(settings, SESSION, LANE)

    assert answer_of(stream) == "admitted"
    assert len(said) == 1
    assert "waiting for it" in said[0]


def test_driver_gives_up_a_broker_that_does_not_come_back(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """After its patience, not before."""
    stream = start(patience=Patience(broker_s=0.2, broker_retry_s=0.01))
    broker.admit(settings, SESSION, LANE)
    assert answer_of(stream) == "admitted"
    begin_s = time.monotonic()
    broker.is_up = False
    broker.break_stream()

    assert isinstance(answer_of(stream), errors.PeerUnreachableError)
    assert time.monotonic() - begin_s >= 0.2
    with pytest.raises(errors.PeerUnreachableError):
        stream.check()


def test_patience_begins_anew_with_each_broker_that_answers(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """A break that was overcome does not count."""
    stream = start(patience=Patience(broker_s=0.8, broker_retry_s=0.01))
    for count in range(1, 4):
        broker.is_up = True
        broker.admit(settings, SESSION, LANE)
        wait_until(lambda: stream.admission_count == count)  # noqa: B023 - called at once
        broker.is_up = False
        broker.break_stream()
        time.sleep(0.3)

    stream.check()


def test_first_failure_says_why(start: Start, broker: FakeBroker) -> None:
    """What follows from it does not."""
    stream = start()
    broker.tell(failed={"reason": "its setup crashes"})
    broker.tell(failed={"reason": "and so on"})
    broker.break_stream()

    assert "its setup crashes" in str(answer_of(stream))
    stream._thread.join(WAIT_S)
    assert "its setup crashes" in str(stream.failure)
    assert stream.answers.empty()


def test_aborted_driver_is_interrupted_and_goes_on_with_no_other_broker(
    start: Start, broker: FakeBroker, settings: config.Settings, interrupts: list[int]
) -> None:
    """Though a broker that was started since would admit it."""
    stream = start()
    broker.admit(settings, SESSION, LANE)
    broker.tell(aborted={"reason": "aborted by ann"})
    broker.admit(settings, SESSION, LANE)
    broker.break_stream()
    stream._thread.join(WAIT_S)
    broker.hear()

    assert interrupts == [signal.SIGINT]
    assert stream.abort_reason == "aborted by ann"
    assert isinstance(stream.failure, errors.StateError)
    assert stream.admission_count == 1
    assert broker.requests.empty()


@pytest.mark.parametrize(("grace_s", "alarms"), [(60, [60, 0, 0]), (0, [])])
def test_kernel_ends_an_aborted_driver_that_does_not_close_its_session(
    start: Start,
    broker: FakeBroker,
    settings: config.Settings,
    interrupts: list[int],
    monkeypatch: pytest.MonkeyPatch,
    grace_s: int,
    alarms: list[int],
) -> None:
    """Where that is wanted; the alarms of all other programs are their own."""
    found: list[int] = []
    monkeypatch.setattr(signal, "alarm", found.append)
    stream = start(SessionOptions("ann", b"", hang_grace_s=grace_s))
    broker.admit(settings, SESSION, LANE)
    broker.tell(aborted={"reason": "aborted by ann"})
    broker.break_stream()
    stream._thread.join(WAIT_S)
    assert interrupts == [signal.SIGINT]
    assert found == alarms[:1]

    stream.close()
    stream.close()

    assert found == alarms


def test_closed_session_opens_no_stream_any_more(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """Also when its thread is just about to: the broker would keep workers for nobody."""
    stream = start()
    broker.admit(settings, SESSION, LANE)
    answer_of(stream)
    broker.hear()
    with stream._lock:  # the thread comes as far as this, while another one closes
        broker.break_stream()
        closing = threading.Thread(target=stream.close)
        closing.start()
        time.sleep(5 * QUICK.broker_retry_s)
    closing.join(WAIT_S)
    stream._thread.join(WAIT_S)

    if not broker.requests.empty():  # the thread was first: its stream is the one that was closed
        broker.hear()
    assert broker.requests.empty()
    assert not stream._thread.is_alive()
    assert not stream._stream.is_active()
    assert broker.closed.is_set()


def test_session_is_closed_once_and_fails_no_more(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """Whatever its broker says of it afterwards."""
    stream = start()
    broker.admit(settings, SESSION, LANE)
    answer_of(stream)

    assert stream.close()
    broker.tell(failed={"reason": "late"})
    broker.break_stream()
    stream._thread.join(WAIT_S)

    assert not stream.close()
    assert stream.failure is None


def test_session_of_a_failed_broker_is_closed_without_a_call(
    start: Start, broker: FakeBroker, settings: config.Settings
) -> None:
    """Its broker ended it."""
    stream = start()
    broker.admit(settings, SESSION, LANE)
    broker.tell(failed={"reason": "no"})
    assert answer_of(stream) == "admitted"
    answer_of(stream)

    assert stream.close()

    assert not broker.closed.is_set()


def test_no_state_leads_back_to_the_first_and_the_last_is_final() -> None:
    """The table of moves has a row for each state."""
    assert set(MOVES) == set(StreamState)
    assert not MOVES[StreamState.CLOSED]
    assert all(StreamState.OPENING not in moves for moves in MOVES.values())
    assert all(StreamState.CLOSED in MOVES[state] for state in StreamState if state is not StreamState.CLOSED)
