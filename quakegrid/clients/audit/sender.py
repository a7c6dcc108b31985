"""Hands the records of a service without a database to the dbserver; an `audited_calls.AuditSink`.

Records wait in a queue while the dbserver does not answer, and are sent again with the same request id until
it has them. Beyond a limit the oldest are lost, and a record says how many. Runs in the event loop of its
service, and has a connection only while there is something to send.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

import grpc

from quakegrid.access import audits
from quakegrid.access.audits import AuditRecord
from quakegrid.clients import retries
from quakegrid.clients.audit import messages
from quakegrid.clients.backoff import Backoff
from quakegrid.internal.v1 import audit_records_pb2, audit_records_pb2_grpc
from quakegrid.machine import service_life
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

MOST_WAITING = 5000
BATCH_ROWS = 500
SEND_TIMEOUT_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 5.0
log = logging.getLogger("quakegrid.service")


class AuditSender:
    """A queue to the dbserver.

    Args:
        settings: of the cluster.
        service: how records name us.
    """

    def __init__(self, settings: Settings, service: str) -> None:
        self._settings, self._service = settings, service
        self._waiting: deque[AuditRecord] = deque()
        self._lost_count = 0
        self._task: asyncio.Task[None] | None = None

    def put(self, record: AuditRecord) -> None:
        """Keep a record, and begin to send if nothing is sent already."""
        self._waiting.append(record)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._lost_count += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send_all(), name="audit")
            self._task.add_done_callback(service_life.must_not_fail)

    async def close(self, timeout_s: float) -> None:
        """Send what waits, as long as the time allows."""
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=timeout_s)
        if self._task is not None:
            log.warning("audit_lost count=%d reason=stopping", len(self._waiting))
            self._task.cancel()

    async def _send_all(self) -> None:
        """Send until nothing waits."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while self._waiting:
            address = self._settings.dbserver_address
            async with grpc_channels.open_aio_channel(address, self._settings.proof) as channel:
                stub = audit_records_pb2_grpc.AuditRecordsStub(channel)
                while self._waiting:
                    await self._send(stub, self._next_batch(), backoff)
        self._task = None  # before anything else is awaited, so that no record is left behind

    def _next_batch(self) -> audit_records_pb2.AppendAuditRequest:
        batch = [self._waiting.popleft() for _ in range(min(BATCH_ROWS - 1, len(self._waiting)))]
        if self._lost_count:
            batch.append(audits.lost(self._lost_count, self._service, time.time()))
            self._lost_count = 0
        return audit_records_pb2.AppendAuditRequest(
            request_id=retries.new_request_id(), records=map(messages.encode, batch)
        )

    async def _send(
        self,
        stub: audit_records_pb2_grpc.AuditRecordsAsyncStub,
        request: audit_records_pb2.AppendAuditRequest,
        backoff: Backoff,
    ) -> None:
        """Send a batch until the dbserver has it, or refuses it for good."""
        while True:
            try:
                await stub.AppendAudit(request, timeout=SEND_TIMEOUT_S)
            except grpc.RpcError as exc:
                if not retries.is_transient(exc):
                    log.warning("audit_lost count=%d reason=%s", len(request.records), exc.details())
                    return
                await asyncio.sleep(backoff.next_s())
            else:
                backoff.reset()
                return
