"""What differs between two calculations: their parameters, inputs, times and results.

Each part that cannot be compared has words that say why, and the others are there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.jobs.row_ids import checked
from quakegrid.services.web.access import guarded
from quakegrid.services.web.api import owners
from quakegrid.services.web.api.calculations import backends_of, caller_of, job_id_of, mode_of
from quakegrid.services.web.live.jobs import as_json
from quakegrid.services.web.pages import reports
from quakegrid.services.web.persons.whose import Whose

# Where files were, which says nothing of a calculation; the contents of inputs are compared by themselves.
PLACES = frozenset({"base_path", "export_dir", "hdf5path", "inputs", "job_ini"})
TIMES = ("wall_s", "core_s", "used_s", "idle_s", "lost_s", "worker_count", "task_count", "retry_count",
         "peak_memory_bytes")  # fmt: skip


async def compared(request: Request) -> Response:
    """`GET /calculations/N/compare/M.json`: what differs between two calculations."""
    backends, caller = backends_of(request), caller_of(request)
    job_ids = [job_id_of(request), checked(request.path_params["other_id"])]
    await guarded.check_sees(backends, caller, mode_of(request), job_ids[1])
    jobs = [await reports.job_of(backends, job_id) for job_id in job_ids]
    told = await asyncio.gather(*(reports.report_of(backends, job) for job in jobs))
    answer: dict[str, Any] = {
        "calculations": [as_json(job) for job in jobs],
        "times": other_times(*(each["times"] for each in told)),
    }
    try:
        readers = [await owners.reader_of(backends, caller, job_id) for job_id in job_ids]
        answer |= await _results(request, job_ids, readers)
    except errors.QuakeGridError as exc:
        nothing = dict.fromkeys(("parameters", "inputs", "results", "only", "left_out"))
        answer |= nothing | {"words": f"their parameters and results cannot be compared: {exc}"}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def _results(request: Request, job_ids: list[int], readers: list[Whose]) -> dict[str, Any]:
    """The parts that need datastores: each is read as its owner, what differs is found as this service."""
    views = backends_of(request).views
    both = list(zip(map(str, job_ids), readers, strict=True))
    asked = [views.file("parameters", job_id, whose=reader) for job_id, reader in both]
    one, other = [json.loads(await file.read()) for file in await asyncio.gather(*asked)]
    found: dict[str, Any] = {"parameters": other_parameters(one, other), "words": ""}
    files = []
    try:
        for job_id, reader in both:
            files.append(await views.file("numbers", job_id, whose=reader))
        made = await views.file("differences", given=files)
    finally:
        for file in files:
            file.close()
    differences: dict[str, Any] = json.loads(await made.read())
    return found | differences


def other_parameters(one: Mapping[str, str], other: Mapping[str, str]) -> list[dict[str, Any]]:
    """The parameters that differ, by name; null where a calculation has none."""
    names = sorted({*one, *other} - PLACES)
    return [
        {"name": name, "values": [one.get(name), other.get(name)]}
        for name in names
        if one.get(name) != other.get(name)
    ]


def other_times(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Where the time of both went; null where that is not known any more."""
    if one is None and other is None:
        return []
    return [{"name": name, "values": [(one or {}).get(name), (other or {}).get(name)]} for name in TIMES]


ROUTES = [Route("/calculations/{job_id:int}/compare/{other_id:int}.json", compared)]
