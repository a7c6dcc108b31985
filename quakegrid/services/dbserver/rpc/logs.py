"""The JobLogs service: decode, call, encode.

Streams run in the event loop and hold no thread; the other calls run in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import grpc

from quakegrid.api.v1 import logs_pb2, logs_pb2_grpc
from quakegrid.errors import PeerUnreachableError
from quakegrid.services.dbserver.jobs import pages
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.jobs.owners import OwnJobs
from quakegrid.services.dbserver.jobs.state_reasons import LAST_ERROR
from quakegrid.services.dbserver.logs import lines as log_lines
from quakegrid.services.dbserver.logs.tails import LogTails
from quakegrid.services.dbserver.rpc import call_limits
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.idempotence import Answer, Requests
from quakegrid.transport import callers
from quakegrid.transport.request_reads import RequestReads

LOG_PAGE = pages.PageSize(default=1000, largest=10_000)
# Batches of one stream that may wait for the disk; then the stream is not read on.
STREAM_BATCHES = 8
# Batches of all streams together: far fewer than places in the writer's queue, so the loop never waits for
# it.
ALL_BATCHES = 32

_Batch = tuple[logs_pb2.AppendLogRequest, Future[Answer]]


class LogsServicer(logs_pb2_grpc.LogsServicer):
    """Answers calls about logs."""

    def __init__(self, readers: Readers, requests: Requests, tails: LogTails) -> None:
        self._readers = readers
        self._requests = requests
        self._tails = tails
        self._slots = asyncio.Semaphore(ALL_BATCHES)
        self._acceptors: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def AppendLog(  # noqa: N802  named in the proto
        self, request_iterator: AsyncIterator[logs_pb2.AppendLogRequest], _context: grpc.ServicerContext
    ) -> AsyncIterator[logs_pb2.AppendLogResponse]:
        """Store batches, each once for its request id, and answer each when it is on the disk."""
        batches: asyncio.Queue[_Batch | None] = asyncio.Queue()
        places = asyncio.Semaphore(STREAM_BATCHES)
        iterator = aiter(request_iterator)
        requests = RequestReads(lambda: anext(iterator, grpc.aio.EOF))  # type: ignore[attr-defined]
        own = OwnJobs(self._readers, callers.current())
        acceptor = requests.start(self._accept(requests, batches, places, own))
        self._acceptors.add(acceptor)
        try:
            while (batch := await batches.get()) is not None:
                request, future = batch
                answer = await asyncio.wrap_future(future)
                stored_count = 0 if answer.is_repeated else len(request.lines)
                yield logs_pb2.AppendLogResponse(stored_count=stored_count, request_id=request.request_id)
                places.release()
            if self._is_closed:
                raise PeerUnreachableError("the dbserver is stopping")
        finally:
            requests.end()
            self._acceptors.discard(acceptor)

    def close(self) -> None:
        """Accept no more batches; those that were accepted are still answered."""
        self._is_closed = True
        for acceptor in self._acceptors:
            acceptor.cancel()

    async def _accept(
        self,
        requests: RequestReads[logs_pb2.AppendLogRequest],
        batches: asyncio.Queue[_Batch | None],
        places: asyncio.Semaphore,
        own: OwnJobs,
    ) -> None:
        """Hand the batches of one stream to the writer; None ends them."""
        loop = asyncio.get_running_loop()
        try:
            while (request := await requests.next()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                await places.acquire()
                await self._slots.acquire()
                future = self._submit(request, own)
                future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._slots.release))
                batches.put_nowait((request, future))
        finally:
            batches.put_nowait(None)

    def _submit(self, request: logs_pb2.AppendLogRequest, own: OwnJobs) -> Future[Answer]:
        """Hand a batch to the writer. The future gets the error if the batch is refused."""

        def append(session: SqlSession) -> bytes:
            log_lines.insert(session, request.job_id, rows)
            return b""

        try:
            own.check(request.job_id)
            rows = log_lines.encode_batch(request)
            return self._requests.submit_once(request.request_id, "AppendLog", append)
        except Exception as exc:  # noqa: BLE001  told to the sender when it is this batch's turn
            refused: Future[Answer] = Future()
            refused.set_exception(exc)
            return refused

    def ListLog(  # noqa: N802  named in the proto
        self, request: logs_pb2.ListLogRequest, context: grpc.ServicerContext
    ) -> logs_pb2.ListLogResponse:
        """A page of a job's log, or its last lines."""
        session = self._readers.session(limits=call_limits.of_call(context))
        job_rows.get_state(session, request.job_id)
        if request.tail_count:
            count = LOG_PAGE.clamp(request.tail_count)
            return logs_pb2.ListLogResponse(lines=log_lines.read_last(session, request.job_id, count))
        after = pages.parse_token(request.page_token, start=0)
        skip_count = 0 if request.page_token else pages.check_skip(request.skip_count)
        size = LOG_PAGE.clamp(request.page_size)
        lines = log_lines.read_page(session, request.job_id, after, size, skip_count=skip_count)
        has_more = bool(lines) and log_lines.has_more(session, request.job_id, lines[-1].id)
        return logs_pb2.ListLogResponse(lines=lines, next_page_token=str(lines[-1].id) if has_more else "")

    def GetLogSize(  # noqa: N802  named in the proto
        self, request: logs_pb2.GetLogSizeRequest, context: grpc.ServicerContext
    ) -> logs_pb2.GetLogSizeResponse:
        """How many lines a job has."""
        session = self._readers.session(limits=call_limits.of_call(context))
        job_rows.get_state(session, request.job_id)
        count = session.query("SELECT count(*) FROM log WHERE job_id=?x", request.job_id).rows[0][0]
        return logs_pb2.GetLogSizeResponse(line_count=count)

    def GetTraceback(  # noqa: N802  named in the proto
        self, request: logs_pb2.GetTracebackRequest, context: grpc.ServicerContext
    ) -> logs_pb2.GetTracebackResponse:
        """The message of the last error line, which has the traceback if the engine has failed."""
        session = self._readers.session(limits=call_limits.of_call(context))
        job_rows.get_state(session, request.job_id)
        row = session.first(LAST_ERROR, request.job_id)
        return logs_pb2.GetTracebackResponse(traceback=row["message"] if row else "")

    async def TailLog(  # type: ignore[override]  # noqa: N802  named in the proto
        self, request: logs_pb2.TailLogRequest, context: Any
    ) -> None:
        """All lines after an id and those to come, until the job has ended."""
        after_id = request.after_id
        with self._tails.follow(request.job_id) as bell:
            while True:
                page = await self._tails.next_page(bell, after_id)
                await context.write(page.message)
                if page.is_final:
                    return
                assert page.last_id is not None
                after_id = page.last_id
