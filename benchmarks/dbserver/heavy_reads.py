"""Readers that ask a dbserver for as much as they can.

`python -m benchmarks.dbserver.heavy_reads JOB_ID SECONDS`; JOB_ID is a job with a long log.

`READERS` threads ask again and again: full scans for a text, the whole log in one answer, all jobs backwards
page by page, rows until the result is too large, and followers of the log that read one message of their
stream and then no more. Prints `ready` when all have asked, and at the end what was answered and what was
refused, and how often.
"""

from __future__ import annotations

import collections
import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from quakegrid.api.v1 import logs_pb2, logs_pb2_grpc
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.errors import QuakeGridError
from quakegrid.jobs.filters import JobFilter
from quakegrid.settings import config

READERS = 50
PAUSE_S = 0.05
Question = Callable[[DbClient, int], object]


def scan(client: DbClient, _job_id: int) -> object:
    """Look for a text in all lines."""
    return client.call("SELECT count(*) FROM log WHERE message LIKE '%no line has this%'")


def whole_log(client: DbClient, job_id: int) -> object:
    """A log of a million lines in one answer."""
    return client.call("get_log", job_id)


def part_of_log(client: DbClient, job_id: int) -> object:
    """As many lines as fit into an answer."""
    return client.call("get_log_slice", job_id, 0, 100_000)


def rows(client: DbClient, _job_id: int) -> object:
    """As many rows as fit into an answer."""
    return client.call("SELECT * FROM log LIMIT 120000")


def jobs_backwards(client: DbClient, _job_id: int) -> object:
    """All jobs, a thousand at a time, with a text that is in few of them."""
    return client.jobs.list_jobs(50_000, JobFilter(description_text="9"))


def slow_follower(client: DbClient, job_id: int) -> object:
    """Follow a long log without reading more than the first message."""
    stub = logs_pb2_grpc.LogsStub(client.connection.channel)
    stream = stub.TailLog(logs_pb2.TailLogRequest(job_id=job_id))
    next(stream)
    time.sleep(2)
    return stream.cancel()


QUESTIONS: tuple[Question, ...] = (scan, whole_log, part_of_log, rows, jobs_backwards, slow_follower)


def ask(question: Question, job_id: int, end_s: float, asked: Any, counts: collections.Counter[str]) -> None:
    """Ask one question until the end."""
    with DbClient(config.load_settings()) as client:
        while time.monotonic() < end_s:
            asked.release()
            try:
                question(client, job_id)
            except (QuakeGridError, grpc.RpcError) as exc:
                counts[f"{question.__name__} refused: {str(exc)[:60]}"] += 1
                time.sleep(PAUSE_S)
            else:
                counts[question.__name__] += 1


def main() -> int:
    """Run the readers and print what came of it."""
    job_id, seconds = int(sys.argv[1]), float(sys.argv[2])
    end_s = time.monotonic() + seconds
    asked = threading.Semaphore(0)
    counts: collections.Counter[str] = collections.Counter()
    readers = [
        threading.Thread(target=ask, args=(question, job_id, end_s, asked, counts), daemon=True)
        for question in itertools.islice(itertools.cycle(QUESTIONS), READERS)
    ]
    for reader in readers:
        reader.start()
    for _ in readers:
        asked.acquire()
    print("ready", flush=True)
    for reader in readers:
        reader.join(max(0.0, end_s + 1 - time.monotonic()))
    print(dict(counts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
