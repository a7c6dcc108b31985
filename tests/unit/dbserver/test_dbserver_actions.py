"""What engine calls mean, and how they are refused."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.services.dbserver.engine import actions
from quakegrid.services.dbserver.store import connections
from quakegrid.services.dbserver.store.database import OneConnection, SqlSession


@pytest.fixture
def session() -> SqlSession:
    """A session of a database without tables."""
    return SqlSession(OneConnection(sqlite3.connect(":memory:")), Path("db.sqlite3"))


def test_arguments_of_a_wrong_kind_are_refused_and_logged(
    session: SqlSession, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller is told in one line; the log shows where, in case that it is a bug of ours."""
    action = actions.resolve("get_log_slice", [1, "x", "y"])

    with caplog.at_level(logging.WARNING), pytest.raises(errors.UsageError, match="get_log_slice refuses"):
        action.run(session)

    assert "action_refused action=get_log_slice" in caplog.text
    assert "ValueError" in caplog.text


def test_sql_has_a_largest_length() -> None:
    """A text of megabytes is refused before anybody looks into it."""
    with pytest.raises(errors.UsageError, match="is too long; at most"):
        actions.resolve(f"SELECT '{'x' * connections.MAX_SQL_BYTES}'", [])


@pytest.mark.parametrize("args", [[5], [None], []])
def test_deletion_with_arguments_of_a_wrong_kind_is_refused(session: SqlSession, args: list[object]) -> None:
    """The deletion is ours and not SQLite's, and refuses what is no list of jobs."""
    action = actions.resolve("DELETE FROM job WHERE id in (?X)", args)
    assert action.is_deleting

    with pytest.raises(errors.UsageError):
        action.run(session)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([None, []], "needs a dictionary of conditions"),
        ([["id"], []], "needs a dictionary of conditions"),
        ([{}, None, True], "needs a list of the users"),
    ],
)
def test_list_of_jobs_says_what_it_needs(session: SqlSession, args: list[object], words: str) -> None:
    """Conditions that are none are refused in words, not with an error of Python."""
    with pytest.raises(errors.UsageError, match=words):
        actions.resolve("get_calcs", args).run(session)
