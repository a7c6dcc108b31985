"""The numbered migrations of the database file, one transaction each; never edited once merged.

The first one makes upstream's tables, with its exact names and columns, so that the plain engine can open
the file. The others make QuakeGrid's own tables beside them. All code of a migration is here, so that it
always does the same.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

from quakegrid.services.dbserver.store import adoption, upstream_tables
from quakegrid.services.dbserver.store.database import SqlSession
from quakegrid.services.dbserver.store.lean_sqlite_utils import Migrations, sqlite_utils

MIGRATIONS = Migrations("quakegrid-dbserver")
_LAST_ERROR = (
    "SELECT message FROM log WHERE job_id=? AND level IN ('ERROR', 'CRITICAL') ORDER BY id DESC LIMIT 1"
)
_LONGEST_REASON = 1000


@MIGRATIONS(name="0001_upstream_tables")  # type: ignore[untyped-decorator]
def _upstream_tables(db: Any) -> None:
    """Upstream's tables, new or of an older OpenQuake."""
    if db["job"].exists():
        upstream_tables.upgrade(db)
        upstream_tables.end_unfinished_jobs(db)
    else:
        upstream_tables.create(db)


@MIGRATIONS(name="0002_request")  # type: ignore[untyped-decorator]
def _request(db: Any) -> None:
    """Answers to writing requests, so that a repeated one gets the first answer."""
    db.execute(
        """CREATE TABLE quakegrid_request(
     request_id TEXT PRIMARY KEY,
     kind TEXT NOT NULL,
     result BLOB NOT NULL,
     time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID"""
    )


@MIGRATIONS(name="0003_lease")  # type: ignore[untyped-decorator]
def _lease(db: Any) -> None:
    """Jobs that a driver holds; a job that ends, however, holds no lease."""
    db.execute(
        """CREATE TABLE quakegrid_lease(
     job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
     holder TEXT NOT NULL,
     lease_s REAL NOT NULL,
     start_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"""
    )
    db.execute(
        """CREATE TRIGGER quakegrid_lease_end AFTER UPDATE OF status ON job
     WHEN new.status NOT IN ('created', 'submitted', 'executing')
     BEGIN DELETE FROM quakegrid_lease WHERE job_id = new.id; END"""
    )


@MIGRATIONS(name="0004_job_event")  # type: ignore[untyped-decorator]
def _job_event(db: Any) -> None:
    """What happened to jobs, written by triggers, so that no statement can forget it."""
    db.execute(
        """CREATE TABLE quakegrid_job_event(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id INTEGER NOT NULL,
     user_name TEXT NOT NULL,
     old_status TEXT,
     new_status TEXT,
     time TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')))"""
    )
    insert = "INSERT INTO quakegrid_job_event (job_id, user_name, old_status, new_status) VALUES"
    for name, condition, values in (
        ("created", "INSERT ON job", "(new.id, new.user_name, NULL, new.status)"),
        (
            "moved",
            "UPDATE OF status ON job WHEN new.status IS NOT old.status",
            "(new.id, new.user_name, old.status, new.status)",
        ),
        ("deleted", "DELETE ON job", "(old.id, old.user_name, old.status, NULL)"),
    ):
        db.execute(f"CREATE TRIGGER quakegrid_job_{name} AFTER {condition} BEGIN {insert} {values}; END")


@MIGRATIONS(name="0005_log_error")  # type: ignore[untyped-decorator]
def _log_error(db: Any) -> None:
    """The few lines among millions that tell of errors."""
    db.execute("CREATE INDEX quakegrid_log_error ON log (job_id) WHERE level IN ('ERROR', 'CRITICAL')")


@MIGRATIONS(name="0006_deletion_indexes")  # type: ignore[untyped-decorator]
def _deletion_indexes(db: Any) -> None:
    """Every reference to a job or a tag has an index, so that deleting one does not read a whole table.

    The last one is for forgetting old requests.
    """
    for table, column in (("job", "hazard_calculation_id"), ("job", "workflow_id"), ("job_tag", "tag_id")):
        db.execute(f"CREATE INDEX quakegrid_{table}_{column} ON {table} ({column})")
    db.execute("CREATE INDEX quakegrid_request_time ON quakegrid_request (time)")


@MIGRATIONS(name="0007_state_reason")  # type: ignore[untyped-decorator]
def _state_reason(db: Any) -> None:
    """Why jobs failed or were aborted; for jobs that failed before, the last line of their last error."""
    db.execute(
        """CREATE TABLE quakegrid_state_reason(
     job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
     reason TEXT NOT NULL)"""
    )
    for (job_id,) in db.execute("SELECT id FROM job WHERE status = 'failed'").fetchall():
        row = db.execute(_LAST_ERROR, [job_id]).fetchone()
        if row and isinstance(row[0], str) and (reason := _last_line(row[0])):
            insert = "INSERT INTO quakegrid_state_reason (job_id, reason) VALUES (?, ?)"
            db.execute(insert, [job_id, reason[:_LONGEST_REASON]])


@MIGRATIONS(name="0008_deletion")  # type: ignore[untyped-decorator]
def _deletion(db: Any) -> None:
    """Jobs that are deleted and whose rows are still to be removed; nobody can refer to them any more."""
    db.execute(
        """CREATE TABLE quakegrid_deletion(
     job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
     is_marked INTEGER NOT NULL DEFAULT 0)"""
    )
    db["quakegrid_deletion"].create_index(["is_marked"], "quakegrid_deletion_is_marked")
    columns = "hazard_calculation_id, workflow_id"
    for name, event in (("insert", "INSERT"), ("update", f"UPDATE OF {columns}")):
        db.execute(
            f"""CREATE TRIGGER quakegrid_deletion_{name} BEFORE {event} ON job
     WHEN EXISTS (SELECT 1 FROM quakegrid_deletion
      WHERE job_id IN (new.hazard_calculation_id, new.workflow_id))
     BEGIN SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed'); END"""  # noqa: S608  ours
        )


@MIGRATIONS(name="0009_credential")  # type: ignore[untyped-decorator]
def _credential(db: Any) -> None:
    """Certificates of people; no key is here. Times are seconds since 1970."""
    db.execute(
        """CREATE TABLE quakegrid_credential(
     id TEXT PRIMARY KEY,
     name TEXT NOT NULL,
     role TEXT NOT NULL,
     issue_s REAL NOT NULL,
     end_s REAL NOT NULL,
     issuer TEXT NOT NULL,
     cluster TEXT NOT NULL,
     revocation_s REAL,
     revoker TEXT) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX quakegrid_credential_name ON quakegrid_credential (name)")


@MIGRATIONS(name="0011_audit")  # type: ignore[untyped-decorator]
def _audit(db: Any) -> None:
    """Who did what to which job, node or person. Times are seconds since 1970."""
    db.execute(
        """CREATE TABLE quakegrid_audit(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     time_s REAL NOT NULL,
     role TEXT NOT NULL,
     name TEXT NOT NULL,
     told TEXT NOT NULL,
     action TEXT NOT NULL,
     job_id INTEGER NOT NULL,
     owner TEXT NOT NULL,
     node TEXT NOT NULL,
     person TEXT NOT NULL,
     detail TEXT NOT NULL,
     outcome TEXT NOT NULL,
     peer TEXT NOT NULL,
     service TEXT NOT NULL,
     count INTEGER NOT NULL)"""
    )
    db.execute("CREATE INDEX quakegrid_audit_job_id ON quakegrid_audit (job_id) WHERE job_id != 0")


@MIGRATIONS(name="0012_node")  # type: ignore[untyped-decorator]
def _node(db: Any) -> None:
    """Certificates of nodes, and the tokens for them; no key is here. Times are seconds since 1970."""
    db.execute(
        """CREATE TABLE quakegrid_node(
     id TEXT PRIMARY KEY,
     host TEXT NOT NULL,
     issue_s REAL NOT NULL,
     renewal_s REAL,
     end_s REAL NOT NULL,
     revocation_s REAL,
     token_id TEXT NOT NULL,
     revoker TEXT) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX quakegrid_node_host ON quakegrid_node (host, issue_s)")
    db.execute(
        """CREATE TABLE quakegrid_node_token(
     id TEXT PRIMARY KEY,
     host TEXT NOT NULL,
     max_hosts INTEGER NOT NULL,
     issue_s REAL NOT NULL,
     end_s REAL NOT NULL,
     revocation_s REAL,
     issuer TEXT NOT NULL,
     revoker TEXT) WITHOUT ROWID"""
    )
    db.execute(
        """CREATE TABLE quakegrid_node_token_use(
     token_id TEXT NOT NULL REFERENCES quakegrid_node_token (id) ON DELETE CASCADE,
     host TEXT NOT NULL,
     use_s REAL NOT NULL,
     PRIMARY KEY (token_id, host)) WITHOUT ROWID"""
    )


@MIGRATIONS(name="0013_logins")  # type: ignore[untyped-decorator]
def _logins(db: Any) -> None:
    """Passwords, as hashes, and tokens of the web service, by their digests. Times are seconds since 1970."""
    db.execute(
        """CREATE TABLE quakegrid_password(
     name TEXT PRIMARY KEY,
     role TEXT NOT NULL,
     hash TEXT NOT NULL,
     changer TEXT NOT NULL,
     change_s REAL NOT NULL) WITHOUT ROWID"""
    )
    db.execute(
        """CREATE TABLE quakegrid_web_token(
     id TEXT PRIMARY KEY,
     kind TEXT NOT NULL,
     name TEXT NOT NULL,
     role TEXT NOT NULL,
     label TEXT NOT NULL,
     credential_id TEXT NOT NULL,
     issue_s REAL NOT NULL,
     end_s REAL NOT NULL,
     idle_timeout_s REAL NOT NULL,
     use_s REAL,
     issuer TEXT NOT NULL,
     revocation_s REAL,
     revoker TEXT) WITHOUT ROWID"""
    )
    db.execute("CREATE INDEX quakegrid_web_token_name ON quakegrid_web_token (name, issue_s)")
    db.execute("CREATE INDEX quakegrid_web_token_end_s ON quakegrid_web_token (end_s)")


@MIGRATIONS(name="0015_resumption")  # type: ignore[untyped-decorator]
def _resumption(db: Any) -> None:
    """How often jobs were started again."""
    db.execute(
        """CREATE TABLE quakegrid_resumption(
     job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
     count INTEGER NOT NULL)"""
    )


@MIGRATIONS(name="0016_left_file")  # type: ignore[untyped-decorator]
def _note_left_files(db: sqlite_utils.Database) -> None:
    """Note files of deleted jobs that the dbserver may not remove, as they are in folders of people."""
    db.execute(
        """CREATE TABLE quakegrid_left_file(
     path TEXT PRIMARY KEY,
     user_name TEXT NOT NULL,
     noted_s REAL NOT NULL) WITHOUT ROWID"""
    )


@MIGRATIONS(name="0018_replayed")  # type: ignore[untyped-decorator]
def _replayed(db: sqlite_utils.Database) -> None:
    """How many outcomes of tasks were in the journals of jobs that were started again."""
    db.execute("ALTER TABLE quakegrid_resumption ADD COLUMN replayed_count INTEGER NOT NULL DEFAULT 0")


def _last_line(text: str) -> str:
    """The last line of a text that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def apply(connection: sqlite3.Connection) -> None:
    """Make the migrations that a file does not have yet."""
    MIGRATIONS.apply(sqlite_utils.Database(connection))


def known() -> adoption.Migrations:
    """The names of our migrations, and where a file lists those that it has."""
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        pending = MIGRATIONS.pending(sqlite_utils.Database(empty))
    names = frozenset(migration.name for migration in pending)
    return adoption.Migrations(MIGRATIONS.name, MIGRATIONS.migrations_table, names)


def version(session: SqlSession) -> str:
    """The number of the last migration that a file has, such as "0006"."""
    query = f"SELECT substr(max(name), 1, 4) FROM {MIGRATIONS.migrations_table} WHERE migration_set=?x"  # noqa: S608
    return str(session.query(query, MIGRATIONS.name).rows[0][0])
