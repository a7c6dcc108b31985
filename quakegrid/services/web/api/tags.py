"""Routes of tags; upstream changes them by GET, which pages of other sites must not do in a person's name."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from quakegrid.services.web.api.calculations import backends_of, caller_of, job_id_of, said

# Last part of the address but the tag, to upstream's action.
_OF_JOBS = {
    "add_tag": "add_tag_to_job",
    "remove_tag": "remove_tag_from_job",
    "set_preferred_job_for_tag": "set_preferred_job_for_tag",
}
_OF_TAGS = {
    "create_tag": "create_tag",
    "delete_tag": "delete_tag",
    "unset_preferred_job_for_tag": "unset_preferred_job_for_tag",
    "get_preferred_job_for_tag": "get_preferred_job_for_tag",
}
_READING = "get_preferred_job_for_tag"


def is_writing(path: str) -> bool:
    """Whether a request for this path changes tags."""
    parts = path.split("/")
    return any(name in parts for name in (*_OF_JOBS, *_OF_TAGS) if name != _READING)


async def of_job(request: Request) -> Response:
    """`GET /v1/calc/N/add_tag/T` and its like."""
    action = _OF_JOBS[request.url.path.split("/")[4]]
    job_id, tag = job_id_of(request), request.path_params["tag"]
    return said(
        await backends_of(request).engine_call(action, job_id, tag, user_name=caller_of(request).name)
    )


async def of_tag(request: Request) -> Response:
    """`GET /v1/calc/create_tag/T` and its like."""
    action, tag = _OF_TAGS[request.url.path.split("/")[3]], request.path_params["tag"]
    return said(await backends_of(request).engine_call(action, tag, user_name=caller_of(request).name))


async def listed(request: Request) -> Response:
    """`GET /v1/calc/list_tags`: all tags."""
    return said(await backends_of(request).engine_call("list_tags"))


ROUTES = [
    Route("/v1/calc/list_tags", listed),
    *(Route(f"/v1/calc/{{job_id:int}}/{name}/{{tag}}", of_job) for name in _OF_JOBS),
    *(Route(f"/v1/calc/{name}/{{tag}}", of_tag) for name in _OF_TAGS),
]
