"""What differs between two calculations: their parameters, inputs, times and results.

Each part that cannot be compared has words that say why, and the others are there. What "same" means is said
in `quakegrid.comparison`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.comparison import parameters
from quakegrid.jobs.row_ids import checked
from quakegrid.services.web.access import guarded
from quakegrid.services.web.api import owners
from quakegrid.services.web.api.calculations import backends_of, caller_of, job_id_of, mode_of, person_of
from quakegrid.services.web.engine_views import EngineViews
from quakegrid.services.web.live.jobs import as_json
from quakegrid.services.web.pages import reports
from quakegrid.services.web.persons.whose import Whose

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
        answer |= await _results(backends.views, job_ids, readers, person_of(request))
    except errors.QuakeGridError as exc:
        nothing = dict.fromkeys(("parameters", "inputs", "results", "only", "left_out", "verdict"))
        answer |= nothing | {"words": f"their parameters and results cannot be compared: {exc}"}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def _results(
    views: EngineViews, job_ids: Sequence[int], readers: Sequence[Whose], asker: str
) -> dict[str, Any]:
    """The parts that need datastores: each is read as its owner, what differs is found as this service."""
    both = list(zip(map(str, job_ids), readers, strict=True))
    one, other = await asyncio.gather(*(parameters_of(views, *each) for each in both))
    files = []
    try:
        for job_id, reader in both:
            files.append(await views.file("numbers", job_id, whose=reader))
        made = await views.file("differences", given=files, asker=asker)
    finally:
        for file in files:
            file.close()
    found: dict[str, Any] = await asyncio.to_thread(json.loads, await made.read())
    differing = [
        {"name": each.name, "values": [each.left, each.right]} for each in parameters.differing(one, other)
    ]
    return {"parameters": differing, "words": "", "verdict": verdict(found), **found}


async def parameters_of(views: EngineViews, job_id: str, reader: Whose) -> dict[str, str]:
    """The parameters of a calculation, by name. Its file is closed, whatever becomes of the other one.

    Raises:
        QuakeGridError: there are none, or the driver, which may be a person's, has written something else.
    """
    file = await views.file("parameters", job_id, whose=reader)
    text = await file.read()
    found = await asyncio.to_thread(_parsed, text)
    if found is None:
        raise errors.QuakeGridError(f"the parameters of job {job_id} cannot be read")
    return found


def _parsed(text: bytes) -> dict[str, str] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_sound = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    return found if is_sound else None


def verdict(found: Mapping[str, Any]) -> str:
    """What is said of all results in one sentence or two, and not more than was compared.

    Args:
        found: as `result_numbers.compare` tells it.
    """
    results = found["results"]
    count = len(results) + sum(map(len, found["only"]))
    differing = count - sum(each["is_same"] is not False for each in results)
    parts = [each for each in results if each.get("count", each["size"]) < each["size"]]
    if not count:
        words = "They have no numbers to compare."
    elif differing:
        words = f"{differing} of {count} results {'differs' if differing == 1 else 'differ'}."
    elif parts or any(found["left_out"]):
        words = "All numbers that were compared are the same, to the last digit."
    else:
        words = "All numbers are the same, to the last digit."
    if parts:
        compared, size = (sum(each[key] for each in parts) for key in ("count", "size"))
        of = "1 result" if len(parts) == 1 else f"{len(parts)} results"
        words += f" Of {of} only the first numbers were compared: {compared:,} of {size:,}."
    if any(found["left_out"]):
        words += " Further results were not compared: there are too many."
    return words


def other_times(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Where the time of both went; null where that is not known any more."""
    if one is None and other is None:
        return []
    return [{"name": name, "values": [(one or {}).get(name), (other or {}).get(name)]} for name in TIMES]


ROUTES = [Route("/calculations/{job_id:int}/compare/{other_id:int}.json", compared)]
