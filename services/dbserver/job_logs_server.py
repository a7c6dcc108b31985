"""The JobLogs service: decode, call, encode."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

from quakegrid.api.v1 import job_logs_pb2 as pb
from quakegrid.api.v1 import job_logs_pb2_grpc
from quakegrid.job_states import JobState
from quakegrid.values import from_timestamp, to_timestamp
from services.dbserver import faults, job_rows, pages
from services.dbserver.database import Readers, Session
from services.dbserver.followers import Followers
from services.dbserver.requests import Requests

LOG_PAGE = pages.PageSize(default=1000, largest=10_000)
# Each follower holds one of the server's threads as long as it follows.
MAX_FOLLOWERS = 64
_LINES = "SELECT * FROM log WHERE job_id=?x AND id > ?x ORDER BY id LIMIT ?x"
_LAST_LINES = "SELECT * FROM (SELECT * FROM log WHERE job_id=?x ORDER BY id DESC LIMIT ?x) ORDER BY id"


class JobLogsServicer(job_logs_pb2_grpc.JobLogsServicer):
    """Answers calls about logs."""

    def __init__(self, readers: Readers, requests: Requests, followers: Followers) -> None:
        self._readers = readers
        self._requests = requests
        self._followers = followers
        self._places = threading.Semaphore(MAX_FOLLOWERS)

    def AppendLog(  # noqa: N802  named in the proto
        self, request: pb.AppendLogRequest, _context: grpc.ServicerContext
    ) -> pb.AppendLogResponse:
        """Store lines, once for each request id."""

        def append(session: Session) -> bytes:
            job_rows.get_row(session, request.job_id)
            lines = [
                (from_timestamp(line.log_time), line.level, line.process, line.message)
                for line in request.lines
            ]
            job_rows.append_log(session, request.job_id, lines)
            return b""

        answer = self._requests.run_once(request.request_id, "AppendLog", append)
        return pb.AppendLogResponse(stored_count=0 if answer.is_repeated else len(request.lines))

    def ListLog(  # noqa: N802  named in the proto
        self, request: pb.ListLogRequest, _context: grpc.ServicerContext
    ) -> pb.ListLogResponse:
        """A page of a job's log, or its last lines."""
        session = self._readers.session()
        job_rows.get_row(session, request.job_id)
        if request.tail_count:
            count = LOG_PAGE.clamp(request.tail_count)
            return pb.ListLogResponse(lines=_read(session, _LAST_LINES, request.job_id, count))
        after = pages.parse_token(request.page_token, start=0)
        size = LOG_PAGE.clamp(request.page_size)
        lines = _read(session, _LINES, request.job_id, after, size + 1)
        next_page_token = str(lines[size - 1].id) if len(lines) > size else ""
        return pb.ListLogResponse(lines=lines[:size], next_page_token=next_page_token)

    def TailLog(  # noqa: N802  named in the proto
        self, request: pb.TailLogRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.TailLogResponse]:
        """All lines after an id and those to come, until the job has ended."""
        job_rows.get_row(self._readers.session(), request.job_id)
        if not self._places.acquire(blocking=False):
            raise faults.TooManyFollowersError(
                f"{MAX_FOLLOWERS} others follow logs; stop one, or show the log without following it"
            )
        try:
            context.add_callback(self._followers.wake)
            yield from self._follow(request.job_id, request.after_id, context)
        finally:
            self._places.release()

    def _follow(
        self, job_id: int, after_id: int, context: grpc.ServicerContext
    ) -> Iterator[pb.TailLogResponse]:
        session = self._readers.session()
        while context.is_active():
            # In this order: what changes after a step is seen by the next turn.
            generation = self._followers.generation(job_id)
            row = session.first("SELECT status FROM job WHERE id=?x", job_id)
            state = JobState(row["status"]) if row else JobState.DELETED
            lines = _read(session, _LINES, job_id, after_id, LOG_PAGE.default)
            if lines:
                after_id = lines[-1].id
                yield pb.TailLogResponse(lines=lines)
            elif state.is_final:
                yield pb.TailLogResponse(final_state=state.name)
                return
            else:
                self._followers.wait(job_id, generation, context.is_active)


def _read(session: Session, query: str, *args: int) -> list[pb.LogLine]:
    return [
        pb.LogLine(
            id=row["id"],
            log_time=to_timestamp(row["timestamp"]),
            level=row["level"],
            process=row["process"],
            message=row["message"],
        )
        for row in session.query(query, *args)
    ]
