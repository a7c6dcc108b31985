"""Server-sent events: `/live/jobs`, `/live/fleet`, `/live/log/N`, and their newest state as plain JSON.

A browser that lost its connection says in `Last-Event-ID` what it has seen, and goes on there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from quakegrid import errors
from quakegrid.api.v1 import logs_pb2
from quakegrid.clients.dbserver import job_messages
from quakegrid.transport import grpc_channels
from services.web.api import answers
from services.web.api.calculations import backends_of, job_id_of
from services.web.live import frames
from services.web.live.feed import BEAT_S
from services.web.live.fleet import FleetFeed
from services.web.live.jobs import JobFeed

# What browsers wait before they come back.
RETRY_MS = 1000
_RETRY = f"retry: {RETRY_MS}\n\n".encode()
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def streamed(texts: AsyncIterator[bytes]) -> Response:
    """A response of a source of its own, which goes on until its reader leaves."""
    return StreamingResponse(with_beats(texts), media_type="text/event-stream", headers=_HEADERS)


async def with_beats(texts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Texts as they come, with a comment where none has come for a while."""
    yield _RETRY
    source = aiter(texts)
    coming: asyncio.Future[bytes] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait([coming], timeout=BEAT_S)
            if not done:
                yield frames.BEAT
                continue
            finished, coming = coming, None
            try:
                yield finished.result()
            except StopAsyncIteration:
                return
    finally:
        if coming is not None:
            coming.cancel()


async def jobs(request: Request) -> Response:
    """`GET /live/jobs`: the newest jobs, then each change."""
    return followed(request, backends_of(request).jobs)


async def fleet(request: Request) -> Response:
    """`GET /live/fleet`: nodes and sessions, now and after each change."""
    return followed(request, backends_of(request).fleet)


def followed(request: Request, feed: JobFeed | FleetFeed) -> Response:
    """What happens at a feed after the last event that the reader has seen."""
    number = frames.number_of(request.headers.get("last-event-id", ""))
    return StreamingResponse(_frames(feed, number), media_type="text/event-stream", headers=_HEADERS)


async def _frames(feed: JobFeed | FleetFeed, number: int | None) -> AsyncIterator[bytes]:
    yield _RETRY
    async for events in feed.follow(number):
        yield feed.frames.of(events)


async def log(request: Request) -> Response:
    """`GET /live/log/N`: all lines of a job's log, then each new one; `end` with the job's last state."""
    backends, job_id = backends_of(request), job_id_of(request)
    seen = request.headers.get("last-event-id", request.query_params.get("after", "0"))
    after_id = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 19 else 0
    asked = logs_pb2.TailLogRequest(job_id=job_id, after_id=after_id)
    stream = backends.logs_stub.TailLog(asked)
    try:
        await stream.initial_metadata()
        code = await stream.code() if stream.done() else grpc.StatusCode.OK
    except grpc.RpcError as exc:
        raise grpc_channels.translate(exc, "dbserver", backends.dbserver.address) from exc
    if code is not grpc.StatusCode.OK:
        raise errors.NotFoundError(await stream.details())
    return streamed(_log_events(stream))


async def _log_events(
    stream: grpc.aio.UnaryStreamCall[logs_pb2.TailLogRequest, logs_pb2.TailLogResponse],
) -> AsyncIterator[bytes]:
    last_id = 0
    try:
        async for response in stream:
            if response.lines:
                last_id = response.lines[-1].id
                lines = [answers.log_line(job_messages.decode_line(line)) for line in response.lines]
                yield frames.event("lines", json.dumps(lines), str(last_id))
            if response.final_state:
                yield frames.event("end", json.dumps({"state": response.final_state.lower()}), str(last_id))
                return
    except grpc.RpcError as exc:
        yield frames.event("broken", json.dumps({"code": exc.code().name}), str(last_id))
    finally:
        stream.cancel()


async def newest_jobs(request: Request) -> Response:
    """`GET /live/jobs.json`: the newest jobs as they are now."""
    return Response(backends_of(request).jobs.snapshot(), media_type="application/json")


async def newest_fleet(request: Request) -> Response:
    """`GET /live/fleet.json`: nodes and sessions as they are now."""
    return Response(backends_of(request).fleet.snapshot(), media_type="application/json")


ROUTES = [
    Route("/live/jobs", jobs),
    Route("/live/fleet", fleet),
    Route("/live/log/{job_id:int}", log),
    Route("/live/jobs.json", newest_jobs),
    Route("/live/fleet.json", newest_fleet),
]
