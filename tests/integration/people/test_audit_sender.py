"""The queue of audit records to the dbserver: what it keeps, what it loses, and that it says so."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from quakegrid import testing
from quakegrid.access import audits
from quakegrid.access.audits import About, AuditRecord
from quakegrid.clients.audit import messages, sender
from quakegrid.clients.audit.sender import AuditSender
from quakegrid.internal.v1 import audit_records_pb2, audit_records_pb2_grpc
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials
from tests.support.calls import loops

TIMEOUT_S = 30.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a cluster whose dbserver is the test's."""
    path: Path = testing.write_cluster_config(tmp_path / "state", {})
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


class FakeDbServer(audit_records_pb2_grpc.AuditRecordsServicer):
    """Refuses some calls, then takes all."""

    def __init__(self, settings: Settings, *refusals: grpc.StatusCode) -> None:
        self._settings, self._refusals = settings, list(refusals)
        self.requests: list[audit_records_pb2.AppendAuditRequest] = []
        self.got = asyncio.Condition()

    async def AppendAudit(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Note the request."""
        async with self.got:
            self.requests.append(request)
            self.got.notify_all()
        if self._refusals:
            await context.abort(self._refusals.pop(0), "not now")
        return audit_records_pb2.AppendAuditResponse()

    async def serve(self) -> grpc.aio.Server:
        """Listen at the address of the settings."""
        server = grpc.aio.server()
        audit_records_pb2_grpc.add_AuditRecordsServicer_to_server(self, server)
        server.add_secure_port(
            self._settings.dbserver_address, credentials.server_credentials(self._settings.authkey)
        )
        await server.start()
        return server


def record(number: int) -> AuditRecord:
    """One of many."""
    return AuditRecord(float(number), "user", "anna", About("x", job_id=number), audits.OK, "", "broker")


def numbers(request: audit_records_pb2.AppendAuditRequest) -> list[int]:
    """Which records a request has."""
    return [messages.decode(message).about.job_id for message in request.records]


def test_batch_is_sent_again_with_its_id(settings: Settings) -> None:
    """Until the dbserver has it."""

    async def run() -> None:
        unavailable, full = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
        dbserver = FakeDbServer(settings, unavailable, full)
        server = await dbserver.serve()
        queue = AuditSender(settings, "broker")
        for number in range(3):
            queue.put(record(number))
        async with asyncio.timeout(TIMEOUT_S), dbserver.got:
            await dbserver.got.wait_for(lambda: len(dbserver.requests) == 3)
        await queue.close(TIMEOUT_S)
        await server.stop(0)

        assert [numbers(request) for request in dbserver.requests] == [[0, 1, 2]] * 3
        assert len({request.request_id for request in dbserver.requests}) == 1

    loops.run(run())


def test_batch_that_is_refused_for_good_is_dropped(settings: Settings) -> None:
    """An older dbserver, which keeps no audit log, is not asked for ever."""

    async def run() -> None:
        dbserver = FakeDbServer(settings, grpc.StatusCode.UNIMPLEMENTED)
        server = await dbserver.serve()
        queue = AuditSender(settings, "broker")
        queue.put(record(1))
        await queue.close(TIMEOUT_S)
        queue.put(record(2))
        await queue.close(TIMEOUT_S)
        await server.stop(0)

        assert [numbers(request) for request in dbserver.requests] == [[1], [2]]

    loops.run(run())


def test_overload_drops_the_oldest_and_says_how_many(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no dbserver answers; a million more would take no more memory."""
    monkeypatch.setattr(sender, "MOST_WAITING", 4)

    async def run() -> None:
        queue = AuditSender(settings, "broker")
        for number in range(10):
            queue.put(record(number))
        dbserver = FakeDbServer(settings)
        server = await dbserver.serve()
        await queue.close(TIMEOUT_S)
        await server.stop(0)

        (request,) = dbserver.requests
        *kept, lost = map(messages.decode, request.records)
        assert [each.about.job_id for each in kept] == [6, 7, 8, 9]
        assert (lost.about.action, lost.count, lost.service) == (audits.LOST, 6, "broker")

    loops.run(run())


def test_close_does_not_wait_for_a_dbserver_that_is_gone(settings: Settings) -> None:
    """A broker ends, whatever else has ended."""

    async def run() -> None:
        queue = AuditSender(settings, "broker")
        await queue.close(TIMEOUT_S)  # nothing was sent
        queue.put(record(1))
        begin_s = time.monotonic()
        await queue.close(0.05)
        assert time.monotonic() - begin_s < TIMEOUT_S

    loops.run(run())
