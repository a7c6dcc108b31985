"""All routes, and what every request passes: who asks, from where, and errors in words.

A route is a coroutine that takes a request and gives a response; the folders have them by subject.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute

from quakegrid import errors
from quakegrid.services.web.access import accounts, guarded
from quakegrid.services.web.access.gate import Gate
from quakegrid.services.web.access.tls import TlsDoor
from quakegrid.services.web.api import calculations, results, running, sent_files, server_facts, tags
from quakegrid.services.web.api.running import Desk
from quakegrid.services.web.api.sent_files import Turnstile
from quakegrid.services.web.backends import Backends
from quakegrid.services.web.early_answers import EarlyAnswers
from quakegrid.services.web.live import streams
from quakegrid.services.web.pages import pages
from quakegrid.services.web.pages.health import Examinations
from quakegrid.services.web.starts import Starter
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.web")
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
# For a year browsers ask by TLS only; not with a certificate that they may come to distrust.
_HSTS = {"Strict-Transport-Security": "max-age=31536000"}
_STATUS: dict[type[errors.QuakeGridError], int] = {
    errors.NotAllowedError: 403,
    errors.TooManyTriesError: 429,
    errors.NotFoundError: 404,
    errors.UsageError: 400,
    errors.StateError: 409,
    errors.PeerUnreachableError: 503,
    errors.EngineMissingError: 503,
}


def make(settings: Settings, backends: Backends, door: TlsDoor | None = None) -> Starlette:
    """The application.

    Args:
        settings: of the cluster.
        backends: what routes ask; `request.app.state.backends`.
        door: what connections get to speak TLS; None without it.
    """
    gate = Middleware(
        Gate,
        settings=settings,
        logins=backends.logins,
        most_bytes=_most_bytes(settings),
        headers=_HEADERS | (_HSTS if settings.web_access.certificate else {}),
    )
    app = Starlette(
        routes=guarded.guard(all_routes(), settings.web_mode),
        middleware=[Middleware(EarlyAnswers), gate],
        exception_handlers={
            errors.QuakeGridError: _tell_error,
            404: _not_found,
            405: _wrong_method,
            Exception: _tell_fault,
        },
    )
    app.state.backends, app.state.settings = backends, settings
    app.state.views, app.state.removals = backends.views, backends.removals
    app.state.door = door
    app.state.examinations = Examinations(settings)
    app.state.desk = Desk(settings, backends.inputs, Starter(settings), backends.store)
    app.state.turnstile = Turnstile()
    return app


def all_routes() -> list[BaseRoute]:
    """The routes of all modes, for whoever may ask for them."""
    return [
        *running.ROUTES,
        *sent_files.ROUTES,
        *calculations.ROUTES,
        *results.ROUTES,
        *tags.ROUTES,
        *server_facts.ROUTES,
        *streams.ROUTES,
        *pages.ROUTES,
        *accounts.ROUTES,
    ]


def _most_bytes(settings: Settings) -> dict[str, int]:
    """Path to the largest body, where that is not `MOST_BODY_BYTES`."""
    uploads = dict.fromkeys(running.UPLOAD_PATHS, settings.web_upload_bytes)
    logins = dict.fromkeys(accounts.LOGIN_PATHS, accounts.MOST_LOGIN_BYTES)
    texts = [*running.TEXT_PATHS, sent_files.MISSING_PATH]
    return uploads | logins | dict.fromkeys(texts, MOST_TEXT_BYTES)


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
