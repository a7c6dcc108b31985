"""Holds the table of routes: wraps each route, which runs only for those who may ask for it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from quakegrid import errors
from quakegrid.jobs.row_ids import checked
from quakegrid.services.web.access import rights
from quakegrid.services.web.access.rights import Need, Right
from quakegrid.services.web.backends import Backends
from quakegrid.services.web.callers import Caller
from quakegrid.settings.web.access import WebMode

SHARED = "shared"


def guard(routes: Iterable[BaseRoute], mode: WebMode) -> list[BaseRoute]:
    """The routes that a service has in its mode, each for those who may ask for it."""
    found: list[BaseRoute] = []
    for route in routes:
        if not isinstance(route, Route):
            assert isinstance(route, Mount)
            assert route.path in rights.TABLE, f"{route.path} is not in the table of routes"
            found.append(route)
            continue
        right = rights.of(route.path, route.methods)
        if rights.is_there(right, mode):
            found.append(_guarded(route, right, mode))
    return found


def _guarded(route: Route, right: Right, mode: WebMode) -> Route:
    ask = route.endpoint

    @functools.wraps(ask)
    async def answer(request: Request) -> Response:
        if right.need is not Need.NOTHING:
            await check(request, right, mode)
        response: Response = await ask(request)
        return response

    methods = sorted(route.methods) if route.methods else None
    return Route(route.path, answer, methods=methods, name=route.name)


async def check(request: Request, right: Right, mode: WebMode) -> None:
    """Refuse a request of somebody who may not make it.

    What there is not is not refused: the route says so in its own words.

    Raises:
        NotAllowedError: with whose the calculation is, and who one is.
    """
    caller: Caller = request.state.caller
    if not rights.needs_owner(caller, right, mode):
        if not rights.may(caller, right, mode, owner="", is_shared=False):
            raise errors.NotAllowedError(rights.refusal(caller, right))
        return
    backends: Backends = request.app.state.backends
    number = checked(request.path_params["job_id"])
    job_id = await _job_of_output(backends, number) if right.need is Need.SEE_OUTPUT else number
    await _check_job(backends, caller, right, mode, job_id)


async def check_sees(backends: Backends, caller: Caller, mode: WebMode, job_id: int) -> None:
    """Refuse to use a calculation that somebody may not see.

    Raises:
        NotAllowedError: it is another person's, who does not share it.
    """
    right = Right(Need.SEE_JOB, "start from it")
    if rights.needs_owner(caller, right, mode):
        await _check_job(backends, caller, right, mode, job_id)


async def _check_job(backends: Backends, caller: Caller, right: Right, mode: WebMode, job_id: int) -> None:
    """Refuse what somebody may not do with a calculation; one that there is not is not refused.

    Raises:
        NotAllowedError: with whose the calculation is, and who one is.
    """
    row: Any = await backends.engine_call("get_job", job_id)
    if row is None:
        return
    owner = str(row["user_name"])
    if not rights.may(caller, right, mode, owner=owner, is_shared=row["status"] == SHARED):
        raise errors.NotAllowedError(rights.refusal(caller, right, f"job {job_id}", owner))


async def _job_of_output(backends: Backends, output_id: int) -> int:
    """The calculation that has made an output.

    Raises:
        NotFoundError: there is no such output.
    """
    found = await backends.engine_call("get_result", output_id)
    return int(found[0])
