"""Upstream's tables: the result of its scripts 0000 to 0010, and what each of them changes.

To take over a database of an OpenQuake installation, the scripts that it does not have yet are run. They are
first tried in memory, on a copy of its empty tables, so that a file that is refused stays as it is.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from quakegrid.errors import QuakeGridError
from quakegrid.services.dbserver.store.database import SqlSession

SCRIPTS = (
    ("0000", "base_schema"),
    ("0001", "job"),
    ("0003", "output"),
    ("0004", "job"),
    ("0005", "index"),
    ("0006", "checksum"),
    ("0007", "job"),
    ("0008", "job-tag"),
    ("0009", "workflow"),
    ("0010", "job-tag"),
)
_TABLES = (
    """CREATE TABLE job(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     description TEXT NOT NULL,
     user_name TEXT NOT NULL,
     calculation_mode TEXT NOT NULL,
     hazard_calculation_id INTEGER REFERENCES job (id) ON DELETE CASCADE,
     status TEXT NOT NULL DEFAULT 'created',
     is_running BOOL NOT NULL DEFAULT 1,
     start_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
     stop_time TIMESTAMP,
     relevant BOOL NOT NULL DEFAULT 1,
     ds_calc_dir TEXT NOT NULL,
     pid INTEGER NOT NULL DEFAULT 0,
     size_mb FLOAT,
     host TEXT,
     workflow_id INTEGER REFERENCES job (id) ON DELETE CASCADE)""",
    """CREATE TABLE log(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
     timestamp TIMESTAMP NOT NULL,
     level TEXT NOT NULL,
     process TEXT NOT NULL,
     message TEXT NOT NULL)""",
    """CREATE TABLE output(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     oq_job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
     display_name TEXT NOT NULL,
     last_update TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
     ds_key TEXT NOT NULL,
     size_mb FLOAT)""",
    """CREATE TABLE performance(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
     operation TEXT NOT NULL,
     time_sec FLOAT NOT NULL,
     memory_mb FLOAT NOT NULL,
     counts INTEGER NOT NULL)""",
    """CREATE TABLE checksum(
     job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
     hazard_checksum INTEGER NOT NULL UNIQUE)""",
    """CREATE TABLE tag (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     name TEXT NOT NULL UNIQUE CHECK (LENGTH(name) > 0))""",
    """CREATE TABLE job_tag (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id INTEGER NOT NULL,
     tag_id INTEGER NOT NULL,
     is_preferred INTEGER NOT NULL DEFAULT 0 CHECK (is_preferred IN (0, 1)),
     UNIQUE (job_id, tag_id),
     FOREIGN KEY (job_id) REFERENCES job(id) ON DELETE CASCADE,
     FOREIGN KEY (tag_id) REFERENCES tag(id) ON DELETE CASCADE)""",
    "CREATE INDEX log_job_id on log (job_id)",
    "CREATE INDEX performance_job_id on performance (job_id)",
    "CREATE INDEX output_job_id on output (oq_job_id)",
    "CREATE UNIQUE INDEX uq_preferred_per_tag ON job_tag(tag_id) WHERE is_preferred = 1",
    """CREATE TABLE revision_info(
     version TEXT PRIMARY KEY,
     scriptname TEXT NOT NULL,
     executed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)""",
)
# Engine 3.16 has 0000 to 0007. No file has 0002 any more, but the databases of old installations do.
_STATEMENTS: dict[str, tuple[str, ...]] = {
    "0008": (
        """CREATE TABLE job_tag (
     id INTEGER PRIMARY KEY,
     job_id INTEGER NOT NULL REFERENCES job(id) ON DELETE CASCADE,
     tag TEXT NOT NULL CHECK (LENGTH(tag) > 0),
     is_preferred INTEGER DEFAULT 0 CHECK (is_preferred IN (0, 1)),
     UNIQUE (job_id, tag))""",
        "CREATE UNIQUE INDEX uq_preferred_per_tag ON job_tag(tag) WHERE is_preferred = 1",
    ),
    "0009": ("ALTER TABLE job ADD COLUMN workflow_id INTEGER REFERENCES job (id) ON DELETE CASCADE",),
    "0010": (
        "DROP INDEX IF EXISTS uq_preferred_per_tag",
        "ALTER TABLE job_tag RENAME TO job_tag_old",
        *(table for table in _TABLES if table.startswith(("CREATE TABLE tag", "CREATE TABLE job_tag"))),
        "INSERT INTO tag (name) SELECT DISTINCT tag FROM job_tag_old ORDER BY tag",
        """INSERT INTO job_tag (job_id, tag_id, is_preferred)
     SELECT old.job_id, tag.id, coalesce(old.is_preferred, 0)
     FROM job_tag_old AS old JOIN tag ON tag.name = old.tag""",
        "DROP TABLE job_tag_old",
        "CREATE UNIQUE INDEX uq_preferred_per_tag ON job_tag(tag_id) WHERE is_preferred = 1",
    ),
}
_OLDEST = frozenset({"0000", "0001", "0003", "0004", "0005", "0006", "0007"})
_KNOWN = frozenset(version for version, _ in SCRIPTS) | {"0002"}
_NAMES = ("job", "log", "output", "performance", "checksum", "tag", "job_tag", "revision_info")
_ENDED_BY_ADOPTION = "QuakeGrid took over the database while this job was not finished"


def create(db: Any) -> None:
    """Make all tables in an empty database."""
    for statement in _TABLES:
        db.execute(statement)
    for script in SCRIPTS:
        _record(db, script)


def upgrade(db: Any) -> None:
    """Run the scripts that a database does not have yet; part of a transaction."""
    done = _versions(db)
    for script in SCRIPTS:
        if script[0] not in done:
            for statement in _STATEMENTS[script[0]]:
                db.execute(statement)
            _record(db, script)


def end_unfinished_jobs(db: Any) -> None:
    """Fail the unfinished jobs of upstream's processes, which have ended: no driver holds these jobs.

    Statuses of old engines, such as "pre_executing", count as unfinished.
    """
    unfinished = "status NOT IN ('complete', 'failed', 'aborted', 'deleted', 'shared')"
    db.execute(
        "INSERT INTO log (job_id, timestamp, level, process, message) "  # noqa: S608  a constant
        f"SELECT id, CURRENT_TIMESTAMP, 'ERROR', 'quakegrid', ? FROM job WHERE {unfinished}",
        [_ENDED_BY_ADOPTION],
    )
    fields = "status='failed', stop_time=CURRENT_TIMESTAMP"
    db.execute(f"UPDATE job SET {fields} WHERE {unfinished}")  # noqa: S608  constants
    db.execute("UPDATE job SET is_running=0 WHERE is_running")


def check_adoptable(connection: sqlite3.Connection, path: str) -> None:
    """Try the upgrade on a copy of the empty tables.

    Args:
        connection: to the database; only read.
        path: for the message.
    Raises:
        QuakeGridError: these are not upstream's tables, or those of a version that we do not know.
    """
    check_not_newer(connection, path)
    done = _versions(connection)
    if missing := _OLDEST - done:
        raise QuakeGridError(
            f"{path} was made by an OpenQuake engine older than 3.16 (it lacks schema {min(missing)}) and is "
            "left as it is; run `oq engine --upgrade-db` of engine 3.16 or later first"
        )
    copy = sqlite3.connect(":memory:")
    fresh = sqlite3.connect(":memory:")
    try:
        for (sql,) in connection.execute(
            "SELECT sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL "
            "AND name NOT LIKE 'sqlite_%' ORDER BY type DESC"
        ):
            copy.execute(sql)
        copy.executemany("INSERT INTO revision_info VALUES (?, '', '')", [(version,) for version in done])
        upgrade(copy)
        create(fresh)
        wrong = [name for name in _NAMES if not _columns(copy, name) >= _columns(fresh, name)]
    except sqlite3.Error as exc:
        wrong = [str(exc)]
    finally:
        copy.close()
        fresh.close()
    if wrong or not done <= _KNOWN:
        raise QuakeGridError(
            f"{path} looks like an OpenQuake database but has other tables ({', '.join(wrong) or 'version'}) "
            "and is left as it is; set [dbserver] file in openquake.cfg to a new file"
        )


def check_not_newer(connection: sqlite3.Connection, path: str) -> None:
    """Refuse tables that a newer engine has made or changed, since their meaning is unknown.

    Args:
        connection: to the database; only read.
        path: for the message.
    Raises:
        QuakeGridError: they are of a newer version.
    """
    if newer := sorted(version for version in _versions(connection) if version > max(_KNOWN)):
        raise QuakeGridError(
            f"{path} was made by a newer OpenQuake engine (schema {newer[-1]}) than this QuakeGrid knows "
            f"({max(_KNOWN)}) and is left as it is; install a newer QuakeGrid, or set [dbserver] file in "
            "openquake.cfg to a new file"
        )


def version(session: SqlSession) -> str:
    """The version of upstream's schema that a file has."""
    return str(session.query("SELECT max(version) FROM revision_info").rows[0][0])


def _versions(db: Any) -> set[str]:
    return {version for (version,) in db.execute("SELECT version FROM revision_info").fetchall()}


def _record(db: Any, script: tuple[str, str]) -> None:
    db.execute("INSERT INTO revision_info (version, scriptname) VALUES (?, ?)", script)


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
