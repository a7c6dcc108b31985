"""Logs of any length, as the engine shows them."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.clients.dbserver import logs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.engine.database.log_pages import LogText
from quakegrid.jobs.values import LogLine
from quakegrid.services.dbserver.store import read_limits
from quakegrid.settings.config import Settings
from tests.support.dbservers import serving

TIME = dt.datetime(2026, 1, 1, 12, 30, 45, 678901, tzinfo=dt.UTC)


@pytest.fixture
def client(settings: Settings) -> Iterator[DbClient]:
    """A client of a dbserver in this process."""
    with serving(settings), DbClient(settings) as client:
        yield client


def new_job_id(client: DbClient, messages: list[str]) -> int:
    """A job with a log."""
    job = client.jobs.create_job(data_dir="/t", calculation_mode="c", description="d", user_name="ada")
    lines = [LogLine(TIME + dt.timedelta(seconds=n), "INFO", "p/1", text) for n, text in enumerate(messages)]
    for start in range(0, len(lines), 10):  # a batch has a largest size
        client.logs.append_log(job.id, lines[start : start + 10])
    return job.id


def test_log_is_shown_as_upstream_shows_it(client: DbClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lines as the action gives, over several pages, as often as one asks."""
    monkeypatch.setattr(logs, "PAGE_SIZE", 3)
    job_id = new_job_id(client, [f"line {number}\nsecond" for number in range(8)])
    expected = client.call("get_log", job_id)
    text = LogText(client, job_id)

    assert expected[0] == "[2026-01-01 12:30:45.67 #1 INFO] p/1 line 0\nsecond"
    assert [*text] == [*text] == expected
    assert len(text) == 8
    assert repr(text) == repr(expected)


def test_log_that_fits_no_answer_is_shown_in_pages(client: DbClient) -> None:
    """The action refuses a log that is too large, with what to do; pages have no such limit."""
    job_id = new_job_id(client, ["x" * 1_000_000] * 34)

    with pytest.raises(errors.UsageError, match=f"too long for one answer.*quakegrid jobs logs {job_id}"):
        client.call("get_log", job_id)
    with pytest.raises(errors.UsageError, match="larger than 16 MB; ask for fewer rows"):
        client.call("SELECT * FROM log")

    assert sum(map(len, LogText(client, job_id))) > read_limits.MAX_RESULT_BYTES


@pytest.fixture
def database(client: DbClient, settings: Settings) -> Iterator[Any]:
    """What the engine's `dbcmd` is made of; importing the engine warns."""
    pytest.importorskip("openquake.commonlib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from quakegrid.engine.database.dbcmd import Database
    database = Database(settings, lambda _: None)
    yield database
    database.close()


def test_engine_gets_the_pages(client: DbClient, database: Any) -> None:
    """`oq engine --show-log` goes through what its `dbcmd` gives."""
    job_id = new_job_id(client, ["one", "two"])

    assert [line.split()[-1] for line in database.call("get_log", job_id)] == ["one", "two"]
