"""Addresses of the pages, and of the files that these load."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from quakegrid import errors
from quakegrid.services.web import description
from quakegrid.services.web.api.calculations import backends_of, job_id_of
from quakegrid.services.web.pages import comparisons, drawings, health, operating, people, reports

FILES = Path(__file__).with_name("static")


def _page(name: str) -> FileResponse:
    return FileResponse(FILES / name, media_type="text/html", headers={"Cache-Control": "no-cache"})


async def home(_request: Request) -> Response:
    """`GET /` and upstream's `/engine/`: to the calculations."""
    return RedirectResponse("/calculations")


async def calculations(_request: Request) -> Response:
    """`GET /calculations`: all of them, as they change."""
    return _page("calculations.html")


async def calculation(request: Request) -> Response:
    """`GET /calculations/N`: one of them, with its log."""
    return await _missing(request) or _page("calculation.html")


async def tasks(request: Request) -> Response:
    """`GET /calculations/N/tasks`: what each of its workers did when."""
    return await _missing(request) or _page("tasks.html")


async def comparison(_request: Request) -> Response:
    """`GET /calculations/N/compare/M`: what differs between two of them."""
    return _page("comparison.html")


async def _missing(request: Request) -> Response | None:
    """The page for a calculation that there is not; None if there may be one."""
    number = request.path_params["job_id"]
    try:
        await backends_of(request).engine_call("calc_info", job_id_of(request))
    except errors.NotFoundError:
        text = (FILES / "missing.html").read_text().replace("NUMBER", str(number))
        return HTMLResponse(text, 404, headers={"Cache-Control": "no-store"})
    except errors.QuakeGridError:
        return None  # the page says what does not answer
    return None


async def cluster(_request: Request) -> Response:
    """`GET /cluster`: nodes, cores and what runs."""
    return _page("cluster.html")


async def examination(_request: Request) -> Response:
    """`GET /examination`: how the cluster is, and what the doctor finds."""
    return _page("health.html")


async def docs(_request: Request) -> Response:
    """`GET /docs`: the routes for scripts, for people to read."""
    return _page("docs.html")


async def openapi(request: Request) -> Response:
    """`GET /openapi.json`: the description of all routes, as OpenAPI has it."""
    return JSONResponse(description.describe(request.app.routes))


async def outputs(request: Request) -> Response:
    """`GET /engine/N/outputs`: upstream's address of the outputs of a calculation."""
    return RedirectResponse(f"/calculations/{request.path_params['job_id']}")


ROUTES: list[BaseRoute] = [
    Route("/", home),
    Route("/engine", home),
    Route("/engine/", home),
    Route("/calculations", calculations),
    Route("/calculations/{job_id:int}", calculation),
    Route("/calculations/{job_id:int}/tasks", tasks),
    Route("/calculations/{job_id:int}/compare/{other_id:int}", comparison),
    Route("/engine/{job_id:int}/outputs", outputs),
    Route("/cluster", cluster),
    Route("/examination", examination),
    *health.ROUTES,
    *operating.ROUTES,
    *people.ROUTES,
    Route("/docs", docs),
    Route("/openapi.json", openapi),
    *drawings.ROUTES,
    *comparisons.ROUTES,
    *reports.ROUTES,
    Mount("/static", StaticFiles(directory=FILES)),
]
