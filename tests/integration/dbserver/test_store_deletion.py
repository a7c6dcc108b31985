"""Deleting jobs: what it costs the other writers, and what it leaves."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs import engine_values
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.services.dbserver.deletions import batches, marks
from quakegrid.services.dbserver.engine import job_actions, new_jobs
from quakegrid.services.dbserver.jobs import holds
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.logs import lines as log_lines
from quakegrid.services.dbserver.store import schema
from quakegrid.services.dbserver.store.database import JOB_EVENTS, SqlSession
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.settings.config import Settings
from tests.support.dbservers import serving
from tests.support.processes import Service

TIME = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
# Of SQLite's machine; a look at each of the jobs below would take ten times as many.
MOST_STEPS = 1000


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """The writer of a new file."""
    path = tmp_path / "db.sqlite3"
    schema.prepare_database(path)
    writer = Writer(path, on_commit=lambda _: None, on_death=lambda: None)
    yield writer
    writer.close(30)


def add_job(session: SqlSession, status: str = "complete", user_name: str = "ada") -> int:
    """A job in a state."""
    job_id = session.execute(
        "INSERT INTO job (description, user_name, calculation_mode, status, ds_calc_dir, is_running) "
        "VALUES ('d', ?x, 'classical', ?x, '/', ?x)",
        user_name,
        status,
        int(status == "executing"),
    ).lastrowid
    assert job_id is not None
    return job_id


def test_uncompleted_calculations_do_not_run_any_more(writer: Writer) -> None:
    """Jobs that are marked as deleted are told to their followers and count as running no more."""

    def act(session: SqlSession) -> set[int]:
        for status in ("executing", "failed", "complete", "deleted"):
            add_job(session, status)
        add_job(session, "executing", "bob")
        job_actions.delete_uncompleted_calculations(session, "ada")
        return session.touched_jobs

    assert writer.run(act) == {0, 1, 2}
    rows = writer.run(lambda session: session.query("SELECT status, is_running FROM job ORDER BY id").rows)
    assert rows == (("deleted", 0), ("deleted", 0), ("complete", 0), ("deleted", 0), ("executing", 1))


def test_every_reference_has_an_index(writer: Writer, tmp_path: Path) -> None:
    """Nothing that refers to a row is looked for in a whole table when that row is deleted."""
    with contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite3")) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        references = {
            (table, column)
            for table in tables
            for _, _, _, column, *_ in db.execute(f"PRAGMA foreign_key_list({table})")
        }
        first_columns = {
            (table, db.execute(f"PRAGMA index_info({index})").fetchone()[2])
            for table in tables
            for _, index, _, _, is_partial in db.execute(f"PRAGMA index_list({table})")
            if not is_partial
        }
        keys = {
            (table, column)
            for table in tables
            for _, column, _, _, _, is_key in db.execute(f"PRAGMA table_info({table})")
            if is_key
        }

    assert ("job", "workflow_id") in references
    assert references - first_columns - keys == set()


def test_deleting_a_job_reads_no_whole_table(writer: Writer) -> None:
    """Its cost does not grow with the number of jobs."""
    writer.run(lambda session: [add_job(session) for _ in range(3000)])
    connection = writer._connection
    steps: list[int] = []

    def delete(session: SqlSession) -> None:
        connection.set_progress_handler(lambda: steps.append(1), 1)
        session.execute("DELETE FROM job WHERE id=1500")
        connection.set_progress_handler(None, 0)

    writer.run(delete)

    assert len(steps) < MOST_STEPS


def fill_logs(session: SqlSession, job_count: int, line_count: int) -> list[int]:
    """Jobs with logs, outputs and performance records; returns their ids."""
    job_ids = [add_job(session) for _ in range(job_count)]
    for job_id in job_ids:
        job_rows.append_log(session, job_id, [(TIME, "INFO", "p", "m")] * line_count)
        for _ in range(3):
            session.execute(
                "INSERT INTO output (oq_job_id, display_name, ds_key) VALUES (?x, 'd', 'k')", job_id
            )
            session.execute(
                "INSERT INTO performance (job_id, operation, time_sec, memory_mb, counts) "
                "VALUES (?x, 'o', 1, 1, 1)",
                job_id,
            )
    return job_ids


def counts(session: SqlSession) -> dict[str, int]:
    """Rows of each table that has some of jobs."""
    tables = ("job", "log", "output", "performance", "job_tag", "checksum", "quakegrid_deletion")
    return {table: session.query(f"SELECT count(*) FROM {table}").rows[0][0] for table in tables}


def test_small_jobs_are_deleted_at_once(writer: Writer) -> None:
    """With all their rows, in the transaction that the caller waits for, as upstream does."""
    job_ids = writer.run(lambda session: fill_logs(session, 3, 20))

    def delete(session: SqlSession) -> tuple[int, set[int]]:
        return marks.delete(session, job_ids[:2]), session.touched_jobs

    assert writer.run(delete) == (2, {JOB_EVENTS, *job_ids[:2]})
    rows = writer.run(counts)
    assert (rows["job"], rows["log"], rows["output"], rows["quakegrid_deletion"]) == (1, 20, 3, 0)


@pytest.mark.parametrize(("job_count", "line_count"), [(1, marks.MOST_AT_ONCE), (marks.MOST_AT_ONCE + 1, 0)])
def test_large_deletion_only_marks(writer: Writer, job_count: int, line_count: int) -> None:
    """No row goes in the caller's transaction, and no more than so many jobs are written."""
    job_ids = writer.run(lambda session: fill_logs(session, job_count, line_count))
    before = writer.run(counts)

    def delete(session: SqlSession) -> tuple[int, int]:
        changes = writer._connection.total_changes
        count = marks.delete(session, job_ids)
        return count, writer._connection.total_changes - changes

    count, changes = writer.run(delete)

    assert count == job_count
    # The entry and its mark, the job, its event.
    assert changes <= job_count + 3 * marks.MOST_MARKED
    assert writer.run(counts) == before | {"quakegrid_deletion": job_count}


def test_deletion_takes_the_jobs_that_depend_on_it(writer: Writer) -> None:
    """Those that start from a job, those of a workflow, and no others; a job may refer to itself."""

    def fill(session: SqlSession) -> None:
        fill_logs(session, 5, marks.MOST_AT_ONCE)
        session.execute("UPDATE job SET hazard_calculation_id=1 WHERE id=2")
        session.execute("UPDATE job SET workflow_id=2 WHERE id=3")
        session.execute("UPDATE job SET hazard_calculation_id=5 WHERE id=5")

    writer.run(fill)

    assert writer.run(lambda session: marks.delete(session, [1, 5, 99])) == 2
    query = "SELECT job_id FROM quakegrid_deletion ORDER BY job_id"
    assert writer.run(lambda session: session.query(query).rows) == ((1,), (2,), (3,), (5,))
    while writer.run(lambda session: marks.remove(session, 100)):
        pass
    rows = writer.run(counts)
    assert (rows["job"], rows["log"], rows["output"], rows["performance"]) == (1, marks.MOST_AT_ONCE, 3, 3)


def test_removal_never_takes_more_rows_than_wanted(writer: Writer) -> None:
    """Neither of a long log, nor of many jobs that have none: no row takes others with it."""

    def fill(session: SqlSession) -> None:
        fill_logs(session, 2, 700)
        fill_logs(session, 2 * marks.MOST_MARKED, 0)
        session.execute("UPDATE job SET hazard_calculation_id=1 WHERE id > 2")
        session.execute("INSERT INTO tag (name) VALUES ('t')")
        session.execute("INSERT INTO job_tag (job_id, tag_id) SELECT id, 1 FROM job")

    writer.run(fill)
    rows = writer.run(counts)
    total = sum(rows[table] for table in ("job", "log", "output", "performance"))
    writer.run(lambda session: marks.delete(session, [1, 2]))

    def remove(session: SqlSession) -> tuple[int, int, int]:
        before = sum(counts(session).values())
        count = marks.remove(session, 50)
        return count, before - sum(counts(session).values()), session.query("SELECT 1").rows[0][0]

    removed_counts = []
    while (batch := writer.run(remove))[0]:
        # A job's mark goes with it; a batch that marks takes a tag a job.
        assert batch[0] <= 50
        assert batch[1] <= 100
        removed_counts.append(batch[1])

    assert len(removed_counts) >= total // 50
    assert set(writer.run(counts).values()) == {0}


def test_jobs_that_are_being_deleted_do_not_exist(writer: Writer) -> None:
    """For no call: they are not found, get no lines, and nothing can refer to them."""
    job_ids = writer.run(lambda session: fill_logs(session, 2, marks.MOST_AT_ONCE))
    writer.run(lambda session: session.execute("INSERT INTO checksum VALUES (1, 4711)"))
    writer.run(lambda session: marks.delete(session, job_ids[:1]))

    imported = (1, "c", "d", "ada", "complete", None, "/d")

    def refuses(act: Callable[[SqlSession], object], kind: type[Exception]) -> None:
        with pytest.raises(kind):
            writer.run(act)

    assert writer.run(lambda session: job_actions.get_job(session, 1)) is None
    assert writer.run(lambda session: job_actions.get_job_from_checksum(session, 4711)) is None
    assert writer.run(lambda session: marks.delete(session, [1])) == 0
    assert "does not exist" in writer.run(lambda session: job_actions.del_calc(session, 1, "ada"))["error"]
    refuses(lambda session: log_lines.insert(session, 1, '[["t", "INFO", "p", "m"]]'), errors.NotFoundError)
    refuses(lambda session: holds.open_hold(session, 1, "h", 30.0), errors.NotFoundError)
    refuses(lambda session: job_rows.transition(session, 1, JobState.SHARED), errors.NotFoundError)
    refuses(lambda session: new_jobs.create_job(session, "/d", "c", "d", "ada", 1), errors.StateError)
    refuses(lambda session: job_actions.update_parent_child(session, (1, 2)), errors.StateError)
    refuses(
        lambda session: new_jobs.import_job(session, *imported),
        errors.StateError,
    )
    writer.run(lambda session: job_actions.update_job_checksum(session, 2, 4711))


def test_batches_take_about_the_wanted_time() -> None:
    """However fast the disk is; never more rows than allowed, nor fewer."""
    size = batches.BatchSize()
    for _ in range(50):
        size.learn(size.row_count * 1e-5)
    assert size.row_count == pytest.approx(batches.BATCH_S / 1e-5, rel=0.01)
    for _ in range(50):
        size.learn(0.0)
    assert size.row_count == batches.MOST_ROWS
    for _ in range(50):
        size.learn(1.0)
    assert size.row_count == batches.FEWEST_ROWS


def test_others_write_between_the_batches_of_a_deletion(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that comes during a batch is done before the next one, whatever is left to remove."""
    for name in ("FIRST_COUNT", "FEWEST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(batches, name, 100)
    events: list[str] = []
    remove = marks.remove

    with serving(settings) as server:
        server._writer.run(lambda session: fill_logs(session, 1, 2000))

        def remove_and_write(session: SqlSession, most_rows: int) -> int:
            count = remove(session, most_rows)
            events.append("batch")
            server._writer.enqueue(lambda _: events.append("write"), lambda _result, _error: None)
            return count

        monkeypatch.setattr(marks, "remove", remove_and_write)
        server._writer.run(lambda session: marks.delete(session, [1]))
        assert server._reaper.wait_until_gone([1])
        assert server._writer.run(counts)["log"] == 0

    batch_count = events.count("batch")
    assert batch_count >= 20
    assert events[: 2 * batch_count] == ["batch", "write"] * batch_count


def test_killed_dbserver_goes_on_with_a_deletion(dbserver_process: Service) -> None:
    """Killed in the middle of a long log: after the restart all of the job goes, and nothing else."""
    settings = dbserver_process.settings
    dbserver_process.stop()
    with contextlib.closing(sqlite3.connect(settings.database)) as db:
        for job_id in (1, 2):
            db.execute(
                "INSERT INTO job (id, description, user_name, calculation_mode, status, is_running, "
                "ds_calc_dir) VALUES (?, 'd', 'ada', 'c', 'complete', 0, '/d')",
                [job_id],
            )
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 399999) "
            "INSERT INTO log (job_id, timestamp, level, process, message) "
            "SELECT 1 + (i % 4 = 0), '2026-01-01 00:00:00', 'INFO', 'p', 'm' || i FROM n"
        )
        db.commit()
    query = "SELECT count(*) FROM log WHERE job_id=1"
    dbserver_process.start()
    with DbClient(settings) as client, ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(client.jobs.delete_job, 1, "ada", delete_files=False)
        wait_until(lambda: client.call(query)[0].values[0] < 300_000)
        dbserver_process.stop(signal.SIGKILL)
        assert isinstance(deletion.exception(60), errors.QuakeGridError)
    with contextlib.closing(sqlite3.connect(settings.database)) as db:
        assert 0 < db.execute(query).fetchone()[0] < 300_000
        assert db.execute("SELECT * FROM quakegrid_deletion").fetchall() == [(1, 1)]

    dbserver_process.start()

    with DbClient(settings) as client:
        with pytest.raises(errors.NotFoundError):
            client.jobs.get_job(1)
        wait_until(lambda: client.call("SELECT count(*) FROM job")[0].values[0] == 1)
        assert client.call("SELECT job_id, count(*) FROM log GROUP BY job_id").rows == ((2, 100_000),)
        assert client.call("SELECT count(*) FROM quakegrid_deletion")[0].values == (0,)
        assert client.call("PRAGMA integrity_check")[0].values == ("ok",)
        assert client.call("PRAGMA foreign_key_check") == engine_values.TableValue(
            ("table", "rowid", "parent", "fkid"), ()
        )


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what the dbserver brings about."""
    end_s = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[DbClient]:
    """A client of a dbserver in this process that deletes logs in pieces of two lines."""
    monkeypatch.setattr(marks, "MOST_AT_ONCE", 2)
    for name in ("FIRST_COUNT", "FEWEST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(batches, name, 2)
    with serving(settings), DbClient(settings) as client:
        yield client


def new_job_id(client: DbClient, user_name: str = "ada", state: JobState = JobState.COMPLETE) -> int:
    """A job with a log of seven lines."""
    job = client.jobs.create_job(data_dir="/t", calculation_mode="c", description="d", user_name=user_name)
    client.logs.append_log(job.id, [LogLine(TIME, "INFO", "p", "m")] * 7)
    client.jobs.transition(job.id, state)
    return job.id


def test_all_ways_to_delete_a_job_delete_its_long_log(client: DbClient) -> None:
    """RPC, action and SQL."""
    ids = [new_job_id(client) for _ in range(3)]

    assert client.jobs.delete_job(ids[0], "ada", delete_files=False) == [
        "/t/calc_1.hdf5",
        "/t/calc_1_tmp.hdf5",
    ]
    assert client.call("del_calc", ids[1], "ada")["success"] == "2"
    client.call("DELETE FROM job WHERE id in (?X)", [ids[2]])

    assert client.call("SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM log)")[0].values == (0, 0)


def test_refused_deletion_leaves_the_log(client: DbClient) -> None:
    """Who may not delete a job does not lose it its log, either."""
    job_id, running_id = new_job_id(client), new_job_id(client, state=JobState.EXECUTING)

    with pytest.raises(errors.StateError, match="belongs to ada"):
        client.jobs.delete_job(job_id, "bob", delete_files=True)
    with pytest.raises(errors.StateError, match="abort it first"):
        client.jobs.delete_job(running_id, "ada", delete_files=True)
    with pytest.raises(errors.NotFoundError):
        client.jobs.delete_job(999, "ada", delete_files=True)
    assert "belongs to ada" in client.call("del_calc", job_id, "bob")["error"]
    assert client.call("del_calc", 999, "bob")["error"]

    assert [client.logs.get_log_size(each) for each in (job_id, running_id)] == [7, 7]


def test_only_files_of_the_job_are_removed(client: DbClient, tmp_path: Path) -> None:
    """A datastore that was named after something else stays; so does what a link points to."""
    job_ids = [new_job_id(client) for _ in range(4)]
    victim = tmp_path / "calc_77.hdf5"
    victim.write_text("precious")
    for job_id, name in zip(job_ids, ("calc_77", "calc_2", "calc_3", "../calc_4/x"), strict=True):
        client.call("UPDATE job SET ds_calc_dir = ?x WHERE id=?x", str(tmp_path / name), job_id)
    (tmp_path / "calc_2.hdf5").symlink_to(victim)
    (tmp_path / "calc_3.hdf5").write_text("own")

    assert client.jobs.delete_job(job_ids[0], "ada", delete_files=True) == []
    client.jobs.delete_job(job_ids[1], "ada", delete_files=True)
    client.call("del_calc", job_ids[2], "ada")
    assert client.call("del_calc", job_ids[3], "ada")["hdf5paths"] == []

    assert victim.read_text() == "precious"
    assert [path.name for path in tmp_path.glob("*.hdf5")] == ["calc_77.hdf5"]
