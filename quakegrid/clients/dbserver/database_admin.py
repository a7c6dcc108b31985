"""The client for administrators of the database file: backup, check, vacuum, facts and queries."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quakegrid import errors
from quakegrid.api.v1 import database_pb2, database_pb2_grpc, values_pb2
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs import engine_values
from quakegrid.jobs.engine_values import TableValue

# A check or a vacuum of a large file takes minutes.
CARE_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class DatabaseInfo:
    """What the file holds, and its size; retention 0 means for ever. `backup_time` is None if not known."""

    path: str
    file_bytes: int
    wal_bytes: int
    free_bytes: int
    upstream_version: str
    quakegrid_version: str
    sqlite_version: str
    job_count: int
    log_line_count: int
    output_count: int
    lease_count: int
    log_retention_days: int
    log_retention_bytes: int
    backup_time: datetime.datetime | None = None
    backup_bytes: int = 0


class Vacuumed(NamedTuple):
    """Bytes of the file before and after; `is_delayed` if it shrinks only when other reads have ended."""

    before_bytes: int
    after_bytes: int
    is_delayed: bool


class DatabaseCare:
    """Calls about the database file over a connection to the dbserver, with its errors."""

    def __init__(self, database: DbClient) -> None:
        self._connection = database.connection
        self._stub = database_pb2_grpc.DatabaseStub(database.connection.channel)

    def info(self) -> DatabaseInfo:
        """Facts on the file."""
        response = self._connection.call(
            self._stub.GetDatabaseInfo, database_pb2.GetDatabaseInfoRequest(), CARE_TIMEOUT_S
        )
        values = {name: getattr(response, name) for name in DatabaseInfo.__slots__}
        is_known = response.HasField("backup_time")
        values["backup_time"] = response.backup_time.ToDatetime(datetime.UTC) if is_known else None
        return DatabaseInfo(**values)

    def check(self) -> list[str]:
        """Check the file; returns what is damaged, nothing if the file is sound."""
        request = database_pb2.CheckDatabaseRequest()
        return list(self._connection.call(self._stub.CheckDatabase, request, CARE_TIMEOUT_S).problems)

    def vacuum(self) -> Vacuumed:
        """Give the free pages of the file back to the disk."""
        request = database_pb2.VacuumDatabaseRequest()
        response = self._connection.call(self._stub.VacuumDatabase, request, CARE_TIMEOUT_S)
        return Vacuumed(response.before_bytes, response.after_bytes, response.is_delayed)

    def backup(self, path: Path) -> int:
        """Write a copy of the database, as it is at one instant, to a new file here; returns its bytes.

        Raises:
            UsageError: the file exists.
            QuakeGridError: the copy broke off; its file is removed.
        """
        if path.exists():
            raise errors.UsageError(f"{path} exists; give the name of a new file")
        partial_path = path.with_name(f"{path.name}.part")
        try:
            stored_bytes = self._receive(partial_path)
            partial_path.rename(path)
        finally:
            partial_path.unlink(missing_ok=True)
        return stored_bytes

    def query(
        self, sql: str, parameters: Sequence[Any] = (), *, limit: int = 1000, timeout_s: float = 10.0
    ) -> tuple[TableValue, bool]:
        """The first rows of a SELECT with `?` for parameters, and whether there are more. Times are aware."""
        request = database_pb2.QueryRequest(sql=sql, max_row_count=limit)
        engine_values.fill_all(request.parameters, parameters)
        request.query_timeout.FromNanoseconds(round(timeout_s * 1e9))
        response = self._connection.call(self._stub.Query, request)
        rows = (tuple(map(_decode, row.items)) for row in response.rows)
        return TableValue(tuple(response.columns), tuple(rows)), response.is_truncated

    def _receive(self, path: Path) -> int:
        total_bytes = 0
        with path.open("wb") as file:
            path.chmod(0o600)

            def open_stream() -> Any:
                file.seek(0)  # after a break the copy is a new one
                file.truncate()
                return self._stub.BackupDatabase(database_pb2.BackupDatabaseRequest(), timeout=CARE_TIMEOUT_S)

            for response in self._connection.follow(open_stream):
                file.write(response.chunk)
                total_bytes = response.total_bytes
            stored_bytes = file.tell()
            file.flush()
            os.fsync(file.fileno())
        if not 0 < stored_bytes == total_bytes:
            raise errors.QuakeGridError(f"the backup broke off after {stored_bytes} bytes; try again")
        return stored_bytes


def _decode(value: values_pb2.Value) -> Any:
    result = engine_values.decode(value)
    return result.replace(tzinfo=datetime.UTC) if isinstance(result, datetime.datetime) else result
