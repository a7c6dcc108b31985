"""A real template under orders that it cannot obey: each is refused in words, and its children live on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.services.agent import orders, packets

TIMEOUT_S = 60.0


@pytest.fixture
def control(tmp_path: Path) -> Iterator[socket.socket]:
    """The agent's end of the control socket of a template that is ready; at the end it stops in order."""
    testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(TIMEOUT_S)
    command = [
        sys.executable,
        "-m",
        "quakegrid.services.agent.template",
        str(tmp_path / "state"),
        str(theirs.fileno()),
    ]
    environ = testing.isolated_environ(tmp_path)
    with ours, subprocess.Popen([*command, ""], pass_fds=[theirs.fileno()], env=environ) as process:
        theirs.close()
        assert isinstance(receive(ours), orders.Ready)
        yield ours
        assert process.poll() is None, "the template has ended"
        order(ours, orders.EndTemplate())
        assert process.wait(TIMEOUT_S) == 0


def order(control: socket.socket, order: orders.Order, fds: Sequence[int] = ()) -> None:
    """Send an order."""
    packets.send(control, packets.encode_order(order), fds)


def receive(control: socket.socket) -> orders.Report:
    """The next report."""
    report = packets.receive_report(control)
    assert report is not None
    return report


def full_pipe() -> tuple[int, int]:
    """A pipe that nobody can write to without waiting."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1 << 16))
    os.set_blocking(writer, True)
    return reader, writer


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"[]",
        b"[" * 60_000,
        b"x" * (100 << 10),
        *(
            json.dumps(order).encode()
            for order in (
                {"order": "dance"},
                {"order": ["ping"]},
                {"order": "signal", "pid": "1", "signal": 15},
                {"order": "fork_driver", "name": "d"},
                {"order": "fork_worker", "name": "w", "worker": {}},
                {"order": "fork_worker", "name": 7, "worker": {}},
            )
        ),
    ],
)
def test_order_that_is_none_is_refused_and_the_template_goes_on(control: socket.socket, data: bytes) -> None:
    """Cut, garbled, unknown, with fields missing, or without its descriptors."""
    control.send(data)
    refused = receive(control)
    order(control, orders.Ping())

    assert isinstance(refused, orders.OrderRefused | orders.NotForked)
    assert refused.reason
    assert receive(control) == orders.Pong()


def test_signal_that_there_is_not_harms_nobody(control: socket.socket) -> None:
    """Neither the template nor the child; and a pid that is no child of the template is not signalled."""
    reader, writer = full_pipe()
    stdio = [os.open(os.devnull, os.O_RDWR) for _ in range(4)]  # and where it writes the ids of its jobs
    request = packets.write_memfd("request", b"{}")
    # Without an engine it refuses, and waits until we read that.
    order(control, orders.ForkDriver("d"), [request, writer, *stdio])
    forked = receive(control)
    assert isinstance(forked, orders.Forked)
    pid = forked.pid

    order(control, orders.SignalChild(pid, 12345))
    order(control, orders.SignalChild(os.getpid(), signal.SIGKILL))
    refused = receive(control)
    order(control, orders.SignalChild(pid, signal.SIGKILL))
    exited = receive(control)
    packets.close_all([reader, writer, request, *stdio])

    assert isinstance(refused, orders.OrderRefused)
    assert isinstance(exited, orders.Exited)
    assert (exited.pid, exited.status) == (pid, signal.SIGKILL)
