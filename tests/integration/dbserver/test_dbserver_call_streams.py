"""Engine calls over one stream: many at once, errors, restarts and the end."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.clients.dbserver import engine_call_streams
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.private_grpc_streams import BrokenStreamError
from quakegrid.internal.v1 import engine_calls_pb2, engine_calls_pb2_grpc
from quakegrid.jobs import engine_values
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

SLOW_QUERY = (
    "SELECT max(i) FROM (WITH RECURSIVE n(i) AS "
    "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000000) SELECT i FROM n)"
)
THREADS = 24
CALLS = 40


def create(client: DbClient, description: str) -> int:
    """Create a job over the stream; its id."""
    job_id = client.call("create_job", "/tmp", "classical", description, "ada")
    assert isinstance(job_id, int)
    return job_id


def test_concurrent_calls_get_their_own_answers(client: DbClient) -> None:
    """Threads that share a client get each the answer to its own question, whatever else is on the way."""

    def work(thread: int) -> None:
        for number in range(CALLS):
            text = f"{thread}/{number}"
            job_id = create(client, text)
            assert client.call("get_job", job_id)["description"] == text
            assert client.call("SELECT ?x", text)[0].values == (text,)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))

    assert client.call("SELECT count(*) FROM job")[0].values == (THREADS * CALLS,)


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("calc_info", [99]),
        ("nonsense", []),
        ("get_job", []),
        ("get_job", ["no number"]),
        ("DELETE FROM job", []),
        ("SELECT nothing", []),
        ("set_status", [1, "sleepy"]),
    ],
)
def test_errors_are_those_of_single_calls(client: DbClient, action: str, args: list[Any]) -> None:
    """A call that fails has the code and the words of the unary call, and the stream goes on."""
    stub = engine_calls_pb2_grpc.EngineCallsStub(client.connection.channel)
    request = engine_calls_pb2.CallRequest(
        request_id="single", action=action, args=map(engine_values.encode, args)
    )
    with pytest.raises(grpc.RpcError) as single:
        stub.Call(request)

    request.request_id = "streamed"
    job_request = engine_calls_pb2.CallRequest(request_id="next", action="getpid")
    answers = {answer.request_id: answer for answer in stub.CallStream(iter([request, job_request]))}

    error = answers["streamed"].error
    assert error.code == single.value.code().value[0]
    assert error.reason == single.value.details()
    assert answers["next"].result.integer > 0


def test_client_raises_the_errors_and_goes_on(client: DbClient) -> None:
    """Refusals are our errors, and no call after one is the worse for it."""
    with pytest.raises(errors.NotFoundError, match="there is no job 99"):
        client.call("calc_info", 99)
    with pytest.raises(errors.UsageError, match="no action 'nonsense'"):
        client.call("nonsense")

    assert create(client, "after") == 1


def test_repeated_request_gets_the_first_answer(client: DbClient) -> None:
    """The same request id on another stream, or alone, changes nothing and is answered alike."""
    stub = engine_calls_pb2_grpc.EngineCallsStub(client.connection.channel)
    args = [engine_values.encode("/tmp"), engine_values.encode("classical")]
    request = engine_calls_pb2.CallRequest(request_id="once", action="create_job", args=args, user_name="ada")

    [first], [second] = stub.CallStream(iter([request])), stub.CallStream(iter([request]))

    assert first == second
    assert stub.Call(request).result == first.result
    assert client.call("SELECT count(*) FROM job")[0].values == (1,)


def test_calls_survive_kill_and_take_effect_once(dbserver_process: Service) -> None:
    """After kill -9 and a restart every client goes on by itself, and each write is there once."""
    count, enough = 0, threading.Event()
    created: list[tuple[int, str]] = []

    def work(thread: int) -> None:
        for number in range(100):
            text = f"{thread}/{number}"
            created.append((create(client, text), text))
            if len(created) >= 200:
                enough.set()

    with DbClient(dbserver_process.settings, retry_s=60) as client, ThreadPoolExecutor(8) as pool:
        done = [pool.submit(work, thread) for thread in range(8)]
        assert enough.wait(60)
        dbserver_process.stop(signal.SIGKILL)
        dbserver_process.start()
        for future in done:
            future.result(90)
        rows = client.call("SELECT id, description FROM job")
        count = len(rows)

    assert count == len(created) == 800
    assert {row.values for row in rows} == set(created)


def test_restarted_dbserver_is_found_again(dbserver_process: Service) -> None:
    """A client that was idle during a restart calls on; while nobody serves, it says so."""
    with (
        DbClient(dbserver_process.settings) as idle,
        DbClient(dbserver_process.settings, retry_s=60) as patient,
    ):
        create(idle, "before")
        create(patient, "before")
        assert dbserver_process.stop(signal.SIGTERM) == 0  # with both streams open

        with pytest.raises(errors.PeerUnreachableError, match="does not answer"):
            create(idle, "nobody")
        dbserver_process.start()

        assert create(patient, "after") == 3


def test_answer_that_takes_too_long_breaks_the_stream(
    client: DbClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits is told so, and the next call has a new stream."""
    monkeypatch.setattr(engine_call_streams, "LOOK_EVERY_S", 0.05)
    calls = engine_call_streams.EngineCallStreams(client.connection.channel)
    request = engine_calls_pb2.CallRequest(request_id="slow", action=SLOW_QUERY)

    with pytest.raises(BrokenStreamError) as broken:
        calls.call(request, 0.1)

    assert broken.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert calls.call(engine_calls_pb2.CallRequest(request_id="quick", action="getpid"), 60).integer > 0
    calls.close()


def test_closed_client_lets_waiting_calls_fail(dbserver: LocalDbServer) -> None:
    """A call that waits when its client is closed ends with an error."""
    client = DbClient(dbserver.settings)
    client.call("getpid")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.call, SLOW_QUERY)
        assert client.call("getpid") == os.getpid()  # not held up by it

        client.close()

        with pytest.raises(errors.PeerUnreachableError):
            waiting.result(30)
