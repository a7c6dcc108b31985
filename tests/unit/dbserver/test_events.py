"""Events of a driver: whole lines, and no stall by a command line that does not read."""

from __future__ import annotations

import json
import socket
import threading

import pytest

events = pytest.importorskip("quakegrid.engine.driver.event_stream", reason="needs openquake.engine")


def read_all(connection: socket.socket) -> list[dict[str, object]]:
    """All events until the other end closes."""
    data = b""
    while chunk := connection.recv(1 << 16):
        data += chunk
    return [json.loads(line) for line in data.splitlines()]


def test_log_records_are_left_out_when_nobody_reads_and_the_end_is_not() -> None:
    """The reader that comes late gets whole lines and how it ended."""
    ours, theirs = socket.socketpair()
    driver = events.Events(ours.detach(), is_wanted=True)
    with theirs:
        for number in range(20_000):
            driver.tell({"event": "log", "message": f"{number} " + "x" * 100})
        ending = threading.Thread(target=driver.tell, args=({"event": "end"},))
        ending.start()
        received: list[dict[str, object]] = []
        reading = threading.Thread(target=lambda: received.extend(read_all(theirs)))
        reading.start()
        ending.join()
        driver.close()
        driver._socket.close()
        reading.join()

    assert received[-1] == {"event": "end"}
    assert 1 < len(received) < 20_000


def test_command_line_that_is_gone_is_no_error() -> None:
    """The agent ends the driver; telling on does no harm."""
    ours, theirs = socket.socketpair()
    driver = events.Events(ours.detach(), is_wanted=True)
    theirs.close()

    driver.tell({"event": "job"})
    driver.tell({"event": "end"})

    driver._socket.close()
