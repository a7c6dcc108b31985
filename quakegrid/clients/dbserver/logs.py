"""Calls about logs of jobs: to store lines, to read them in pages, and to follow them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from quakegrid.api.v1 import logs_pb2, logs_pb2_grpc
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs.row_ids import checked
from quakegrid.jobs.values import LogLine

# The dbserver takes at most 2000 lines a batch.
MAX_BATCH_LINES = 1000
PAGE_SIZE = 1000
MAX_ID = 2**63 - 1


class LogsClient:
    """Logs, with the errors of a `Connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = logs_pb2_grpc.LogsStub(connection.channel)

    def append_log(self, job_id: int, lines: Iterable[LogLine]) -> int:
        """Store lines on the disk of the dbserver, whatever their ids; returns how many."""
        lines = list(lines)
        for start in range(0, len(lines), MAX_BATCH_LINES):
            request = job_messages.encode_batch(job_id, lines[start : start + MAX_BATCH_LINES])
            self._connection.call(self._append_batch, request)
        return len(lines)

    def stream_log(
        self, batches: Iterator[logs_pb2.AppendLogRequest]
    ) -> Iterator[logs_pb2.AppendLogResponse]:
        """Send batches as they come, and give the answer to each; `log_streams.LogStream` is made of this.

        Not tried again by itself. Ends when `batches` does; they are asked for in another thread.
        """
        return self._connection.stream(self._stub.AppendLog, batches)

    def list_log(self, job_id: int, tail_count: int = 0) -> Iterator[LogLine]:
        """The lines of a job's log, or its last `tail_count` (up to 10000), in order."""
        return self._list_log(job_id, tail_count=tail_count)

    def slice_log(self, job_id: int, start: int = 0, stop: int | None = None) -> Iterator[LogLine]:
        """The lines `start:stop` of a job's log, both >= 0, in order."""
        lines = self._list_log(job_id, skip_count=start)
        return itertools.islice(lines, None if stop is None else max(stop - start, 0))

    def get_log_size(self, job_id: int) -> int:
        """How many lines a job's log has."""
        request = logs_pb2.GetLogSizeRequest(job_id=checked(job_id))
        return self._connection.call(self._stub.GetLogSize, request).line_count

    def get_traceback(self, job_id: int) -> str:
        """The last traceback in a job's log; empty if there is none."""
        request = logs_pb2.GetTracebackRequest(job_id=checked(job_id))
        return self._connection.call(self._stub.GetTraceback, request).traceback

    def tail_log(self, job_id: int, after_id: int = 0) -> Iterator[LogLine]:
        """The lines after an id and each new one as it comes, until the job has ended."""
        request = logs_pb2.TailLogRequest(job_id=checked(job_id), after_id=after_id)
        for response in self._connection.follow(lambda: self._stub.TailLog(request)):
            for line in response.lines:
                request.after_id = line.id
                yield job_messages.decode_line(line)

    def wait_for_end(self, job_id: int) -> None:
        """Wait until a job has ended, without its log."""
        for _ in self.tail_log(job_id, after_id=MAX_ID):
            raise AssertionError("no line has a larger id")

    def _list_log(self, job_id: int, **first: int) -> Iterator[LogLine]:
        token = ""
        while True:
            request = logs_pb2.ListLogRequest(
                job_id=checked(job_id), page_size=PAGE_SIZE, page_token=token, **first
            )
            response = self._connection.call(self._stub.ListLog, request)
            yield from map(job_messages.decode_line, response.lines)
            token = response.next_page_token
            if not token:
                return

    def _append_batch(self, request: logs_pb2.AppendLogRequest, timeout: float) -> logs_pb2.AppendLogResponse:
        [response] = self._stub.AppendLog(iter([request]), timeout=timeout)
        return response
