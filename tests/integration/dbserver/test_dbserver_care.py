"""Care of the database file: backup, check, vacuum, queries, retention, damage, health."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.database_admin import DatabaseCare
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.services.dbserver import housekeeping
from quakegrid.services.dbserver.deletions import batches
from quakegrid.services.dbserver.engine import output_actions
from quakegrid.services.dbserver.housekeeping import Retention
from quakegrid.services.dbserver.jobs import state_reasons
from quakegrid.services.dbserver.rpc import database
from quakegrid.services.dbserver.store import read_limits, schema, sql_templates
from quakegrid.services.dbserver.store.database import Readers
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

TIME = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def care(client: DbClient) -> DatabaseCare:
    """Care of the running dbserver's file."""
    return DatabaseCare(client)


def new_job_id(client: DbClient, line_count: int = 0) -> int:
    """A new job with a log."""
    job = client.jobs.create_job(
        data_dir="/tmp", calculation_mode="classical", description="d", user_name="ada"
    )
    if line_count:
        client.logs.append_log(job.id, [LogLine(TIME, "INFO", "p", "x" * 1000)] * line_count)
    return job.id


def test_errors_are_found_among_millions_of_lines(client: DbClient, settings: Settings) -> None:
    """All questions for the last error go by the index of errors, not through a job's whole log."""
    new_job_id(client)
    with contextlib.closing(sqlite3.connect(settings.database)) as connection:
        for template in (state_reasons.LAST_ERROR, output_actions.LAST_ERROR):
            query, parameters = sql_templates.expand(template, 1)
            plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters).fetchall()

            assert [row[-1] for row in plan] == ["SEARCH log USING INDEX quakegrid_log_error (job_id=?)"]


def test_backup_under_load_is_a_whole_database(
    client: DbClient, care: DatabaseCare, settings: Settings, tmp_path: Path
) -> None:
    """A copy made while others write is sound, private and has all that was there when it began."""
    job_id = new_job_id(client, 3000)
    is_done = threading.Event()

    def write() -> None:
        with DbClient(settings) as own:
            while not is_done.is_set():
                own.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", "more")])

    writer = threading.Thread(target=write)
    writer.start()
    path = tmp_path / "copy.sqlite3"
    stored_bytes = care.backup(path)
    is_done.set()
    writer.join(60)

    assert stored_bytes == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
        assert copy.execute("SELECT count(*) FROM log").fetchone()[0] >= 3000
    assert not list(settings.database.parent.glob("*backup*"))
    with pytest.raises(errors.UsageError, match="exists"):
        care.backup(path)


def test_backup_can_be_served(
    dbserver: LocalDbServer, client: DbClient, care: DatabaseCare, tmp_path: Path
) -> None:
    """A backup put in the database's place is the database."""
    job_id = new_job_id(client, 1)
    care.backup(tmp_path / "copy")
    client.jobs.transition(job_id, JobState.FAILED)
    dbserver.stop()
    assert not list(dbserver.settings.database.parent.glob("*-wal"))

    (tmp_path / "copy").replace(dbserver.settings.database)
    dbserver.start()

    with DbClient(dbserver.settings) as own:
        assert own.jobs.get_job(job_id).state is JobState.CREATED


def test_backup_that_breaks_off_leaves_no_file(
    dbserver: LocalDbServer, client: DbClient, care: DatabaseCare, tmp_path: Path
) -> None:
    """Without a dbserver there is no backup, not half of one."""
    dbserver.stop()

    with pytest.raises(errors.PeerUnreachableError):
        care.backup(tmp_path / "copy")

    assert not list(tmp_path.glob("copy*"))


def test_check_finds_rows_without_parents(dbserver: LocalDbServer) -> None:
    """A sound file has no problems; what the plain engine or a person broke is named."""
    with DbClient(dbserver.settings) as client:
        new_job_id(client, database.MAX_ORPHANS + 1)
        assert DatabaseCare(client).check() == []
    dbserver.stop()
    with contextlib.closing(sqlite3.connect(dbserver.settings.database, isolation_level=None)) as db:
        db.execute("DELETE FROM job")
    dbserver.start()

    with DbClient(dbserver.settings) as client:
        first, *others = DatabaseCare(client).check()
    assert first == "row 1 of log belongs to a row of job that is gone"
    assert len(others) == database.MAX_ORPHANS
    assert others[-1] == "and more of them"


def test_vacuum_gives_room_back(client: DbClient, care: DatabaseCare) -> None:
    """The file shrinks by what was deleted."""
    job_id = new_job_id(client, 3000)
    client.jobs.transition(job_id, JobState.COMPLETE)
    client.jobs.delete_job(job_id, "ada", delete_files=False)

    before_bytes, after_bytes, is_delayed = care.vacuum()

    assert after_bytes < before_bytes / 4
    assert not is_delayed
    assert care.info().file_bytes == after_bytes
    assert care.info().free_bytes == 0


def test_info_counts(dbserver: LocalDbServer, client: DbClient, care: DatabaseCare) -> None:
    """What is in the file, and which versions its tables have."""
    job_id = new_job_id(client, 7)
    client.jobs.renew_hold(job_id, "node1/1", 3600)
    client.call("create_outputs", job_id, [["hmaps", "Maps", 1.0]], 1.0)

    info = care.info()

    assert info.path == str(dbserver.settings.database)
    assert (info.job_count, info.log_line_count, info.output_count, info.lease_count) == (1, 7, 1, 1)
    assert (info.upstream_version, info.quakegrid_version) == ("0010", "0018")
    assert (info.log_retention_days, info.log_retention_bytes) == (0, 0)
    assert info.file_bytes > 0
    assert info.backup_time is None


def test_info_tells_the_last_backup(care: DatabaseCare, tmp_path: Path) -> None:
    """When it was, and how large; a copy that was refused does not count."""
    before_time = dt.datetime.now(dt.UTC).replace(microsecond=0)
    stored_bytes = care.backup(tmp_path / "copy")
    with pytest.raises(errors.UsageError):
        care.backup(tmp_path / "copy")

    info = care.info()

    assert info.backup_time is not None
    assert before_time <= info.backup_time <= dt.datetime.now(dt.UTC)
    assert info.backup_bytes == stored_bytes == (tmp_path / "copy").stat().st_size


def test_vacuum_says_when_the_file_shrinks_later(
    client: DbClient, care: DatabaseCare, settings: Settings
) -> None:
    """Somebody who still reads old pages keeps the file as large as it was; the sizes are told."""
    job_id = new_job_id(client, 3000)
    with contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM log").fetchone()
        client.jobs.delete_job(job_id, "ada", delete_files=False)

        before_bytes, after_bytes, is_delayed = care.vacuum()

        assert is_delayed
        assert after_bytes < before_bytes / 4
        assert care.info().file_bytes == before_bytes
        other.execute("COMMIT")
    assert care.vacuum() == (before_bytes, after_bytes, False)
    assert care.info().file_bytes == after_bytes


def test_query_gives_typed_rows(client: DbClient, care: DatabaseCare) -> None:
    """Columns and values of every type, with parameters."""
    job_id = new_job_id(client)

    table, is_truncated = care.query(
        "SELECT id, 1.5 AS real, 'a' AS text, NULL AS none, x'00ff' AS data, start_time FROM job WHERE id=?",
        [job_id],
    )

    assert table.fields == ("id", "real", "text", "none", "data", "start_time")
    assert table.rows[0][:5] == (job_id, 1.5, "a", None, b"\x00\xff")
    assert table.rows[0][5] == client.jobs.get_job(job_id).start_time
    assert not is_truncated


def test_query_is_bounded(care: DatabaseCare) -> None:
    """Rows, size and time have limits, and the dbserver goes on."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT {} FROM n"

    table, is_truncated = care.query(numbers.format(10, "i"), limit=10)
    assert (len(table), is_truncated) == (10, False)
    table, is_truncated = care.query(numbers.format(11, "i"), limit=10)
    assert (len(table), is_truncated) == (10, True)
    table, is_truncated = care.query(numbers.format(100, "zeroblob(1000000)"))
    assert (len(table), is_truncated) == (read_limits.MAX_TABLE_BYTES // 1_000_050, True)
    with pytest.raises(errors.UsageError, match=r"took more than 0\.05 s"):
        care.query(numbers.format(10**12, "max(i)"), timeout_s=0.05)
    with pytest.raises(errors.UsageError, match="too big"):
        care.query("SELECT zeroblob(1000000000)")
    assert care.query("SELECT 1")[0].rows == ((1,),)


@pytest.mark.parametrize(
    ("sql", "error", "reason"),
    [
        ("DELETE FROM job", errors.QuakeGridError, "may only read"),
        ("CREATE TABLE t (a)", errors.QuakeGridError, "may only read"),
        ("ATTACH '/tmp/x' AS x", errors.QuakeGridError, "may only read"),
        ("BEGIN", errors.QuakeGridError, "may only read"),
        ("PRAGMA query_only = OFF", errors.QuakeGridError, "may only read"),
        ("SELECT 1; SELECT 2", errors.UsageError, "one statement"),
        ("SELECT ?", errors.UsageError, "binding"),
        ("SELECT load_extension('x')", errors.QuakeGridError, "may only read"),
        ("nonsense", errors.UsageError, "syntax error"),
    ],
)
def test_query_refuses_what_is_no_query(
    client: DbClient, care: DatabaseCare, sql: str, error: type[Exception], reason: str
) -> None:
    """Nothing can be changed; refusals are one line."""
    new_job_id(client)

    with pytest.raises(error, match=reason) as refusal:
        care.query(sql)

    assert "\n" not in str(refusal.value)
    assert len(client.jobs.list_jobs()) == 1


@pytest.fixture
def ended_jobs(settings: Settings) -> Any:
    """Readers and the writer of a file with jobs that ended 30, 20 and 10 days ago, and one that runs."""
    lock = schema.lock_database(settings.database)
    schema.prepare_database(settings.database)
    readers = Readers(settings.database)
    writer = Writer(settings.database, on_commit=lambda _: None, on_death=lambda: None)

    def fill(session: Any) -> None:
        for days in (30, 20, 10, 40):
            status = "executing" if days == 40 else "complete"
            job_id = session.execute(
                "INSERT INTO job (description, user_name, calculation_mode, status, ds_calc_dir, stop_time) "
                "VALUES ('d', 'ada', 'classical', ?x, '/', datetime('now', ?x))",
                status,
                f"-{days} days",
            ).lastrowid
            lines = [(job_id, TIME, "INFO", "p", "x" * 2000)] * 2500
            session.insert_all("log", ("job_id", "timestamp", "level", "process", "message"), lines)

    writer.run(fill)
    yield readers, writer
    readers.close()
    writer.close(30)
    lock.close()


def log_counts(readers: Readers) -> dict[int, int]:
    """Lines of each job that has some."""
    return dict(readers.session().query("SELECT job_id, count(*) FROM log GROUP BY job_id").rows)


def test_retention_by_age_drops_logs_of_ended_jobs(ended_jobs: tuple[Readers, Writer]) -> None:
    """Age counts from a job's end; a job that runs keeps its log, however old; nothing is lost unasked."""
    for retention, kept in (
        (Retention(), {1, 2, 3, 4}),
        (Retention(days=15), {3, 4}),
        (Retention(days=15), {3, 4}),
        (Retention(days=1), {4}),
    ):
        housekeeping.clean_up(*ended_jobs, retention, lambda: False)
        assert log_counts(ended_jobs[0]) == dict.fromkeys(kept, 2500)


def test_retention_by_size_drops_the_oldest_logs(ended_jobs: tuple[Readers, Writer]) -> None:
    """Logs go, of the jobs that ended first, until the database is small enough."""
    size = housekeeping.used_bytes(ended_jobs[0].session())

    count = housekeeping.clean_up(*ended_jobs, Retention(largest_bytes=size * 2 // 3), lambda: False)

    assert count == 5000
    assert set(log_counts(ended_jobs[0])) == {3, 4}
    assert housekeeping.used_bytes(ended_jobs[0].session()) <= size * 2 // 3


def test_retention_lets_others_write_in_between(
    ended_jobs: tuple[Readers, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log goes in batches, between which others write; stopping takes effect after one of them."""
    readers, writer = ended_jobs
    for name in ("FIRST_COUNT", "FEWEST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(batches, name, 1000)
    left: list[int] = []

    def write_in_between() -> bool:
        """Somebody writes before each batch; the third is not begun."""
        writer.run(lambda session: session.execute("UPDATE job SET description='written' WHERE id=4"))
        left.append(log_counts(readers)[1])
        return left[-1] == 500

    housekeeping.clean_up(readers, writer, Retention(days=25), write_in_between)

    # One look each before old events, old requests, old records, and each of the log's batches.
    assert left == [2500, 2500, 2500, 2500, 1500, 500]
    assert log_counts(readers) == {1: 500, 2: 2500, 3: 2500, 4: 2500}


def test_old_answers_are_forgotten(ended_jobs: tuple[Readers, Writer]) -> None:
    """Answers are kept for a day, by an index, and in batches as everything else."""
    readers, writer = ended_jobs

    def fill(session: Any) -> None:
        for hours in (1, 23, 25, 48):
            session.execute(
                "INSERT INTO quakegrid_request VALUES (?x, 'k', x'', datetime('now', ?x))",
                f"r{hours}",
                f"-{hours} hours",
            )

    writer.run(fill)

    housekeeping.clean_up(readers, writer, Retention(), lambda: False)

    kept = readers.session().query("SELECT request_id FROM quakegrid_request ORDER BY time DESC").rows
    assert kept == (("r1",), ("r23",))
    plan = readers.session().query(
        "EXPLAIN QUERY PLAN SELECT request_id FROM quakegrid_request WHERE time < 'x' LIMIT 1"
    )
    assert "INDEX quakegrid_request_time" in plan[0]["detail"]


@pytest.mark.parametrize("line_count", [0, 3000])
def test_damaged_file_is_refused_with_the_remedy(dbserver_process: Service, line_count: int) -> None:
    """Garbage in the middle of the file is found at the start, and the file stays as it is."""
    with DbClient(dbserver_process.settings) as client:
        for _ in range(200):
            new_job_id(client)
        if line_count:
            new_job_id(client, line_count)
    dbserver_process.stop()
    path = dbserver_process.settings.database
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8192] = b"\xa5" * 8192
    path.write_bytes(data)

    code, text = dbserver_process.fail_to_start()

    assert (code, text.count("\n")) == (1, 1)
    assert f"{path} is damaged" in text
    assert "quakegrid db backup" in text
    assert ".recover" in text
    assert path.read_bytes() == data


def test_health_and_reflection_are_served(dbserver_process: Service) -> None:
    """Standard tools see what is here and whether it serves."""
    settings = dbserver_process.settings
    with grpc_channels.open_channel(settings.dbserver_address, settings.authkey) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        for name in ("", "quakegrid.api.v1.Jobs", "quakegrid.api.v1.Database"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == serving
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == serving
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([request]))
        names = {service.name for service in answer.list_services_response.service}
        assert {"quakegrid.api.v1.Jobs", "quakegrid.api.v1.Logs", "grpc.health.v1.Health"} <= names

        threading.Thread(target=dbserver_process.stop).start()

        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with contextlib.suppress(grpc.RpcError):
            next(watch)
    end_s = time.monotonic() + 60
    while dbserver_process.process is not None:
        assert time.monotonic() < end_s
        time.sleep(0.01)
