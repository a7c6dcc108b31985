"""Waits for the final states of jobs whose driver has ended, and tells them to all targets.

Whatever goes wrong here is told in the job's log and harms no job.
"""

from __future__ import annotations

import datetime
import json
import sys
import threading
from collections.abc import Collection, Sequence

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.documents import job_document
from quakegrid.jobs.values import Job, LogLine
from quakegrid.notify import delivery, outside
from quakegrid.settings.config import Settings

# A dbserver that is away may come back.
RETRY_S = 300.0
# The dbserver fails a job half a minute after its driver was killed.
END_TIMEOUT_S = 120.0


def tell(
    settings: Settings, job_ids: Sequence[int], targets: Sequence[str], *, is_from_elsewhere: bool = False
) -> int:
    """Tell the ends of jobs; the exit code, 1 if one could not be told.

    Args:
        settings: of the cluster.
        job_ids: of the jobs.
        targets: commands and URLs, checked.
        is_from_elsewhere: whether people have sent them who may be no users of this machine: then URLs are
            of hosts outside, but for what the settings name.
    """
    failures = []
    guarded = frozenset(targets) - frozenset(settings.notify) if is_from_elsewhere else frozenset()
    guarded = frozenset(each for each in guarded if not outside.allows(each, settings.notify_hosts))
    with DbClient(settings, retry_s=RETRY_S) as database:
        for job_id in job_ids:
            try:
                job = _ended(database, job_id)
                failures += _tell_all(database, job, targets, guarded)
            except errors.QuakeGridError as exc:
                failures.append(f"the end of job {job_id} was not told: {exc}")
    for failure in failures:
        print(f"quakegrid: {failure}", file=sys.stderr)
    return errors.EXIT_FAILED if failures else errors.EXIT_CLEAN


def document_of(job: Job) -> bytes:
    """What is told: the job as JSON."""
    return json.dumps({"event": "job_ended", **job_document(job)}).encode() + b"\n"


def _ended(database: DbClient, job_id: int) -> Job:
    """A job when it has ended; as it is if it does not end in time."""
    waiting = threading.Thread(target=_wait, args=(database, job_id), daemon=True)
    waiting.start()
    waiting.join(END_TIMEOUT_S)
    return database.jobs.get_job(job_id)


def _wait(database: DbClient, job_id: int) -> None:
    try:
        database.logs.wait_for_end(job_id)
    except errors.QuakeGridError as exc:  # asking for the job will tell
        print(f"quakegrid: {exc}", file=sys.stderr)


def _tell_all(database: DbClient, job: Job, targets: Sequence[str], guarded: Collection[str]) -> list[str]:
    """Tell an end to all targets, and the job's log what went wrong."""
    environ = {"QUAKEGRID_JOB_ID": str(job.id), "QUAKEGRID_JOB_STATE": str(job.state)}
    results = [
        delivery.deliver(target, document_of(job), environ, is_guarded=target in guarded)
        for target in targets
    ]
    failures = [failure for failure in results if failure]
    now = datetime.datetime.now(datetime.UTC)
    if failures:
        lines = [LogLine(now, "WARNING", "notify", failure) for failure in failures]
        database.logs.append_log(job.id, lines)
    return failures
