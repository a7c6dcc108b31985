"""Routes of results: outputs of a calculation, exports, extracts from its datastore, and the datastore."""

from __future__ import annotations

import asyncio
import shutil
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, urlencode

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.jobs.engine_values import RowValue
from services.web.api.calculations import backends_of, job_id_of
from services.web.engine_views import EngineViews

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
    output_id = job_id_of(request)
    kind = request.query_params.get("export_type") or DEFAULT_FORMAT
    await backends_of(request).engine_call("get_result", output_id)  # refuses what is not there
    views = views_of(request)
    folder = views.new_folder()
    try:
        made = await views.run("export", str(output_id), kind, str(folder))
        paths = [Path(path) for path in made["paths"]]
        if not paths:
            await _remove(folder)
            return PlainTextResponse(f"Nothing to export for export_type={kind}, {made['ds_key']}", 404)
        if len(paths) > 1:
            path = folder / f"{made['ds_key']}-{kind}.zip"
            await asyncio.to_thread(_zip, paths, path)
            content_type = TYPES.get(kind, ZIP)
        else:
            path, content_type = paths[0], TYPES.get(kind, TEXT)
        return _file(path, content_type, f"output-{output_id}-{path.name}", folder)
    except BaseException:
        await _remove(folder)
        raise


async def extracted(request: Request) -> Response:
    """`GET /v1/calc/N/extract/WHAT`: arrays of a datastore, as numpy's .npz."""
    job_id, what = job_id_of(request), request.path_params["what"]
    query = unquote_plus(request.url.query)
    what = f"{what}?{query}" if query else what
    if len(what) > MOST_WHAT_CHARACTERS or "\0" in what:
        raise errors.UsageError(f"what to extract has at most {MOST_WHAT_CHARACTERS} characters")
    await backends_of(request).engine_call("calc_info", job_id)  # refuses what is not there
    views = views_of(request)
    folder = views.new_folder()
    try:
        (path,) = (await views.run("extract", str(job_id), what, str(folder)))["paths"]
        return _file(Path(path), ZIP, Path(path).name, folder)
    except BaseException:
        await _remove(folder)
        raise


async def datastore(request: Request) -> Response:
    """`GET /v1/calc/N/datastore`: the whole file; parts of it by `Range`."""
    job_id = job_id_of(request)
    job = await backends_of(request).engine_call("get_job", job_id)
    path = Path(f"{job['ds_calc_dir']}.hdf5") if job is not None else None
    if path is None or not await asyncio.to_thread(path.is_file):
        raise errors.NotFoundError(f"calculation {job_id} has no datastore on this machine")
    return _file(path, HDF5, path.name)


async def job_zip(request: Request) -> Response:
    """`GET /v1/calc/N/job_zip`: the inputs of a calculation, as the engine makes them from its datastore."""
    job_id, backends = job_id_of(request), backends_of(request)
    await backends.engine_call("calc_info", job_id)  # refuses what is not there
    views = views_of(request)
    folder = views.new_folder()
    try:
        paths = [Path(path) for path in (await views.run("job_zip", str(job_id), str(folder)))["paths"]]
        target = folder / f"job_{job_id}.zip"
        await asyncio.to_thread(_zip, paths, target)
        return _file(target, ZIP, target.name, folder)
    except BaseException:
        await _remove(folder)
        raise


async def picture(request: Request) -> Response:
    """`GET /v1/calc/N/download_png/WHAT`: a picture that the calculation has stored."""
    job_id, what = job_id_of(request), request.path_params["what"]
    if len(what) > MOST_WHAT_CHARACTERS or "\0" in what or ".." in what:
        raise errors.NotFoundError("there is no such picture")
    await backends_of(request).engine_call("calc_info", job_id)  # refuses what is not there
    views = views_of(request)
    folder = views.new_folder()
    try:
        (path,) = (await views.run("picture", str(job_id), what, str(folder)))["paths"]
        after = BackgroundTask(_remove, folder)
        return FileResponse(path, media_type=PNG, headers={"Cache-Control": "no-store"}, background=after)
    except BaseException:
        await _remove(folder)
        raise


def _file(path: Path, content_type: str, name: str, folder: Path | None = None) -> Response:
    """A file for the one who asked; its folder is removed afterwards."""
    # Without quotes: QGIS reads the name up to the end of the line.
    headers = {"Content-Disposition": f"attachment; filename={name}", "Cache-Control": "no-store"}
    after = BackgroundTask(_remove, folder) if folder else None
    return FileResponse(path, media_type=content_type, headers=headers, background=after)


def _zip(paths: list[Path], target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for path in paths:
            archive.write(path, path.name)
            path.unlink()


async def _remove(folder: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


ROUTES = [
    Route("/v1/calc/{job_id:int}/results", listed),
    Route("/v1/calc/{job_id:int}/result/list", listed),
    Route("/v1/calc/result/{job_id:int}", exported),
    Route("/v1/calc/{job_id:int}/extract/{what:path}", extracted),
    Route("/v1/calc/{job_id:int}/datastore", datastore),
    Route("/v1/calc/{job_id:int}/job_zip", job_zip),
    Route("/v1/calc/{job_id:int}/download_png/{what:path}", picture),
]
