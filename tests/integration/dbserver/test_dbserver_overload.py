"""Slow reads of some leave the dbserver's other callers alone: leases are kept, and no job fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.api.v1 import jobs_pb2
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.engine.database.hold_keeper import HoldKeeper
from quakegrid.internal.v1 import engine_calls_pb2, engine_calls_pb2_grpc, holds_pb2, holds_pb2_grpc
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.rpc.call_streams import IsWanted
from quakegrid.services.dbserver.server import CALL_THREADS, SLOW_CALL_THREADS, DbServer
from quakegrid.services.dbserver.store.writer import Tell
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials
from tests.support.dbservers import serving

ENDLESS = (
    "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)"
)


@pytest.fixture
def server(settings: Settings) -> Iterator[DbServer]:
    """A dbserver."""
    with serving(settings) as server:
        yield server


@pytest.fixture
def client(server: DbServer, settings: Settings) -> Iterator[DbClient]:
    """Its client."""
    assert server
    with DbClient(settings) as client:
        yield client


def new_job_id(client: DbClient) -> int:
    """The id of a job that runs."""
    job = client.jobs.create_job(data_dir="/d", calculation_mode="c", description="d", user_name="ada")
    return client.jobs.transition(job.id, JobState.EXECUTING).id


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def queue_of(pool: ThreadPoolExecutor) -> Any:
    """What waits for a thread."""
    return pool._work_queue


@contextmanager
def occupied(pool: ThreadPoolExecutor, count: int) -> Iterator[None]:
    """All threads of a pool are busy with something that does not end."""
    release = threading.Event()
    started = threading.Semaphore(0)

    def block() -> None:
        started.release()
        release.wait()

    for _ in range(count):
        pool.submit(block)
    for _ in range(count):
        assert started.acquire(timeout=60)
    try:
        yield
    finally:
        release.set()


def test_lease_is_kept_while_all_threads_are_busy(server: DbServer, client: DbClient) -> None:
    """A driver opens its lease and renews it many times, though no other call gets a thread."""
    job_id = new_job_id(client)
    lost: list[int] = []
    renewals = threading.Semaphore(0)

    def renew(renewed_id: int, holder: str, lease_s: float) -> JobState:
        state = client.jobs.renew_hold(renewed_id, holder, lease_s)
        renewals.release()
        return state

    with (
        occupied(server._calls, CALL_THREADS),
        occupied(server._slow_calls, SLOW_CALL_THREADS),
    ):
        keeper = HoldKeeper(
            [job_id], renew, lambda each, _: lost.append(each), hold_s=30.0, renew_every_s=0.01
        )
        for _ in range(20):
            assert renewals.acquire(timeout=30)
        keeper.release(job_id)
        keeper.close()
        last = client.jobs.renew_hold(job_id, keeper._holder, 3600)

    assert (last, lost) == (JobState.EXECUTING, [])
    assert client.jobs.get_job(job_id).state is JobState.EXECUTING


def test_endless_queries_leave_the_others_their_threads(
    server: DbServer, client: DbClient, settings: Settings
) -> None:
    """SQL of others has threads of its own; more of it waits, and all other calls are answered."""
    job_id = new_job_id(client)
    refusals: list[str] = []

    def ask(action: str, *args: Any) -> None:
        with DbClient(settings) as asker:
            try:
                asker.call(action, *args)
            except errors.QuakeGridError as exc:
                refusals.append(str(exc))

    askers = [
        threading.Thread(target=ask, args=("fetch", ENDLESS) if number % 2 else (ENDLESS,))
        for number in range(SLOW_CALL_THREADS + 2)
    ]
    for asker in askers:
        asker.start()
    wait_until(lambda: queue_of(server._slow_calls).qsize() == 2)

    assert client.jobs.get_job(job_id).id == job_id
    assert client.call("get_job", -1, "ada")["id"] == job_id
    assert client.jobs.renew_hold(job_id, "node1/1", 3600) is JobState.EXECUTING
    assert client.jobs.transition(new_job_id(client), JobState.COMPLETE).state is JobState.COMPLETE
    assert len(client.jobs.list_jobs()) == 2

    def have_ended() -> bool:
        server._readers._each(lambda connection: connection.interrupt())
        return not any(asker.is_alive() for asker in askers)

    wait_until(have_ended)
    assert len(refusals) == len(askers)


@pytest.mark.parametrize("is_stream", [False, True])
def test_call_whose_caller_has_left_is_not_begun(
    server: DbServer, client: DbClient, settings: Settings, is_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a thread is dropped when nobody waits for it any more."""
    begun: list[str] = []
    waiting: list[IsWanted] = []
    calls = server._servicers._calls
    finish, begin = calls._finish, calls._begin

    def note(action: Any, request: engine_calls_pb2.CallRequest, _is_wanted: object) -> bytes:
        begun.append(request.action)
        return finish(action, request, lambda: True)

    def note_caller(request: engine_calls_pb2.CallRequest, tell: Tell, is_wanted: IsWanted) -> bytes | None:
        waiting.append(is_wanted)
        return begin(request, tell, is_wanted)

    monkeypatch.setattr(server._servicers._calls, "_finish", note)
    monkeypatch.setattr(server._servicers._calls._streams, "_begin", note_caller)
    with occupied(server._slow_calls, SLOW_CALL_THREADS), DbClient(settings) as leaver:
        if is_stream:
            failures: list[BaseException | None] = []
            pool = ThreadPoolExecutor(1)
            pool.submit(leaver.call, "SELECT 1").add_done_callback(
                lambda future: failures.append(future.exception())
            )
            wait_until(lambda: bool(waiting))
            leaver.close()
            pool.shutdown()
            assert isinstance(failures[0], errors.QuakeGridError)
        else:
            request = engine_calls_pb2.CallRequest(request_id="1", action="SELECT 1")
            call = engine_calls_pb2_grpc.EngineCallsStub(leaver.connection.channel).Call.future(request)
            wait_until(lambda: bool(waiting))
            call.cancel()
        wait_until(lambda: not waiting[0]())

    assert client.call("SELECT 2")[0].values == (2,)
    assert begun == ["SELECT 2"]


def test_query_whose_caller_has_left_is_stopped(
    server: DbServer, client: DbClient, settings: Settings
) -> None:
    """An endless query gives its thread back when its client leaves."""
    leavers = [DbClient(settings) for _ in range(SLOW_CALL_THREADS)]
    with ThreadPoolExecutor(SLOW_CALL_THREADS) as pool:
        calls = [pool.submit(leaver.call, ENDLESS) for leaver in leavers]
        slow = server._slow_calls
        wait_until(lambda: len(slow._threads) == SLOW_CALL_THREADS and not queue_of(slow).qsize())
        for leaver in leavers:
            leaver.close()
        for call in calls:
            assert isinstance(call.exception(60), errors.QuakeGridError)

    assert client.call("SELECT 2")[0].values == (2,)  # gets a thread


class Forgetful(holds_pb2_grpc.HoldsServicer):
    """A dbserver that never answers its first renewal."""

    def __init__(self) -> None:
        self.call_count = 0
        self.is_over = threading.Event()

    def RenewHold(  # noqa: N802  named in the proto
        self, _request: Any, _context: Any
    ) -> holds_pb2.RenewHoldResponse:
        """Answer, except for the first time."""
        self.call_count += 1
        if self.call_count == 1:
            self.is_over.wait()
        return holds_pb2.RenewHoldResponse(state=jobs_pb2.JOB_STATE_EXECUTING)


def test_renewal_that_gets_no_answer_is_sent_again_while_the_lease_lasts(settings: Settings) -> None:
    """The client waits a third of the lease time for an answer, not as long as for other calls."""
    forgetful = Forgetful()
    server = grpc.server(ThreadPoolExecutor(2))
    holds_pb2_grpc.add_HoldsServicer_to_server(forgetful, server)
    server.add_secure_port(settings.dbserver_address, credentials.server_credentials(settings.authkey))
    server.start()
    try:
        with DbClient(settings, retry_s=30) as client:
            state = client.jobs.renew_hold(1, "node1/1", 3.0)
    finally:
        forgetful.is_over.set()
        server.stop(None).wait()

    assert state is JobState.EXECUTING
    assert forgetful.call_count >= 2
