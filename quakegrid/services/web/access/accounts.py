"""Routes of logins: those that QGIS and scripts know, a page for people, and links for one login."""

from __future__ import annotations

import html
import logging
import string
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.services.web.access import cookies
from quakegrid.services.web.access.logins import Logins
from quakegrid.services.web.access.peers import Peer
from quakegrid.services.web.callers import Caller
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.web")
# Of the body of a login.
MOST_LOGIN_BYTES = 8 << 10
HOME = "/calculations"
_PAGE = string.Template(Path(__file__).with_name("login.html").read_text(encoding="utf-8"))
_FRESH = {"Cache-Control": "no-store"}
# What upstream answers; its clients show it.
DONE, WRONG, GONE = "Successful login", "Invalid login", "Successful logout"
_LONGEST_NEXT = 2000


def local_path(text: str) -> str:
    """Where to go after a login: a path of this service, whatever the address says."""
    is_local = text.startswith("/") and not text.startswith("//") and "\\" not in text
    return text if is_local and text.isprintable() and text.isascii() and len(text) <= _LONGEST_NEXT else HOME


async def ajax_login(request: Request) -> Response:
    """`POST /accounts/ajax_login/`: log in with `username` and `password`; the answer has a cookie."""
    try:
        token = await _log_in(request, await _fields(request))
    except errors.NotAllowedError:
        return PlainTextResponse(WRONG, 403, _FRESH)
    except errors.TooManyTriesError as exc:
        return PlainTextResponse(str(exc), 429, _FRESH)
    return _with_cookie(request, PlainTextResponse(DONE, headers=_FRESH), token)


async def ajax_logout(request: Request) -> Response:
    """`POST /accounts/ajax_logout/`: log out, with all that the session has open."""
    return await _log_out(request, PlainTextResponse(GONE, headers=_FRESH))


async def page(request: Request) -> Response:
    """`GET /accounts/login/`: the page on which people log in."""
    return _page(request.query_params.get("next", ""))


async def log_in(request: Request) -> Response:
    """`POST /accounts/login/`: log in on the page, and go on to `next`."""
    fields = await _fields(request)
    try:
        token = await _log_in(request, fields)
    except errors.NotAllowedError:
        return _page(fields.get("next", ""), "The name or the password is wrong.", 403)
    except errors.TooManyTriesError as exc:
        return _page(fields.get("next", ""), f"{str(exc).capitalize()}.", 429)
    except errors.PeerUnreachableError:
        return _page(fields.get("next", ""), "The database of the cluster does not answer; try again.", 503)
    target = RedirectResponse(local_path(fields.get("next", "")), 303, _FRESH)
    return _with_cookie(request, target, token)


async def log_out(request: Request) -> Response:
    """`POST /accounts/logout/`: log out on a page."""
    return await _log_out(request, RedirectResponse("/accounts/login/", 303, _FRESH))


async def by_link(request: Request) -> Response:
    """`GET /login?token=T`: log in by a link of `quakegrid web open`, once."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return _page("", "Another site has led here. Copy the link into the address of this window.", 403)
    try:
        token = await _logins_of(request).open_by_link(request.query_params.get("token", "")[:1000])
    except errors.NotAllowedError as exc:
        return _page("", f"{str(exc).capitalize()}.", 403)
    log.info("logged_in way=link address=%s", _peer_of(request).address)
    await _end_old(request)
    target = RedirectResponse(local_path(request.query_params.get("next", "")), 303, _FRESH)
    return _with_cookie(request, target, token)


async def me(request: Request) -> Response:
    """`GET /accounts/me.json`: who asks, what they may do, and how they are known."""
    caller: Caller | None = request.state.caller
    settings: Settings = request.app.state.settings
    answer = {"name": None, "role": None, "way": None, "mode": settings.web_mode.value}
    if caller is not None:
        answer |= {"name": caller.name, "role": caller.role.value, "way": caller.way.value}
    return JSONResponse(answer, headers=_FRESH)


async def _fields(request: Request) -> dict[str, str]:
    async with request.form(max_files=0, max_fields=10) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


async def _log_in(request: Request, fields: dict[str, str]) -> str:
    """Check a password and begin a session; returns the text for the cookie."""
    logins, address = _logins_of(request), _peer_of(request).address
    name = fields.get("username", "").strip()
    try:
        role = await logins.check_password(name, fields.get("password", ""), address)
    except errors.QuakeGridError as exc:
        # The name may be a password that was typed into the wrong field.
        log.info("login_refused address=%s reason=%s", address, exc.reason)
        raise
    token = await logins.open_session(name, role, "password")
    log.info("logged_in way=password name=%s address=%s", name, address)
    await _end_old(request)
    return token


async def _end_old(request: Request) -> None:
    """End the session that the browser had: nobody goes on with a cookie from before a login."""
    if old := cookies.read(request.headers, is_secure=_peer_of(request).is_secure):
        await _logins_of(request).end(old)


async def _log_out(request: Request, answer: Response) -> Response:
    await _end_old(request)
    answer.headers.append("Set-Cookie", cookies.end(is_secure=_peer_of(request).is_secure))
    return answer


def _with_cookie(request: Request, answer: Response, token: str) -> Response:
    answer.headers.append("Set-Cookie", cookies.begin(token, is_secure=_peer_of(request).is_secure))
    return answer


def _page(target: str, words: str = "", status: int = 200) -> Response:
    told = f'<p role="alert" class="bad">{html.escape(words)}</p>' if words else ""
    text = _PAGE.substitute(words=told, next=html.escape(local_path(target)))
    return HTMLResponse(text, status, _FRESH)


def _logins_of(request: Request) -> Logins:
    logins: Logins = request.app.state.backends.logins
    return logins


def _peer_of(request: Request) -> Peer:
    peer: Peer = request.state.peer
    return peer


ROUTES = [
    Route("/login", by_link),
    Route("/accounts/login/", page, methods=["GET"]),
    Route("/accounts/login/", log_in, methods=["POST"]),
    Route("/accounts/logout/", log_out, methods=["POST"]),
    Route("/accounts/ajax_login/", ajax_login, methods=["POST"]),
    Route("/accounts/ajax_logout/", ajax_logout, methods=["POST"]),
    Route("/accounts/me.json", me),
]
LOGIN_PATHS = frozenset(route.path for route in ROUTES)
