"""The database file among its neighbours: rights, foreign logs, leftovers, and restored backups."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from quakegrid import errors, testing
from quakegrid.cli import db
from quakegrid.services.dbserver.rpc import database
from quakegrid.services.dbserver.store import files as database_files
from quakegrid.services.dbserver.store import restore, schema
from quakegrid.services.dbserver.store.database import Readers
from quakegrid.settings.config import Settings
from tests.support.processes import environment


def prepare(path: Path, *users: str) -> None:
    """What a dbserver does that starts, stores a job of each user, and is killed."""
    lock = schema.lock_database(path)
    schema.prepare_database(path)
    connection = schema.connections.connect_writer(path)
    for user in users:
        fields = "description, user_name, calculation_mode, ds_calc_dir"
        connection.execute(f"INSERT INTO job ({fields}) VALUES ('d', ?, 'c', '/')", [user])
    keep_wal(path, connection)
    lock.close()


def keep_wal(path: Path, connection: sqlite3.Connection) -> None:
    """Close a connection without its last words: what is in its log stays there."""
    wal = database_files.beside(path, "-wal")
    data = wal.read_bytes()
    files = {path: path.read_bytes(), wal: data}
    connection.close()
    for file, content in files.items():
        file.write_bytes(content)


def users_of(path: Path) -> list[str]:
    """Whose jobs a file has, with its log."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [user for (user,) in connection.execute("SELECT user_name FROM job ORDER BY id")]


def back_up(path: Path, target: Path) -> Path:
    """A copy as the dbserver makes it."""
    readers = Readers(path)
    with database._copy(readers) as copy:
        target.write_bytes(copy.read())
    readers.close()
    return target


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database will be."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "db.sqlite3"


def test_new_files_are_private(path: Path) -> None:
    """Nobody else can read the database, its log and its lock file, whatever the umask."""
    old_mask = os.umask(0)
    try:
        lock = schema.lock_database(path)
        schema.prepare_database(path)
        connection = schema.connections.connect_writer(path)
        connection.execute("UPDATE job SET description='e'")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        connection.close()
        lock.close()
    finally:
        os.umask(old_mask)

    names = {path.name + suffix for suffix in ("", "-wal", "-shm", ".lock")}
    assert modes == dict.fromkeys(names, 0o600)


def test_rights_of_a_file_that_was_there_stay(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that others can read stays so, with a word; in a private folder there is no need for one."""
    prepare(path, "ada")
    path.chmod(0o644)
    for mode, warns in ((0o755, True), (0o700, False)):
        path.parent.chmod(mode)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            schema.prepare_database(path)

        assert path.stat().st_mode & 0o777 == 0o644
        assert ("chmod 600" in caplog.text) is warns


def test_log_of_a_killed_dbserver_is_taken_over(path: Path) -> None:
    """What was committed before a kill is there after the next start, as often as it happens."""
    prepare(path, "ada")
    assert database_files.has_wal(path)
    prepare(path, "bob")
    prepare(path)

    assert users_of(path) == ["ada", "bob"]


@pytest.mark.parametrize("way", ["copy", "move", "same run"])
def test_log_of_another_file_is_refused(path: Path, way: str, tmp_path: Path) -> None:
    """A backup in the place of a database whose log is still there is not mixed with it; nothing changes."""
    prepare(path, "ada")
    backup = back_up(path, tmp_path / "backup")
    if way != "same run":
        prepare(path, *["bob"] * 100)
    if way == "copy":
        shutil.copyfile(backup, path)
    else:
        backup.replace(path)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}

    with pytest.raises(
        errors.QuakeGridError, match=r"db.sqlite3-wal belongs to the file.*quakegrid db restore"
    ):
        schema.prepare_database(path)

    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    database_files.beside(path, "-wal").unlink()
    schema.prepare_database(path)
    assert users_of(path) == ["ada"]


def test_log_without_its_file_is_refused(path: Path) -> None:
    """SQLite would throw it away, with the last changes."""
    prepare(path, "ada")
    path.rename(path.with_name("away"))

    with pytest.raises(errors.QuakeGridError, match="put both where they were"):
        schema.prepare_database(path)

    assert database_files.has_wal(path)


@pytest.mark.parametrize("step", ["before", "between", "after"])
def test_start_that_is_killed_while_it_stamps_can_be_repeated(
    path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the file's new stamp and the lock file's, both stamps are known."""
    prepare(path, "ada")

    class KilledError(BaseException):
        """The end of the process."""

    real = database_files.stamp

    def die(connection: sqlite3.Connection, value: int | None = None) -> None:
        if step != "before":
            real(connection, value)
            if step == "after":
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("INSERT INTO tag (name) VALUES ('t')")
        keep_wal(path, connection)
        raise KilledError

    monkeypatch.setattr(database_files, "stamp", die)
    with pytest.raises(KilledError):
        schema.prepare_database(path)
    monkeypatch.undo()
    schema.prepare_database(path)

    assert users_of(path) == ["ada"]


def test_leftovers_of_killed_copies_are_removed(path: Path) -> None:
    """What a killed backup, adoption or restore left goes at the next start; what is whole stays."""
    prepare(path)
    folder = database_files.beside(path, f"{database_files.BACKUP_FOLDER}x1")
    folder.mkdir()
    (folder / path.name).write_bytes(b"half")
    copy = database_files.RESTORED_COPY
    for suffix in (".before-quakegrid-2026-01-01.part", copy, f"{copy}-journal"):
        database_files.beside(path, suffix).write_bytes(b"half")
    kept = {path.name + suffix for suffix in (".before-quakegrid-2026-01-01", ".copy-of-mine", ".backup")}
    for name in kept:
        path.with_name(name).write_bytes(b"whole")

    schema.prepare_database(path)

    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.lock", *kept}


def test_restore_puts_a_backup_in_place(path: Path, tmp_path: Path) -> None:
    """The backup is what is served next; the old database stays beside it with its log, and is whole."""
    prepare(path, "ada")
    backup = back_up(path, tmp_path / "backup")
    prepare(path, "bob")

    restored = restore.restore(path, backup)
    again = restore.restore(path, backup)
    schema.prepare_database(path)

    assert (restored.path, restored.job_count, restored.log_line_count) == (path, 1, 0)
    assert users_of(path) == ["ada"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert restored.old_path is not None
    assert users_of(restored.old_path) == ["ada", "bob"]
    assert again.old_path == database_files.beside(restored.old_path, "-2")
    assert not list(path.parent.glob("*restored*"))


def test_restored_database_uses_no_number_of_a_job_again(path: Path, tmp_path: Path) -> None:
    """Results of jobs that are younger than the backup are still on the disk, under their numbers."""
    prepare(path, "ada")
    backup = back_up(path, tmp_path / "backup")
    prepare(path, "bob")

    restore.restore(path, backup)
    prepare(path, "cid")

    assert ids_of(path) == [1, 3]


def test_numbers_of_datastores_count_where_the_database_is_lost(path: Path, tmp_path: Path) -> None:
    """The datastores of the restored jobs tell where the others are."""
    prepare(path, "ada")
    (tmp_path / "calc_41.hdf5").touch()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE job SET ds_calc_dir = ?", [str(tmp_path / "calc_1")])
    backup = back_up(path, tmp_path / "backup")
    path.unlink()

    restore.restore(path, backup)
    prepare(path, "bob")

    assert ids_of(path) == [1, 42]


def ids_of(path: Path) -> list[int]:
    """The ids of all jobs."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [job_id for (job_id,) in connection.execute("SELECT id FROM job ORDER BY id")]


def test_restore_without_a_database_makes_one(path: Path, tmp_path: Path) -> None:
    """On a new machine there is nothing to keep; a log whose database is gone does not stay, either."""
    prepare(path, "ada")
    backup = back_up(path, tmp_path / "backup")
    path.unlink()

    assert restore.restore(path, backup).old_path is None
    schema.prepare_database(path)
    assert users_of(path) == ["ada"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_restore_by_root_gives_the_files_to_the_folders_owner(path: Path, tmp_path: Path) -> None:
    """The dbserver's user can write what root has restored for it."""
    prepare(path, "ada")
    backup = back_up(path, tmp_path / "backup")
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    os.chown(path.parent, 12345, 12346)

    restore.restore(path, backup)

    owners = {file.name: (file.stat().st_uid, file.stat().st_gid) for file in path.parent.iterdir()}
    assert owners == dict.fromkeys((path.name, f"{path.name}.lock"), (12345, 12346))


def test_restore_refuses_what_is_no_backup(path: Path, tmp_path: Path) -> None:
    """Damaged, foreign, newer and living files are refused in one line, and nothing changes."""
    prepare(path, "ada")
    backup = back_up(path, tmp_path / "backup")
    damaged, foreign, newer, living = (tmp_path / name for name in ("damaged", "foreign", "newer", "living"))
    data = backup.read_bytes()
    damaged.write_bytes(data[: len(data) // 2])
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE mine (a)")
    shutil.copyfile(backup, newer)
    with contextlib.closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("INSERT INTO revision_info (version, scriptname) VALUES ('0099', 'later')")
    shutil.copyfile(backup, living)
    living.with_name("living-wal").write_bytes(b"something")
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".lock"}

    for file, words in (
        (damaged, "damaged"),
        (foreign, "foreign was made neither by QuakeGrid nor by OpenQuake"),
        (newer, r"newer was made by a newer OpenQuake engine \(schema 0099\)"),
        (living, "is a database in use and no backup"),
        (path, "is the database itself"),
        (tmp_path / "missing", "there is no file"),
    ):
        with pytest.raises(errors.QuakeGridError, match=words) as refusal:
            restore.restore(path, file)
        assert "\n" not in str(refusal.value)

    assert {file: file.read_bytes() for file in path.parent.iterdir() if file.suffix != ".lock"} == before


def test_restore_command_refuses_while_the_dbserver_runs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code and words come from the process that restores; without a dbserver it says what it did."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    prepare(settings.database, "ada")
    backup = back_up(settings.database, tmp_path / "backup")
    lock = schema.lock_database(settings.database)

    with pytest.raises(errors.QuakeGridError, match=f"process {os.getpid()}.*quakegrid down"):
        CliRunner().invoke(db.db, ["restore", str(backup)], catch_exceptions=False)
    lock.close()
    result = CliRunner().invoke(db.db, ["restore", str(backup)], catch_exceptions=False)

    assert "the old database is" in result.output
    assert f"{settings.database}: 1 jobs, 0 log lines" in result.output


@pytest.mark.parametrize(("host", "is_made"), [("192.0.2.1", False), ("127.0.0.1", True)])
def test_restore_command_makes_a_database_on_the_dbservers_node_only(
    host: str, is_made: bool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A master whose file is lost gets it back; a database on a node would be nobody's."""
    prepare(path, "ada")
    backup = back_up(path, tmp_path / "backup")
    config = testing.write_cluster_config(tmp_path / "state", {"dbserver": {"host": host}})
    for name, value in testing.isolated_environ(config.parent).items():
        monkeypatch.setenv(name, value)

    result = CliRunner().invoke(db.db, ["restore", str(backup)])

    assert (config.parent / "db.sqlite3").exists() is is_made
    assert is_made or f"the dbserver is on {host} ([dbserver] host)" in str(result.exception)


def test_file_of_a_newer_engine_is_refused(path: Path) -> None:
    """Our own file, upgraded by a newer engine since, is not served and stays as it is."""
    prepare(path, "ada")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO revision_info (version, scriptname) VALUES ('0099', 'later')")

    with pytest.raises(errors.QuakeGridError, match=r"newer OpenQuake engine \(schema 0099\)"):
        schema.prepare_database(path)


def test_dbserver_loads_neither_numpy_nor_pandas() -> None:
    """sqlite-utils imports both where they are installed; that is half of the start and of the memory."""
    code = "import sys, quakegrid.services.dbserver.__main__; print({'numpy', 'pandas'} & sys.modules.keys())"

    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert child.stdout == "set()\n"


def test_link_to_an_empty_disk_gets_a_file(tmp_path: Path) -> None:
    """The database is made where the link leads."""
    disk = tmp_path / "disk"
    disk.mkdir()
    path = tmp_path / "db.sqlite3"
    path.symlink_to(disk / "db.sqlite3")

    schema.prepare_database(path)

    assert path.is_symlink()
    assert (disk / "db.sqlite3").stat().st_mode & 0o777 == 0o600
    assert users_of(path) == []


def test_link_to_a_disk_that_is_not_there_is_told(tmp_path: Path) -> None:
    """In words, with the folder."""
    path = tmp_path / "db.sqlite3"
    path.symlink_to(tmp_path / "disk" / "db.sqlite3")

    with pytest.raises(errors.QuakeGridError, match=r"cannot write in .*/disk: "):
        database_files.create_private(path)
