"""No future of an executor stays pending, whatever its session does; the session is played by hand."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.blobs.table import BlobTable
from quakegrid.sdk.futures import CallFuture
from quakegrid.sdk.sender import BrokenClusterError, Sender
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask
from quakegrid.transport.fast_zmq import zmq

WAIT_S = 60.0
FAILURE = errors.QuakeGridError("the broker ended it")


class PlayedSession:
    """A session whose workers run chunks at once, until it fails at the place that a test wants.

    Args:
        fails_in: name of the method that raises `failure` from then on; "" for none.
        failure: what it raises.
    """

    def __init__(self, fails_in: str = "", failure: BaseException = FAILURE) -> None:
        self.blobs = BlobTable()
        self.fails_in, self.failure = fails_in, failure
        self.abort_reason = ""
        self.answers_nothing = False
        self.is_closed = False
        self.change: Callable[[list[zmq.Frame]], list[zmq.Frame]] = lambda frames: frames
        self._wakeup = threading.Event()
        self._outcomes: list[LaneOutcome] = []
        self._count = 0

    def fail(self, method: str) -> None:
        """Fail from now on."""
        self.fails_in = method
        self.wake()

    def _check(self, method: str) -> None:
        if self.fails_in == method:
            raise self.failure

    def submit(self, frames: Sequence[Any], task: LaneTask, digests: object = None) -> int:  # noqa: ARG002
        """Run a chunk."""
        self._check("submit")
        self._count += 1
        if not self.answers_nothing:
            chunk = pickle.loads(frames[0])
            results = [zmq.Frame(bytes(frame)) for frame in chunk(*map(zmq.Frame, map(bytes, frames[1:])))]
            self._outcomes.append(LaneOutcome(self._count, self.change(results), "", 0.0, "w1"))
        return self._count

    def receive_ready(self) -> LaneOutcome | None:
        """The next outcome."""
        self._check("receive_ready")
        return self._outcomes.pop(0) if self._outcomes else None

    def wait(self) -> None:
        """Wait for `wake`."""
        self._check("wait")
        if not self._outcomes:
            assert self._wakeup.wait(WAIT_S)
            self._wakeup.clear()
        self._check("wait")

    def wake(self) -> None:
        """End a wait."""
        self._wakeup.set()

    def close(self) -> None:
        """The end."""
        self.is_closed = True


def start(session: PlayedSession) -> Sender:
    """A sender with such a session."""
    return Sender(session, 2, None)  # type: ignore[arg-type]


def call(sender: Sender, function: Callable[..., Any], *args: Any, weight: float = 0.0) -> Future[Any]:
    """Submit a call as an executor does, without looking first whether the sender has ended."""
    future: CallFuture[Any] = CallFuture(sender.shared, function, args, None)
    if weight:
        sender.weighted.append((weight, future))
    else:
        sender.queue.append(future)
    if sender.is_ended:
        sender.fail_leftovers()
    elif sender.is_idle:
        sender.wake()
    return future


def end(sender: Sender) -> None:
    """The sender's thread has ended."""
    sender.stop()
    sender.thread.join(WAIT_S)
    assert not sender.thread.is_alive()


@pytest.mark.parametrize("weight", [0.0, 2.0])
@pytest.mark.parametrize("method", ["submit", "receive_ready", "wait"])
@pytest.mark.parametrize("failure", [FAILURE, OSError("a bug"), zmq.ZMQError()], ids=repr)
def test_futures_end_when_the_session_fails(weight: float, method: str, failure: Exception) -> None:
    """Wherever it fails, of calls with a weight and without, before and after."""
    session = PlayedSession(failure=failure)
    session.answers_nothing = True
    sender = start(session)
    futures = [call(sender, pow, 2, 3, weight=weight)]
    if method == "submit":
        session.fails_in = method
        futures.append(call(sender, pow, 2, 4, weight=weight))
        session.wake()
    else:
        session.fail(method)

    if method == "submit" and not weight:
        sender.terminate()  # the first may have been taken before
    found = [future.exception(WAIT_S) for future in futures]
    sender.thread.join(WAIT_S)
    late = call(sender, pow, 2, 5, weight=weight)

    assert all(isinstance(exception, BrokenClusterError) for exception in found)
    assert isinstance(late.exception(WAIT_S), BrokenClusterError)
    assert session.is_closed


def test_weighted_call_that_the_session_does_not_take_ends_with_it() -> None:
    """It is neither queued nor out: it is in the parcel that is being sent."""
    sender = start(PlayedSession("submit"))

    future = call(sender, pow, 2, 3, weight=5.0)

    assert isinstance(future.exception(WAIT_S), BrokenClusterError)


def test_outcome_that_cannot_be_read_ends_the_calls_that_it_was_for() -> None:
    """It came from a worker that speaks another language."""
    session = PlayedSession()
    session.change = lambda _frames: [zmq.Frame(b"no pickle")]
    sender = start(session)

    futures = [call(sender, pow, 2, number) for number in range(3)]

    assert all(isinstance(future.exception(WAIT_S), BrokenClusterError) for future in futures)
    assert session.is_closed


class Exits:
    """An argument that ends whoever pickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise SystemExit("not today")


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_argument_that_raises_whatever_it_likes_fails_only_its_call(weight: float) -> None:
    """Also what is no `Exception`."""
    sender = start(PlayedSession())

    bad, good = call(sender, str, Exits(), weight=weight), call(sender, pow, 2, 3, weight=weight)

    assert isinstance(bad.exception(WAIT_S), errors.PayloadError)
    assert good.result(WAIT_S) == 8
    end(sender)


def test_callback_that_exits_keeps_nothing_from_others(caplog: pytest.LogCaptureFixture) -> None:
    """A callback runs in the executor's thread, and may raise what is no `Exception`."""
    session = PlayedSession()
    session.answers_nothing = True
    sender = start(session)
    first = call(sender, pow, 2, 3)
    waiting = call(sender, pow, 2, 4)
    told: list[Future[Any]] = []

    def exits(_future: Future[Any]) -> None:
        raise SystemExit(3)

    for each in (first, waiting):
        each.add_done_callback(exits)
        each.add_done_callback(told.append)
    session.fail("receive_ready")

    assert isinstance(first.exception(WAIT_S), BrokenClusterError)
    assert isinstance(waiting.exception(WAIT_S), BrokenClusterError)
    sender.thread.join(WAIT_S)
    assert isinstance(call(sender, pow, 2, 5).exception(WAIT_S), BrokenClusterError)
    assert told == [first, waiting]
    assert caplog.text.count("callback_failed") == 2
    assert session.is_closed


def test_function_without_a_name_is_called_all_the_same() -> None:
    """An object may raise at whatever is asked of it."""

    class Nameless:
        def __getattribute__(self, name: str) -> Any:
            if name == "__qualname__":
                raise RuntimeError("I have none")
            return object.__getattribute__(self, name)

        def __call__(self) -> int:
            return 7

    sender = start(PlayedSession())

    assert call(sender, Nameless(), weight=2.0).result(WAIT_S) == 7
    assert call(sender, Nameless()).result(WAIT_S) == 7
    end(sender)


def test_leftovers_are_taken_by_several_threads_at_once() -> None:
    """Each call ends once, and nobody meets an empty queue."""
    sender = start(PlayedSession())
    end(sender)
    faults: list[BaseException] = []
    futures: list[Future[Any]] = []

    def submit_many() -> None:
        try:
            futures.extend([call(sender, pow, 2, number) for number in range(2000)])
        except BaseException as exc:  # noqa: BLE001 - the test's own thread
            faults.append(exc)

    threads = [threading.Thread(target=submit_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)

    assert not faults
    assert len(futures) == 8000
    assert all(isinstance(future.exception(WAIT_S), RuntimeError) for future in futures)


def test_terminated_executor_ends_all_its_futures() -> None:
    """Those that are out, those that wait, those with a weight."""
    session = PlayedSession()
    session.answers_nothing = True
    sender = start(session)
    futures = [call(sender, pow, 2, number, weight=weight) for number in range(50) for weight in (0.0, 2.0)]

    sender.terminate()

    assert all(isinstance(future.exception(WAIT_S), BrokenClusterError) for future in futures)


def test_executor_in_a_fork_refuses_calls() -> None:
    """Its thread stayed with the parent: nobody would ever take them."""
    sender = start(PlayedSession())

    sender.disown()

    assert isinstance(call(sender, pow, 2, 3).exception(WAIT_S), BrokenClusterError)
    end(sender)


def test_chunk_runs_as_in_a_worker() -> None:
    """The played session does not make up its results."""
    sender = start(PlayedSession())

    futures = [call(sender, divmod, 7, number) for number in (2, 3)]

    assert [future.result(WAIT_S) for future in futures] == [(3, 1), (2, 1)]
    end(sender)


def test_outcome_costs_no_look_at_all_chunks_that_are_out() -> None:
    """A thousand workers have thousands of them; progress is counted, and right all the same."""
    walks = []

    class Out(dict[int, Any]):
        def values(self) -> Any:
            walks.append(len(self))
            return super().values()

    told: list[tuple[int, int]] = []
    sender = Sender(PlayedSession(), 2, lambda *counts: told.append(counts))  # type: ignore[arg-type]
    sender._out = Out()
    futures = [call(sender, divmod, 7, number + 1, weight=number % 2) for number in range(100)]

    assert [future.result(WAIT_S) for future in futures] == [divmod(7, number + 1) for number in range(100)]
    assert walks == []
    end(sender)
    assert told[-1] == (100, 100)
