"""All servicers of the dbserver: made together, put into a server, told of commits, and closed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from quakegrid.api.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    checksums_pb2,
    checksums_pb2_grpc,
    database_pb2,
    database_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    logs_pb2,
    logs_pb2_grpc,
    node_access_pb2,
    node_access_pb2_grpc,
    outputs_pb2,
    outputs_pb2_grpc,
    people_pb2,
    people_pb2_grpc,
    tags_pb2,
    tags_pb2_grpc,
)
from quakegrid.internal.v1 import (
    audit_records_pb2,
    audit_records_pb2_grpc,
    engine_calls_pb2,
    engine_calls_pb2_grpc,
    holds_pb2,
    holds_pb2_grpc,
    web_logins_pb2,
    web_logins_pb2_grpc,
)
from quakegrid.services.dbserver.audit.book import AuditBook
from quakegrid.services.dbserver.audit.servicers import AuditRecordsServicer, AuditServicer
from quakegrid.services.dbserver.deletions.reaper import Reaper
from quakegrid.services.dbserver.housekeeping import Retention
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.jobs.holds import HoldMonitor
from quakegrid.services.dbserver.jobs.watches import JobWatches
from quakegrid.services.dbserver.logins.book import LoginBook
from quakegrid.services.dbserver.logins.passwords import Passwords
from quakegrid.services.dbserver.logins.servicers import WebLoginsServicer
from quakegrid.services.dbserver.logs.tails import LogTails
from quakegrid.services.dbserver.people import listed, node_ends
from quakegrid.services.dbserver.people.listed import CredentialWrites
from quakegrid.services.dbserver.people.valid import ValidCredentials
from quakegrid.services.dbserver.rpc.checksums import ChecksumsServicer
from quakegrid.services.dbserver.rpc.database import DatabaseServicer
from quakegrid.services.dbserver.rpc.engine_calls import EngineCallsServicer
from quakegrid.services.dbserver.rpc.holds import HoldsServicer
from quakegrid.services.dbserver.rpc.interceptor import CallThreads
from quakegrid.services.dbserver.rpc.jobs import JobsServicer
from quakegrid.services.dbserver.rpc.logs import LogsServicer
from quakegrid.services.dbserver.rpc.node_access import NodeAccessServicer
from quakegrid.services.dbserver.rpc.outputs import OutputsServicer
from quakegrid.services.dbserver.rpc.people import PeopleServicer
from quakegrid.services.dbserver.rpc.tags import TagsServicer
from quakegrid.services.dbserver.store.database import Readers
from quakegrid.services.dbserver.store.idempotence import Requests
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.transport.audited_calls import Auditor
from quakegrid.transport.credentials import Signer

SERVICES = tuple(
    service.full_name
    for module in (
        audit_pb2,
        audit_records_pb2,
        checksums_pb2,
        database_pb2,
        engine_calls_pb2,
        holds_pb2,
        jobs_pb2,
        logs_pb2,
        node_access_pb2,
        outputs_pb2,
        people_pb2,
        tags_pb2,
        web_logins_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
)


@dataclass(frozen=True, slots=True)
class Store:
    """The database file, for reading and for writing."""

    readers: Readers
    writer: Writer


class Servicers:
    """The servicers, and the followers that they serve. Made in the event loop.

    Args:
        store: the database file.
        monitor: judges the holds of drivers.
        reaper: removes the rows of deleted jobs.
        retention: how long logs are kept, for the answer to clients that ask.
        threads: where calls run that are not coroutines.
        authority: signs the certificates of people and nodes.
    """

    def __init__(
        self,
        store: Store,
        monitor: HoldMonitor,
        reaper: Reaper,
        retention: Retention,
        threads: CallThreads,
        authority: Signer,
    ) -> None:
        readers, writer = store.readers, store.writer
        self._readers, self._threads = readers, threads
        requests = Requests(writer)
        self._watches = JobWatches(readers)
        self._tails = LogTails(readers)
        self._jobs = JobsServicer(readers, writer, requests, reaper, watches=self._watches, monitor=monitor)
        self._holds = HoldsServicer(readers, writer, monitor)
        self._logs = LogsServicer(readers, requests, self._tails)
        self._outputs = OutputsServicer(readers, requests)
        self._tags = TagsServicer(readers, writer)
        self._checksums = ChecksumsServicer(readers, writer)
        self._database = DatabaseServicer(readers, writer, retention, slow_threads=threads.slow_calls)
        self.valid = ValidCredentials(listed.read(readers.session(), time.time()))
        self._writes = CredentialWrites(writer, self.valid.replace)
        self._logins = LoginBook(readers, writer, self._writes, self.valid, proof=authority.proof)
        self._passwords = Passwords(readers, writer, self._writes)
        self._web_logins = WebLoginsServicer(self._logins, self._passwords)
        self._people = PeopleServicer(
            readers, self._writes, authority, self.valid, logins=self._logins, passwords=self._passwords
        )
        self._nodes = NodeAccessServicer(readers, self._writes, authority)
        self._calls = EngineCallsServicer(readers, writer, requests, reaper, threads)
        self._book = AuditBook(writer)
        self.auditor = Auditor("dbserver", self._book)
        self._audit = AuditServicer(readers, self._book, threads.reads)
        self._audit_records = AuditRecordsServicer(requests, self._book)

    def register(self, server: grpc.aio.Server) -> None:
        """Put all services into a server."""
        jobs_pb2_grpc.add_JobsServicer_to_server(self._jobs, server)
        holds_pb2_grpc.add_HoldsServicer_to_server(self._holds, server)
        logs_pb2_grpc.add_LogsServicer_to_server(self._logs, server)
        outputs_pb2_grpc.add_OutputsServicer_to_server(self._outputs, server)
        tags_pb2_grpc.add_TagsServicer_to_server(self._tags, server)
        checksums_pb2_grpc.add_ChecksumsServicer_to_server(self._checksums, server)
        database_pb2_grpc.add_DatabaseServicer_to_server(self._database, server)
        engine_calls_pb2_grpc.add_EngineCallsServicer_to_server(self._calls, server)
        people_pb2_grpc.add_PeopleServicer_to_server(self._people, server)
        web_logins_pb2_grpc.add_WebLoginsServicer_to_server(self._web_logins, server)
        node_access_pb2_grpc.add_NodeAccessServicer_to_server(self._nodes, server)
        audit_pb2_grpc.add_AuditServicer_to_server(self._audit, server)
        audit_records_pb2_grpc.add_AuditRecordsServicer_to_server(self._audit_records, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME), server)

    async def watch_node_ends(self) -> None:
        """Tell services of certificates of nodes that end; does not return."""
        await node_ends.watch(self._writes, lambda: self.valid.next_end_s)

    def ring(self, touched_jobs: set[int]) -> None:
        """Wake the followers of what a commit has changed; for any thread."""
        self._tails.ring(touched_jobs)
        self._watches.ring(touched_jobs)

    async def owner_of_job(self, job_id: int) -> str | None:
        """The user whose job this is; None if there is no such job."""

        def read() -> str | None:
            row = job_rows.find_row(self._readers.session(), job_id, columns="user_name")
            return str(row["user_name"]) if row else None

        return await asyncio.get_running_loop().run_in_executor(self._threads.calls, read)

    def end_audit(self) -> None:
        """Give the last records of the audit log to the writer, when no call runs any more."""
        self.auditor.close()
        self._book.close()

    def close(self) -> None:
        """End followers and accept nothing more; accepted calls are still answered. For the event loop."""
        self._book.send_away()
        self.valid.close()
        self._watches.close()
        self._tails.close()
        self._logs.close()
        self._calls.close()
        self._passwords.checks.close()
