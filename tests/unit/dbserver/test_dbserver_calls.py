"""How the dbserver answers engine calls, and which codes its errors have."""

from __future__ import annotations

import asyncio
import threading
import weakref

import grpc
import pytest

from quakegrid import errors
from quakegrid.internal.v1 import engine_calls_pb2
from quakegrid.services.dbserver import server
from quakegrid.services.dbserver.rpc import call_streams, holds, logs, status_codes
from quakegrid.services.dbserver.rpc.call_streams import CallStreams, IsWanted
from quakegrid.services.dbserver.store import bells, sqlite_errors, writer
from quakegrid.services.dbserver.store.idempotence import Answer
from quakegrid.services.dbserver.store.writer import Tell


def test_error_beside_an_answer_is_what_counts() -> None:
    """The answer is of a first try that was undone: told, it would acknowledge what is not on the disk."""

    async def ask() -> bytes | Exception:
        def begin(_request: engine_calls_pb2.CallRequest, tell: Tell, _is_wanted: IsWanted) -> None:
            threading.Thread(target=tell, args=(Answer(b"stored", is_repeated=False), failure)).start()

        return await CallStreams(begin).answer(engine_calls_pb2.CallRequest())

    failure = errors.StateError("rolled back")

    assert asyncio.run(ask()) is failure


def test_callers_who_leave_are_not_waited_for() -> None:
    """Whoever does the work can see it."""

    async def leave() -> list[bool]:
        begun: asyncio.Future[IsWanted] = asyncio.get_running_loop().create_future()

        def begin(_request: engine_calls_pb2.CallRequest, _tell: Tell, is_wanted: IsWanted) -> None:
            begun.set_result(is_wanted)

        call = asyncio.ensure_future(CallStreams(begin).answer(engine_calls_pb2.CallRequest()))
        is_wanted = await begun
        before = is_wanted()
        call.cancel()
        await asyncio.wait([call])
        return [before, is_wanted()]

    assert asyncio.run(leave()) == [True, False]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (sqlite_errors.DiskFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (bells.TooManyFollowersError, grpc.StatusCode.FAILED_PRECONDITION),
        (status_codes.ResultTooLargeError, grpc.StatusCode.OUT_OF_RANGE),
    ],
)
def test_only_a_full_disk_is_resource_exhausted(
    error: type[errors.QuakeGridError], code: grpc.StatusCode
) -> None:
    """Clients try again after it, since the disk may get room; the others would fail again."""
    assert status_codes.status_of(error("why")) is code


def test_result_larger_than_a_message_is_refused_in_words() -> None:
    """Before gRPC does, whose code would have the client ask for it again and again."""
    status_codes.check_size(status_codes.LARGEST_RESPONSE_BYTES)
    with pytest.raises(status_codes.ResultTooLargeError, match="at most 63 MiB can be sent at once"):
        status_codes.check_size(status_codes.LARGEST_RESPONSE_BYTES + 1)


def test_refused_call_keeps_none_of_the_rows_that_it_had_read() -> None:
    """Its error has their frames, and waits in a cycle for Python's next look: 200 MB in some seconds."""

    class Rows(list[str]):
        """Rows, which can be referred to weakly."""

    known: list[weakref.ref[Rows]] = []

    def read() -> None:
        rows = Rows(["a line"])
        known.append(weakref.ref(rows))
        try:
            raise ValueError(f"{len(rows)} are too many")  # noqa: TRY301
        except ValueError as exc:
            raise errors.UsageError("too many rows") from exc

    try:
        read()
    except errors.UsageError as exc:
        told = exc
    assert known[0]() is not None

    assert status_codes.judge(told) == (grpc.StatusCode.INVALID_ARGUMENT, "too many rows")

    assert known[0]() is None


def test_event_loop_never_waits_for_the_queue_of_the_writer() -> None:
    """All that can wait for the writer at the same time fits into its queue, with room for its cleaning."""
    waiting = (
        call_streams.ALL_CALLS
        + logs.ALL_BATCHES
        + holds.NEW_HOLDS
        + server.CALL_THREADS
        + server.SLOW_CALL_THREADS
        + server.DELETION_CALL_THREADS
    )
    assert waiting + 16 <= writer.QUEUE_LENGTH
