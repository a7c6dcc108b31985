"""Own certificates, plain HTTP, proxies that nobody has named, and strangers of the machine."""

from __future__ import annotations

import datetime
import http.client
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import health
from quakegrid.access.principals import PrincipalRole
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials
from tests.integration.web.logins import conftest
from tests.integration.web.logins.conftest import PASSWORD
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

OTHER_USER = 65534  # nobody
AS_OTHER = """
import encodings.idna, http.client, os, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[3])
os.setuid(int(sys.argv[1]))
def ask(method, path, body=None, **headers):
    connection = http.client.HTTPSConnection("localhost", int(sys.argv[2]), timeout=60, context=context)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    print(answer.status, answer.read()[:100])
    return answer
spoof = {"X-Remote-User": "ada", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"}
ask("GET", "/v1/calc/list")
ask("GET", "/v1/calc/list", **spoof)
form = {"Content-Type": "application/x-www-form-urlencoded"}
answer = ask("POST", "/accounts/ajax_login/", "username=anna&password=correct+horse+battery", **form)
cookie = answer.getheader("Set-Cookie").partition(";")[0]
ask("GET", "/accounts/me.json", Cookie=cookie)
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A web service on all addresses, with a certificate of the cluster's own authority."""
    folder = tmp_path_factory.mktemp("own")
    found = conftest.write_settings(folder, "listen = 0.0.0.0\nhosts = quakes.example\n")
    dbserver, service = LocalDbServer(found), Service(found, "web")
    try:
        dbserver.start()
        service.start()
        with DbClient(found) as client:
            PeopleClient(client).set_password("anna", PASSWORD, PrincipalRole.USER)
        yield found
    finally:
        service.close()
        dbserver.close()


def trust_of(settings: Settings, folder: Path) -> Path:
    """What `quakegrid web ca` prints, in a file."""
    now_time = datetime.datetime.now(datetime.UTC)
    path = folder / "ca.pem"
    authority = credentials.authority(settings.authkey)
    path.write_bytes(authority.ca_pem(now_time, now_time + datetime.timedelta(days=3650)))
    path.chmod(0o644)
    return path


def ask(settings: Settings, path: str, context: ssl.SSLContext, **headers: str) -> http.client.HTTPResponse:
    """One request over TLS from this machine."""
    connection = http.client.HTTPSConnection("localhost", settings.web_port, timeout=60, context=context)
    connection.request("GET", path, headers={name.replace("_", "-"): each for name, each in headers.items()})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_own_certificate_is_known_by_the_clusters_authority(settings: Settings, tmp_path: Path) -> None:
    """By each name of this machine; people of the machine need no password."""
    context = ssl.create_default_context(cafile=str(trust_of(settings, tmp_path)))

    here = ask(settings, "/v1/calc/list", context)
    other = ask(settings, "/v1/calc/list", context, Host="evil.example")
    named = ask(settings, "/v1/calc/list", context, Host=f"quakes.example:{settings.web_port}")

    assert (here.status, other.status, named.status) == (200, 403, 200)
    assert here.getheader("strict-transport-security") is None
    with (
        socket.create_connection(("127.0.0.1", settings.web_port), 60) as plain,
        context.wrap_socket(plain, server_hostname="quakes.example") as found,
    ):
        names = {value for _, value in found.getpeercert()["subjectAltName"]}  # type: ignore[index, misc]
        assert {"quakes.example", "localhost", "127.0.0.1"} <= names
        assert found.version() in ("TLSv1.2", "TLSv1.3")
    assert health.is_serving(settings, "web")


def test_certificate_is_for_the_web_only(settings: Settings, tmp_path: Path) -> None:
    """Services of the cluster do not take it for one of theirs, nor for a person."""
    context = ssl.create_default_context(cafile=str(trust_of(settings, tmp_path)))
    context.check_hostname = True
    with (
        socket.create_connection(("127.0.0.1", settings.web_port), 60) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="peer.quakegrid.internal")


def test_plain_http_is_not_spoken(settings: Settings) -> None:
    """Where others could read on the way."""
    with socket.create_connection(("127.0.0.1", settings.web_port), 60) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"ok" not in plain.recv(1000)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_stranger_of_the_machine_logs_in_as_from_elsewhere(settings: Settings, tmp_path: Path) -> None:
    """And is nobody before, whatever a header says: no proxy is named."""
    tmp_path.chmod(0o755)
    command = [sys.executable, "-c", AS_OTHER, str(OTHER_USER), str(settings.web_port)]
    command += [str(trust_of(settings, tmp_path))]

    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    first, spoofed, login, me = said.splitlines()
    assert first.startswith("403 ")
    assert spoofed.startswith("403 ")
    assert login == "200 b'Successful login'"
    assert '"name":"anna","role":"user","way":"cookie"' in me
