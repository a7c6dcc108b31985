"""Reading connections: what a query may cost, and what is left of one that fails."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import grpc
import pytest

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.api.v1 import database_pb2
from quakegrid.services.dbserver.housekeeping import Retention
from quakegrid.services.dbserver.rpc.database import DatabaseServicer
from quakegrid.services.dbserver.rpc.interceptor import UnaryCall
from quakegrid.services.dbserver.store import database, schema
from quakegrid.services.dbserver.store.connections import READER_STATEMENTS
from quakegrid.services.dbserver.store.database import Readers
from quakegrid.services.dbserver.store.read_limits import ReadLimits, ReadTooLargeError
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.transport import callers

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT {} FROM n"


class OursError(Exception):
    """What a converter of ours raises."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new database."""
    path = tmp_path / "db.sqlite3"
    schema.prepare_database(path)
    return path


@pytest.fixture
def readers(path: Path) -> Iterator[Readers]:
    """Readers of it."""
    readers = Readers(path)
    yield readers
    readers.close()


def write(path: Path, *statements: str) -> None:
    """Change the file as a writer would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_failed_read_gives_its_snapshot_back(path: Path, readers: Readers) -> None:
    """A row that Python cannot read fails its query; the thread's next query sees what was written since."""

    def refuse(_text: bytes) -> None:
        raise OursError

    sqlite3.register_converter("unreadable", refuse)
    write(path, "CREATE TABLE t (a unreadable)", "INSERT INTO t VALUES (1), (2)")
    failures = []
    for _ in range(3):
        try:
            readers.session().query("SELECT a FROM t")
        except OursError as exc:
            failures.append(exc)  # its traceback holds on to the frames, as a log of errors might

    write(path, "INSERT INTO t VALUES (3)")

    assert len(failures) == 3
    assert readers.session().query("SELECT count(*) FROM t").rows == ((3,),)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_bounded_read_gives_its_snapshot_back(path: Path, readers: Readers) -> None:
    """A query that has more rows than were asked for leaves nothing open, either."""
    write(path, "INSERT INTO tag (name) VALUES ('a'), ('b')")
    table, is_truncated = readers.session().query_bounded("SELECT name FROM tag", (), max_row_count=1)
    assert (table.rows, is_truncated) == ((("a",),), True)

    write(path, "INSERT INTO tag (name) VALUES ('c')")

    assert readers.session().query("SELECT count(*) FROM tag").rows == ((3,),)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ReadLimits(timeout_s=0.0), "took more than 0 s"),
        (ReadLimits(is_cancelled=lambda: True), "caller has left"),
    ],
)
def test_endless_query_ends(readers: Readers, limits: ReadLimits, words: str) -> None:
    """A query ends when its time is over or its caller has left; the next one is served."""
    with pytest.raises(errors.QuakeGridError, match=words):
        readers.session(limits=limits).query(ENDLESS)

    assert readers.session().query("SELECT 1").rows == ((1,),)


def test_query_ends_when_its_caller_has_left(readers: Readers) -> None:
    """It would keep a thread from others for a minute."""
    admin = DatabaseServicer(readers, cast("Writer", None), Retention(), slow_threads=cast("Executor", None))
    call = UnaryCall()
    call.end()

    def ask() -> None:
        callers.enter(principals.SERVICE)
        admin.Query(database_pb2.QueryRequest(sql=ENDLESS), cast("grpc.ServicerContext", call))

    with pytest.raises(errors.QuakeGridError, match="caller has left"):
        contextvars.copy_context().run(ask)


def test_endless_query_ends_with_the_dbserver(readers: Readers) -> None:
    """Stopping ends queries that run and refuses the long ones that begin later."""
    has_begun = threading.Event()
    caught: list[Exception] = []

    def is_cancelled() -> bool:
        has_begun.set()
        return False

    def read() -> None:
        for _ in range(2):
            try:
                readers.session(limits=ReadLimits(None, None, is_cancelled)).query(ENDLESS)
            except errors.PeerUnreachableError as exc:
                caught.append(exc)

    thread = threading.Thread(target=read)
    thread.start()
    assert has_begun.wait(60)
    readers.interrupt()
    thread.join(60)

    assert list(map(str, caught)) == ["the dbserver is stopping"] * 2


def test_result_has_a_largest_size(readers: Readers) -> None:
    """Many rows or few large ones are refused before they fill the memory, with what to do."""
    session = readers.session(limits=ReadLimits(largest_bytes=10 << 20))
    for query in (ROWS.format(40, "zeroblob(1000000)"), ROWS.format(2_000_000, "i")):
        with pytest.raises(ReadTooLargeError, match="larger than 10 MB; ask for fewer rows"):
            session.query(query)

    assert len(session.query(ROWS.format(10, "zeroblob(1000000)"))) == 10


def test_long_texts_are_refused_or_not_kept(readers: Readers) -> None:
    """A text of somebody's SQL has a largest length, and a long one stays in no cache."""
    with pytest.raises(errors.UsageError, match="too large"):
        readers.session().query(f"SELECT '{'x' * 1_000_000}'")
    session = readers.session()

    session.query(f"SELECT '{'x' * database.LONGEST_KEPT_SQL}'")

    assert session.is_spent
    assert not readers.session().is_spent


def test_spent_connection_is_closed(readers: Readers) -> None:
    """A connection that was given up is closed and not counted any more."""
    connections = readers._all
    readers.session().query("SELECT 1")
    (first,) = connections
    session = readers.session()

    session.query(f"SELECT '{'x' * database.LONGEST_KEPT_SQL}'")
    readers.session().query("SELECT 1")

    assert session.is_spent
    assert len(connections) == 1
    assert connections[0] is not first
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")


def test_threads_share_connections(readers: Readers) -> None:
    """A connection for each thread would keep its pages and statements while the thread does not read."""
    with ThreadPoolExecutor(20) as threads:
        meeting = threading.Barrier(20)

        def read() -> None:
            meeting.wait(60)
            with one_at_a_time:
                readers.session().query("SELECT 1")
            meeting.wait(60)

        one_at_a_time = threading.Lock()
        for done in [threads.submit(read) for _ in range(20)]:
            done.result()

    assert len(readers._all) == 1


def test_few_connections_stay_open(readers: Readers) -> None:
    """What a crowd of readers needed is closed when they are done."""
    connections = [readers.take() for _ in range(3 * database.KEPT_READERS)]

    for connection in connections:
        readers.give_back(connection, is_spent=False)

    assert len(readers._all) == database.KEPT_READERS
    assert readers.session().query("SELECT 1").rows == ((1,),)


def test_connection_keeps_few_statements(readers: Readers) -> None:
    """Clients choose the SQL, and a prepared statement takes some ten kilobytes."""
    readers.session().query("SELECT 1")
    before_count = statement_count()

    for number in range(300):
        readers.session().query(f"SELECT {number}")

    assert statement_count() - before_count <= READER_STATEMENTS


def statement_count() -> int:
    """Prepared statements in the memory."""
    gc.collect()
    return sum(type(each).__name__ == "Statement" for each in gc.get_objects())


def test_refused_statement_leaves_no_cycle_behind(readers: Readers) -> None:
    """What was to be stored, perhaps megabytes, would stay in memory until the next search for garbage."""
    session = readers.session()
    gc.disable()
    try:
        try:
            session.query("SELECT nothing FROM nowhere")
        except errors.QuakeGridError as exc:
            refusal = weakref.ref(exc)

        assert refusal() is None
    finally:
        gc.enable()
