"""Putting a backup in the place of the database: `python -m` with this module and the path of the backup.

Called by `quakegrid db restore`, on the node of the dbserver, which must not run. The backup is copied
and the copy is checked before anything changes. The old database stays, under another name. Whenever this
process is killed, either the old or the new database is in place, and the dbserver refuses to mix them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from quakegrid.errors import QuakeGridError, UsageError
from quakegrid.services.dbserver.store import adoption, connections, files, migrations, schema, sqlite_errors
from quakegrid.settings import config

_HIGHEST_JOB = (
    "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'job'), 0), "
    "coalesce((SELECT max(id) FROM job), 0))"
)
_DATASTORE = re.compile(r"calc_(\d{1,15})\.hdf5", re.ASCII)


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore; `old_path` is where the old database is now, if there was one."""

    path: Path
    job_count: int
    log_line_count: int
    old_path: Path | None


def main() -> int:
    """Restore a backup; returns the exit code."""
    parser = argparse.ArgumentParser(prog="restore", description="Put a backup in the database's place.")
    parser.add_argument("--state-dir", type=Path, help="state of the embedded cluster")
    parser.add_argument("backup", type=Path)
    args = parser.parse_args()
    try:
        restored = restore(config.load_settings(args.state_dir).database, args.backup)
    except QuakeGridError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    if restored.old_path:
        print(f"the old database is {restored.old_path}")
    print(f"{restored.path}: {restored.job_count} jobs, {restored.log_line_count} log lines")
    return 0


def restore(path: Path, backup: Path) -> Restored:
    """Put a backup in the place of the database at `path`.

    Raises:
        UsageError: there is no such backup, or it is a database in use.
        QuakeGridError: a dbserver serves the database, or the backup is damaged, newer, or somebody else's;
            nothing has changed.
    """
    if not backup.is_file():
        raise UsageError(f"there is no file {backup}; give a copy that `quakegrid db backup` made")
    if path.exists() and backup.samefile(path):
        raise UsageError(f"{backup} is the database itself; give a copy that `quakegrid db backup` made")
    if files.has_wal(backup):
        raise UsageError(
            f"{backup} is a database in use and no backup ({backup.name}-wal is beside it); make a copy with "
            "`quakegrid db backup`"
        )
    with contextlib.closing(schema.lock_database(path)):
        copy_path = files.beside(path, files.RESTORED_COPY)
        try:
            job_count, log_line_count = _copy(backup, copy_path)
            _go_on_numbering(copy_path, max(_highest_job(path), _highest_datastore(copy_path)))
            _give_away(copy_path, files.beside(path, ".lock"))
            old_path = _replace(path, copy_path)
        except sqlite3.Error as exc:
            raise sqlite_errors.from_sqlite(exc, backup) from exc
        except OSError as exc:
            raise QuakeGridError(f"cannot restore {path}: {exc}; nothing has changed") from exc
        finally:
            copy_path.unlink(missing_ok=True)
    return Restored(path, job_count, log_line_count, old_path)


def _copy(backup: Path, copy_path: Path) -> tuple[int, int]:
    """Copy a backup and check the copy for damage; returns its numbers of jobs and log lines."""
    copy_path.unlink(missing_ok=True)
    files.create_private(copy_path)
    shutil.copyfile(backup, copy_path)
    if adoption.find_origin(copy_path, migrations.known(), backup) is adoption.Origin.QUAKEGRID:
        with contextlib.closing(sqlite3.connect(copy_path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            files.stamp(connection)
    with contextlib.closing(connections.connect_reader(copy_path, is_immutable=True)) as connection:
        adoption.check(connection, backup, "PRAGMA integrity_check")
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM log)"
        ).fetchone()
    with copy_path.open("rb") as file:
        os.fsync(file.fileno())
    return counts[0], counts[1]


def _highest_job(path: Path) -> int:
    """The highest id that a job of a database has had; 0 if there is no database, or it cannot be read."""
    if not path.exists():
        return 0
    with (
        contextlib.suppress(sqlite3.Error),  # the database may be damaged, and be replaced for that
        contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection,
    ):
        return int(connection.execute(_HIGHEST_JOB).fetchone()[0])
    return 0


def _highest_datastore(path: Path) -> int:
    """The highest id of a job whose datastore lies beside those of the jobs in a database."""
    with contextlib.closing(connections.connect_reader(path, is_immutable=True)) as connection:
        stores = connection.execute("SELECT ds_calc_dir FROM job WHERE ds_calc_dir != ''").fetchall()
    folders = {Path(str(store)).parent for (store,) in stores}
    names = [file.name for folder in folders if folder.is_absolute() for file in folder.glob("calc_*.hdf5")]
    return max((int(found[1]) for name in names if (found := _DATASTORE.fullmatch(name))), default=0)


def _go_on_numbering(path: Path, highest: int) -> None:
    """Let new jobs have ids beyond `highest`, since files of jobs newer than the backup still exist."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        changed = connection.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'job'", [highest]
        ).rowcount
        if not changed:
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('job', ?)", [highest])


def _give_away(*paths: Path) -> None:
    """As root, give files to the owner of their folder: the dbserver's user must be able to write them."""
    for path in paths if os.geteuid() == 0 else ():
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _replace(path: Path, copy_path: Path) -> Path | None:
    """Put the copy in place; returns the new name of the old file.

    The file is replaced first and its log after it. In between, the stamp shows that the log is another
    file's.
    """
    old_path = None
    if path.exists():
        old_path = files.free_name(path, "before-restore")
        try:
            os.link(path, old_path)
        except OSError:  # a disk without hard links
            path.rename(old_path)
    copy_path.replace(path)
    for suffix in ("-wal", "-shm"):
        neighbour = files.beside(path, suffix)
        if not neighbour.exists():
            continue
        if old_path is None:
            neighbour.unlink()
        else:
            neighbour.rename(files.beside(old_path, suffix))
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return old_path


if __name__ == "__main__":
    sys.exit(main())
