"""The one thread that writes, and those who wait for it or have left."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.services.dbserver.store import connections, schema, sqlite_errors
from quakegrid.services.dbserver.store.database import SqlSession
from quakegrid.services.dbserver.store.idempotence import Answer, Requests
from quakegrid.services.dbserver.store.writer import Tell, Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """A writer of a new file; its thread must outlive the test."""
    path = tmp_path / "db.sqlite3"
    schema.prepare_database(path)
    deaths: list[bool] = []
    writer = Writer(path, on_commit=lambda _: None, on_death=lambda: deaths.append(True))
    yield writer
    writer.close(30)
    assert not deaths


def count_jobs(session: SqlSession) -> int:
    """Jobs in the file."""
    return int(session.query("SELECT count(*) FROM job").rows[0][0])


def create_job(session: SqlSession) -> bytes:
    """One job more."""
    session.execute(
        "INSERT INTO job (description, user_name, calculation_mode, ds_calc_dir) VALUES ('d', 'a', 'c', '/')"
    )
    return b"created"


def test_who_leaves_before_the_answer_takes_nobody_along(writer: Writer) -> None:
    """A client's connection breaks while its batch is written: it is stored, and the writer goes on."""
    may_go_on = threading.Event()
    blocking = writer.submit(lambda _: may_go_on.wait())
    left = writer.submit(create_job)
    left.cancel()
    may_go_on.set()

    assert blocking.result()
    assert writer.run(count_jobs) == 1


def test_repeated_requests_change_nothing_also_in_one_transaction(writer: Writer) -> None:
    """The first of an id is done, all are answered alike, and their neighbours are not disturbed."""
    requests = Requests(writer)
    may_go_on = threading.Event()
    blocking = writer.submit(lambda _: may_go_on.wait())
    twins = [requests.submit_once("same", "create", create_job) for _ in range(3)]
    other = requests.submit_once("other", "create", create_job)
    may_go_on.set()

    assert blocking.result()
    assert [twin.result() for twin in twins] == [
        Answer(b"created", is_repeated=each) for each in (False, True, True)
    ]
    assert other.result() == Answer(b"created", is_repeated=False)
    assert requests.run_once("same", "create", create_job).is_repeated
    assert writer.run(count_jobs) == 2
    with pytest.raises(errors.UsageError, match="was used for create before, not for delete"):
        requests.run_once("same", "delete", create_job)


def tell_into(told: list[tuple[object, Exception | None]]) -> Tell:
    """Collect what is told."""
    return lambda result, error: told.append((result, error))


def test_error_of_the_second_pass_takes_the_result_of_the_first_along(writer: Writer) -> None:
    """A write that succeeded in a pass that was rolled back, and then failed, is told as failed only."""
    told: list[tuple[object, Exception | None]] = []
    full = errors.QuakeGridError("the disk is full now")

    def succeed_once(session: SqlSession) -> bytes:
        if session.is_retried:
            raise full
        return create_job(session)

    def fail(_session: SqlSession) -> None:
        raise errors.StateError("refused")

    may_go_on = threading.Event()
    blocking = writer.submit(lambda _: may_go_on.wait())
    writer.enqueue(succeed_once, tell_into(told))
    failing = writer.submit(fail)
    may_go_on.set()

    assert blocking.result()
    assert isinstance(failing.exception(), errors.StateError)
    assert told == [(None, full)]
    assert writer.run(count_jobs) == 0


def test_waiting_requests_are_committed_together(writer: Writer) -> None:
    """What waits goes into one transaction; nobody is answered before it is on the disk."""
    may_go_on = threading.Event()
    blocking = writer.submit(lambda _: may_go_on.wait())
    begun: list[bool] = []

    def see_others(session: SqlSession) -> int:
        begun.append(any(future.done() for future in futures))
        create_job(session)
        return count_jobs(session)

    futures: list[Future[int]] = []
    futures.extend(writer.submit(see_others) for _ in range(50))
    may_go_on.set()

    assert blocking.result()
    assert [future.result() for future in futures] == list(range(1, 51))
    assert begun == [False] * 50


def test_lock_of_another_process_is_waited_for_once(writer: Writer, tmp_path: Path) -> None:
    """A batch that meets a lock is refused after one wait, and the next one is written when it is free."""
    begins: list[str] = []
    connection = writer._connection
    connection.execute("PRAGMA busy_timeout = 1")
    connection.set_trace_callback(lambda sql: begins.append(sql) if sql.startswith("BEGIN") else None)

    with contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite_errors.DatabaseBusyError, match="another process holds"):
            writer.run(create_job)
        other.execute("ROLLBACK")

    assert len(begins) == 1
    assert writer.run(create_job) == b"created"


def test_disk_without_write_ahead_log_is_refused() -> None:
    """Where SQLite cannot keep one, as on some network disks or in memory, the dbserver does not begin."""
    with pytest.raises(errors.QuakeGridError, match=r"says 'memory'.*set \[dbserver\] file"):
        connections.connect_writer(Path(":memory:"))
