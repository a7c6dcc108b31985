"""A dbserver with a database of real size: what deletions cost other writers, and heavy reads the holds.

Each deletion is done three times, of jobs that are alike, and the best one counts: on a machine that others
use, the worst of three says more about them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Self

from benchmarks.dbserver import big_database
from benchmarks.dbserver.sides import REPOSITORY, Ours, peak_bytes
from benchmarks.support.figures import Figure
from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.database_admin import DatabaseCare
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job

ROUNDS = 3
DELETED_COUNT = 500
CALLS = 50
HEAVY_S = 20.0
SETTLING_S = 60.0
HOLD_S = 30.0
RENEW_EVERY_S = 0.02
WRITE_EVERY_S = 0.002
SLOW_CALLS = 8
ENDLESS = (
    "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)"
)
MB = 1_000_000
WHOLE = big_database.Shape()


def note(text: str) -> None:
    """Tell whoever waits what is measured now."""
    print(text, file=sys.stderr, flush=True)


class Prober:
    """Does something small again and again in a thread, and keeps how long each time took."""

    def __init__(self, act: Callable[[], object], every_s: float) -> None:
        self._act = act
        self._every_s = every_s
        self._is_over = threading.Event()
        self.times_s: list[float] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            start_s = time.perf_counter()
            self._act()
            self.times_s.append(time.perf_counter() - start_s)

    def share_s(self, share: float) -> float:
        """What so many of all times do not exceed."""
        return sorted(self.times_s)[min(int(share * len(self.times_s)), len(self.times_s) - 1)]


def measure_big(root: Path, shape: big_database.Shape = WHOLE) -> list[Figure]:
    """All figures of a big database."""
    ours = Ours(root / "big")
    with ours.running():
        pass
    note(f"filling a database with {shape.job_count} jobs and {shape.line_count} lines")
    start_s = time.monotonic()
    big_database.fill(ours.settings.database, shape)
    figures = [Figure("big: making it", time.monotonic() - start_s, "s", at_most=120)]
    figures += measure_start(ours)
    with ours.running() as pid, DbClient(ours.settings) as client:
        figures += measure_reads(client, shape)
        figures += measure_deletions(ours, client, shape)
        figures += measure_limits(ours, client)
        figures += measure_holds(ours, client, shape)
        figures.append(Figure("big: memory after all of it", peak_bytes(pid) / MB, "MB", at_most=200))
    figures.append(Figure("big: size of the file", ours.settings.database.stat().st_size / MB, "MB"))
    return figures


def measure_start(ours: Ours) -> list[Figure]:
    """Until the dbserver answers, and what it takes then; the best of three."""
    note("start")
    times_s, sizes, heavy = [], [], set()
    for _ in range(ROUNDS):
        start_s = time.monotonic()
        with ours.running() as pid:
            times_s.append(time.monotonic() - start_s)
            sizes.append(peak_bytes(pid))
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
            heavy |= {name for name in ("pandas", "numpy") if f"/{name}/" in maps}
    return [
        Figure("big: start", min(times_s), "s", at_most=1.0),
        Figure("big: memory at the start", min(sizes) / MB, "MB", at_most=80),
        Figure("big: of pandas and numpy are loaded", len(heavy), "", at_most=0),
    ]


def measure_reads(client: DbClient, shape: big_database.Shape) -> list[Figure]:
    """Reads that people wait for."""
    note("reads")
    last = timed(lambda: len(list(client.logs.list_log(1, tail_count=100))) == 100)
    other = timed(lambda: len(list(client.logs.list_log(shape.job_count // 2, tail_count=100))) == 100)
    listing = timed(lambda: len(client.jobs.list_jobs(limit=50)) == 50)
    assert sum(1 for _ in client.logs.slice_log(1, 0, 100_000)) == 100_000
    return [
        Figure("big: last 100 lines of a long log", last * 1000, "ms", at_most=10),
        Figure("big: last 100 lines of a short log", other * 1000, "ms", at_most=10),
        Figure("big: list of 50 jobs", listing * 1000, "ms", at_most=10),
    ]


def measure_deletions(ours: Ours, client: DbClient, shape: big_database.Shape) -> list[Figure]:
    """How long other writes take meanwhile."""
    first_id = shape.long_count + 1

    def take_ids() -> list[int]:
        nonlocal first_id
        first_id += DELETED_COUNT
        return list(range(first_id - DELETED_COUNT, first_id))

    def by_sql(_round: int) -> list[int]:
        ids = take_ids()
        client.call("DELETE FROM job WHERE id in (?X)", ids)
        return ids

    def by_calls(_round: int) -> list[int]:
        ids = take_ids()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda job_id: client.jobs.delete_job(job_id, "bench", delete_files=False), ids))
        return ids

    def long_log(round_number: int) -> list[int]:
        client.jobs.delete_job(round_number + 1, "bench", delete_files=False)
        return [round_number + 1]

    figures = others_write(ours, client, "nothing is deleted", lambda _round: time.sleep(2) or [])
    figures += others_write(ours, client, f"{DELETED_COUNT} jobs by one SQL", by_sql, target_ms=50)
    figures += others_write(ours, client, f"{DELETED_COUNT} jobs by as many calls", by_calls, target_ms=50)
    figures += others_write(ours, client, "a million lines", long_log, target_ms=50)
    return figures


def others_write(
    ours: Ours,
    client: DbClient,
    what: str,
    delete: Callable[[int], list[int]],
    target_ms: float | None = None,
) -> list[Figure]:
    """Delete three times while somebody writes; the latencies of the writes, of the best time."""
    note(f"writes while {what}")
    job_id = new_job(client).id
    worst, p99, took = [], [], []
    for number in range(ROUNDS):
        with DbClient(ours.settings) as writer:

            def write(writer: DbClient = writer) -> object:
                return writer.call("update_job", job_id, {"description": "written"})

            write()
            with Prober(write, WRITE_EVERY_S) as prober:
                start_s = time.monotonic()
                gone = delete(number)
                wait_until(lambda gone=gone: is_gone(client, gone))
                took.append(time.monotonic() - start_s)
        worst.append(max(prober.times_s))
        p99.append(prober.share_s(0.99))
    return [
        Figure(f"{what}: longest other write", min(worst) * 1000, "ms", at_most=target_ms),
        Figure(f"{what}: p99 of other writes", min(p99) * 1000, "ms", at_most=target_ms),
        Figure(f"{what}: until the rows are gone", min(took), "s"),
    ]


def is_gone(client: DbClient, job_ids: list[int]) -> bool:
    """Whether no row of these jobs is left."""
    if not job_ids:
        return True
    rows = (f"EXISTS (SELECT 1 FROM {table} IN (?X))" for table in ("job WHERE id", "log WHERE job_id"))
    return not client.call(f"SELECT {' OR '.join(rows)}", job_ids, job_ids)[0].values[0]


def measure_limits(ours: Ours, client: DbClient) -> list[Figure]:
    """When reads end that nobody waits for, or that take too long."""
    note("limits of reads")
    leavers = [DbClient(ours.settings) for _ in range(SLOW_CALLS)]
    with ThreadPoolExecutor(SLOW_CALLS) as pool:
        calls = [pool.submit(leaver.call, ENDLESS) for leaver in leavers]
        time.sleep(1.0)
        start_s = time.monotonic()
        for leaver in leavers:
            leaver.close()
        assert client.call("SELECT 1")[0].values == (1,)  # has got one of their threads
        ended_s = time.monotonic() - start_s
        assert all(isinstance(call.exception(), errors.QuakeGridError) for call in calls)
    admin = DatabaseCare(client)
    start_s = time.monotonic()
    words = ""
    try:
        admin.query(ENDLESS)
    except errors.UsageError as exc:
        words = str(exc)
    assert "took more than 10 s" in words, words
    assert "ask for fewer rows" in words, words
    deadline_s = time.monotonic() - start_s
    return [
        Figure("read whose caller has left ends after", ended_s, "s", at_most=1.0),
        Figure("read with a deadline of 10 s ends after", deadline_s, "s", at_least=10.0, at_most=10.5),
    ]


def measure_holds(ours: Ours, client: DbClient, shape: big_database.Shape) -> list[Figure]:
    """Renewals of a hold while 50 readers ask for as much as they can, and 50 others stand still."""
    note("holds while others read")
    job_id = new_job(client).id
    long_id = shape.long_count
    quiet = renewals(client, job_id, 2.0)
    with reading(ours, long_id), reading(ours, long_id) as stopped_pid:
        time.sleep(HEAVY_S / 4)
        os.kill(stopped_pid, signal.SIGSTOP)  # asked, and reads no answer
        busy = renewals(client, job_id, HEAVY_S / 2)
    assert client.jobs.get_job(job_id).state is JobState.EXECUTING
    return [
        Figure("renewal of a hold, nobody reads: p99", quiet.share_s(0.99) * 1000, "ms"),
        Figure("renewal of a hold, heavy readers: p99", busy.share_s(0.99) * 1000, "ms", at_most=500),
        Figure("renewal of a hold, heavy readers: longest", max(busy.times_s) * 1000, "ms", at_most=3000),
    ]


def renewals(client: DbClient, job_id: int, seconds: float) -> Prober:
    """Renew a hold for so long."""
    with Prober(lambda: client.jobs.renew_hold(job_id, "bench", HOLD_S), RENEW_EVERY_S) as prober:
        time.sleep(seconds)
    return prober


@contextmanager
def reading(ours: Ours, job_id: int) -> Iterator[int]:
    """Heavy readers run inside of this; gives their process id."""
    readers = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.dbserver.heavy_reads", str(job_id), str(HEAVY_S)],
        env=ours.environ,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert readers.stdout is not None
        assert readers.stdout.readline() == "ready\n"
        yield readers.pid
        os.kill(readers.pid, signal.SIGCONT)
        note(readers.communicate(timeout=SETTLING_S + HEAVY_S)[0])
    finally:
        readers.kill()
        readers.wait()


def new_job(client: DbClient) -> Job:
    """A job that runs."""
    job = client.jobs.create_job(
        data_dir="/tmp", calculation_mode="classical", description="others", user_name="bench"
    )
    return client.jobs.transition(job.id, JobState.EXECUTING)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what the dbserver does."""
    end_s = time.monotonic() + 600
    while not condition():
        if time.monotonic() > end_s:
            raise RuntimeError("the dbserver has not done it in 10 minutes")
        time.sleep(0.05)


def timed(call: Callable[[], bool]) -> float:
    """The median time of a call, in seconds; the first one is not counted."""
    times_s = []
    for _ in range(CALLS + 1):
        start_s = time.perf_counter()
        assert call()
        times_s.append(time.perf_counter() - start_s)
    return median(times_s[1:])
