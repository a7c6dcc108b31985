"""Addresses of the pages, and of the files that these load."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.web.pages import drawings, reports

FILES = Path(__file__).with_name("static")


def _page(name: str) -> FileResponse:
    return FileResponse(FILES / name, media_type="text/html", headers={"Cache-Control": "no-cache"})


async def home(_request: Request) -> Response:
    """`GET /` and upstream's `/engine/`: to the calculations."""
    return RedirectResponse("/calculations")


async def calculations(_request: Request) -> Response:
    """`GET /calculations`: all of them, as they change."""
    return _page("calculations.html")


async def calculation(_request: Request) -> Response:
    """`GET /calculations/N`: one of them, with its log."""
    return _page("calculation.html")


async def cluster(_request: Request) -> Response:
    """`GET /cluster`: nodes, cores and what runs."""
    return _page("cluster.html")


ROUTES: list[BaseRoute] = [
    Route("/", home),
    Route("/engine", home),
    Route("/engine/", home),
    Route("/calculations", calculations),
    Route("/calculations/{job_id:int}", calculation),
    Route("/cluster", cluster),
    *drawings.ROUTES,
    *reports.ROUTES,
    Mount("/static", StaticFiles(directory=FILES)),
]
