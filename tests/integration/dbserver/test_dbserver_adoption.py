"""Taking over the database of an OpenQuake installation, made here by upstream's own upgrade scripts."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.tags import Tag, TagsClient
from quakegrid.jobs.states import JobState
from quakegrid.settings.config import Settings
from tests.support.processes import Service

# Upstream leaves its schema scripts open.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::ResourceWarning")]
# Engine 3.16 has 0007.
VERSIONS = ("0007", "0008", "0009", "0010")
ALL_VERSIONS = {f"{number:04d}" for number in range(1, 20)}

MakeDatabase = Callable[..., None]


@pytest.fixture(scope="module")
def upgrade_db() -> Any:
    """Upstream's way to run its scripts."""
    pytest.importorskip("openquake.server")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from openquake.server.db import upgrade_manager

    return upgrade_manager.upgrade_db


@pytest.fixture
def make_database(settings: Settings, upgrade_db: Any) -> MakeDatabase:
    """Makes a database as upstream had it at some version, with two calculations and Django's tables."""

    def make(version: str = "0010", *statements: str) -> None:
        settings.database.parent.mkdir()
        with contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            upgrade_db(db, skip_versions={other for other in ALL_VERSIONS if other > version})
            db.executescript(
                """
                INSERT INTO job (description, user_name, calculation_mode, status, is_running, ds_calc_dir)
                VALUES ('old', 'ada', 'classical', 'complete', 0, '/data/calc_1'),
                       ('cut off', 'bob', 'event_based', 'executing', 1, '/data/calc_2');
                INSERT INTO log (job_id, timestamp, level, process, message)
                VALUES (1, '2024-05-06 07:08:09.123456', 'INFO', 'MainProcess', 'an old line');
                INSERT INTO output (oq_job_id, display_name, ds_key, size_mb) VALUES (1, 'Maps', 'hmaps', 2);
                INSERT INTO checksum VALUES (1, 4000000000);
                CREATE TABLE auth_user (id INTEGER PRIMARY KEY);
                """
            )
            if version >= "0010":
                db.execute("INSERT INTO tag (name) VALUES ('paper')")
                db.execute("INSERT INTO job_tag (job_id, tag_id, is_preferred) VALUES (1, 1, 1)")
            elif version >= "0008":
                db.execute("INSERT INTO job_tag (job_id, tag, is_preferred) VALUES (1, 'paper', 1)")
            for statement in statements:
                db.execute(statement)

    return make


def dump(path: Path) -> list[str]:
    """A database as text."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def columns(path: Path) -> dict[str, set[str]]:
    """Columns of upstream's tables."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {
            table: {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
            for table in tables
            if not table.startswith(("quakegrid_", "_sqlite", "sqlite_", "auth_"))
        }


@pytest.mark.parametrize("version", VERSIONS)
def test_adopted_database_has_all_that_was_in_it(
    dbserver_later: Service, make_database: MakeDatabase, upgrade_db: Any, version: str, tmp_path: Path
) -> None:
    """Jobs, logs, outputs, checksums and tags are there; the plain engine finds its newest schema."""
    path = dbserver_later.settings.database
    make_database(version)
    before = dump(path)

    dbserver_later.start()

    with DbClient(dbserver_later.settings) as client:
        cut_off, old = client.jobs.list_jobs()
        assert (old.description, old.state, old.ds_calc_dir) == ("old", JobState.COMPLETE, "/data/calc_1")
        assert [(line.message, line.log_time) for line in client.logs.list_log(1)] == [
            ("an old line", dt.datetime(2024, 5, 6, 7, 8, 9, 123456, dt.UTC))
        ]
        assert [output.ds_key for output in client.outputs.list_outputs(1)] == ["hmaps"]
        assert client.call("get_result", 1) == (1, "complete", "ada", "/data", "hmaps")
        assert client.call("get_job_from_checksum", 4_000_000_000)["id"] == 1
        assert TagsClient(client).list_tags() == ([Tag("paper", (1,), 1)] if version >= "0008" else [])
        assert (cut_off.state, cut_off.is_running) == (JobState.FAILED, False)
        assert "took over the database" in client.call("get_traceback", 2)[0]
        assert client.call("db_version") == "0010"
    assert dbserver_later.stop() == 0
    (copy,) = path.parent.glob("db.sqlite3.before-quakegrid-*")
    assert dump(copy) == before
    new = tmp_path / "new.sqlite3"
    with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
        upgrade_db(db)
    assert columns(path) == columns(new)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert upgrade_db(db) == []


@pytest.fixture
def dbserver_later(settings: Settings) -> Any:
    """A dbserver that is not started yet."""
    service = Service(settings, "dbserver")
    yield service
    service.close()


def test_adopted_database_is_not_copied_again(dbserver_later: Service, make_database: MakeDatabase) -> None:
    """The second start finds its own database; a very old version number does no harm."""
    make_database("0007", "INSERT INTO revision_info (version, scriptname) VALUES ('0002', 'add-job-pid')")

    for _ in range(2):
        dbserver_later.start()
        assert dbserver_later.stop() == 0

    assert len(list(dbserver_later.settings.database.parent.glob("*.before-quakegrid-*"))) == 1


@pytest.mark.parametrize(
    ("version", "statement", "reason"),
    [
        (
            "0010",
            "INSERT INTO revision_info (version, scriptname) VALUES ('0011', 'later')",
            "made by a newer OpenQuake engine (schema 0011)",
        ),
        ("0006", "SELECT 1", "older than 3.16 (it lacks schema 0007)"),
        ("0007", "ALTER TABLE job RENAME COLUMN pid TO process", "has other tables (job)"),
        ("0009", "DROP TABLE job_tag", "no such table: job_tag"),
        ("0010", "DROP TABLE tag", "has other tables (tag)"),
        ("0010", "DROP TABLE revision_info", "made neither by QuakeGrid nor by OpenQuake"),
    ],
)
def test_database_that_does_not_fit_is_left_alone(
    dbserver_later: Service, make_database: MakeDatabase, version: str, statement: str, reason: str
) -> None:
    """Newer, older and foreign tables are refused in one line; not one byte changes and no file is made."""
    path = dbserver_later.settings.database
    make_database(version, statement)
    before = path.read_bytes()

    code, text = dbserver_later.fail_to_start()

    assert (code, text.count("\n")) == (1, 1)
    assert reason in text
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {"db.sqlite3", "db.sqlite3.lock"}


def test_database_in_use_is_left_alone(dbserver_later: Service, make_database: MakeDatabase) -> None:
    """While upstream's dbserver has it open, nothing is changed; the remedy is told."""
    path = dbserver_later.settings.database
    make_database("0009")
    before = path.read_bytes()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("SELECT * FROM job").fetchall()

        code, text = dbserver_later.fail_to_start()

    assert (code, text.count("\n")) == (1, 1)
    assert "another process has" in text
    assert "oq dbserver stop" in text
    assert path.read_bytes() == before
