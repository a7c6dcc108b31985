"""The events of jobs: each change, in the order in which they were made, and a snapshot of all jobs.

Triggers of the database store the changes, whatever statement made them, so that none is missed.
"""

from __future__ import annotations

import datetime
import zlib

from quakegrid.api.v1 import jobs_pb2
from quakegrid.jobs.engine_values import RowValue, to_timestamp
from quakegrid.services.dbserver.jobs import columns, messages
from quakegrid.services.dbserver.store.database import SqlSession

# A watcher that has missed more events than this starts again with a snapshot.
KEPT_COUNT = 10_000
BATCH_COUNT = 500
# One statement reads one instant: the jobs, and the last event that the jobs contain.
_LAST_EVENT = "SELECT coalesce(max(id), 0) FROM quakegrid_job_event"
_JOBS = (
    f"SELECT {columns.LISTED}, ({_LAST_EVENT}) AS event_id FROM job "  # noqa: S608  ours
    "WHERE ?A AND status != 'deleted' ORDER BY id DESC"
)


def read(session: SqlSession, after_id: int, user_name: str) -> tuple[list[bytes], int]:
    """The next events as serialized `WatchJobsResponse`s, and the id of the last event that was read.

    Args:
        session: to read with.
        after_id: the last event that the watcher knows.
        user_name: only events of this user's jobs; empty: of all jobs.
    """
    rows = session.query(
        "SELECT * FROM quakegrid_job_event WHERE id > ?x ORDER BY id LIMIT ?x", after_id, BATCH_COUNT
    )
    events = [
        jobs_pb2.WatchJobsResponse(event=_encode(session, row)).SerializeToString()
        for row in rows
        if user_name in {"", row["user_name"]}
    ]
    return events, rows[-1]["id"] if len(rows) else after_id


def forget_old(session: SqlSession, count: int) -> int:
    """Delete at most `count` of the oldest events beyond the limit; returns how many were deleted."""
    return session.execute(
        "DELETE FROM quakegrid_job_event WHERE id IN (SELECT id FROM quakegrid_job_event "
        "WHERE id <= (SELECT max(id) FROM quakegrid_job_event) - ?x LIMIT ?x)",
        KEPT_COUNT,
        count,
    ).rowcount


def is_known(session: SqlSession, event_id: int) -> bool:
    """Whether the database still has all events after this one."""
    first, last = session.query("SELECT min(id), max(id) FROM quakegrid_job_event").rows[0]
    return first is not None and first - 1 <= event_id <= last


class Snapshot:
    """All jobs at one instant, in parts.

    The jobs are read at once, so that a slow watcher keeps no transaction open. A part is kept compressed
    until it is sent, so that 50,000 jobs take a few megabytes for each watcher.

    Attributes:
        event_id: the last event that the snapshot contains.
    """

    def __init__(self, session: SqlSession, user_name: str) -> None:
        # Without jobs: a job that is created later comes as an event.
        self.event_id = int(session.query(_LAST_EVENT).rows[0][0])
        self._parts: list[bytes] = []
        condition = {"user_name": user_name} if user_name else {}
        for jobs in session.read_in_parts(_JOBS, condition, row_count=BATCH_COUNT):
            self.event_id = jobs[-1]["event_id"]
            self._add(jobs)
        if not self._parts:
            self._add([])
        self._parts.reverse()

    def _add(self, rows: list[RowValue]) -> None:
        part = jobs_pb2.JobSnapshot(jobs=map(messages.encode_job, rows), event_id=self.event_id)
        self._parts.append(zlib.compress(part.SerializeToString(), level=1))

    def take(self) -> bytes | None:
        """Take out the next part, a serialized `WatchJobsResponse`; None after the last."""
        if not self._parts:
            return None
        part = jobs_pb2.JobSnapshot.FromString(zlib.decompress(self._parts.pop()))
        part.is_complete = not self._parts
        return jobs_pb2.WatchJobsResponse(snapshot=part).SerializeToString()


def _encode(session: SqlSession, row: RowValue) -> jobs_pb2.JobEvent:
    event = jobs_pb2.JobEvent(
        id=row["id"],
        job_id=row["job_id"],
        old_state=_state(row["old_status"]),
        new_state=_state(row["new_status"]),
    )
    if isinstance(row["time"], datetime.datetime):
        event.event_time.CopyFrom(to_timestamp(row["time"]))
    job = session.first(f"SELECT {columns.LISTED} FROM job WHERE id=?x", row["job_id"])  # noqa: S608  ours
    if job is not None:
        event.job.CopyFrom(messages.encode_job(job))
    return event


def _state(status: object) -> jobs_pb2.JobState.ValueType:
    return jobs_pb2.JOB_STATE_UNSPECIFIED if status is None else messages.encode_state(status)
