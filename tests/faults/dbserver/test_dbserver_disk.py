"""The dbserver on a disk that is full."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.log_sender import LogStream
from quakegrid.jobs.values import LogLine
from tests.support.processes import Service, make_state

TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TEXT = "x" * 4000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def full_disk_server(small_disk: Path, tmp_path: Path) -> Iterator[Service]:
    """A dbserver whose database is on the small disk."""
    service = Service(make_state(tmp_path / "cluster", file=str(small_disk / "db.sqlite3")), "dbserver")
    try:
        service.start()
        yield service
    finally:
        service.close()


def fill_disk(ballast: Path) -> None:
    """Write a file until there is no room."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def fill_log(client: DbClient, job_id: int) -> None:
    """Append numbered lines until it fails."""
    for number in itertools.count():
        client.logs.append_log(job_id, [line(f"{number} {TEXT}")])


def line(message: str) -> LogLine:
    """A log line."""
    return LogLine(TIME, "INFO", "p", message)


def test_full_disk_refuses_writes_and_recovers(full_disk_server: Service, small_disk: Path) -> None:
    """Writes are refused in clear words, reads go on, nothing half-written stays, room is used at once."""
    with DbClient(full_disk_server.settings) as client:
        job = client.jobs.create_job(data_dir="/tmp", calculation_mode="c", description="d", user_name="ada")
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(1 << 20))

        with pytest.raises(errors.QuakeGridError, match=r"cannot write to .*db.*free space") as refusal:
            fill_log(client, job.id)

        cause = refusal.value.__cause__
        assert isinstance(cause, grpc.RpcError)
        assert cause.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.jobs.get_job(job.id) == job
        stored = client.logs.get_log_size(job.id)
        assert [one.message for one in client.logs.list_log(job.id)] == [f"{n} {TEXT}" for n in range(stored)]
        ballast.unlink()
        client.logs.append_log(job.id, [line("after")])
        messages = [one.message for one in client.logs.list_log(job.id)]
        assert messages == [*(f"{number} {TEXT}" for number in range(stored)), "after"]
    assert full_disk_server.stop() == 0


def test_log_stream_waits_for_room(full_disk_server: Service, small_disk: Path) -> None:
    """A producer keeps its lines while the disk is full, and stores them when there is room."""
    with DbClient(full_disk_server.settings) as client, LogStream(client) as stream:
        job = client.jobs.create_job(data_dir="/tmp", calculation_mode="c", description="d", user_name="ada")
        ballast = small_disk / "ballast"
        fill_disk(ballast)
        for number in range(300):
            stream.append(job.id, line(f"{number} {TEXT}"))
        with pytest.raises(errors.PeerUnreachableError):
            stream.flush(0.5)

        ballast.unlink()
        stream.flush(60)

        assert [one.message for one in client.logs.list_log(job.id)] == [f"{n} {TEXT}" for n in range(300)]


def test_client_that_retries_waits_for_room(full_disk_server: Service, small_disk: Path) -> None:
    """What a driver has to write while the disk is full is written once, when there is room."""
    with DbClient(full_disk_server.settings, retry_s=60) as client, ThreadPoolExecutor(1) as thread:
        ballast = small_disk / "ballast"
        fill_disk(ballast)
        log = full_disk_server.settings.state_dir / "dbserver.log"
        creating = thread.submit(
            client.jobs.create_job, data_dir="/tmp", calculation_mode="c", description=TEXT, user_name="ada"
        )
        while "write_failed" not in log.read_text() and not creating.done():
            time.sleep(0.01)

        ballast.unlink()
        job = creating.result(60)

        assert [each.id for each in client.jobs.list_jobs()] == [job.id]  # a list cuts long texts
        assert client.jobs.get_job(job.id) == job
