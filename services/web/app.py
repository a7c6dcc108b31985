"""All routes, and what every request passes: who asks, from where, and errors in words.

A route is a coroutine that takes a request and gives a response; the folders have them by subject.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from quakegrid import errors
from quakegrid.settings.config import Settings, agent_socket
from services.web import callers, guard
from services.web.api import calculations, results, running, server_facts, tags
from services.web.api.running import Desk
from services.web.backends import Backends
from services.web.early_answers import EarlyAnswers
from services.web.engine_views import EngineViews
from services.web.live import streams
from services.web.pages import pages
from services.web.pages.health import Examinations
from services.web.starts import Starter

log = logging.getLogger("quakegrid.web")
# Of a request without files.
MOST_BODY_BYTES = 1 << 20
# Of a request with the text of one file.
MOST_TEXT_BYTES = 9 << 20
BACKLOG = 512
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
}
_STATUS: dict[type[errors.QuakeGridError], int] = {
    errors.NotAllowedError: 403,
    errors.NotFoundError: 404,
    errors.UsageError: 400,
    errors.StateError: 409,
    errors.PeerUnreachableError: 503,
    errors.EngineMissingError: 503,
}


def make(settings: Settings, backends: Backends) -> Starlette:
    """The application.

    Args:
        settings: of the cluster.
        backends: what routes ask; `request.app.state.backends`.
    """
    routes: list[BaseRoute] = [*running.ROUTES, *calculations.ROUTES, *results.ROUTES, *tags.ROUTES]
    routes += [*server_facts.ROUTES, *streams.ROUTES, *pages.ROUTES]
    hosts = guard.known_hosts(settings.web_listen, settings.web_port)
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(EarlyAnswers),
            Middleware(Gate, hosts=hosts, most_bytes=_most_bytes(settings)),
        ],
        exception_handlers={
            errors.QuakeGridError: _tell_error,
            404: _not_found,
            405: _wrong_method,
            Exception: _tell_fault,
        },
    )
    app.state.backends, app.state.settings = backends, settings
    app.state.views = EngineViews(settings)
    app.state.examinations = Examinations(settings)
    app.state.inputs = backends.inputs
    app.state.desk = Desk(settings, backends.inputs, Starter(settings))
    return app


def _most_bytes(settings: Settings) -> dict[str, int]:
    """Path to the largest body, where that is not `MOST_BODY_BYTES`."""
    uploads = dict.fromkeys(running.UPLOAD_PATHS, settings.web_upload_bytes)
    return uploads | dict.fromkeys(running.TEXT_PATHS, MOST_TEXT_BYTES)


def bind(settings: Settings) -> socket.socket:
    """The port, open.

    Raises:
        QuakeGridError: it is taken, or not ours to take.
    """
    family = socket.AF_INET6 if ":" in settings.web_listen else socket.AF_INET
    port = socket.socket(family, socket.SOCK_STREAM)
    try:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind((settings.web_listen, settings.web_port))
        port.listen(BACKLOG)
    except OSError as exc:
        port.close()
        raise errors.QuakeGridError(
            f"the web service cannot listen on {settings.web_listen}:{settings.web_port}: {exc.strerror}; "
            "end what uses the port, or change [web] port in openquake.cfg"
        ) from exc
    return port


class Gate:
    """Lets in whom the kernel knows as a user of this cluster, and no page of another site.

    Args:
        app: what is behind it.
        hosts: names of this service, with its port.
        most_bytes: path to the largest body, where that is not `MOST_BODY_BYTES`.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], most_bytes: Mapping[str, int]) -> None:
        self._app, self._hosts, self._most_bytes = app, hosts, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        await self._app(scope, receive, _with_headers(send))

    def _refusal(self, request: Request) -> Response | None:
        is_writing = tags.is_writing(request.url.path)
        reason = guard.why_refused(request.method, request.headers, self._hosts, is_writing=is_writing)
        if reason is not None:
            return PlainTextResponse(f"{reason}\n", 403)
        length = request.headers.get("content-length", "0")
        most_bytes = self._most_bytes.get(request.url.path, MOST_BODY_BYTES)
        if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > most_bytes:
            return PlainTextResponse(f"at most {most_bytes} bytes are taken here\n", 413)
        if "transfer-encoding" in request.headers:
            return PlainTextResponse("say how many bytes come: Content-Length\n", 411)
        client, own = request.scope.get("client"), request.scope.get("server")
        caller = callers.caller_of(tuple(client), tuple(own)) if client and own else None
        door = agent_socket(request.app.state.settings.state_dir)
        if caller is None or not callers.may_ask(caller, door):
            who = "somebody whom the kernel does not name" if caller is None else f"user {caller.name}"
            return PlainTextResponse(
                f"you are {who}; this cluster is another user's, who has to ask for you, or has to put you "
                "into the group that may start calculations here\n",
                403,
            )
        request.scope["state"] = {**request.scope.get("state", {}), "caller": caller}
        return None


def _with_headers(send: Send) -> Send:
    extra = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]

    async def send_with(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *extra]}  # type: ignore[misc]
        await send(message)

    return send_with  # type: ignore[return-value]


Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _tell_error(request: Request, exc: Exception) -> Response:
    """One of our errors, in its own words."""
    assert isinstance(exc, errors.QuakeGridError)
    status = next((code for kind, code in _STATUS.items() if isinstance(exc, kind)), 500)
    if status >= 500:
        log.warning("request_failed path=%s status=%d reason=%s", request.url.path, status, exc)
    return JSONResponse({"error": str(exc)}, status)


async def _tell_fault(request: Request, exc: Exception) -> Response:
    """A fault of ours: its cause is for the log."""
    log.error("request_broke path=%s cause=%r", request.url.path, exc)
    return JSONResponse({"error": "this is a fault of the web service; its log names the cause"}, 500)


async def _not_found(_request: Request, _exc: Exception) -> Response:
    return PlainTextResponse("there is nothing at this address\n", 404)


async def _wrong_method(request: Request, exc: Exception) -> Response:
    return PlainTextResponse(
        f"{request.method} is not for this address\n", 405, getattr(exc, "headers", None)
    )
