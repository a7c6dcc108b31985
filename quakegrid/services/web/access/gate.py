"""What every request passes: where it comes from, who asks, and whether that is for this service at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.access.principals import PrincipalRole
from quakegrid.services.web import callers, guard
from quakegrid.services.web.access import cookies, peers
from quakegrid.services.web.access.logins import Logins
from quakegrid.services.web.access.peers import Peer
from quakegrid.services.web.api import tags
from quakegrid.services.web.callers import Caller, Way
from quakegrid.settings.config import Settings, agent_socket
from quakegrid.settings.hosts import is_loopback
from quakegrid.settings.web.access import WebMode

# Of a request without files.
MOST_BODY_BYTES = 1 << 20
LOGIN_PATH = "/accounts/login/"
# Addresses that are for people before they have logged in.
_OPEN = ("/accounts/", "/static/")
_OPEN_PATHS = ("/health", "/login")
# What programs ask for, and scripts of pages.
_FOR_PROGRAMS = ("/v1/", "/live/")
_BEARER = "bearer "
_OF_SERVICES = (
    "{} is the name of root, or of the account of this cluster's services: only an admin comes by it from "
    "elsewhere. Take another name, or an admin's credential: `quakegrid user add NAME --role admin`\n"
)
_ANYBODY = Caller(None, "anonymous", PrincipalRole.USER, Way.NOBODY)


class Gate:
    """Lets in whom the kernel, a session, a token or a named proxy knows, and no page of another site.

    Args:
        app: what is behind it.
        settings: of the cluster.
        logins: who has which session.
        most_bytes: path to the largest body, where that is not `MOST_BODY_BYTES`.
        headers: of every response.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        logins: Logins,
        most_bytes: Mapping[str, int],
        headers: Mapping[str, str],
    ) -> None:
        self._app, self._logins, self._most_bytes = app, logins, most_bytes
        self._access, self._mode = settings.web_access, settings.web_mode
        self._is_here_only = is_loopback(settings.web_listen)
        self._has_tls, self._door = settings.web_has_tls, agent_socket(settings.state_dir)
        self._port = settings.web_port
        is_default = bool(settings.web_access.proxies) or settings.web_port in (80, 443)
        self._hosts = guard.known_hosts(guard.own_names(settings), settings.web_port, is_default=is_default)
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        send = self._with_headers(request, send)
        peer = self._peer_of(request)
        if peer.is_secure:
            scope["scheme"] = "https"
        answer = self._refusal(request, peer)
        if answer is None:
            answer = await self._let_in(request, peer)
        if answer is not None:
            await answer(scope, receive, send)
            return
        caller: Caller | None = request.state.caller
        is_shown = caller is not None and caller.way in (Way.COOKIE, Way.TOKEN)
        token = (_bearer(request.headers) or _cookie(request, peer)) if is_shown else ""
        await _Passage(self._app, self._logins, token).run(scope, receive, send)

    def _peer_of(self, request: Request) -> Peer:
        scope = request.scope
        client, own = scope.get("client"), scope.get("server")
        if not client or not own:
            return Peer("", is_secure=False)

        def account() -> str:
            caller = callers.caller_of(tuple(client), tuple(own))
            return caller.name if caller else ""

        is_tls = scope.get("scheme") == "https"
        headers = peers.joined(request.headers.items())
        return peers.read(client[0], headers, self._access, is_tls=is_tls, account=account)

    def _refusal(self, request: Request, peer: Peer) -> Response | None:
        """What is refused whoever asks."""
        if not (peer.is_proxy or peer.is_here or self._has_tls):
            return PlainTextResponse(
                "this port speaks plain HTTP to this machine, and to the proxies that [web] proxies names: "
                "others could read passwords on the way. Ask the proxy, or let an administrator take [web] "
                "proxies out of openquake.cfg: then the service speaks TLS\n",
                403,
            )
        own = request.scope["server"] or ("", 0)
        hosts = self._hosts | {f"[{own[0]}]:{own[1]}" if ":" in own[0] else f"{own[0]}:{own[1]}"}
        is_writing = tags.is_writing(request.url.path)
        reason = guard.why_refused(
            request.method,
            request.headers,
            hosts,
            is_writing=is_writing,
            doors=guard.Doors("https" if peer.is_secure else "http", self._access.origins),
        )
        if reason is not None:
            return PlainTextResponse(f"{reason}\n", 403)
        if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
            return PlainTextResponse("")
        length = request.headers.get("content-length", "0")
        most_bytes = self._most_bytes.get(request.url.path, MOST_BODY_BYTES)
        if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > most_bytes:
            return PlainTextResponse(f"at most {most_bytes} bytes are taken here\n", 413)
        if "transfer-encoding" in request.headers:
            return PlainTextResponse("say how many bytes come: Content-Length\n", 411)
        return None

    async def _let_in(self, request: Request, peer: Peer) -> Response | None:
        """Find out who asks; the answer for whom nobody knows, unless the address is open to everybody."""
        try:
            caller, words = await self._caller_of(request, peer)
        except errors.PeerUnreachableError as exc:
            caller, words = None, ""
            if not _is_open(request.url.path):
                return JSONResponse({"error": str(exc)}, 503)
        if caller is not None and not callers.may_have_name(caller):
            if not _is_open(request.url.path):
                return PlainTextResponse(_OF_SERVICES.format(caller.name), 403)
            caller = None
        request.scope["state"] = {**request.scope.get("state", {}), "caller": caller, "peer": peer}
        if caller is not None or _is_open(request.url.path):
            return None
        if _bearer(request.headers):
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            return JSONResponse({"error": "the token has ended, was revoked, or is none"}, 401, headers)
        if self._has_logins and _is_page(request):
            target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{LOGIN_PATH}?next={quote(target, safe='/')}", 303)
        return PlainTextResponse(f"{words}\n", 403)

    @property
    def _has_logins(self) -> bool:
        return self._mode is WebMode.RESTRICTED

    async def _caller_of(self, request: Request, peer: Peer) -> tuple[Caller | None, str]:
        """Who asks, or why nobody knows."""
        if token := _bearer(request.headers):
            return await self._logins.find(token), ""
        if request.headers.get("origin", "").lower() in self._access.origins:
            return None, "pages of other sites ask with a token: Authorization: Bearer TOKEN"
        cookie = _cookie(request, peer)
        if cookie and (found := await self._logins.find(cookie)):
            return found, ""
        if peer.user:
            return await self._told(peer.user)
        return self._by_kernel(self._account_of(request) if peer.is_here else None)

    async def _told(self, name: str) -> tuple[Caller | None, str]:
        """Whom a proxy names."""
        if not principals.is_name(name):
            return None, "the proxy tells a name that no person of a cluster can have"
        try:
            return Caller(None, name, await self._logins.role_of(name), Way.PROXY), ""
        except errors.NotAllowedError as exc:
            return None, str(exc)

    def _by_kernel(self, account: Caller | None) -> tuple[Caller | None, str]:
        """Who asks without a word of who they are, as an account of this machine or not."""
        if account is not None and callers.may_ask(account, self._door):
            return account, ""
        if self._mode is WebMode.READ_ONLY or (self._mode is WebMode.PUBLIC and not self._is_here_only):
            return _ANYBODY, ""
        if self._mode is WebMode.RESTRICTED:
            return None, "log in: POST username and password to /accounts/ajax_login/, or send a token"
        who = f"user {account.name}" if account else "somebody whom the kernel does not name"
        return None, (
            f"you are {who}; this cluster is another user's, who has to ask for you, or has to put you into "
            "the group that may start calculations here"
        )

    def _account_of(self, request: Request) -> Caller | None:
        client, own = request.scope["client"], request.scope["server"]
        return callers.caller_of(tuple(client), tuple(own))

    def _with_headers(self, request: Request, send: Send) -> Send:
        extra = list(self._headers)
        origin = request.headers.get("origin", "").lower()
        if origin in self._access.origins:
            extra += [
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-allow-headers", b"authorization, content-type, last-event-id"),
                (b"access-control-allow-methods", b"GET, HEAD, POST"),
                (b"vary", b"Origin"),
            ]

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        return send_with


class _Passage:
    """One request behind the gate; if its answer is a stream of events, that ends with the session.

    Args:
        app: what answers.
        logins: who has which session.
        token: by which somebody asks; empty for none.
    """

    def __init__(self, app: ASGIApp, logins: Logins, token: str) -> None:
        self._app, self._logins, self._token = app, logins, token
        self._task: asyncio.Task[None] | None = None
        self._is_stream = self._is_over = False

    def end(self) -> None:
        """End the stream, soon."""
        if self._task is not None and self._is_stream:
            self._is_over = True
            self._task.cancel()

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if not self._token:
            await self._app(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._is_stream = any(
                    name == b"content-type" and value.startswith(b"text/event-stream")
                    for name, value in message["headers"]
                )
            await send(message)

        self._task = asyncio.current_task()
        with self._logins.holding(self._token, self):
            try:
                await self._app(scope, receive, watch)
            except asyncio.CancelledError:
                if not self._is_over:
                    raise
                assert self._task is not None, "it was cancelled"
                self._task.uncancel()
                await send({"type": "http.response.body", "body": b"", "more_body": False})


def _bearer(headers: Mapping[str, str]) -> str:
    text = headers.get("authorization", "")
    return text[len(_BEARER) :].strip() if text[: len(_BEARER)].lower() == _BEARER else ""


def _cookie(request: Request, peer: Peer) -> str:
    return cookies.read(request.headers, is_secure=peer.is_secure)


def _is_open(path: str) -> bool:
    return path.startswith(_OPEN) or path in _OPEN_PATHS


def _is_page(request: Request) -> bool:
    """Whether somebody looks at a page, who can be led to another one."""
    path = request.url.path
    is_for_programs = path.startswith(_FOR_PROGRAMS) or path.endswith(".json")
    return request.method in ("GET", "HEAD") and not is_for_programs
