"""The Database service: care of the database file."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sqlite3
import tempfile
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, BinaryIO

import grpc

from quakegrid.api.v1 import database_pb2, database_pb2_grpc
from quakegrid.errors import UsageError
from quakegrid.jobs import engine_values
from quakegrid.services.dbserver import backups
from quakegrid.services.dbserver.housekeeping import Retention
from quakegrid.services.dbserver.jobs import pages
from quakegrid.services.dbserver.people import private_tables
from quakegrid.services.dbserver.rpc import call_limits
from quakegrid.services.dbserver.store import connections, files, migrations, sqlite_errors, upstream_tables
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.transport import callers

ROWS = pages.PageSize(default=1000, largest=10_000)
DEFAULT_QUERY_S = 10.0
LONGEST_QUERY_S = 60.0
CHUNK_BYTES = 1 << 20
# How many rows without parents a check names: a lost table of jobs leaves millions of log lines.
MAX_ORPHANS = 1000
# How long a vacuum waits for readers of the old pages; nobody can write meanwhile.
SHRINKING_TIMEOUT_S = 1.0
# A check reads the whole file, which may be large; the client waits as long.
CARE_TIMEOUT_S = 3600.0


class DatabaseServicer(database_pb2_grpc.DatabaseServicer):
    """Answers calls about the file as such."""

    def __init__(
        self, readers: Readers, writer: Writer, retention: Retention, *, slow_threads: Executor
    ) -> None:
        self._readers = readers
        self._writer = writer
        self._retention = retention
        self._slow_threads = slow_threads

    def GetDatabaseInfo(  # noqa: N802  named in the proto
        self, _request: database_pb2.GetDatabaseInfoRequest, context: grpc.ServicerContext
    ) -> database_pb2.GetDatabaseInfoResponse:
        """What the file holds, and how large it is."""
        session = self._readers.session(limits=call_limits.of_call(context, CARE_TIMEOUT_S))
        path = session.path
        info = database_pb2.GetDatabaseInfoResponse(
            path=str(path),
            file_bytes=_size(path),
            wal_bytes=_size(path.with_name(f"{path.name}-wal")),
            free_bytes=_number(session, "PRAGMA freelist_count") * _number(session, "PRAGMA page_size"),
            upstream_version=upstream_tables.version(session),
            quakegrid_version=migrations.version(session),
            sqlite_version=sqlite3.sqlite_version,
            job_count=_number(session, "SELECT count(*) FROM job"),
            log_line_count=_number(session, "SELECT count(*) FROM log"),
            output_count=_number(session, "SELECT count(*) FROM output"),
            lease_count=_number(session, "SELECT count(*) FROM quakegrid_lease"),
            log_retention_days=self._retention.days,
            log_retention_bytes=self._retention.largest_bytes,
        )
        backup = backups.last(path)
        if backup is not None:
            info.backup_time.FromDatetime(backup.time)
            info.backup_bytes = backup.size_bytes
        return info

    def CheckDatabase(  # noqa: N802  named in the proto
        self, _request: database_pb2.CheckDatabaseRequest, context: grpc.ServicerContext
    ) -> database_pb2.CheckDatabaseResponse:
        """Look for damage."""
        session = self._readers.session(limits=call_limits.of_call(context, CARE_TIMEOUT_S))
        found = [str(row[0]) for row in session.query("PRAGMA integrity_check").rows]
        problems = [] if found == ["ok"] else found
        orphans, has_more = session.query_bounded("PRAGMA foreign_key_check", (), max_row_count=MAX_ORPHANS)
        for row in orphans:
            problems.append(
                f"row {row['rowid']} of {row['table']} belongs to a row of {row['parent']} that is gone"
            )
        if has_more:
            problems.append("and more of them")
        return database_pb2.CheckDatabaseResponse(problems=problems)

    def VacuumDatabase(  # noqa: N802  named in the proto
        self, _request: database_pb2.VacuumDatabaseRequest, _context: grpc.ServicerContext
    ) -> database_pb2.VacuumDatabaseResponse:
        """Give the free pages of the file back to the disk."""

        def vacuum(session: SqlSession) -> database_pb2.VacuumDatabaseResponse:
            before_bytes = _size(session.path)
            session.execute("VACUUM")
            # Only now the file becomes smaller, and only when nobody reads the pages that it will lose.
            with connections.short_wait(session.execute, SHRINKING_TIMEOUT_S):
                is_busy, _, _ = session.query("PRAGMA wal_checkpoint(TRUNCATE)").rows[0]
            after_bytes = _number(session, "PRAGMA page_count") * _number(session, "PRAGMA page_size")
            return database_pb2.VacuumDatabaseResponse(
                before_bytes=before_bytes, after_bytes=after_bytes, is_delayed=bool(is_busy)
            )

        return self._writer.run_alone(vacuum)

    async def BackupDatabase(  # type: ignore[override]  # noqa: N802  named in the proto
        self, _request: database_pb2.BackupDatabaseRequest, context: Any
    ) -> None:
        """Send a copy of the file."""
        loop = asyncio.get_running_loop()
        copying = loop.run_in_executor(self._slow_threads, _copy, self._readers)
        try:
            stream = await asyncio.shield(copying)
        except asyncio.CancelledError:
            copying.add_done_callback(_close_copy)  # the thread goes on
            raise
        with stream:
            total_bytes = os.fstat(stream.fileno()).st_size
            while chunk := await loop.run_in_executor(self._slow_threads, stream.read, CHUNK_BYTES):
                await context.write(database_pb2.BackupDatabaseResponse(chunk=chunk, total_bytes=total_bytes))
        database = self._readers.session().path
        await loop.run_in_executor(self._slow_threads, backups.note, database, total_bytes)

    def Query(  # noqa: N802  named in the proto
        self, request: database_pb2.QueryRequest, context: grpc.ServicerContext
    ) -> database_pb2.QueryResponse:
        """Rows of somebody's SELECT."""
        private_tables.check(callers.current(), request.sql)
        timeout_s = DEFAULT_QUERY_S
        if request.HasField("query_timeout"):
            timeout_s = request.query_timeout.ToNanoseconds() / 1e9
        if not 0 < timeout_s <= LONGEST_QUERY_S:
            raise UsageError(f"query_timeout is {timeout_s:g} s; give up to {LONGEST_QUERY_S:g} s")
        try:
            parameters = [engine_values.decode(value) for value in request.parameters]
        except (TypeError, ValueError) as exc:
            raise UsageError(f"a parameter cannot be read: {exc}") from exc
        limits = call_limits.of_call(context, timeout_s)
        limits = dataclasses.replace(limits, largest_value_bytes=connections.MAX_MADE_VALUE_BYTES)
        session = self._readers.session(limits=limits)
        table, is_truncated = session.query_bounded(
            request.sql, parameters, max_row_count=ROWS.clamp(request.max_row_count)
        )
        response = database_pb2.QueryResponse(columns=table.fields, is_truncated=is_truncated)
        for row in table.rows:
            engine_values.fill_all(response.rows.add().items, row)
        return response


def _copy(readers: Readers) -> BinaryIO:
    """A copy of the database in one file without a write-ahead log.

    The file has no name any more, so nothing is left behind whatever happens to this process.
    """
    session = readers.session()
    name = session.path.name
    with tempfile.TemporaryDirectory(
        prefix=f"{name}{files.BACKUP_FOLDER}", dir=session.path.parent
    ) as folder:
        path = Path(folder, name)
        try:
            with contextlib.closing(sqlite3.connect(path)) as target:
                session.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")
                files.stamp(target)
        except sqlite3.Error as exc:
            raise sqlite_errors.from_sqlite(exc, path) from exc
        return path.open("rb")


def _close_copy(copying: asyncio.Future[BinaryIO]) -> None:
    """Close the copy for a client that left while it was being made."""
    if not copying.cancelled() and copying.exception() is None:
        copying.result().close()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _number(session: SqlSession, query: str) -> int:
    return int(session.query(query).rows[0][0])
