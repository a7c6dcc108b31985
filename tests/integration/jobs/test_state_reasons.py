"""A job's state has its reason: who ends a job may say why, and the dbserver tells everybody."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.job_watch import JobSnapshot, watch_jobs
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.services.dbserver.jobs import state_reasons
from quakegrid.services.dbserver.store import schema
from quakegrid.settings.config import Settings
from tests.support.dbservers import serving

TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TRACEBACK = "Traceback:\n  File x\nValueError: the site is outside\n\n"


@pytest.fixture
def client(settings: Settings) -> Iterator[DbClient]:
    """A client of a dbserver."""
    with serving(settings), DbClient(settings) as client:
        yield client


def new_job_id(client: DbClient) -> int:
    """The id of a new job."""
    return client.jobs.create_job(data_dir="/d", calculation_mode="c", description="d", user_name="ada").id


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.ABORTED])
def test_reason_of_a_transition_comes_back_everywhere(client: DbClient, state: JobState) -> None:
    """The answer, GetJob, ListJobs and WatchJobs have it; a job that goes on has none."""
    job_id, other_id = new_job_id(client), new_job_id(client)

    moved = client.jobs.transition(job_id, state, "aborted by bob")

    assert moved.state_reason == "aborted by bob"
    assert client.jobs.get_job(job_id).state_reason == "aborted by bob"
    assert [job.state_reason for job in client.jobs.list_jobs()] == ["", "aborted by bob"]
    snapshot = next(watch_jobs(client))
    assert isinstance(snapshot, JobSnapshot)
    assert [job.state_reason for job in snapshot.jobs] == ["", "aborted by bob"]
    assert client.jobs.get_job(other_id).state_reason == ""


def test_first_end_keeps_its_reason(client: DbClient) -> None:
    """What ends a job again changes neither its state nor its reason; deleting it keeps both known."""
    job_id = new_job_id(client)
    client.jobs.transition(job_id, JobState.ABORTED, "aborted by bob")
    client.call("finish", job_id, "failed", "killed")
    client.jobs.transition(job_id, JobState.ABORTED, "aborted by eve")

    assert client.jobs.get_job(job_id).state_reason == "aborted by bob"


@pytest.mark.parametrize("action", ["finish", "set_status", "update_job"])
def test_job_that_the_engine_fails_takes_the_reason_from_its_log(client: DbClient, action: str) -> None:
    """The last line of the last error counts, however the engine says that the job failed."""
    job_id = new_job_id(client)
    lines = [("ERROR", "first"), ("CRITICAL", TRACEBACK), ("INFO", "last")]
    client.logs.append_log(job_id, [LogLine(TIME, level, "p", text) for level, text in lines])

    client.call(action, job_id, {"status": "failed"} if action == "update_job" else "failed")

    assert client.jobs.get_job(job_id).state_reason == "ValueError: the site is outside"


def test_engine_may_say_why_it_ends_a_job(client: DbClient) -> None:
    """A reason given with `finish` counts before the log's."""
    job_id = new_job_id(client)
    client.logs.append_log(job_id, [LogLine(TIME, "ERROR", "p", TRACEBACK)])

    client.call("finish", job_id, "aborted", "interrupted with Ctrl-C by ada")

    assert client.jobs.get_job(job_id).state_reason == "interrupted with Ctrl-C by ada"


def test_engine_s_rows_have_no_reason(client: DbClient) -> None:
    """The engine gets the columns that upstream's table has."""
    job_id = new_job_id(client)

    assert "state_reason" not in client.call("get_job", job_id).fields
    assert "state_reason" not in client.call("get_job", -1, "ada").fields
    assert "state_reason" not in client.call("calc_info", job_id)


def test_long_reason_is_cut(client: DbClient) -> None:
    """A list of jobs stays small whatever the reasons are."""
    job_id = new_job_id(client)

    client.jobs.transition(job_id, JobState.FAILED, "x" * 5_000_000)

    assert len(client.jobs.get_job(job_id).state_reason) == state_reasons.MAX_LENGTH
    [line] = client.logs.list_log(job_id)
    assert line.message.endswith("more characters were left out)")


def test_deleted_job_leaves_no_reason(client: DbClient) -> None:
    """The reason goes with the job's row."""
    job_id = new_job_id(client)
    client.jobs.transition(job_id, JobState.FAILED, "why")

    client.jobs.delete_job(job_id, "ada", delete_files=False)

    assert client.call("SELECT count(*) FROM quakegrid_state_reason").rows[0][0] == 0


def test_older_file_gets_reasons_from_its_logs(settings: Settings) -> None:
    """Jobs that failed before the reasons were stored have the last line of their last error."""
    settings.database.parent.mkdir()
    schema.prepare_database(settings.database)
    with sqlite3.connect(settings.database) as connection:
        insert = "INSERT INTO job (description, user_name, calculation_mode, ds_calc_dir, status) VALUES "
        connection.execute(insert + "('d', 'u', 'c', '/d', 'failed'), ('d', 'u', 'c', '/d', 'complete')")
        log = "INSERT INTO log (job_id, timestamp, level, process, message) VALUES (?, '', 'ERROR', '', ?)"
        connection.executemany(log, [(1, TRACEBACK), (2, "recovered")])
        connection.execute("DROP TABLE quakegrid_state_reason")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = '0007_state_reason'")
    connection.close()

    schema.prepare_database(settings.database)

    connection = sqlite3.connect(settings.database)
    reasons = connection.execute("SELECT * FROM quakegrid_state_reason").fetchall()
    connection.close()
    assert reasons == [(1, "ValueError: the site is outside")]
