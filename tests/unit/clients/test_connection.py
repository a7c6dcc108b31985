"""One connection: what it tries again, what it raises, and what it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.clients import connection, retries
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.private_grpc_streams import BrokenStreamError
from tests.unit.clients.test_backoff import Clock

GONE = BrokenStreamError(grpc.StatusCode.UNAVAILABLE, "")
LATE = BrokenStreamError(grpc.StatusCode.DEADLINE_EXCEEDED, "")
REFUSED = BrokenStreamError(grpc.StatusCode.NOT_FOUND, "there is no job 3")


class Method:
    """A method of a stub: fails with each error, then gives what it was asked and its time-out."""

    def __init__(self, *failures: grpc.RpcError) -> None:
        self._failures = list(failures)

    def __call__(self, request: Any, timeout: float | None) -> tuple[Any, float | None]:
        """Fail, or answer."""
        if self._failures:
            raise self._failures.pop(0)
        return request, timeout


class Stream:
    """A stream: gives numbers, then ends with an error, if any; notes that it was ended."""

    def __init__(self, numbers: list[int], failure: grpc.RpcError | None = None) -> None:
        self._numbers, self._failure = numbers, failure
        self.is_ended = False

    def __iter__(self) -> Iterator[int]:
        yield from self._numbers
        if self._failure:
            raise self._failure

    def cancel(self) -> None:
        """End it."""
        self.is_ended = True


class Waiting:
    """A method whose answer comes after some looks."""

    def __init__(self, look_count: int, failure: grpc.RpcError | None = None) -> None:
        self._look_count, self._failure = look_count, failure
        self.is_ended = False

    def future(self, request: Any) -> Waiting:
        """Begin."""
        self._request = request
        return self

    def result(self, timeout: float) -> Any:
        """The answer, if it is time."""
        assert timeout > 0
        self._look_count -= 1
        if self._look_count >= 0:
            raise grpc.FutureTimeoutError
        if self._failure:
            raise self._failure
        return self._request

    def cancel(self) -> None:
        """End it."""
        self.is_ended = True


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which calls are tried again."""
    clock = Clock()
    monkeypatch.setattr(retries, "time", clock)
    return clock


def open_connection(retry_s: float = 0.0) -> Connection:
    """To a dbserver that nobody asks."""
    return Connection("dbserver", "127.0.0.1:9", "k" * 32, timeout_s=7.0, retry_s=retry_s)


def test_call_has_the_time_out_of_its_connection() -> None:
    """Unless it names its own."""
    with open_connection() as database:
        assert database.call(Method(), "request") == ("request", 7.0)
        assert database.call(Method(), "request", 1.0) == ("request", 1.0)


def test_call_is_tried_again_as_long_as_the_connection_does() -> None:
    """Failures that may pass are not seen."""
    with open_connection(retry_s=10.0) as database:
        assert database.call(Method(GONE, LATE), "request") == ("request", 7.0)


def test_failure_is_one_of_our_errors_and_keeps_its_cause() -> None:
    """The cause tells what words do not: whether the time was over, and whether it may pass."""
    found = {}
    with open_connection() as database:
        for failure in (GONE, LATE, REFUSED):
            with pytest.raises(errors.QuakeGridError) as caught:
                database.call(Method(failure), "request")
            found[failure] = caught.value

    assert [error.__cause__ for error in found.values()] == list(found)
    assert isinstance(found[GONE], errors.PeerUnreachableError)
    assert isinstance(found[REFUSED], errors.NotFoundError)
    assert [connection.is_out_of_time(error) for error in found.values()] == [False, True, False]
    assert [connection.is_transient(error) for error in found.values()] == [True, True, False]


def test_stream_is_ended_whoever_stops_first() -> None:
    """A reader that has enough, and an error."""
    enough, broken = Stream([1, 2]), Stream([1], GONE)

    with open_connection() as database:
        responses = database.stream(lambda _request, timeout: enough, "request")  # noqa: ARG005
        assert next(responses) == 1
        del responses
        with pytest.raises(errors.PeerUnreachableError):
            list(database.stream(lambda _request, timeout: broken, "request"))  # noqa: ARG005

    assert enough.is_ended
    assert broken.is_ended


def test_followed_stream_is_opened_again() -> None:
    """Each answer gives it the whole time again; what is refused ends it."""
    streams = [Stream([1], GONE), Stream([2], LATE), Stream([3], REFUSED)]
    left = list(streams)
    seen: list[int] = []

    with open_connection(retry_s=10.0) as database, pytest.raises(errors.NotFoundError):
        seen.extend(database.follow(lambda: left.pop(0)))

    assert seen == [1, 2, 3]
    assert all(stream.is_ended for stream in streams)


def test_long_call_lets_its_caller_look_around() -> None:
    """And an error of the caller's, such as a signal's, ends it."""
    looks = []
    answered, left = Waiting(3), Waiting(3)

    def leave() -> None:
        raise KeyboardInterrupt

    with open_connection() as agent:
        assert agent.call_while(answered, "request", lambda: looks.append(1)) == "request"
        with pytest.raises(KeyboardInterrupt):
            agent.call_while(left, "request", leave)
        with pytest.raises(errors.NotFoundError):
            agent.call_while(Waiting(1, REFUSED), "request", lambda: None)

    assert len(looks) == 3
    assert left.is_ended
