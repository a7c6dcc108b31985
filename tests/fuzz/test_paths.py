"""A path that is not UTF-8 ends gRPC's server in a service: then the process ends, too, and says so."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.fuzz import http2, tls
from tests.fuzz.doors.tls import addresses
from tests.fuzz.scenes import ClusterScene

END_S = 20.0
EXIT_FAILED = 1


@pytest.fixture(scope="module")
def scene() -> Iterator[ClusterScene]:
    """A cluster, whose services end one after the other."""
    with ClusterScene() as scene:
        yield scene


@pytest.mark.parametrize("number", range(3), ids=["dbserver", "broker", "agent"])
def test_service_that_is_deaf_ends(number: int, scene: ClusterScene) -> None:
    """Exit code 1, so that systemd starts it again, and everybody sees that it is down."""
    context = tls.with_key(scene.settings.authkey, scene.directory)
    call = http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, http2.request(b"/\xff\xfe/a"))

    with socket.create_connection(addresses(scene)[number]) as connection:
        connection.settimeout(END_S)
        with contextlib.suppress(ssl.SSLError, OSError), context.wrap_socket(connection) as secure:
            secure.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b"") + call)
            secure.recv(1)  # it speaks HTTP/2 and has what we said

    process = (scene.dbserver, scene.broker, scene.agent)[number].process
    assert process is not None
    assert process.wait(END_S) == EXIT_FAILED
