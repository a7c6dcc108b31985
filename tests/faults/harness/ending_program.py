"""A program whose session ends when it is told, while its workers are in the middle of a task.

Usage: `python -m tests.faults.harness.ending_program STATE_DIR FOLDER end|abort`. Its tasks write into FOLDER
where they run (see `tasks.hold`). A line on stdin tells it to end its session, or to abort its session's job.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import time

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.sdk import executor
from quakegrid.sdk.cluster import Cluster
from quakegrid.session.options import SessionOptions
from tests.faults.harness import tasks
from tests.faults.harness.program import open_executor

TASK_COUNT = 4
# A broker or dbserver that is away when a job is aborted: whoever aborts tries again.
ABORT_S = 90.0


def new_job(cluster: Cluster) -> int:
    """A job, as a driver asks for one."""
    with DbClient(cluster.settings) as database:
        mode = {"calculation_mode": "classical", "description": "ends while a link is cut"}
        return int(database.jobs.create_job(data_dir=os.getcwd(), user_name="chaos", **mode).id)  # noqa: PTH109


def abort(cluster: Cluster, job_id: int) -> None:
    """Abort a job, as its user would: again, while a service is away."""
    end_s = time.monotonic() + ABORT_S
    while True:
        try:
            with BrokerClient(cluster.settings) as broker:
                broker.abort_job(job_id)
        except errors.QuakeGridError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.5)
        else:
            return


def main() -> int:
    """Work until told to end."""
    state_dir, folder, how = sys.argv[1:]
    with Cluster(state_dir) as cluster:
        job_id = new_job(cluster) if how == "abort" else 0
        if job_id:  # the session of an executor has no job otherwise
            plain = executor.Session
            executor.Session = functools.partial(_session_of, plain, job_id)  # type: ignore[assignment,misc]
        session = open_executor(cluster)
        for number in range(TASK_COUNT):
            session.submit_weighted(1.0, tasks.hold, folder, number)
        sys.stdin.readline()
        if job_id:
            abort(cluster, job_id)
        session.terminate_workers()
    return 0


def _session_of(plain: type, job_id: int, settings: object, options: SessionOptions) -> object:
    return plain(settings, dataclasses.replace(options, job_ids=[job_id]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # who aborts a job interrupts its driver, which is this process
        sys.exit(130)
