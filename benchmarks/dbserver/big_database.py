"""A database with as many jobs and lines as a cluster makes in years, filled by SQLite itself.

The lines of jobs that ran together lie among each other, as they do in real files: a deletion then touches
many pages of the file for few lines.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

BYTES_PER_LINE = 150
# Jobs with short logs that ran at the same time.
NEIGHBOURS = 10
OUTPUTS_PER_JOB = 5


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a database is.

    Args:
        job_count: all jobs.
        line_count: all lines.
        long_count: the jobs with the lowest ids have long logs.
        long_line_count: lines of each of them; the others share the rest.
    """

    job_count: int = 50_000
    line_count: int = 10_000_000
    long_count: int = 4
    long_line_count: int = 1_000_000


def check_room(path: Path, shape: Shape) -> None:
    """Refuse to fill a disk.

    Raises:
        RuntimeError: it has less than twice the room that the file will take.
    """
    wanted_bytes = 2 * shape.line_count * BYTES_PER_LINE
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < wanted_bytes:
        raise RuntimeError(
            f"{path.parent} has {free_bytes >> 20} MB free; {wanted_bytes >> 20} MB are needed"
        )


def fill(path: Path, shape: Shape) -> None:
    """Fill the tables of a new database; its dbserver must not run."""
    check_room(path, shape)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        connection.execute("BEGIN")
        # Indexes that are made at the end take a fraction of the time.
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('log', 'output') "
            "AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        _fill_jobs(connection, shape)
        _fill_log(connection, shape)
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute("COMMIT")


def _fill_jobs(connection: sqlite3.Connection, shape: Shape) -> None:
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO job (id, description, user_name, calculation_mode, status, is_running, ds_calc_dir) "
        "SELECT i, 'job ' || i, 'bench', 'classical', 'complete', 0, '/tmp/calc_' || i FROM n",
        [shape.job_count],
    )
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1) "
        "INSERT INTO output (oq_job_id, display_name, ds_key) "
        "SELECT 1 + i / ?, 'Output ' || (i % ?), 'key' FROM n",
        [shape.job_count * OUTPUTS_PER_JOB, OUTPUTS_PER_JOB, OUTPUTS_PER_JOB],
    )


def _fill_log(connection: sqlite3.Connection, shape: Shape) -> None:
    """Half of the lines at any time are of the long job of that time, until it has all of its lines."""
    short_count = shape.job_count - shape.long_count
    rest_count = shape.line_count - shape.long_count * shape.long_line_count
    per_job = max(1, rest_count // short_count)
    window = NEIGHBOURS * per_job
    long_lines = shape.long_count * shape.long_line_count
    short = (
        f"min({shape.job_count}, {shape.long_count} + 1 + {NEIGHBOURS} * (s / {window}) + s % {NEIGHBOURS})"
    )
    connection.execute(
        "INSERT INTO log (job_id, timestamp, level, process, message) "
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1), "
        "split AS (SELECT i, i % 2 = 0 AND i / 2 < ? AS is_long, "
        "CASE WHEN i / 2 < ? THEN i / 2 ELSE i - ? END AS s FROM n) "
        f"SELECT CASE WHEN is_long THEN 1 + s / ? ELSE {short} END, '2026-01-01 00:00:00.123456', 'INFO', "
        "'MainProcess/4711', 'Sent 312 classical tasks, 24.31 KB, received ' || i FROM split",
        [shape.line_count, long_lines, long_lines, long_lines, shape.long_line_count],
    )
