"""Changes of jobs, in the order in which they were made, for those who watch.

The database's own triggers write them down, whatever statement made the change, so none is missed;
the writer rings after each commit. A watcher remembers how often it rang before it reads.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import zlib
from collections.abc import Callable, Iterator

from quakegrid.api.v1 import jobs_pb2
from quakegrid.errors import PeerUnreachableError
from quakegrid.jobs.engine_values import RowValue, to_timestamp
from services.dbserver.jobs import columns, messages
from services.dbserver.store.database import Readers, Session

# Who was away for more events than this starts again with the jobs that there are.
KEPT_COUNT = 10_000
BATCH_COUNT = 500
# One statement sees one instant: the jobs, and the last event that made them so.
_LAST_EVENT = "SELECT coalesce(max(id), 0) FROM quakegrid_job_event"
_JOBS = (
    f"SELECT {columns.LISTED}, ({_LAST_EVENT}) AS event_id FROM job "  # noqa: S608  ours
    "WHERE ?A AND status != 'deleted' ORDER BY id DESC"
)


class JobBell:
    """Rings when jobs were created, moved or deleted."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._is_closed = False

    @property
    def count(self) -> int:
        """How often it rang."""
        with self._changed:
            return self._count

    def ring(self) -> None:
        """Tell that there may be events; called after the commit."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wake(self) -> None:
        """Make all who wait look whether they still should."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Send all watchers away."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def wait(self, seen: int, is_wanted: Callable[[], bool]) -> None:
        """Wait until it has rung since it had rung `seen` times, or nobody wants to know any more.

        Raises:
            PeerUnreachableError: the dbserver is stopping.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._count != seen or not is_wanted())
            if self._is_closed:
                raise PeerUnreachableError("the dbserver is stopping")


def watch(
    readers: Readers, request: jobs_pb2.WatchJobsRequest, bell: JobBell, is_wanted: Callable[[], bool]
) -> Iterator[jobs_pb2.WatchJobsResponse]:
    """All jobs, then all events, until they are not wanted any more.

    Each step may run in another thread, so none keeps a reading connection while it waits.
    """
    after_id = request.after_event_id
    if not (request.HasField("after_event_id") and _is_known(readers.session(), after_id)):
        snapshot = _Snapshot(readers.session(), request.user_name)
        after_id = snapshot.event_id
        yield from snapshot.responses()
    while is_wanted():
        count = bell.count
        events, last_id = _read(readers.session(), after_id, request.user_name)
        yield from events
        if last_id == after_id:
            bell.wait(count, is_wanted)
        after_id = last_id


def _read(session: Session, after_id: int, user_name: str) -> tuple[list[jobs_pb2.WatchJobsResponse], int]:
    """The next events (of a user), and the id of the last one that was looked at."""
    rows = session.query(
        "SELECT * FROM quakegrid_job_event WHERE id > ?x ORDER BY id LIMIT ?x", after_id, BATCH_COUNT
    )
    events = [
        jobs_pb2.WatchJobsResponse(event=_encode(session, row))
        for row in rows
        if user_name in {"", row["user_name"]}
    ]
    return events, rows[-1]["id"] if len(rows) else after_id


def forget_old(session: Session, count: int) -> int:
    """Delete at most `count` of the events that are too many; returns how many."""
    return session.execute(
        "DELETE FROM quakegrid_job_event WHERE id IN (SELECT id FROM quakegrid_job_event "
        "WHERE id <= (SELECT max(id) FROM quakegrid_job_event) - ?x LIMIT ?x)",
        KEPT_COUNT,
        count,
    ).rowcount


def _is_known(session: Session, event_id: int) -> bool:
    """Whether all events after this one are there."""
    first, last = session.query("SELECT min(id), max(id) FROM quakegrid_job_event").rows[0]
    return first is not None and first - 1 <= event_id <= last


class _Snapshot:
    """The jobs in parts, read at once, so that a slow watcher keeps no transaction open.

    A part is kept packed until it is sent: 50,000 jobs are then a few megabytes for each watcher.
    """

    def __init__(self, session: Session, user_name: str) -> None:
        # If there are no jobs, one that was created since comes as an event.
        self.event_id = int(session.query(_LAST_EVENT).rows[0][0])
        self._parts: list[bytes] = []
        condition = {"user_name": user_name} if user_name else {}
        with contextlib.closing(session.execute(_JOBS, condition)) as cursor:
            fields = tuple(column[0] for column in cursor.description)
            while rows := cursor.fetchmany(BATCH_COUNT):
                jobs = [RowValue(fields, row) for row in rows]
                self.event_id = jobs[-1]["event_id"]
                self._add(jobs)
        if not self._parts:
            self._add([])

    def _add(self, rows: list[RowValue]) -> None:
        part = jobs_pb2.JobSnapshot(jobs=map(messages.encode_job, rows), event_id=self.event_id)
        self._parts.append(zlib.compress(part.SerializeToString(), level=1))

    def responses(self) -> Iterator[jobs_pb2.WatchJobsResponse]:
        """The messages, the last one complete; each is forgotten when it is sent."""
        self._parts.reverse()
        while self._parts:
            part = jobs_pb2.JobSnapshot.FromString(zlib.decompress(self._parts.pop()))
            part.is_complete = not self._parts
            yield jobs_pb2.WatchJobsResponse(snapshot=part)


def _encode(session: Session, row: RowValue) -> jobs_pb2.JobEvent:
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
