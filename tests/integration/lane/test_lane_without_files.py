"""A lane that may open no more files."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

from quakegrid.transport import lane_sockets
from tests.integration.lane.test_lane import RunningLane, greet, running

WAIT_S = 60.0
# Connections that still find a file.
LEFT_COUNT = 5
__all__ = ["running"]  # a fixture


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what the lane does."""
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_lane_without_a_free_file_closes_its_port_until_it_has_one(running: RunningLane) -> None:
    """Its I/O thread would try for ever to accept whoever waits, and take a whole core."""
    folder = Path(f"/proc/{running.process.pid}/fd")
    host, _, port = running.endpoint.removeprefix("tcp://").rpartition(":")
    address = host, int(port)
    old = running.worker("w0")
    greet(old)
    highest = max(int(path.name) for path in folder.iterdir())
    _soft, hard = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (highest + LEFT_COUNT, hard))

    with contextlib.ExitStack() as strangers:

        def is_refused() -> bool:
            try:
                strangers.enter_context(socket.create_connection(address, WAIT_S))
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:  # it was taken just before the port was closed
                pass
            return False

        wait_until(is_refused)
        old.send(lane_sockets.PROBE)
        assert old.poll(WAIT_S * 1000)  # those that are connected are heard all the same

    greet(running.worker("w1"))
