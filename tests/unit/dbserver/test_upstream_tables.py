"""What the adoption of a database of OpenQuake does to its jobs."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from quakegrid.services.dbserver.store import upstream_tables

STATUSES = ("complete", "failed", "aborted", "deleted", "shared")


@pytest.mark.parametrize("status", ["created", "executing", "pre_executing", "post_processing", "clean_up"])
def test_adoption_fails_what_was_not_finished(status: str) -> None:
    """Also statuses of old engines, which are no states any more; those that ended keep theirs."""
    with closing(sqlite3.connect(":memory:")) as connection:
        upstream_tables.create(connection)
        insert = "INSERT INTO job (description, user_name, calculation_mode, ds_calc_dir, status) VALUES "
        connection.executemany(insert + "('d', 'u', 'c', '/d', ?)", [(status,) for status in STATUSES])
        connection.execute(insert + "('d', 'u', 'c', '/d', ?)", (status,))

        upstream_tables.end_unfinished_jobs(connection)

        found = [text for (text,) in connection.execute("SELECT status FROM job ORDER BY id")]
        told = connection.execute("SELECT job_id, level FROM log").fetchall()
    assert found == [*STATUSES, "failed"]
    assert told == [(6, "ERROR")]
