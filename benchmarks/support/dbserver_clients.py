"""Clients of a dbserver for a benchmark.

`python -m benchmarks.support.dbserver_clients SIDE TASK COUNT SECONDS ID`.

SIDE is `ours` or `upstream`, TASK `logs` or `jobs`. Imports once, forks COUNT processes that all start at
the same moment, and prints one JSON object: how much was done, and in how many seconds. Upstream's
clients call the engine's own `dbcmd`; ours use `DbClient` and `LogStream` as the engine's driver does.
"""

from __future__ import annotations

import datetime
import getpass
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

Work = Callable[[], int]
# As the engine logs; 60 characters is about its median.
MESSAGE = "Sent 312 classical tasks, 24.31 KB (0.2%%), received %06d"
OUR_LINES_PER_SECOND = 60_000
FLUSH_TIMEOUT_S = 120.0


def run_upstream(task: str, job_id: int, seconds: float) -> Work:
    """What one client of upstream's DbServer does."""
    from openquake.commonlib import logs

    def log(number: int) -> None:
        now_time = datetime.datetime.now(datetime.UTC)
        logs.dbcmd("log", job_id, now_time, "INFO", f"MainProcess/{os.getpid()}", MESSAGE % number)

    def cycle(_number: int) -> None:
        new_id = logs.dbcmd("create_job", "/tmp", "classical", "a job", getpass.getuser())
        logs.dbcmd("get_job", new_id)
        logs.dbcmd("finish", new_id, "complete")

    return _repeat(log if task == "logs" else cycle, seconds)


def run_ours(task: str, job_id: int, seconds: float, share: float) -> Work:
    """What one client of our dbserver does; its log lines are a fixed number, sent without waiting."""
    from quakegrid.clients.dbserver.client import DbClient
    from quakegrid.clients.dbserver.log_sender import LogStream
    from quakegrid.jobs.values import LogLine
    from quakegrid.settings import config

    client = DbClient(config.load_settings())

    def log_all() -> int:
        count = int(OUR_LINES_PER_SECOND * seconds * share)
        process = f"MainProcess/{os.getpid()}"
        with LogStream(client, max_lines=count + 1) as stream:
            for number in range(count):
                now_time = datetime.datetime.now(datetime.UTC)
                stream.append(job_id, LogLine(now_time, "INFO", process, MESSAGE % number))
            stream.flush(FLUSH_TIMEOUT_S)
        return count

    def cycle(_number: int) -> None:
        new_id = client.call("create_job", "/tmp", "classical", "a job", getpass.getuser())
        client.call("get_job", new_id)
        client.call("finish", new_id, "complete")

    client.call("getpid")  # connects
    return log_all if task == "logs" else _repeat(cycle, seconds)


def _repeat(act: Callable[[int], None], seconds: float) -> Work:
    def work() -> int:
        end_s = time.monotonic() + seconds
        count = 0
        while time.monotonic() < end_s:
            act(count)
            count += 1
        return count

    return work


def _client(prepare: Callable[[], Work], start: Barrier, results: Any) -> None:
    work = prepare()
    start.wait()
    start_s = time.monotonic()
    count = work()
    results.put((count, start_s, time.monotonic()))


def main() -> int:
    """Run the clients and print what they did."""
    side, task = sys.argv[1:3]
    count, seconds, job_id = int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
    if side == "upstream":
        from openquake.commonlib import logs  # noqa: F401  before the fork

        def prepare() -> Work:
            return run_upstream(task, job_id, seconds)

    else:
        from quakegrid.clients.dbserver import log_sender  # noqa: F401

        def prepare() -> Work:
            return run_ours(task, job_id, seconds, 1 / count)

    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(count), context.Queue()
    clients = [context.Process(target=_client, args=(prepare, start, results)) for _ in range(count)]
    for client in clients:
        client.start()
    done = [results.get(timeout=300) for _ in clients]
    for client in clients:
        client.join()
    first_s, last_s = min(each[1] for each in done), max(each[2] for each in done)
    print(json.dumps({"count": sum(each[0] for each in done), "seconds": last_s - first_s}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
