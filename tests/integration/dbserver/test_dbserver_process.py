"""The dbserver as a process: starting, stopping, being killed, and what it refuses."""

from __future__ import annotations

import dataclasses
import datetime as dt
import resource
import signal
import socket
import sqlite3
import threading
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.values import LogLine
from quakegrid.machine import service_files
from quakegrid.settings.config import Settings
from tests.support.processes import Service, make_state

TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def new_job_id(client: DbClient) -> int:
    """The id of a new job."""
    job = client.jobs.create_job(
        data_dir="/tmp", calculation_mode="classical", description="d", user_name="ada"
    )
    return job.id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_and_removes_the_record(dbserver_process: Service, number: int) -> None:
    """A stop is clean and leaves no run record, even with a follower waiting."""
    with DbClient(dbserver_process.settings) as client:
        job_id = new_job_id(client)
        client.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", "m")])
        follower = client.logs.tail_log(job_id)
        next(follower)

        assert dbserver_process.stop(number) == 0

        with pytest.raises(errors.PeerUnreachableError):
            next(follower)
    assert service_files.read(dbserver_process.settings, "dbserver") is None
    assert not (dbserver_process.settings.run_dir / "dbserver.json").exists()


def test_wrong_authkey_is_refused(dbserver_process: Service) -> None:
    """Who has another key gets nothing, and is told what may be wrong."""
    stranger = dataclasses.replace(dbserver_process.settings, authkey="another key of some length")

    with DbClient(stranger) as client, pytest.raises(errors.PeerUnreachableError, match="authkey differs"):
        client.jobs.list_jobs()


def test_kill_keeps_acknowledged_writes(dbserver_process: Service) -> None:
    """What was answered is there after kill -9 and a restart; a client with retries goes on by itself."""
    acknowledged: list[int] = []
    with DbClient(dbserver_process.settings, retry_s=60) as client:
        job_id = new_job_id(client)
        enough = threading.Event()

        def write() -> None:
            for number in range(600):
                client.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", str(number))])
                acknowledged.append(number)
                if number == 200:
                    enough.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert enough.wait(60)
        dbserver_process.stop(signal.SIGKILL)
        before = list(acknowledged)
        dbserver_process.start()
        writer.join(90)

        stored = [int(line.message) for line in client.logs.list_log(job_id)]
    assert stored[: len(before)] == before
    assert stored == list(range(600))


def test_second_server_of_a_file_is_refused(dbserver_process: Service, tmp_path: Path) -> None:
    """One process serves a file, whatever its port; the message names the file and the other process."""
    other = make_state(tmp_path / "other", file=str(dbserver_process.settings.database))

    code, text = Service(other, "dbserver").fail_to_start()

    assert dbserver_process.process is not None
    assert (code, text.count("\n")) == (1, 1)
    assert str(dbserver_process.settings.database) in text
    assert f"process {dbserver_process.process.pid}" in text


def test_port_in_use_is_one_line(settings: Settings) -> None:
    """The message names the port and the remedy."""
    with socket.create_server(("127.0.0.1", settings.dbserver_port)):
        code, text = Service(settings, "dbserver").fail_to_start()

    assert (code, text.count("\n")) == (1, 1)
    assert f":{settings.dbserver_port}: Address already in use; stop what uses the port" in text


def test_file_of_another_program_is_left_alone(settings: Settings) -> None:
    """Tables without our migrations are refused, and the file is not changed."""
    settings.database.parent.mkdir()
    with sqlite3.connect(settings.database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE job (id INTEGER PRIMARY KEY)")
    connection.close()
    before = settings.database.read_bytes()

    code, text = Service(settings, "dbserver").fail_to_start()

    assert (code, text.count("\n")) == (1, 1)
    assert f"{settings.database} was made neither by QuakeGrid nor by OpenQuake" in text
    assert settings.database.read_bytes() == before
    assert {path.name for path in settings.database.parent.iterdir()} == {"db.sqlite3", "db.sqlite3.lock"}


def test_file_that_is_no_database_is_left_alone(settings: Settings) -> None:
    """A file of another kind is refused by its name."""
    settings.database.parent.mkdir()
    settings.database.write_text("not a database, but a text of some length\n" * 10)

    code, text = Service(settings, "dbserver").fail_to_start()

    assert (code, text.count("\n")) == (1, 1)
    assert f"{settings.database} is damaged or no SQLite database" in text


def test_newer_file_is_refused(dbserver_process: Service) -> None:
    """A migration that we do not know means a newer QuakeGrid."""
    dbserver_process.stop()
    with sqlite3.connect(dbserver_process.settings.database) as connection:
        connection.execute("UPDATE _sqlite_migrations SET name='0099_later' WHERE name='0002_request'")
    connection.close()

    code, text = dbserver_process.fail_to_start()

    assert (code, text.count("\n")) == (1, 1)
    assert "made by a newer QuakeGrid" in text


def test_missing_authkey_is_a_settings_error(tmp_path: Path) -> None:
    """Exit code 2 and the remedy."""
    code, text = Service(make_state(tmp_path, authkey="changeme"), "dbserver").fail_to_start()

    assert (code, text.count("\n")) == (2, 1)
    assert "authkey" in text


def test_full_disk_fails_the_write_and_no_more(dbserver_process: Service) -> None:
    """A write that does not fit is refused by the file's name; the dbserver goes on."""
    assert dbserver_process.process is not None
    pid = dbserver_process.process.pid
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with DbClient(dbserver_process.settings) as client:
        job_id = new_job_id(client)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

        with pytest.raises(errors.QuakeGridError, match=r"cannot write to .*db\.sqlite3.*free space"):
            client.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", "lost")])
        assert client.jobs.get_job(job_id).id == job_id
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        client.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", "kept")])

        assert [line.message for line in client.logs.list_log(job_id)] == ["kept"]
