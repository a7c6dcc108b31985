"""A path that is not UTF-8 closes gRPC's port in a service: it is served there again, by the same process."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from quakegrid import errors
from tests.fuzz import http2, tls
from tests.fuzz.doors.tls import addresses
from tests.fuzz.scenes import ClusterScene
from tests.fuzz.sockets import drain
from tests.support import kernel

pytestmark = pytest.mark.alone  # gRPC has one second to take a call

END_S = 20.0
NAMES = ("dbserver", "broker", "agent")
# Until gRPC has taken the call; it keeps the connection.
TAKEN_S = 1.0


@pytest.fixture(scope="module")
def scene() -> Iterator[ClusterScene]:
    """A cluster, whose services are told one after the other."""
    with ClusterScene() as scene:
        yield scene


@pytest.mark.parametrize("name", NAMES)
def test_service_is_not_deaf_after_a_path_that_is_not_text(name: str, scene: ClusterScene) -> None:
    """Whoever comes afterwards is served, while others hold streams as ever."""
    pid = scene.pids()[name]
    born = kernel.start_time(pid)
    context = tls.with_key(scene.settings.authkey, scene.directory)
    call = http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, http2.request(b"/\xff\xfe/a"))

    with socket.create_connection(addresses(scene)[NAMES.index(name)]) as connection:
        connection.settimeout(TAKEN_S)
        with contextlib.suppress(OSError), context.wrap_socket(connection) as secure:
            secure.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b"") + call)
            drain(secure)

    _wait_until_served(name, scene)
    assert kernel.start_time(pid) == born


def _wait_until_served(name: str, scene: ClusterScene) -> None:
    """Call the service, with connections of our own, until it answers."""
    end_s = time.monotonic() + END_S
    while True:
        neighbour = scene.neighbour(name)
        try:
            with neighbour:
                return
        except errors.QuakeGridError:
            assert time.monotonic() < end_s, f"the {name} is deaf"
