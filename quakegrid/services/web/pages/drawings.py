"""What the page of a calculation draws, as JSON: the list of its pictures, and each of them.

Also its parameters, and what its inputs were.
"""

from __future__ import annotations

import json
import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.services.web.api import owners
from quakegrid.services.web.api.calculations import backends_of, caller_of, job_id_of
from quakegrid.services.web.api.results import views_of

_KIND = re.compile(r"[a-z][a-z-]{0,40}")
MOST_CHOICES = 20
MOST_CHOICE_CHARS = 200


async def listed(request: Request) -> Response:
    """`GET /calculations/N/pictures.json`: kinds and labels."""
    return await _made(request, "", {})


async def drawn(request: Request) -> Response:
    """`GET /calculations/N/pictures/KIND.json`: one picture, of what the query chooses."""
    kind = request.path_params["kind"]
    if not _KIND.fullmatch(kind):
        raise errors.NotFoundError("there is no such picture")
    asked = dict(list(request.query_params.items())[:MOST_CHOICES])
    return await _made(
        request, kind, {name[:MOST_CHOICE_CHARS]: asked[name][:MOST_CHOICE_CHARS] for name in asked}
    )


async def parameters(request: Request) -> Response:
    """`GET /calculations/N/parameters.json`: the parameters as the engine has read them, by name."""
    return await _written(request, "parameters")


async def inputs(request: Request) -> Response:
    """`GET /calculations/N/inputs.json`: the contents of its input files in few characters, by name."""
    return await _written(request, "inputs")


async def _made(request: Request, kind: str, asked: dict[str, str]) -> Response:
    return await _written(request, "drawing", kind, json.dumps(asked))


async def _written(request: Request, view: str, *args: str) -> Response:
    """What a driver writes as a JSON file."""
    job_id = job_id_of(request)
    reader = await owners.reader_of(backends_of(request), caller_of(request), job_id)
    file = await views_of(request).file(view, str(job_id), *args, whose=reader)
    return Response(await file.read(), media_type="application/json", headers={"Cache-Control": "no-store"})


ROUTES = [
    Route("/calculations/{job_id:int}/parameters.json", parameters),
    Route("/calculations/{job_id:int}/inputs.json", inputs),
    Route("/calculations/{job_id:int}/pictures.json", listed),
    Route("/calculations/{job_id:int}/pictures/{kind}.json", drawn),
]
