"""Client of the audit log: its records by page, and as they come."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from quakegrid.access.audits import AuditRecord
from quakegrid.api.v1 import audit_pb2, audit_pb2_grpc
from quakegrid.clients.audit import messages
from quakegrid.clients.connection import Connection

PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which records are wanted; empty, 0 or None where it does not matter. `since_time` is aware."""

    user: str = ""
    job_id: int = 0
    node: str = ""
    since_time: datetime.datetime | None = None

    def encode(self) -> audit_pb2.AuditFilter:
        """As a message."""
        found = audit_pb2.AuditFilter(user=self.user, job_id=self.job_id, node=self.node)
        if self.since_time is not None:
            found.since_time.FromDatetime(self.since_time)
        return found


class AuditClient:
    """The audit log over a connection to the dbserver, with its errors."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = audit_pb2_grpc.AuditStub(connection.channel)

    def newest(self, query: AuditQuery, count: int) -> list[AuditRecord]:
        """The last records, at most so many, the oldest first."""
        found: list[AuditRecord] = []
        token = ""
        while len(found) < count:
            request = audit_pb2.ListAuditRequest(
                filter=query.encode(), page_size=min(count - len(found), PAGE_ROWS), page_token=token
            )
            response = self._connection.call(self._stub.ListAudit, request)
            found += map(messages.decode, response.records)
            token = response.next_page_token
            if not token:
                break
        return found[::-1]

    def follow(self, query: AuditQuery, after_id: int) -> Iterator[AuditRecord]:
        """The records after an id, and then each new one as it comes."""
        request = audit_pb2.WatchAuditRequest(filter=query.encode(), after_id=after_id)
        for response in self._connection.follow(lambda: self._stub.WatchAudit(request)):
            for message in response.records:
                request.after_id = message.id
                yield messages.decode(message)
