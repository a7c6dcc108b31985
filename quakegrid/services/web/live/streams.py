"""Server-sent events of jobs, the fleet and logs, and their newest state as plain JSON.

A browser that lost its connection says in `Last-Event-ID` what it has seen, and goes on there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager

import grpc
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from quakegrid import errors
from quakegrid.api.v1 import logs_pb2
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs import log_progress
from quakegrid.services.web.access import rights
from quakegrid.services.web.api import answers
from quakegrid.services.web.api.calculations import backends_of, caller_of, job_id_of, mode_of, person_of
from quakegrid.services.web.live import frames
from quakegrid.services.web.live.events import EventFeed
from quakegrid.services.web.live.feed import BEAT_S, Feed
from quakegrid.services.web.live.fleet import FleetFeed
from quakegrid.services.web.live.frames import Frames
from quakegrid.services.web.live.jobs import JobFeed
from quakegrid.services.web.live.limited import LimitedView
from quakegrid.services.web.live.tasks import TaskFeed
from quakegrid.transport import grpc_channels

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
    feed, view = backends_of(request).jobs, _view(request)
    if view is None:
        return followed(request, feed, feed.frames)
    return StreamingResponse(_limited(feed, view), media_type="text/event-stream", headers=_HEADERS)


def _view(request: Request) -> LimitedView | None:
    """What the reader sees of the jobs; None for all of them."""
    name = _limited_to(request)
    return None if name is None else LimitedView(name)


def _limited_to(request: Request) -> str | None:
    """Whose calculations the reader sees; None for those of everybody."""
    caller = caller_of(request)
    return None if rights.sees_all(caller, mode_of(request)) else caller.name


async def _limited(feed: JobFeed, view: LimitedView) -> AsyncIterator[bytes]:
    """As `_frames`, for whom it begins anew each time."""
    yield _RETRY
    async for events in feed.follow(None):
        if events is None or any(each.kind == "anew" for each in events):
            yield frames.event("jobs", view.snapshot(feed.snapshot()), f"{frames.RUN}-{feed.number}")
            continue
        passed = [found for each in events if (found := view.pass_on(each)) is not None]
        made = [frames.event(each.kind, each.text, f"{frames.RUN}-{each.number}") for each in passed]
        yield b"".join(made) or frames.BEAT


async def fleet(request: Request) -> Response:
    """`GET /live/fleet`: nodes and sessions, now and after each change."""
    return followed_by(request, backends_of(request).fleet)


async def events(request: Request) -> Response:
    """`GET /live/events`: what happened to the fleet last, then each event."""
    return followed_by(request, backends_of(request).events)


async def tasks(request: Request) -> Response:
    """`GET /live/tasks/N`: told when more tasks are known; `/calculations/N/tasks.json` has them."""
    backends, job_id = backends_of(request), job_id_of(request)
    await backends.engine_call("calc_info", job_id)  # refuses what is not there
    person = person_of(request)
    with backends.tasks.reading(job_id, person):
        pass  # too many are refused before the answer begins
    number = frames.number_of(request.headers.get("last-event-id", ""))
    return streamed(_task_events(backends.tasks.reading(job_id, person), number))


async def _task_events(reading: AbstractContextManager[TaskFeed], number: int | None) -> AsyncIterator[bytes]:
    with reading as feed:
        async for found in feed.follow(number):
            yield feed.frames.of(found)


def followed_by(request: Request, feed: FleetFeed | EventFeed) -> Response:
    """What happens at a feed, as far as it is for the reader."""
    name = _limited_to(request)
    return followed(request, feed, feed.frames if name is None else feed.frames_for(name))


def followed(request: Request, feed: Feed, made: Frames) -> Response:
    """What happens at a feed after the last event that the reader has seen."""
    number = frames.number_of(request.headers.get("last-event-id", ""))
    return StreamingResponse(_frames(feed, made, number), media_type="text/event-stream", headers=_HEADERS)


async def _frames(feed: Feed, made: Frames, number: int | None) -> AsyncIterator[bytes]:
    yield _RETRY
    async for events in feed.follow(number):
        yield made.of(events)


async def log(request: Request) -> Response:
    """`GET /live/log/N`: a job's log as it grows; `stage` has tasks done, `end` the last state."""
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
                for each in _stages(response.lines):
                    yield frames.event("stage", json.dumps(each._asdict()), str(last_id))
            if response.final_state:
                yield frames.event("end", json.dumps({"state": response.final_state.lower()}), str(last_id))
                return
    except grpc.RpcError as exc:
        yield frames.event("broken", json.dumps({"code": exc.code().name}), str(last_id))
    finally:
        stream.cancel()


def _stages(lines: Iterable[logs_pb2.LogLine]) -> list[log_progress.OperationProgress]:
    """How far each operation is of which lines tell: the newest of each."""
    found = filter(None, (log_progress.read(line.message) for line in lines))
    return list({each.operation: each for each in found}.values())


async def newest_jobs(request: Request) -> Response:
    """`GET /live/jobs.json`: the newest jobs as they are now."""
    text, view = backends_of(request).jobs.snapshot(), _view(request)
    return Response(text if view is None else view.snapshot(text), media_type="application/json")


async def newest_fleet(request: Request) -> Response:
    """`GET /live/fleet.json`: nodes and sessions as they are now."""
    return Response(backends_of(request).fleet.snapshot(_limited_to(request)), media_type="application/json")


async def newest_events(request: Request) -> Response:
    """`GET /live/events.json`: what happened to the fleet last, the newest first."""
    return Response(backends_of(request).events.snapshot(_limited_to(request)), media_type="application/json")


ROUTES = [
    Route("/live/jobs", jobs),
    Route("/live/fleet", fleet),
    Route("/live/log/{job_id:int}", log),
    Route("/live/events", events),
    Route("/live/tasks/{job_id:int}", tasks),
    Route("/live/events.json", newest_events),
    Route("/live/jobs.json", newest_jobs),
    Route("/live/fleet.json", newest_fleet),
]
