"""Requests to the web service of a cluster, which go on by themselves after a broken link.

A request is sent again only if it may be: those that read, those that send a piece of a file, and those that
carry an id of their own. Trusts the cluster's authority and those that this machine trusts.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from quakegrid import errors
from quakegrid.clients.backoff import Backoff
from quakegrid.clients.web.tokens import CommandToken, TokenSource
from quakegrid.settings.config import Settings
from quakegrid.settings.hosts import is_loopback

# How long a request is tried again while nothing comes of it.
RETRY_S = 300.0
# Of the first request: where nothing has answered yet, there may be no web service.
FIRST_RETRY_S = 5.0
# Where the service answers, but cannot serve now.
BUSY_RETRY_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
# Of a socket on which nothing moves. An engine may need minutes before the first byte of an export comes.
CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S = 10.0, 660.0
BLOCK_BYTES = 1 << 20
MOST_ANSWER_BYTES = 64 << 20
_BROKEN = (OSError, http.client.HTTPException)
# What a service or a proxy before it answers that cannot serve now.
_NOT_NOW = (429, 502, 503, 504)
_KINDS: dict[int, type[errors.QuakeGridError]] = {
    400: errors.UsageError,
    401: errors.CredentialError,
    403: errors.NotAllowedError,
    404: errors.NotFoundError,
    409: errors.StateError,
    413: errors.UsageError,
}
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
T = TypeVar("T")
# A link that is cut without a word is given up after about a minute, however long an engine may need.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 20, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 4}


class WebAnswer(NamedTuple):
    """What came back."""

    status: int
    body: bytes

    def document(self) -> Any:
        """Its value.

        Raises:
            PeerError: it is no JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise errors.PeerError(f"the web service sent no JSON: {self.body[:80]!r}") from exc


class WebClient:
    """One connection to the web service, opened when it is needed. A context manager; for one thread.

    Args:
        settings: of the cluster: where its web service is, and whom it is to trust.
        tokens: proves who asks; None on the machine of the service, where the kernel says so.
        retry_s: how long a request is tried again while nothing comes of it.
    """

    def __init__(
        self, settings: Settings, tokens: TokenSource | None = None, retry_s: float = RETRY_S
    ) -> None:
        self.address = address_of(settings)
        self._settings, self._tokens, self._retry_s = settings, tokens, retry_s
        self._token, self._has_answered = "", False
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def twin(self) -> WebClient:
        """Another one with the same token, for another thread."""
        twin = WebClient(self._settings, self._tokens, self._retry_s)
        twin._has_answered = self._has_answered
        return twin

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, **query: str) -> Any:
        """The value at a path.

        Raises:
            QuakeGridError: the service refuses, or does not answer.
        """
        return self.ask("GET", _with_query(path, query)).document()

    def post(self, path: str, document: Mapping[str, Any]) -> WebAnswer:
        """Send a value that may be sent again; gives refusals back.

        Raises:
            PeerUnreachableError: the service does not answer.
        """
        body = json.dumps(document).encode()
        return self.ask("POST", path, body, "application/json", is_checked=False)

    def put(self, path: str, body: bytes, **query: str) -> Any:
        """Send bytes that may be sent again; the value of the answer.

        Raises:
            QuakeGridError: the service refuses, or does not answer.
        """
        return self.ask("PUT", _with_query(path, query), body, "application/octet-stream").document()

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "", *, is_checked: bool = True
    ) -> WebAnswer:
        """One request, as often as it takes.

        Args:
            method: of HTTP.
            path: with its query.
            body: to send.
            kind: of the body.
            is_checked: whether a refusal is an error; otherwise it is given back.
        Raises:
            QuakeGridError: the service refuses, or does not answer.
        """
        headers = {"Content-Type": kind} if kind else {}

        def take(response: http.client.HTTPResponse) -> WebAnswer:
            return WebAnswer(response.status, _whole(response))

        found = self._retried(method, path, body, headers, take)
        if found.status >= 400 and is_checked:
            raise refusal(found)
        return found

    def download(
        self, path: str, folder: Path, on_bytes: Callable[[int], None] | None = None, **query: str
    ) -> tuple[str, Path]:
        """Get a file; the name that the service gives it, and where it is now.

        Args:
            path: of the file.
            folder: where it goes, under a name of ours.
            on_bytes: told how many more bytes have come.
            **query: of the request.
        Raises:
            QuakeGridError: the service refuses or does not answer, or the file cannot be written.
        """
        target = folder / f"part-{os.urandom(8).hex()}"
        told = 0

        def take(response: http.client.HTTPResponse) -> str:
            nonlocal told
            if response.status >= 400:
                raise refusal(WebAnswer(response.status, _whole(response)))
            count = 0
            with _open(target) as file:
                while block := response.read(BLOCK_BYTES):
                    _write(file, block, target)
                    count += len(block)
                    if on_bytes and count > told:
                        on_bytes(count - told)
                        told = count
            if response.length:  # it broke off, which `read` with a size does not tell
                raise http.client.IncompleteRead(b"", response.length)
            return _file_name(response.headers.get("content-disposition", ""))

        return self._retried("GET", _with_query(path, query), b"", {}, take), target

    def _retried(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        take: Callable[[http.client.HTTPResponse], T],
    ) -> T:
        """What `take` makes of an answer that came whole.

        Raises:
            PeerUnreachableError: the service has not answered for a long time.
            QuakeGridError: of `take`.
        """
        pauses, begin_s, has_new_token = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S), None, False
        while True:
            trouble: Exception | str
            try:
                response = self._send(method, path, body, headers)
                if response.status == 401 and self._tokens and not has_new_token:
                    has_new_token = True
                    self._tokens.renew(self._token)
                    _whole(response)
                    continue
                if response.status not in _NOT_NOW:
                    return take(response)
                trouble = str(refusal(WebAnswer(response.status, _whole(response))))
            except ssl.SSLCertVerificationError as exc:
                self.close()
                raise errors.PeerUnreachableError(
                    f"the web service at {self.address} is not who it should be: {exc.verify_message}"
                ) from exc
            except _BROKEN as exc:
                trouble = exc
            self.close()
            now_s = time.monotonic()
            begin_s = now_s if begin_s is None else begin_s
            if now_s > begin_s + self._patience_s(is_busy=isinstance(trouble, str)):
                raise self._unreachable(trouble)
            time.sleep(pauses.next_s())

    def _patience_s(self, *, is_busy: bool) -> float:
        """How long a request is tried again after its first failure."""
        if is_busy:
            return min(BUSY_RETRY_S, self._retry_s)
        return self._retry_s if self._has_answered else min(FIRST_RETRY_S, self._retry_s)

    def _send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = _connect(self.address, self._settings)
        self._token = self._tokens.text() if self._tokens else ""
        proof = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._connection.request(method, path, body, {**headers, **proof})
        response = self._connection.getresponse()
        self._has_answered = True
        return response

    def _unreachable(self, trouble: Exception | str) -> errors.PeerUnreachableError:
        words = trouble.strerror if isinstance(trouble, OSError) and trouble.strerror else str(trouble)
        return errors.PeerUnreachableError(
            f"the web service at {self.address} does not answer ({words or type(trouble).__name__}); it "
            "takes the files of calculations: an admin can see it by `quakegrid status` on the master"
        )


def refusal(answer: WebAnswer) -> errors.QuakeGridError:
    """The error that a refusal stands for, in the words of the service."""
    words = answer.body[:2000].decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, TypeError, KeyError):
        words = str(json.loads(answer.body)["error"])
    kind = _KINDS.get(answer.status, errors.QuakeGridError)
    return kind(words or f"the web service answered {answer.status}")


def _connect(address: str, settings: Settings) -> http.client.HTTPConnection:
    """A connection that is open.

    Raises:
        OSError: there is none.
    """
    place = urlsplit(address)
    host, port = place.hostname or "", place.port or 0
    connection: http.client.HTTPConnection
    if place.scheme == "https":
        context = ssl.create_default_context()
        if settings.credential is not None:
            context.load_verify_locations(cadata=settings.credential.proof.ca_pem.decode())
        connection = http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
    connection.connect()
    connection.sock.settimeout(ANSWER_TIMEOUT_S)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        connection.sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


def _whole(response: http.client.HTTPResponse) -> bytes:
    """The body of an answer.

    Raises:
        IncompleteRead: it broke off, which `read` with a size does not tell.
    """
    body = response.read(MOST_ANSWER_BYTES)
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path


def _file_name(disposition: str) -> str:
    """The name that a `Content-Disposition` gives to a file, without folders."""
    return Path(disposition.partition("filename=")[2].strip().strip('"')).name or "unnamed"


@contextlib.contextmanager
def _open(target: Path) -> Iterator[IO[bytes]]:
    try:
        file = target.open("wb")
    except OSError as exc:
        raise _unwritable(target, exc) from exc
    with file:
        yield file


def _write(file: IO[bytes], block: bytes, target: Path) -> None:
    try:
        file.write(block)
        file.flush()
    except OSError as exc:
        raise _unwritable(target, exc) from exc


def _unwritable(target: Path, exc: OSError) -> errors.QuakeGridError:
    return errors.QuakeGridError(f"a result cannot be written into {target.parent}: {exc.strerror}")


@contextlib.contextmanager
def open_web(settings: Settings) -> Iterator[WebClient]:
    """A client of the web service of a cluster, for the person of the credential, with a token of its own."""
    with CommandToken(settings) as tokens, WebClient(settings, tokens) as web:
        yield web


def address_of(settings: Settings) -> str:
    """Where the web service of a cluster is: scheme, host and port.

    It is plain HTTP only on loopback, where it may be the end of a tunnel: whoever listens there gets what
    proves who asks, so a machine with other users needs a credential that names https.

    Raises:
        CredentialError: the credential names plain HTTP to another machine.
    """
    credential = settings.credential
    if credential is None:
        return address_at(settings, settings.web_listen)
    if not credential.web:
        return address_at(settings, settings.dbserver_host)
    place = urlsplit(credential.web)
    if place.scheme != "https" and not is_loopback(place.hostname or ""):
        raise errors.CredentialError(
            f"the credential names {credential.web}, where everything goes in the clear, and so would what "
            "proves who you are; ask an administrator for one with https"
        )
    return credential.web


def address_at(settings: Settings, host: str) -> str:
    """The address of a web service with these settings on a host: it is plain HTTP on loopback only.

    One that listens everywhere is asked for by a name that it knows.
    """
    host = "localhost" if host in _EVERYWHERE else host
    scheme = "https" if settings.web_has_tls or not is_loopback(host) else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.web_port}"
