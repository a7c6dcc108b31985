"""Deleting jobs: what it costs the other writers, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.dbserver import job_actions, schema
from services.dbserver.database import Session
from services.dbserver.writer import Writer


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """The writer of a new file."""
    path = tmp_path / "db.sqlite3"
    schema.prepare_database(path)
    writer = Writer(path, on_commit=lambda _: None, on_death=lambda: None)
    yield writer
    writer.close(30)


def add_job(session: Session, status: str = "complete", user_name: str = "ada") -> int:
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

    def act(session: Session) -> set[int]:
        for status in ("executing", "failed", "complete", "deleted"):
            add_job(session, status)
        add_job(session, "executing", "bob")
        job_actions.delete_uncompleted_calculations(session, "ada")
        return session.touched_jobs

    assert writer.run(act) == {0, 1, 2}
    rows = writer.run(lambda session: session.query("SELECT status, is_running FROM job ORDER BY id").rows)
    assert rows == (("deleted", 0), ("deleted", 0), ("complete", 0), ("deleted", 0), ("executing", 1))
