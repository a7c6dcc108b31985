"""What the web service refuses, whoever asks, and how it begins and ends."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys

import pytest

from quakegrid import health
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.settings.config import Settings
from tests.integration.web.conftest import Web
from tests.integration.web.test_rows import make_job
from tests.support.processes import Service

OTHER_USER = 65534  # nobody
# Python's own folder may be closed to others, so all is loaded before the user changes.
AS_OTHER = """
import http.client, encodings.idna, os, sys
os.setuid(int(sys.argv[1]))
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]), timeout=30)
connection.request("GET", "/v1/calc/list")
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_other_user_of_the_machine_is_refused(web: Web) -> None:
    """By what the kernel says; the answer tells who one is."""
    command = [sys.executable, "-c", AS_OTHER, str(OTHER_USER), str(web.settings.web_port)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert said.startswith("403 you are user nobody")


def test_page_of_another_site_is_refused(web: Web) -> None:
    """By its name, its origin, and for tags that are written by GET."""
    own = f"127.0.0.1:{web.settings.web_port}"

    assert web.get("/v1/calc/list", Host="evil.example").status == 403
    assert web.get("/v1/calc/list", Origin="http://evil.example").status == 403
    assert web.get("/v1/calc/create_tag/t", Sec_Fetch_Site="cross-site").status == 403
    assert web.get("/v1/calc/create_tag/t", Origin=f"http://{own}").status == 200
    assert "access-control-allow-origin" not in web.get("/v1/calc/list").headers


def test_body_that_is_too_large_is_refused_before_it_comes(web: Web) -> None:
    """By what is announced, and without a length."""
    with socket.create_connection(("127.0.0.1", web.settings.web_port), 30) as connection:
        host = f"Host: localhost:{web.settings.web_port}\r\n"
        connection.sendall(
            f"POST /v1/on_same_fs HTTP/1.1\r\n{host}Content-Length: 2000000000\r\n\r\n".encode()
        )
        large = connection.recv(1000)
    with socket.create_connection(("127.0.0.1", web.settings.web_port), 30) as connection:
        connection.sendall(
            f"POST /v1/on_same_fs HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        endless = connection.recv(1000)

    assert large.startswith(b"HTTP/1.1 413 ")
    assert endless.startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/static/../../app.py", "/static/%2e%2e/pages.py", "/v1/calc/x"]
)
def test_nothing_is_said_in_words(web: Web, path: str) -> None:
    """404; no file beside the pages' own is given out."""
    answer = web.get(path)

    assert answer.status == 404
    assert b"import" not in answer.body


def test_wrong_method_is_said(web: Web) -> None:
    """405, with those that are right."""
    answer = web.get("/v1/calc/1/abort")

    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


def test_answers_may_not_be_framed_or_guessed(web: Web) -> None:
    """Headers of all, also of refusals."""
    for answer in (web.get("/calculations"), web.get("/health", Host="evil.example")):
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    "page",
    [
        "/",
        "/engine/",
        "/calculations",
        "/calculations/1",
        "/cluster",
        "/docs",
        "/examination",
        "/engine/1/outputs",
    ],
)
def test_pages_are_there(web: Web, client: DbClient, page: str) -> None:
    """Upstream's addresses lead to them."""
    assert make_job(client, "calculation 1") == 1

    answer = web.get(page)
    if answer.status == 307:
        answer = web.get(answer.headers["location"].removeprefix(f"http://127.0.0.1:{web.settings.web_port}"))

    assert answer.status == 200
    assert b"<!doctype html>" in answer.body


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_at_a_signal_though_pages_are_open(web: Web, number: signal.Signals) -> None:
    """With exit code 0, and its port is free again."""
    streams = [web.stream("/live/jobs") for _ in range(3)]
    for stream in streams:
        stream.wait_for("jobs")

    assert web.service.stop(number) == 0
    for stream in streams:
        with pytest.raises((EOFError, ConnectionError)):
            stream.wait_for("never")
        stream.close()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", web.settings.web_port))


def test_health_is_asked_over_http(web: Web) -> None:
    """As `quakegrid status` does."""
    assert health.is_serving(web.settings, "web")


def test_port_that_is_taken_is_named(web: Web) -> None:
    """With exit code 1 and what to do."""
    code, said = Service(web.settings, "web").fail_to_start()

    assert code == 1
    assert "[web] port" in said


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("proxy_user_header = X-Remote-User\n", "name the addresses of the proxies"),
        ("certificate = /nowhere/web.pem\n", "belong together"),
        (
            "certificate = /nowhere/web.pem\nprivate_key = /nowhere/web.key\n",
            "cannot be used: No such file or directory",
        ),
        ("proxies = 127.0.0.1\n", "www-data@127.0.0.1"),
    ],
)
def test_refuses_settings_that_would_let_in_others(settings: Settings, lines: str, words: str) -> None:
    """Half of a certificate, and proxies that anybody can play."""
    path = settings.state_dir / "openquake.cfg"
    path.write_text(path.read_text().replace("[web]\n", f"[web]\nlisten = 0.0.0.0\n{lines}"))

    code, said = Service(dataclasses.replace(settings), "web").fail_to_start()

    assert code == 2
    assert words in said
