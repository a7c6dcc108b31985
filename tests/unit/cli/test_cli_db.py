"""The commands `db ...` against an in-memory database."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.cli import db, options
from quakegrid.clients.dbserver.database_admin import DatabaseInfo, Vacuumed
from quakegrid.jobs.engine_values import TableValue

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
TABLE = TableValue(("id", "time", "data"), ((1, NOON, b"\x01\xff"), (2, None, None)))


class FakeCare:
    """A database with two rows and, if told so, a problem."""

    problems: Sequence[str] = ()
    is_truncated = False

    def __init__(self, _database: object) -> None:
        pass

    def backup(self, path: Path) -> int:
        """A small copy."""
        path.write_bytes(b"copy")
        return 3 << 20

    def check(self) -> list[str]:
        """What was told."""
        return list(self.problems)

    def vacuum(self) -> Vacuumed:
        """It halves."""
        return Vacuumed(4 << 20, 2 << 20, is_delayed=False)

    def info(self) -> DatabaseInfo:
        """Some facts."""
        return DatabaseInfo("/data/db.sqlite3", 1, 2, 3, "0010", "0004", "3.40.1", 4, 5, 6, 7, 0, 0)

    def query(
        self, sql: str, parameters: Sequence[Any], *, limit: int, timeout_s: float
    ) -> tuple[TableValue, bool]:
        """Two rows."""
        assert (sql, parameters, limit, timeout_s) == ("SELECT ?", ("x",), 7, 2.5)
        return TABLE, self.is_truncated


@pytest.fixture(autouse=True)
def database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands talk to the fake."""
    monkeypatch.setattr(db, "DbClient", lambda _settings: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(db, "DatabaseCare", FakeCare)
    monkeypatch.setattr(options, "cluster_settings", SimpleNamespace)


def invoke(*args: str) -> Result:
    """Run `quakegrid db ...`; our own errors come out as they are."""
    result = CliRunner().invoke(db.db, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_backup_names_the_file_and_its_size(tmp_path: Path) -> None:
    """The copy is where it was asked for."""
    result = invoke("backup", str(tmp_path / "copy"))

    assert (tmp_path / "copy").exists()
    assert "3.0 MB" in result.stderr


def test_check_fails_with_the_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on stdout if all is well; else a line a problem and exit code 1."""
    assert invoke("check").stdout == ""
    assert json.loads(invoke("check", "--output", "json").stdout) == {"problems": []}
    monkeypatch.setattr(FakeCare, "problems", ["page 7"])

    with pytest.raises(errors.QuakeGridError, match="1 problems found") as failure:
        invoke("check")

    assert failure.value.exit_code == 1
    assert CliRunner().invoke(db.db, ["check"]).stdout == "page 7\n"


def test_vacuum_and_info_tell_sizes() -> None:
    """Before and after; facts as a record."""
    assert "4.0 MB before, 2.0 MB now" in invoke("vacuum").stderr
    assert json.loads(invoke("info", "--output", "json").stdout)["log_line_count"] == 5
    assert "/data/db.sqlite3" in invoke("info").stdout


def test_query_prints_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table, JSON, the first column; that there is more is told on stderr."""
    args = ("query", "SELECT ?", "x", "--limit", "7", "--timeout", "2.5", "--output")

    assert json.loads(invoke(*args, "json").stdout) == {
        "columns": ["id", "time", "data"],
        "rows": [[1, "2026-01-02T12:00:00+00:00", "01ff"], [2, None, None]],
        "is_truncated": False,
    }
    assert invoke(*args, "quiet").stdout == "1\n2\n"
    assert "01ff" in invoke(*args, "table").stdout
    monkeypatch.setattr(FakeCare, "is_truncated", True)
    assert "more than 7 rows" in invoke(*args, "quiet").stderr
