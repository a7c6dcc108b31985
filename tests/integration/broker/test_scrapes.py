"""The port for Prometheus, and strangers who reach it."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from quakegrid.services.broker.status import scrapes
from quakegrid.services.broker.status.scrapes import ScrapeServer

TIMEOUT_S = 60


@pytest.fixture
def server() -> Iterator[ScrapeServer]:
    """One that knows one metric."""

    def application(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"quakegrid_up 1\n"]

    server = ScrapeServer("127.0.0.1", 0, application)
    yield server
    server.close()


def scrape(server: ScrapeServer) -> bytes:
    """What Prometheus does."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=TIMEOUT_S) as response:
        content: bytes = response.read()
        return content


def half_request(server: ScrapeServer) -> socket.socket:
    """A connection whose request never ends."""
    connection = socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)
    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
    return connection


def test_half_requests_take_no_more_threads_than_there_are_places(server: ScrapeServer) -> None:
    """Those beyond are closed at once; one that goes away makes room."""
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(half_request(server)) for _ in range(scrapes.MAX_CONNECTIONS)]
        for _ in range(3 * scrapes.MAX_CONNECTIONS):
            with half_request(server) as refused, contextlib.suppress(ConnectionError):
                assert refused.recv(1) == b""

        assert threading.active_count() <= before + scrapes.MAX_CONNECTIONS
        assert len(held) == scrapes.MAX_CONNECTIONS


def test_half_request_is_closed_in_time(
    server: ScrapeServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And without a word: strangers would fill the broker's log."""
    monkeypatch.setattr(scrapes._Handler, "timeout", 0.1)

    with half_request(server) as connection:
        assert connection.recv(1 << 16) == b""

    assert scrape(server) == b"quakegrid_up 1\n"
    assert capfd.readouterr().err == ""
