"""The dbserver is killed at random moments under load: what it acknowledged is there, once."""

from __future__ import annotations

import datetime as dt
import random
import signal
import sqlite3
import threading
from collections import Counter
from contextlib import ExitStack

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.log_sender import LogStream
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from tests.support.processes import Service

TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
RETRY_S = 120.0
STREAMS = 2


class Load:
    """Clients that write until they are told to stop, and remember what was acknowledged."""

    def __init__(self, service: Service, job_id: int) -> None:
        self.settings = service.settings
        self.job_id = job_id
        self.stopping = threading.Event()
        self.acknowledged: list[str] = []
        self.sent: list[str] = []
        self.created: list[int] = []
        self.followed: list[str] = []
        self.errors: list[BaseException] = []
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._guard, args=(work,))
            for work in (self._append, self._create, self._follow, *[self._stream] * STREAMS)
        ]

    def start(self) -> None:
        """Start the clients."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let all clients finish what they began; the follower ends with the job."""
        self.stopping.set()
        for thread in self._threads:
            if thread is not self._threads[2]:
                thread.join(RETRY_S)
        with DbClient(self.settings, retry_s=RETRY_S) as client:
            client.jobs.transition(self.job_id, JobState.COMPLETE)
        self._threads[2].join(RETRY_S)
        assert not self.errors

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more lines have been acknowledged."""
        with self._changed:
            wanted = len(self.acknowledged) + count
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= wanted or self.errors, RETRY_S)

    def _guard(self, work: object) -> None:
        try:
            assert callable(work)
            work()
        except BaseException as exc:  # noqa: BLE001  shown by the test
            self.errors.append(exc)

    def _acknowledge(self, messages: list[str]) -> None:
        with self._changed:
            self.acknowledged.extend(messages)
            self._changed.notify_all()

    def _append(self) -> None:
        with DbClient(self.settings, retry_s=RETRY_S) as client:
            number = 0
            while not self.stopping.is_set():
                messages = [f"append-{number}-{index}" for index in range(3)]
                self.sent.extend(messages)
                client.logs.append_log(self.job_id, [LogLine(TIME, "INFO", "p", text) for text in messages])
                self._acknowledge(messages)
                number += 1

    def _stream(self) -> None:
        name = threading.current_thread().name
        with DbClient(self.settings) as client, LogStream(client) as stream:
            number = 0
            while not self.stopping.is_set():
                messages = [f"stream-{name}-{number}-{index}" for index in range(50)]
                self.sent.extend(messages)
                for text in messages:
                    stream.append(self.job_id, LogLine(TIME, "WARNING", "p", text))
                stream.flush(RETRY_S)
                self._acknowledge(messages)
                number += 1

    def _create(self) -> None:
        with DbClient(self.settings, retry_s=RETRY_S) as client:
            while not self.stopping.is_set():
                job = client.jobs.create_job(
                    data_dir="/tmp", calculation_mode="classical", description="d", user_name="ada"
                )
                client.jobs.transition(job.id, JobState.FAILED)
                self.created.append(job.id)

    def _follow(self) -> None:
        with DbClient(self.settings, retry_s=RETRY_S) as client:
            self.followed.extend(line.message for line in client.logs.tail_log(self.job_id))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("round_count", [5, pytest.param(50, marks=pytest.mark.full)])
def test_kill_under_load_loses_and_repeats_nothing(dbserver: Service, round_count: int) -> None:
    """Every acknowledged line and job is stored once, followers saw each line once, the file is sound."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with DbClient(dbserver.settings) as client:
        job_id = client.jobs.create_job(
            data_dir="/tmp", calculation_mode="classical", description="d", user_name="ada"
        ).id
    load = Load(dbserver, job_id)
    with ExitStack() as stack:
        stack.callback(load.stopping.set)
        load.start()

        for _ in range(round_count):
            load.wait_for_more(chance.randrange(1, 2000))
            dbserver.stop(signal.SIGKILL)
            assert check(dbserver) == "ok"
            dbserver.start()
        load.stop()

        with DbClient(dbserver.settings) as client:
            stored = [line.message for line in client.logs.list_log(job_id)]
            jobs = client.jobs.list_jobs(limit=100_000)
    assert dbserver.stop() == 0
    assert check(dbserver) == "ok"
    assert Counter(stored) == Counter(load.sent)
    assert set(load.acknowledged) <= set(stored)
    assert load.followed == stored
    assert in_order([text for text in stored if text.startswith("append")], load.sent)
    failed = {job.id for job in jobs if job.state is JobState.FAILED}
    assert sorted(load.created) == sorted(failed)
    assert len(jobs) == 1 + len(load.created)


def check(service: Service) -> str:
    """What SQLite says about the file."""
    connection = sqlite3.connect(service.settings.database)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def in_order(stored: list[str], sent: list[str]) -> bool:
    """Whether lines are stored in the order in which one client sent them."""
    return stored == [text for text in sent if text.startswith("append")]
