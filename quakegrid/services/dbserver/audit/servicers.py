"""The Audit and AuditRecords services: decode, call, encode."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, TypeVar

from quakegrid.access.audits import AuditRecord
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.api.v1 import audit_pb2, audit_pb2_grpc
from quakegrid.clients.audit import messages
from quakegrid.errors import UsageError
from quakegrid.internal.v1 import audit_records_pb2, audit_records_pb2_grpc
from quakegrid.services.dbserver.audit import rows
from quakegrid.services.dbserver.audit.book import AuditBook
from quakegrid.services.dbserver.audit.rows import WantedRecords
from quakegrid.services.dbserver.jobs import pages
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.idempotence import Requests
from quakegrid.transport import callers

T = TypeVar("T")
AUDIT_PAGE = pages.PageSize(default=100, largest=1000)
MOST_APPENDED = 500
_LAST_ID = 2**63 - 1


class AuditServicer(audit_pb2_grpc.AuditServicer):
    """Shows the audit log. Made in the event loop that serves it.

    Args:
        readers: connections that read.
        book: tells of new records.
        threads: where reads run.
    """

    def __init__(self, readers: Readers, book: AuditBook, threads: Executor) -> None:
        self._readers, self._book, self._threads = readers, book, threads

    async def ListAudit(  # noqa: N802  named in the proto
        self, request: audit_pb2.ListAuditRequest, _context: Any
    ) -> audit_pb2.ListAuditResponse:
        """A page of records, the newest first; the page token is the last id."""
        wanted = _wanted(request.filter, callers.current())
        before_id = pages.parse_token(request.page_token, start=_LAST_ID)
        size = AUDIT_PAGE.clamp(request.page_size)
        found = await self._read(lambda session: rows.newest(session, wanted, before_id, size + 1))
        shown = found[:size]
        return audit_pb2.ListAuditResponse(
            records=map(messages.encode, shown),
            next_page_token=str(shown[-1].id) if len(found) > size else "",
        )

    async def WatchAudit(  # type: ignore[override]  # noqa: N802  named in the proto
        self, request: audit_pb2.WatchAuditRequest, context: Any
    ) -> None:
        """Records as they come."""
        wanted, after_id = _wanted(request.filter, callers.current()), request.after_id
        async with contextlib.aclosing(self._book.changes()) as changes:
            async for _ in changes:
                while found := await self._read(
                    lambda session: rows.following(session, wanted, after_id, AUDIT_PAGE.largest)  # noqa: B023
                ):
                    after_id = found[-1].id
                    await context.write(audit_pb2.WatchAuditResponse(records=map(messages.encode, found)))

    async def _read(self, work: Callable[[SqlSession], T]) -> T:
        def read() -> T:
            return work(self._readers.session())

        return await asyncio.get_running_loop().run_in_executor(self._threads, read)


class AuditRecordsServicer(audit_records_pb2_grpc.AuditRecordsServicer):
    """Takes the records of other services.

    Args:
        requests: does each request once.
        book: tells of new records.
    """

    def __init__(self, requests: Requests, book: AuditBook) -> None:
        self._requests, self._book = requests, book

    async def AppendAudit(  # noqa: N802  named in the proto
        self, request: audit_records_pb2.AppendAuditRequest, _context: Any
    ) -> audit_records_pb2.AppendAuditResponse:
        """Keep records."""
        if len(request.records) > MOST_APPENDED:
            raise UsageError(f"a request has at most {MOST_APPENDED} records, not {len(request.records)}")
        caller = callers.current()
        records = [_of(messages.decode(message), caller) for message in request.records]

        def append(session: SqlSession) -> bytes:
            rows.insert(session, records)
            return b""

        await asyncio.wrap_future(self._requests.submit_once(request.request_id, "AppendAudit", append))
        self._book.ring()
        return audit_records_pb2.AppendAuditResponse()


def _wanted(asked: audit_pb2.AuditFilter, principal: Principal) -> WantedRecords:
    """What is asked for, as far as the caller may see it."""
    may_see_all = principal.is_staff or principal.role is PrincipalRole.SERVICE
    since_s = asked.since_time.seconds + asked.since_time.nanos / 1e9
    return WantedRecords(
        asked.user, asked.job_id, asked.node, since_s, None if may_see_all else principal.person
    )


def _of(record: AuditRecord, sender: Principal) -> AuditRecord:
    """A record, as its sender may tell it: a node tells what its own agent saw."""
    if sender.role is PrincipalRole.NODE:
        return replace(record, service=f"agent of {sender.name}")
    return record
