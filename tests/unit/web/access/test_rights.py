"""Every route of the application, asked by every role about an own, a shared and another's calculation."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.services.web import app
from quakegrid.services.web.access import guarded, rights
from quakegrid.services.web.callers import Caller, Way
from quakegrid.settings.web.access import WebMode

ANNA = Caller(None, "anna", PrincipalRole.USER, Way.COOKIE)
OTTO = Caller(None, "otto", PrincipalRole.OPERATOR, Way.TOKEN)
ADA = Caller(None, "ada", PrincipalRole.ADMIN, Way.PROXY)
HERE = Caller(1000, "anna")
ANYBODY = Caller(None, "anonymous", PrincipalRole.USER, Way.NOBODY)
# Jobs by whose they are; the output of each has its number and 10.
OWN, SHARED, OTHER, MISSING = 1, 2, 3, 9
JOBS = {OWN: ("anna", "complete"), SHARED: ("ben", "shared"), OTHER: ("ben", "complete")}

# What each route needs, said again: a change of the table is a change of this list.
OPEN = {
    "GET /health",
    "GET /login",
    "GET /accounts/login/",
    "POST /accounts/login/",
    "POST /accounts/logout/",
    "POST /accounts/ajax_login/",
    "POST /accounts/ajax_logout/",
    "GET /accounts/me.json",
}
ALL = {
    "GET /v1/engine_version",
    "GET /engine/license",
    "GET /v1/engine_latest_version",
    "GET /v1/available_gsims",
    "GET /v1/ini_defaults",
    "POST /v1/on_same_fs",
    "GET /v1/calc/jobs_from_inis",
    "GET /v1/calc/list",
    "GET /v1/calc/list_tags",
    "GET /v1/calc/get_preferred_job_for_tag/T",
    "GET /live/jobs",
    "GET /live/jobs.json",
    "GET /live/fleet",
    "GET /live/fleet.json",
    "GET /live/events",
    "GET /live/events.json",
    "GET /",
    "GET /engine",
    "GET /engine/",
    "GET /engine/N/outputs",
    "GET /calculations",
    "GET /calculations/N",
    "GET /calculations/N/tasks",
    "GET /calculations/N/compare/T",
    "GET /cluster",
    "GET /cluster/rights.json",
    "GET /examination",
    "GET /docs",
    "GET /openapi.json",
}
ALL_WRITING = {
    "POST /v1/calc/run",
    "POST /v1/calc/run_ini",
    "POST /v1/inputs/missing",
    "PUT /v1/inputs/T",
    "POST /v1/calc/validate_zip",
    "POST /v1/calc/validate_ini",
    "POST /v1/valid/",
    "GET /v1/calc/create_tag/T",
}
SEE = {
    "GET /v1/calc/N",
    "GET /v1/calc/N/status",
    "GET /v1/calc/N/log/T",
    "GET /v1/calc/N/log/size",
    "GET /v1/calc/N/traceback",
    "GET /v1/calc/N/results",
    "GET /v1/calc/N/result/list",
    "GET /v1/calc/result/N",
    "GET /v1/calc/N/extract/T",
    "GET /v1/calc/N/datastore",
    "GET /v1/calc/N/download_png/T",
    "GET /live/log/N",
    "GET /live/tasks/N",
    "GET /calculations/N/tasks.json",
    "GET /calculations/N/parameters.json",
    "GET /calculations/N/inputs.json",
    "GET /calculations/N/pictures.json",
    "GET /calculations/N/pictures/T.json",
    "GET /calculations/N/report.json",
    "GET /calculations/N/compare/T.json",
}
OWNERS = {"GET /v1/calc/N/job_zip"}
OWNERS_WRITING = {
    "POST /v1/calc/N/abort",
    "POST /v1/calc/N/remove",
    "POST /v1/calc/N/share",
    "POST /v1/calc/N/unshare",
    "GET /v1/calc/N/add_tag/T",
    "GET /v1/calc/N/remove_tag/T",
    "GET /v1/calc/N/set_preferred_job_for_tag/T",
}
STAFF = {"GET /cluster/health.json", "GET /cluster/people.json"}
STAFF_WRITING = {
    "GET /v1/calc/delete_tag/T",
    "GET /v1/calc/unset_preferred_job_for_tag/T",
    "POST /cluster/nodes/T/cores",
    "POST /cluster/nodes/T/T",
}
WRITING = ALL_WRITING | OWNERS_WRITING | STAFF_WRITING
ROUTES = [route for route in app.all_routes() if isinstance(route, Route)]


def text_of(route: Route, job: object = "N") -> str:
    """A route as the list above has it."""
    path = route.path.replace("{job_id:int}", str(job))
    path = path.replace("{other_id:int}", "T" if job == "N" else str(OWN))
    for name in ("tag", "lines", "what:path", "kind", "sha256", "host", "order"):
        path = path.replace(f"{{{name}}}", "T")
    assert route.methods
    method = next((each for each in ("POST", "PUT") if each in route.methods), "GET")
    return f"{method} {path}"


class FakeBackends:
    """Knows a few jobs and their outputs."""

    async def engine_call(self, action: str, number: int) -> Any:
        """What the dbserver says of them."""
        if action == "get_result":
            if number - 10 not in JOBS:
                raise errors.NotFoundError("there is no such output")
            return [number - 10, "complete", "", "", ""]
        assert action == "get_job"
        if number not in JOBS:
            return None
        owner, status = JOBS[number]
        return {"user_name": owner, "status": status}


class As:
    """Lets somebody in."""

    def __init__(self, app: ASGIApp, caller: Caller) -> None:
        self._app, self._caller = app, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        scope["state"] = {"caller": self._caller}
        await self._app(scope, receive, send)


async def _answer(_request: Request) -> Response:
    return PlainTextResponse("done")


async def _refuse(_request: Request, exc: Exception) -> Response:
    return PlainTextResponse(str(exc), 404 if isinstance(exc, errors.NotFoundError) else 403)


def ask_all(caller: Caller, mode: WebMode, job: int) -> dict[str, int]:
    """The status of each route that somebody asks for, about a job or its output."""
    stubs: list[BaseRoute] = [
        Route(each.path, _answer, methods=sorted(each.methods or ()), name=each.name) for each in ROUTES
    ]
    made = Starlette(routes=guarded.guard(stubs, mode), exception_handlers={errors.QuakeGridError: _refuse})
    made.state.backends = FakeBackends()

    async def ask() -> dict[str, int]:
        found = {}
        transport = httpx.ASGITransport(As(made, caller))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as web:
            for route in ROUTES:
                is_output = route.path == "/v1/calc/result/{job_id:int}"
                method, path = text_of(route, job + 10 if is_output else job).split()
                found[text_of(route)] = (await web.request(method, path)).status_code
        return found

    return asyncio.run(ask())


def test_every_route_is_in_the_table() -> None:
    """Whoever adds one decides who may ask for it; and the list above has it, too."""
    paths = {route.path for route in app.all_routes() if isinstance(route, Route | Mount)}

    assert paths == rights.TABLE.keys()
    listed = [OPEN, ALL, ALL_WRITING, SEE, OWNERS, OWNERS_WRITING, STAFF, STAFF_WRITING]
    assert sorted(text_of(route) for route in ROUTES) == sorted(text for texts in listed for text in texts)


@pytest.mark.parametrize("job", [OWN, SHARED, OTHER, MISSING])
@pytest.mark.parametrize("caller", [ANNA, OTTO, ADA], ids=str)
def test_each_route_for_each_role_where_people_log_in(caller: Caller, job: int) -> None:
    """Users see what is theirs or shared and change what is theirs; operators and admins all."""
    found = ask_all(caller, WebMode.RESTRICTED, job)

    refused = set()
    if caller is ANNA:
        refused = STAFF | STAFF_WRITING
        refused |= OWNERS | OWNERS_WRITING if job in (SHARED, OTHER) else set()
        refused |= SEE if job == OTHER else set()
    assert {text for text, status in found.items() if status == 403} == refused
    missing = {text for text, status in found.items() if status == 404}
    assert missing == ({"GET /v1/calc/result/N"} if job == MISSING and caller is ANNA else set())
    assert {text for text, status in found.items() if status == 200} >= OPEN


@pytest.mark.parametrize("job", [OWN, SHARED, OTHER])
def test_each_route_on_loopback(job: int) -> None:
    """Who is let in sees everything, and changes what is theirs."""
    found = ask_all(HERE, WebMode.PUBLIC, job)

    refused = STAFF | STAFF_WRITING | (OWNERS | OWNERS_WRITING if job != OWN else set())
    assert {text for text, status in found.items() if status == 403} == refused


@pytest.mark.parametrize("caller", [ANYBODY, ADA], ids=str)
def test_read_only_changes_nothing(caller: Caller) -> None:
    """For nobody: the routes are not there, as in the engine's own server."""
    found = ask_all(caller, WebMode.READ_ONLY, OTHER)

    assert {text for text, status in found.items() if status == 404} == WRITING
    refused = STAFF | OWNERS if caller is ANYBODY else set()
    assert {text for text, status in found.items() if status == 403} == refused


def test_unknown_route_is_for_operators() -> None:
    """And is taken for one that changes something, unless it only reads."""
    assert rights.of("/new", {"GET", "HEAD"}) == rights.Right(rights.Need.CARE, "do this")
    for methods in ({"POST"}, {"GET", "POST"}, None):
        assert rights.of("/new", methods).is_writing
    assert "you are anna (user)" in rights.refusal(ANNA, rights.of("/new", None))


def test_calculation_of_another_is_no_hazard_for_mine() -> None:
    """What one may not see, one may not start from."""

    def check(job: int, caller: Caller = ANNA, mode: WebMode = WebMode.RESTRICTED) -> None:
        asyncio.run(guarded.check_sees(FakeBackends(), caller, mode, job))  # type: ignore[arg-type]

    for job in (OWN, SHARED, MISSING):
        check(job)
    check(OTHER, OTTO)
    check(OTHER, mode=WebMode.PUBLIC)
    with pytest.raises(errors.NotAllowedError, match=r"job 3 belongs to ben; you are anna \(user\)"):
        check(OTHER)
