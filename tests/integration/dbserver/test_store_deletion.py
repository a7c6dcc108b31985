"""Deleting jobs: what it costs the other writers, and what it leaves."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.settings.config import Settings
from services.dbserver.engine import job_actions
from services.dbserver.jobs import rows as job_rows
from services.dbserver.logs import deletion
from services.dbserver.store import schema
from services.dbserver.store.database import OneConnection, SqlSession
from services.dbserver.store.writer import Writer
from tests.support.dbservers import serving

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


def test_long_logs_go_in_pieces(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others write between the pieces of a log; the logs of dependent jobs go with it, others stay."""
    monkeypatch.setattr(deletion, "BATCH_COUNT", 100)
    lines = [(TIME, "INFO", "p", "m")] * 250

    def fill(session: SqlSession) -> None:
        for _ in range(4):
            job_rows.append_log(session, add_job(session), lines)
        session.execute("UPDATE job SET hazard_calculation_id=1 WHERE id=2")
        session.execute("UPDATE job SET workflow_id=2 WHERE id=3")

    writer.run(fill)
    deleted: list[int] = []
    drop = deletion.drop_log

    def drop_watched(writer: Writer, job_id: int, _is_closing: object) -> int:
        def count() -> bool:
            query = "SELECT count(*) FROM log WHERE job_id=?x"
            deleted.append(writer.run(lambda session: session.query(query, job_id).rows[0][0]))
            return False

        return drop(writer, job_id, count)

    monkeypatch.setattr(deletion, "drop_log", drop_watched)

    with contextlib.closing(schema.connections.connect_reader(writer._path)) as connection:
        deletion.drop_long_logs(writer, SqlSession(OneConnection(connection), writer._path), [1])

    assert deleted == [250, 150, 50] * 3
    query = "SELECT job_id, count(*) FROM log GROUP BY job_id"
    assert writer.run(lambda session: session.query(query).rows) == ((4, 250),)


def test_many_short_logs_go_before_their_jobs(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left for the last transaction is one batch of all jobs together, not one of each."""
    monkeypatch.setattr(deletion, "BATCH_COUNT", 100)
    lines = [(TIME, "INFO", "p", "m")] * 40

    def fill(session: SqlSession) -> list[int]:
        job_ids = [add_job(session) for _ in range(50)]
        for job_id in job_ids:
            job_rows.append_log(session, job_id, lines)
        return job_ids

    job_ids = writer.run(fill)
    with contextlib.closing(schema.connections.connect_reader(writer._path)) as connection:
        deletion.drop_long_logs(writer, SqlSession(OneConnection(connection), writer._path), job_ids)

    assert writer.run(lambda session: session.query("SELECT count(*) FROM log").rows) == ((80,),)


@pytest.fixture
def client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[DbClient]:
    """A client of a dbserver in this process that deletes logs in pieces of two lines."""
    monkeypatch.setattr(deletion, "BATCH_COUNT", 2)
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
