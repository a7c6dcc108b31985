"""Why a calculation waits, is slow or has failed, as `quakegrid explain` says it, and where its time went."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import grpc
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc, jobs_pb2, task_records_pb2
from quakegrid.clients import broker
from quakegrid.clients.broker import FleetStatus
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs.values import Job
from quakegrid.reports import explanations, job_report, task_history
from quakegrid.services.web.api.calculations import backends_of, job_id_of, person_of
from quakegrid.services.web.backends import Backends

# Of records, packed; those of more tasks are for `quakegrid report`, which has the memory for them.
MOST_RECORD_BYTES = 6 << 20
RECORDS_TIMEOUT_S = 30.0
# Of a figure; a screen shows no more.
STEPS = 400
# No session is so long.
LATEST_S = 1e9
SHOWN = 20

Blocks = list[task_records_pb2.TaskRecordBlock]


async def report(request: Request) -> Response:
    """`GET /calculations/N/report.json`: sentences, times, operations, and busy cores over time."""
    backends = backends_of(request)
    return JSONResponse(await report_of(backends, await job_of(backends, job_id_of(request))))


async def job_of(backends: Backends, job_id: int) -> Job:
    """A calculation as the dbserver knows it.

    Raises:
        NotFoundError: there is none of this number.
    """
    asked = jobs_pb2.GetJobRequest(job_id=job_id)
    answer = await backends.dbserver.call(backends.jobs_stub.GetJob, asked)
    return job_messages.decode_job(answer.job)


async def report_of(backends: Backends, job: Job) -> dict[str, Any]:
    """Why it waits, is slow or has failed, and where its time went; `times` is null without records."""
    fleet, blocks = await asyncio.gather(_fleet_now(backends), _records(backends, job.id))
    return await asyncio.to_thread(_as_json, job, fleet, blocks)


async def _fleet_now(backends: Backends) -> FleetStatus | None:
    stub = fleet_pb2_grpc.FleetStub(backends.broker.open())
    try:
        return broker.read_fleet(await backends.broker.call(stub.GetStatus, fleet_pb2.GetStatusRequest()))
    except errors.QuakeGridError:
        return None


async def _records(backends: Backends, job_id: int) -> Blocks | None:
    """All records of a calculation's tasks; None if there are none, or too many for here."""
    stub = fleet_pb2_grpc.FleetStub(backends.broker.open())
    blocks: Blocks = []
    size = 0
    stream = stub.GetTaskRecords(fleet_pb2.GetTaskRecordsRequest(id=job_id), timeout=RECORDS_TIMEOUT_S)
    try:
        async for response in stream:
            size += response.ByteSize()
            if size > MOST_RECORD_BYTES:
                return None
            blocks += response.blocks
    except grpc.RpcError:
        return None
    finally:
        stream.cancel()
    return blocks


def _as_json(job: Job, fleet: FleetStatus | None, blocks: Blocks | None) -> dict[str, Any]:
    now_s = time.time()
    history = task_history.read_history(blocks) if blocks else None
    found = job_report.make_report(history, now_s) if history else None
    session = explanations.find_session(fleet, job.id) if fleet else None
    answer: dict[str, Any] = {
        "sentences": explanations.explain(job.id, fleet, found, job),
        "is_open": session is not None,
    }
    if history is None or found is None:
        return answer | {"times": None}
    opened_s = history.opened_s
    steps = {"held": job_report.held_cores(history, now_s), "busy": job_report.busy_cores(history)}
    return answer | {
        "times": {
            name: getattr(found, name)
            for name in ("wall_s", "core_s", "used_s", "lost_s", "transfer_s", "idle_s", "tail_s", "driver_s",
                         "task_count", "retry_count", "worker_count", "peak_memory_bytes")
        },
        "operations": [dataclasses.asdict(each) for each in found.operations[:SHOWN]],
        "stragglers": [dataclasses.asdict(each) for each in found.stragglers[:SHOWN]],
        "retries": [dataclasses.asdict(each) for each in found.retries[:SHOWN]],
        "cores": {
            name: [[round(at_s - opened_s, 3), count] for at_s, count in job_report.thin_out(each, STEPS)]
            for name, each in steps.items()
        },
    }  # fmt: skip


async def tasks(request: Request) -> Response:
    """`GET /calculations/N/tasks.json`: what each worker did when, in all or from `from` to `to`."""
    backends, job_id = backends_of(request), job_id_of(request)
    await backends.engine_call("calc_info", job_id)  # refuses what is not there
    window_s = _window(request)
    if window_s is not None:
        text = await backends.tasks.window(job_id, window_s)
    else:
        with backends.tasks.reading(job_id, person_of(request)) as feed:
            await feed.wait_for_first()
            text = await feed.shown()
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})


def _window(request: Request) -> tuple[float, float] | None:
    """Seconds since the session was opened.

    Raises:
        UsageError: they are no numbers, or not in order.
    """
    given = [request.query_params.get(name) for name in ("from", "to")]
    if given == [None, None]:
        return None
    try:
        from_s, to_s = (float(text or "") for text in given)
    except ValueError:
        raise errors.UsageError("give `from` and `to` in seconds, both or none") from None
    if not 0 <= from_s < to_s < LATEST_S:
        raise errors.UsageError("`from` and `to` are seconds since the session was opened, in order")
    return from_s, to_s


ROUTES = [
    Route("/calculations/{job_id:int}/report.json", report),
    Route("/calculations/{job_id:int}/tasks.json", tasks),
]
