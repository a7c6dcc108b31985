"""Routes below `/v1/calc`: lists, one calculation, its log, and what ends or removes it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from quakegrid import errors
from quakegrid.api.v1 import logs_pb2
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs.row_ids import checked
from quakegrid.services.web.access import rights
from quakegrid.services.web.access.peers import Peer
from quakegrid.services.web.api import answers
from quakegrid.services.web.backends import Backends
from quakegrid.services.web.callers import Caller, Way
from quakegrid.services.web.persons.removals import Removals
from quakegrid.settings.config import Settings
from quakegrid.settings.web.access import WebMode

# Of upstream's list, what its texts may be; others are left out, as upstream does.
LIST_FILTERS = (
    "calculation_mode", "is_running", "include_shared", "user_name_like", "start_time", "preferred_only",
    "filter_by_tag", "limit", "offset", "order_by", "order_dir",
)  # fmt: skip
NUMBERS = ("limit", "offset", "preferred_only")
MOST_ROWS = 1000
# Each with at most `MOST_ROWS`, some hundred kilobytes.
KEPT_LISTS = 8
PAGE_LINES = 1000
_SLICE = re.compile(r"([0-9]{0,18}):([0-9]{0,18})")
RUNNING = ("submitted", "executing")


def backends_of(request: Request) -> Backends:
    """What routes ask."""
    backends: Backends = request.app.state.backends
    return backends


def removals_of(request: Request) -> Removals:
    """What removes what belongs to people."""
    removals: Removals = request.app.state.removals
    return removals


def caller_of(request: Request) -> Caller:
    """Who asks."""
    caller: Caller = request.state.caller
    return caller


def person_of(request: Request) -> str:
    """Who asks, for what one person may have at once: visitors without a name are told apart by addresses."""
    caller = caller_of(request)
    if caller.way is not Way.NOBODY:
        return caller.name
    peer: Peer = request.state.peer
    return f"{caller.name} at {peer.network}"


def mode_of(request: Request) -> WebMode:
    """Who sees what."""
    settings: Settings = request.app.state.settings
    return settings.web_mode


def job_id_of(request: Request) -> int:
    """The calculation that the address names.

    Raises:
        NotFoundError: no calculation can have this number.
    """
    return checked(request.path_params["job_id"])


async def listed(request: Request) -> Response:
    """`GET /v1/calc/list`: the newest calculations, or those that the query asks for."""
    caller, filters = caller_of(request), list_filters(request)
    is_limited = not rights.sees_all(caller, mode_of(request))
    names = [caller.name] if is_limited else []
    answer = await backends_of(request).engine_answer("get_calcs", filters, names, is_limited, None)
    return Response(_lines(answer, str(request.base_url)), media_type="application/json")


@functools.lru_cache(KEPT_LISTS)
def _lines(answer: bytes, base_url: str) -> bytes:
    """Many ask for the list every few seconds, and nearly always it is the same."""
    lines = [answers.calculation(row, base_url) for row in Backends.read_answer(answer)]
    return bytes(JSONResponse(lines).body)


def list_filters(request: Request) -> dict[str, str]:
    """The query of a list.

    Raises:
        UsageError: a number is none, or too many rows are asked for.
    """
    asked = {name: request.query_params[name] for name in LIST_FILTERS if name in request.query_params}
    for name in NUMBERS:
        text = asked.get(name, "0")
        if not text.isascii() or not text.isdigit():
            raise errors.UsageError(f"{name} = {text!r} is no whole number of 0 or more")
    if int(asked.get("limit", "0")) > MOST_ROWS:
        raise errors.UsageError(f"limit = {asked['limit']}: at most {MOST_ROWS} rows are given; use offset")
    return asked


async def status(request: Request) -> Response:
    """`GET /v1/calc/N/status`: the line of one calculation."""
    job_id = job_id_of(request)
    rows = await backends_of(request).engine_call("get_calcs", {}, [], False, job_id)
    if not rows:
        raise errors.NotFoundError(f"there is no calculation {job_id}")
    return JSONResponse(answers.calculation(rows[0], str(request.base_url)))


async def info(request: Request) -> Response:
    """`GET /v1/calc/N`: the row of one calculation."""
    row = await backends_of(request).engine_call("calc_info", job_id_of(request))
    return JSONResponse(answers.row_dict(row))


async def log_slice(request: Request) -> Response:
    """`GET /v1/calc/N/log/A:B`: lines from A to before B; without these from the first, to the last.

    The lines are sent as they are read, so a long log takes no memory.
    """
    backends, job_id = backends_of(request), job_id_of(request)
    found = _SLICE.fullmatch(request.path_params["lines"])
    if found is None:
        raise errors.NotFoundError("the lines of a log are named as in log/0:100")
    start, stop = (int(text or 0) for text in found.groups())
    count = stop - start if stop else None
    first = await _page(backends, job_id, start, "", count)  # refuses here, before anything is sent
    return StreamingResponse(_json_lines(backends, job_id, count, first), media_type="application/json")


async def _page(
    backends: Backends, job_id: int, skip_count: int, token: str, count: int | None
) -> logs_pb2.ListLogResponse:
    size = PAGE_LINES if count is None else max(1, min(count, PAGE_LINES))
    request = logs_pb2.ListLogRequest(job_id=job_id, page_size=size, page_token=token, skip_count=skip_count)
    page: logs_pb2.ListLogResponse = await backends.dbserver.call(backends.logs_stub.ListLog, request)
    return page


async def _json_lines(
    backends: Backends, job_id: int, count: int | None, page: logs_pb2.ListLogResponse
) -> AsyncIterator[str]:
    yield "["
    sent = 0
    while True:
        lines = list(page.lines) if count is None else list(page.lines)[: max(0, count - sent)]
        texts = [json.dumps(answers.log_line(job_messages.decode_line(line))) for line in lines]
        if texts:
            yield (", " if sent else "") + ", ".join(texts)
        sent += len(lines)
        if not page.next_page_token or not lines or (count is not None and sent >= count):
            break
        page = await _page(backends, job_id, 0, page.next_page_token, None)
    yield "]"


async def log_size(request: Request) -> Response:
    """`GET /v1/calc/N/log/size`: how many lines the log has."""
    backends = backends_of(request)
    asked = logs_pb2.GetLogSizeRequest(job_id=job_id_of(request))
    return JSONResponse((await backends.dbserver.call(backends.logs_stub.GetLogSize, asked)).line_count)


async def traceback(request: Request) -> Response:
    """`GET /v1/calc/N/traceback`: the last error, line by line; empty without one."""
    return JSONResponse(await backends_of(request).engine_call("get_traceback", job_id_of(request)))


async def abort(request: Request) -> Response:
    """`POST /v1/calc/N/abort`: end a calculation, wherever it runs."""
    backends, job_id = backends_of(request), request.path_params["job_id"]
    rows = await backends.engine_call("get_calcs", {}, [], False, checked(job_id))
    if not rows:
        return JSONResponse({"error": f"Unknown job {job_id}"})
    if rows[0][2] not in RUNNING:
        return JSONResponse({"error": f"Job {job_id} is not running"})
    await backends.abort_job(checked(job_id), caller_of(request).name)
    return JSONResponse({"success": f"Killing job {job_id}"})


async def remove(request: Request) -> Response:
    """`POST /v1/calc/N/remove`: delete a calculation of the caller's, with its datastore."""
    job_id, caller, name = job_id_of(request), caller_of(request), caller_of(request).name
    if caller.is_staff and (row := await backends_of(request).engine_call("get_job", job_id)) is not None:
        name = row["user_name"]
    answer = await backends_of(request).engine_call("del_calc", job_id, name)
    if "success" in answer:
        removals = removals_of(request)
        await removals.inputs_of_job(job_id)
        removals.look()
    return said(answer)


async def share(request: Request) -> Response:
    """`POST /v1/calc/N/share` and `unshare`: let others see a complete calculation, or take that back."""
    is_shared = not request.url.path.endswith("/unshare")
    backends, job_id = backends_of(request), job_id_of(request)
    return said(await backends.engine_call("share_job", job_id, is_shared, user_name=caller_of(request).name))


def said(answer: Any) -> Response:
    """What an action says of itself, as upstream passes it on: 403 for an error."""
    return JSONResponse(answer, 200 if "success" in answer else 403)


ROUTES = [
    Route("/v1/calc/list", listed),
    Route("/v1/calc/{job_id:int}/status", status),
    Route("/v1/calc/{job_id:int}", info),
    Route("/v1/calc/{job_id:int}/log/size", log_size),
    Route("/v1/calc/{job_id:int}/log/{lines}", log_slice),
    Route("/v1/calc/{job_id:int}/traceback", traceback),
    Route("/v1/calc/{job_id:int}/abort", abort, methods=["POST"]),
    Route("/v1/calc/{job_id:int}/remove", remove, methods=["POST"]),
    Route("/v1/calc/{job_id:int}/share", share, methods=["POST"]),
    Route("/v1/calc/{job_id:int}/unshare", share, methods=["POST"]),
]
