"""Routes of results: outputs of a calculation, exports, extracts from its datastore, and the datastore."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.jobs.engine_values import RowValue
from quakegrid.services.web.api import owners
from quakegrid.services.web.api.calculations import backends_of, caller_of, job_id_of
from quakegrid.services.web.engine_views import EngineViews, NothingMadeError
from quakegrid.services.web.persons import handed_files
from quakegrid.services.web.persons.handed_files import HandedFile, HandedFileResponse

XML, JSON, HDF5, ZIP, TEXT = (
    "application/xml",
    "application/json",
    "application/x-hdf",
    "application/x-zip",
    "text/plain",
)
PNG = "image/png"
TYPES = {"xml": XML, "geojson": JSON}
DEFAULT_FORMAT = "xml"
MOST_WHAT_CHARACTERS = 2000
# What upstream's addresses may have there.
_EXTRACT_NAME, _PICTURE_NAME = re.compile(r"[-/_.\w]+"), re.compile(r"[-/_.()\w]+")


def views_of(request: Request) -> EngineViews:
    """What has engines."""
    views: EngineViews = request.app.state.views
    return views


async def listed(request: Request) -> Response:
    """`GET /v1/calc/N/results`: the outputs that can be exported, with their formats."""
    job_id, backends = job_id_of(request), backends_of(request)
    await backends.engine_call("calc_info", job_id)  # refuses what is not there
    outputs = await backends.engine_call("get_outputs", job_id)
    if not outputs:
        raise errors.NotFoundError(f"calculation {job_id} has no outputs")
    formats = await views_of(request).formats()
    base_url = str(request.base_url)
    return JSONResponse(
        [
            _output(output, formats[output["ds_key"]], base_url)
            for output in outputs
            if formats.get(output["ds_key"])
        ]
    )


def _output(row: RowValue, kinds: list[str], base_url: str) -> dict[str, Any]:
    query = urlencode({"export_type": kinds[0]})
    return {
        "id": row["id"],
        "name": row["display_name"],
        "type": row["ds_key"],
        "outtypes": kinds,
        "url": f"{base_url}v1/calc/result/{row['id']}?{query}",
        "size_mb": row["size_mb"],
    }


async def exported(request: Request) -> Response:
    """`GET /v1/calc/result/O?export_type=F`: an output as a file, or as a .zip if it takes several."""
    output_id, backends = job_id_of(request), backends_of(request)
    kind = request.query_params.get("export_type") or DEFAULT_FORMAT
    # Refuses what is not there.
    job_id = (await backends.engine_call("get_result", output_id))[0]
    reader = await owners.reader_of(backends, caller_of(request), job_id)
    try:
        file = await views_of(request).file("export", str(output_id), kind, whose=reader)
    except NothingMadeError as exc:
        return PlainTextResponse(f"Nothing to export for export_type={kind}, {exc.told['ds_key']}", 404)
    content_type = TYPES.get(kind, ZIP if file.told.get("is_zip") else TEXT)
    return _attached(file, content_type, f"output-{output_id}-{file.name}")


async def extracted(request: Request) -> Response:
    """`GET /v1/calc/N/extract/WHAT`: arrays of a datastore, as numpy's .npz."""
    job_id, what = job_id_of(request), request.path_params["what"]
    if not _EXTRACT_NAME.fullmatch(what):
        raise errors.NotFoundError("there is no such extract")
    query = unquote_plus(request.url.query)
    what = f"{what}?{query}" if query else what
    if len(what) > MOST_WHAT_CHARACTERS or "\0" in what:
        raise errors.UsageError(f"what to extract has at most {MOST_WHAT_CHARACTERS} characters")
    reader = await owners.reader_of(backends_of(request), caller_of(request), job_id)
    file = await views_of(request).file("extract", str(job_id), what, whose=reader)
    return _attached(file, ZIP, file.name)


async def datastore(request: Request) -> Response:
    """`GET /v1/calc/N/datastore`: the whole file; parts of it by `Range`."""
    job_id, backends = job_id_of(request), backends_of(request)
    job = await backends.engine_call("get_job", job_id)
    if job is None:
        raise errors.NotFoundError(f"calculation {job_id} has no datastore on this machine")
    reader = await owners.reader_of(backends, caller_of(request), job_id)
    path = f"{job['ds_calc_dir']}.hdf5"
    # No path of a person is opened here.
    file = None if reader.person else await asyncio.to_thread(handed_files.own, path)
    if file is None:
        file = await views_of(request).file("datastore", str(job_id), whose=reader)
    return _attached(file, HDF5, Path(path).name)


async def job_zip(request: Request) -> Response:
    """`GET /v1/calc/N/job_zip`: the inputs of a calculation, as the engine makes them from its datastore."""
    job_id, backends, caller = job_id_of(request), backends_of(request), caller_of(request)
    await backends.engine_call("calc_info", job_id)  # refuses what is not there
    reader = await owners.reader_of(backends, caller, job_id)
    file = await views_of(request).file("job_zip", str(job_id), whose=reader)
    return _attached(file, ZIP, f"job_{job_id}.zip")


async def picture(request: Request) -> Response:
    """`GET /v1/calc/N/download_png/WHAT`: a picture that the calculation has stored."""
    job_id, what = job_id_of(request), request.path_params["what"]
    if len(what) > MOST_WHAT_CHARACTERS or ".." in what or not _PICTURE_NAME.fullmatch(what):
        raise errors.NotFoundError("there is no such picture")
    reader = await owners.reader_of(backends_of(request), caller_of(request), job_id)
    file = await views_of(request).file("picture", str(job_id), what, whose=reader)
    return HandedFileResponse(file, PNG, {"Cache-Control": "no-store"})


def _attached(file: HandedFile, content_type: str, name: str) -> Response:
    """A file for the one who asked."""
    # Without quotes: QGIS reads the name up to the end of the line.
    headers = {"Content-Disposition": f"attachment; filename={name}", "Cache-Control": "no-store"}
    return HandedFileResponse(file, content_type, headers)


ROUTES = [
    Route("/v1/calc/{job_id:int}/results", listed),
    Route("/v1/calc/{job_id:int}/result/list", listed),
    Route("/v1/calc/result/{job_id:int}", exported),
    Route("/v1/calc/{job_id:int}/extract/{what:path}", extracted),
    Route("/v1/calc/{job_id:int}/datastore", datastore),
    Route("/v1/calc/{job_id:int}/job_zip", job_zip),
    Route("/v1/calc/{job_id:int}/download_png/{what:path}", picture),
]
