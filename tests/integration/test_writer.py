"""The one thread that writes, and those who wait for it or have left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import errors
from services.dbserver import schema
from services.dbserver.database import Session
from services.dbserver.requests import Answer, Requests
from services.dbserver.writer import Writer


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


def count_jobs(session: Session) -> int:
    """Jobs in the file."""
    return int(session.query("SELECT count(*) FROM job").rows[0][0])


def create_job(session: Session) -> bytes:
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
