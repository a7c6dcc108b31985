"""The dbserver's engine calls against upstream's own actions, on a database of each."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.errors import NotFoundError
from quakegrid.jobs.engine_values import RowValue, TableValue
from tests.support.dbservers import LocalDbServer

# Upstream leaves its schema scripts open.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::ResourceWarning")]
TIME = dt.datetime(2026, 1, 1, 12, 0, 0, 123456)  # noqa: DTZ001  as upstream returns them
DATA_DIR = "/nonexistent/oqdata"
KEYS = [
    "hcurves",
    "hmaps",
    "uhs",
    "disagg-rlzs",
    "realizations",
    "fullreport",
    "gmf_data",
    "events",
    "ruptures",
    "input",
    "job",
    "avg_gmf",
]

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def upstream_modules() -> Any:
    """Upstream's modules; importing them warns."""
    pytest.importorskip("openquake.commonlib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from openquake.calculators.export import DISPLAY_NAME
        from openquake.commonlib import dbapi
        from openquake.server.db import actions

    return actions, dbapi, DISPLAY_NAME


@pytest.fixture
def upstream(upstream_modules: Any, tmp_path: Path) -> Any:
    """Calls of upstream's actions on a new database."""
    actions, dbapi, _ = upstream_modules
    db = open_upstream(dbapi, tmp_path / "upstream.sqlite3")
    actions.upgrade_db(db)

    def call(action: str, *args: Any) -> Any:
        function = getattr(actions, action, None)
        try:
            result = function(db, *args) if function else db(action, *args)
        except dbapi.NotFound:
            return NotFoundError
        return result if not isinstance(result, sqlite3.Cursor) else result.lastrowid

    yield call
    db.close()


@pytest.fixture
def ours(client: DbClient, upstream_modules: Any) -> Call:
    """Calls of the dbserver's actions, with the driver's part of `create_outputs`."""
    display_name = upstream_modules[2]

    def call(action: str, *args: Any) -> Any:
        if action == "create_outputs":
            job_id, pairs, size = args
            args = (job_id, [[key, display_name.get(key, key), mb] for key, mb in pairs], size)
        try:
            return client.call(action, *args)
        except NotFoundError:
            return NotFoundError

    return call


def open_upstream(dbapi: Any, path: Path) -> Any:
    """A database as upstream opens it."""
    return dbapi.Db(
        sqlite3.connect, str(path), isolation_level=None, detect_types=sqlite3.PARSE_DECLTYPES, timeout=20
    )


def plain(value: Any) -> Any:
    """A result in one form for both sides, with the times of day left out."""
    match value:
        case dt.datetime():
            return TIME if value == TIME else "a time"
        case str():
            return re.sub(r"20\d\d-\d\d-\d\d.\d\d:\d\d:\d\d(\.\d+)?", "a time", value)
        case RowValue():
            return ("row", value.fields, plain(value.values))
        case TableValue():
            return ("table", value.fields, [plain(tuple(row.values)) for row in value])
        case dict():
            return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "_values"):
        return ("row", tuple(value._fields), plain(tuple(value)))
    if hasattr(value, "_fields"):
        return ("table", tuple(value._fields), [plain(tuple(row)) for row in value])
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value


SETUP: tuple[tuple[Any, ...], ...] = (
    (
        "create_job",
        DATA_DIR,
        "classical",
        "A hazard calculation with a long description indeed",
        "ada",
        None,
        "a",
    ),
    ("create_job", DATA_DIR, "classical_risk", "Its risk", "ada", 1, "b"),
    ("create_job", DATA_DIR, "event_based", "Another", "bob"),
    ("create_job", DATA_DIR, "workflow", "Flow", "bob", None, None, 3),
    ("update_job", 1, {"status": "executing", "pid": 4711, "start_time": TIME}),
    ("log", 1, TIME, "INFO", "MainProcess/1", "first"),
    ("log", 1, TIME, "ERROR", "MainProcess/1", "Traceback\n  boom"),
    ("log", 1, TIME.replace(tzinfo=dt.UTC), "WARNING", "MainProcess/1", "tot_weight=3"),
    ("create_outputs", 1, [[key, 0.5] for key in KEYS], 12.5),
    ("create_outputs", 3, [["hcurves", None]], 1),
    ("finish", 1, "complete"),
    ("update_job", 1, {"stop_time": TIME + dt.timedelta(hours=2)}),
    ("set_status", 3, "executing"),
    ("set_status", -1, "failed"),
    ("set_status", 99, "failed"),
    ("update_job_checksum", 1, 123456),
    ("import_job", 77, "classical", "Imported", "bob", "complete", None, DATA_DIR),
    ("add_tag_to_job", 1, "best"),
    ("add_tag_to_job", 3, "best"),
    ("create_tag", "empty"),
    ("create_tag", "empty"),
    ("set_preferred_job_for_tag", 1, "best"),
)
READS: tuple[tuple[Any, ...], ...] = (
    ("get_job", 1),
    ("get_job", "1"),
    ("get_job", -1),
    ("get_job", -2, "ada"),
    ("get_job", 1, "bob"),
    ("get_job", 1234),
    ("get_log", 1),
    ("get_log", 3),
    ("get_log_slice", 1, 0, 0),
    ("get_log_slice", 1, "1", "2"),
    ("get_log_size", 1),
    ("get_traceback", 1),
    ("get_traceback", 3),
    ("get_weight", 1),
    ("get_weight", 3),
    ("list_outputs", 1),
    ("list_outputs", 1, False),
    ("list_outputs", 2),
    ("get_outputs", 1),
    ("get_output", 1),
    ("get_output", 999),
    ("get_result", 1),
    ("get_result", 999),
    ("get_results", 1),
    ("get_results", 999),
    ("get_calcs", {}, []),
    ("get_calcs", {"limit": "2", "order_by": "start_time", "order_dir": "asc"}, []),
    ("get_calcs", {"is_running": "true", "calculation_mode": "event_based"}, ["ada"], True),
    ("get_calcs", {"user_name_like": "%b%", "include_shared": "0"}, []),
    ("get_calcs", {"preferred_only": 1}, []),
    ("get_calcs", {"filter_by_tag": "best", "start_time": "2020-01-01"}, ["ada", "bob"], True),
    ("get_calcs", {}, [], False, 1),
    ("calc_info", 1),
    ("calc_info", 3),
    ("calc_info", 999),
    ("list_calculations", "hazard", "ada"),
    ("list_calculations", "risk", "ada"),
    ("list_calculations", "risk", "nobody"),
    ("get_calc_ids", "bob"),
    ("get_job_from_checksum", 123456),
    ("get_job_from_checksum", 1),
    ("get_checksum_from_job", 1),
    ("find", "%HAZARD%"),
    ("get_longest_jobs",),
    ("list_tags",),
    ("get_preferred_job_for_tag", "best"),
    ("get_preferred_job_for_tag", "empty"),
    ("upgrade_db",),
    ("db_version",),
    ("check_outdated",),
    ("what_if_I_upgrade", "read_scripts"),
    ("fetch", "SELECT id, user_name FROM job WHERE id=?x", 1),
    ("SELECT name FROM sqlite_master WHERE name='job'",),
    ("SELECT id, status FROM job WHERE id in (?X)", [1, 2]),
    ("SELECT start_time, status FROM job WHERE id=?x", 1),
    ("--- note\nSELECT * FROM job WHERE status IN ('executing', 'submitted') AND host=?x ORDER BY id", "a"),
    ('SELECT ds_calc_dir || ".hdf5" FROM job',),
    ("PRAGMA foreign_keys",),
)
CHANGES: tuple[tuple[Any, ...], ...] = (
    ("share_job", 1, True),
    ("share_job", 1, True),
    ("share_job", 3, True),
    ("share_job", 3, False),
    ("share_job", 1, False),
    ("remove_tag_from_job", 3, "best"),
    ("remove_tag_from_job", 3, "none"),
    ("unset_preferred_job_for_tag", "best"),
    ("delete_tag", "best"),
    ("delete_tag", "best"),
    ("UPDATE job SET ds_calc_dir = ?x WHERE id=?x", "/nonexistent/elsewhere/calc_1", 1),
    ("UPDATE job SET hazard_calculation_id=?x WHERE id=?x", 1, 3),
    ("del_calc", 1, "ada"),
    ("del_calc", 2, "bob"),
    ("del_calc", 999, "bob"),
    ("del_calc", 2, "ada", False),
    ("del_calc", "1", "ada", True, True),
    ("delete_uncompleted_calculations", "bob"),
    ("DELETE FROM job WHERE id in (?X)", [77]),
    ("DELETE FROM job WHERE calculation_mode='workflow' AND not relevant",),
)


def test_actions_answer_as_upstream(ours: Call, upstream: Call) -> None:
    """The same calls give the same results of the same types, and leave the same rows."""
    tables = [("SELECT * FROM job ORDER BY id",), ("SELECT job_id, tag_id, is_preferred FROM job_tag",)]

    for call in (*SETUP, *READS, *CHANGES, *READS, *tables):
        expected, result = plain(upstream(*call)), plain(ours(*call))
        if not call[0].startswith(("UPDATE", "DELETE")):  # upstream answers with an arbitrary row id
            assert result == expected, call


def test_tables_are_upstreams(upstream: Call, ours: Call) -> None:
    """Tables, columns, indexes but our own, and schema version are those that upstream's scripts make."""
    names = [name for (name,) in upstream("SELECT name FROM sqlite_master WHERE type='table'")]

    def rows(query: str) -> list[tuple[Any, ...]]:
        return [row.values for row in ours(query)]

    for name in names:
        if not name.startswith("sqlite_"):
            for pragma in ("table_info", "foreign_key_list"):
                query = f"PRAGMA {pragma}({name})"
                assert plain(ours(query)) == plain(upstream(query)), query
            indexes, theirs = (
                [tuple(index)[1:] for index in call(f"PRAGMA index_list({name})")]
                for call in (rows, upstream)
            )
            assert [index for index in indexes if not index[0].startswith("quakegrid_")] == theirs, name
    versions = "SELECT version, scriptname FROM revision_info ORDER BY version"
    assert plain(ours(versions)) == plain(upstream(versions))


def test_plain_engine_opens_our_file(ours: Call, dbserver: LocalDbServer, upstream_modules: Any) -> None:
    """Once the dbserver has stopped, upstream finds nothing to upgrade and reads the jobs."""
    actions, dbapi, _ = upstream_modules
    for call in SETUP:
        ours(*call)
    dbserver.stop()
    db = open_upstream(dbapi, dbserver.settings.database)

    assert actions.upgrade_db(db) == []
    assert actions.get_job(db, 1).status == "complete"
    assert len(actions.get_log(db, 1)) == 3
    db.close()
