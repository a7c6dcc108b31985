"""The client of the web service: what it does when links break, and whom it trusts."""

from __future__ import annotations

import dataclasses
import datetime
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.access.proofs import Certified, ClusterKeys
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.web import web_client
from quakegrid.clients.web.tokens import CommandToken
from quakegrid.clients.web.web_client import WebClient
from quakegrid.clients.web_tokens import WebTokensClient
from quakegrid.services.web.access import tls
from quakegrid.settings.config import Settings
from quakegrid.settings.credential_files import CredentialFile
from quakegrid.transport import credentials
from tests.support.dbservers import LocalDbServer

KEY, OTHER_KEY = "a" * 43, "b" * 43
Handle = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Does what the test says with each request."""

    protocol_version = "HTTP/1.1"
    handle_one: Handle

    def do_GET(self) -> None:
        """Handle a request."""
        self.handle_one()  # type: ignore[misc]

    def answer(self, status: int, body: bytes, announced: int | None = None, **headers: str) -> None:
        """Answer; with fewer bytes than announced, if so wished, and the end of the connection."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = announced is not None

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(handle: Handle, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that handles requests so; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("One", (Handler,), {"handle_one": handle}))
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Numbered:
    """Tokens t1, t2, ..."""

    def __init__(self) -> None:
        self._number = 1

    def text(self) -> str:
        """The one that counts."""
        return f"t{self._number}"

    def renew(self, ended: str) -> None:
        """Count on."""
        self._number += ended == self.text()


def client_of(settings: Settings, address: str, ca_pem: bytes = b"", retry_s: float = 30.0) -> WebClient:
    """A client with a credential."""
    return WebClient(with_credential(settings, address, ca_pem), Numbered(), retry_s)


def with_credential(settings: Settings, address: str, ca_pem: bytes = b"") -> Settings:
    """Settings of a machine that is no part of the cluster; `address` is that of the web service."""
    end_time = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
    proof = Certified(ca_pem=ca_pem, key_pem=b"", certificate_pem=b"")
    given = CredentialFile("lab", "anna", "user", "0" * 32, end_time, "m:1", "m:2", proof, address)
    return dataclasses.replace(settings, credential=given)


def certified(authkey: str, name: str = "127.0.0.1") -> Certified:
    """A certificate of a web service."""
    now_time = datetime.datetime.now(datetime.UTC)
    authority = credentials.authority_of(ClusterKeys(authkey))
    return authority.certify_web((name,), now_time, now_time + datetime.timedelta(days=1))


def tls_of(made: Certified) -> ssl.SSLContext:
    """What a service with this certificate speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_pem(context, made)
    return context


def test_broken_answers_are_asked_for_again(settings: Settings) -> None:
    """A connection that ends before, or in the middle of an answer, and a service that cannot serve now."""
    asked: list[str] = []

    def handle(request: Handler) -> None:
        asked.append(request.path)
        match len(asked):
            case 1:
                request.close_connection = True  # without a word
            case 2:
                request.answer(200, b'{"a"', announced=100)
            case 3:
                request.answer(503, b'{"error": "busy"}')
            case _:
                request.answer(200, b'{"a": 1}')

    with serving(handle) as port, client_of(settings, f"http://127.0.0.1:{port}") as web:
        assert web.get("/x", q="a b") == {"a": 1}

    assert asked == ["/x?q=a%20b"] * 4


def test_download_that_breaks_off_is_whole_in_the_end(settings: Settings, tmp_path: Path) -> None:
    """Bytes are told once, however often they come."""
    content, tries = bytes(range(256)) * 10_000, 0
    told: list[int] = []

    def handle(request: Handler) -> None:
        nonlocal tries
        tries += 1
        part = content[: 1_000_000 * tries]
        name = {"Content_Disposition": "attachment; filename=../a.csv"}
        request.answer(200, part, len(content), **name)

    folder = tmp_path / "in"
    folder.mkdir()
    with serving(handle) as port, client_of(settings, f"http://127.0.0.1:{port}") as web:
        name, path = web.download("/x", folder, told.append)

    assert (name, path.read_bytes() == content, tries) == ("a.csv", True, 3)
    assert sum(told) == len(content)
    assert list(folder.iterdir()) == [path]


def test_refusals_are_errors_in_the_words_of_the_service(settings: Settings, tmp_path: Path) -> None:
    """By their status; none of them is asked for again."""
    kinds = {400: errors.UsageError, 403: errors.NotAllowedError, 404: errors.NotFoundError, 500: None}
    count = 0

    def handle(request: Handler) -> None:
        nonlocal count
        count += 1
        request.answer(int(request.path[1:]), b'{"error": "because"}')

    with serving(handle) as port, client_of(settings, f"http://127.0.0.1:{port}") as web:
        for status, kind in kinds.items():
            with pytest.raises(kind or errors.QuakeGridError, match="because"):
                web.get(f"/{status}")
            with pytest.raises(kind or errors.QuakeGridError, match="because"):
                web.download(f"/{status}", tmp_path)

    assert count == 2 * len(kinds)


def test_token_that_has_ended_is_made_anew(settings: Settings) -> None:
    """Once for a request: a service that takes none says why."""
    seen: list[str] = []

    def handle(request: Handler) -> None:
        seen.append(request.headers["Authorization"])
        is_good = seen[-1] == "Bearer t2"
        request.answer(200 if is_good else 401, b"1" if is_good else b'{"error": "the token has ended"}')

    with serving(handle) as port, client_of(settings, f"http://127.0.0.1:{port}") as web:
        assert web.get("/x") == 1
        assert web.get("/x") == 1
        seen[:] = []
        web.close()
    assert seen == []

    def refuse(request: Handler) -> None:
        seen.append(request.headers["Authorization"])
        request.answer(401, b'{"error": "the token has ended"}')

    with (
        serving(refuse) as port,
        client_of(settings, f"http://127.0.0.1:{port}") as web,
        pytest.raises(errors.CredentialError, match="the token has ended"),
    ):
        web.get("/x")
    assert seen == ["Bearer t1", "Bearer t2"]


def test_token_of_a_command_ends_with_it(dbserver: LocalDbServer) -> None:
    """A person has a hundred tokens at most, and scripts run many commands."""
    with CommandToken(dbserver.settings) as tokens:
        first = tokens.text()
        tokens.renew("another one")
        assert tokens.text() == first
        tokens.renew(first)
        assert tokens.text() not in ("", first)

    with DbClient(dbserver.settings) as database:
        listed = WebTokensClient(database).list_all()
    now_time = datetime.datetime.now(datetime.UTC)
    assert sorted(each.state(now_time) for each in listed) == ["revoked", "valid"]


def test_only_the_authority_of_the_cluster_is_trusted(settings: Settings) -> None:
    """Whoever else answers at the address gets no token, and is told at once."""
    seen: list[str] = []

    def handle(request: Handler) -> None:
        seen.append(request.headers["Authorization"])
        request.answer(200, json.dumps("hello").encode())

    made, other, elsewhere = certified(KEY), certified(OTHER_KEY), certified(KEY, "elsewhere.example.org")
    with serving(handle, tls_of(made)) as port:
        address = f"https://127.0.0.1:{port}"
        with client_of(settings, address, made.ca_pem) as web:
            assert web.get("/x") == "hello"
        with (
            client_of(settings, address, other.ca_pem) as web,
            pytest.raises(errors.PeerUnreachableError, match="is not who it should be"),
        ):
            web.get("/x")
    with (
        serving(handle, tls_of(elsewhere)) as port,
        client_of(settings, f"https://127.0.0.1:{port}", made.ca_pem) as web,
        pytest.raises(errors.PeerUnreachableError, match="is not who it should be"),
    ):
        web.get("/x")

    assert seen == ["Bearer t1"]


def test_service_that_is_not_there_is_told_soon(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it has answered before: then it is waited for."""
    monkeypatch.setattr(web_client, "FIRST_RETRY_S", 0.1)

    with (
        client_of(settings, "http://127.0.0.1:9") as web,
        pytest.raises(errors.PeerUnreachableError, match=r"http://127\.0\.0\.1:9 does not answer"),
    ):
        web.get("/x")


def test_address_is_that_of_the_credential(settings: Settings) -> None:
    """Older credentials have none: then it is on the master, which speaks TLS to others."""
    for address, dbserver, expected in (
        ("https://web.example.org:443", "m:1908", "https://web.example.org:443"),
        ("", "master.example.org:1908", f"https://master.example.org:{settings.web_port}"),
        ("", "127.0.0.1:1908", f"http://127.0.0.1:{settings.web_port}"),
        ("", "::1:1908", f"http://[::1]:{settings.web_port}"),
    ):
        host = dbserver.rpartition(":")[0]
        with client_of(dataclasses.replace(settings, dbserver_host=host), address) as web:
            assert web.address == expected


def test_plain_http_is_spoken_on_loopback_only(settings: Settings) -> None:
    """Else what proves who asks would go over a network in the clear."""
    far = with_credential(settings, "http://10.0.0.1:8800")

    assert web_client.address_of(with_credential(settings, "http://[::1]:8800")) == "http://[::1]:8800"
    with pytest.raises(errors.CredentialError, match="in the clear"):
        web_client.address_of(far)
