"""Routes about the server itself, and the engine's licence."""

from __future__ import annotations

import asyncio
import importlib.metadata
import zlib
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from quakegrid.services.web.api.results import views_of
from quakegrid.settings.config import Settings

# Of a file that a client and the server may share, for the checksum.
HEAD_BYTES = 32


async def engine_version(_request: Request) -> Response:
    """`GET /v1/engine_version`: the engine of this machine, as QGIS reads it."""
    try:
        return PlainTextResponse(importlib.metadata.version("openquake.engine"))
    except importlib.metadata.PackageNotFoundError:
        return PlainTextResponse("the engine is not installed on this machine\n", 503)


async def engine_license(_request: Request) -> Response:
    """`GET /engine/license`: under which licence the engine is given."""
    text = await asyncio.to_thread(_license)
    return PlainTextResponse(text or "the engine is not installed on this machine\n", 200 if text else 503)


def _license() -> str:
    try:
        files = importlib.metadata.files("openquake.engine") or ()
    except importlib.metadata.PackageNotFoundError:
        return ""
    return next((file.read_text() for file in files if file.name == "LICENSE"), "")


async def health(_request: Request) -> Response:
    """`GET /health`: that this service answers."""
    return PlainTextResponse("ok")


async def engine_latest_version(_request: Request) -> Response:
    """`GET /v1/engine_latest_version`: always `None`; this service asks nobody on the internet."""
    return PlainTextResponse("None")


async def available_gsims(request: Request) -> Response:
    """`GET /v1/available_gsims`: names of the engine's models of ground motion."""
    return Response(await views_of(request).text("available_gsims"), media_type="application/json")


async def ini_defaults(request: Request) -> Response:
    """`GET /v1/ini_defaults`: parameters of job files that have a default."""
    return Response(await views_of(request).text("ini_defaults"), media_type="application/json")


async def on_same_fs(request: Request) -> Response:
    """`POST /v1/on_same_fs`: whether a client sees the files of calculations, by the checksum of one.

    Only files in the folder of calculations are looked at: what others contain is nobody's business.
    """
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    name, checksum = (fields.get(key, [""])[0] for key in ("filename", "checksum"))
    settings: Settings = request.app.state.settings
    found = await asyncio.to_thread(_checksum, name, settings.shared_dir)
    return JSONResponse({"success": found is not None and checksum == str(found)})


def _checksum(name: str, shared_dir: str) -> int | None:
    """Of the beginning of a file below the shared folder; None if it is not there, or no plain file."""
    try:
        path = Path(name).resolve(strict=True)
        if not shared_dir or not path.is_file() or not path.is_relative_to(Path(shared_dir).resolve()):
            return None
        with path.open("rb") as file:
            return zlib.adler32(file.read(HEAD_BYTES), 0) & 0xFFFFFFFF
    except (OSError, ValueError):
        return None


ROUTES = [
    Route("/health", health),
    Route("/v1/engine_version", engine_version),
    Route("/engine/license", engine_license),
    Route("/v1/engine_latest_version", engine_latest_version),
    Route("/v1/available_gsims", available_gsims),
    Route("/v1/ini_defaults", ini_defaults),
    Route("/v1/on_same_fs", on_same_fs, methods=["POST"]),
]
