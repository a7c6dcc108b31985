"""A lane's process as the broker has it: one that does not read, and what it tells."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from quakegrid import testing
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.broker.lanes import process as lanes
from quakegrid.services.broker.lanes.process import LaneProcess
from quakegrid.settings.config import Settings
from quakegrid.transport.lane_sockets import CONTROL_BYTES
from quakegrid.wire.v1 import lane_pb2
from tests.support.calls import loops


async def stop_reading(settings: Settings) -> tuple[str, list[lane_pb2.ControlMessage]]:
    """Why a lane died that was stopped while it was told much, and what it counted before."""
    counts: list[lane_pb2.ControlMessage] = []
    died = asyncio.get_running_loop().create_future()
    process = LaneProcess(settings)
    try:
        process.listen(testing.free_ports(1)[0], on_message=counts.append, on_death=died.set_result)
        await process.wait_until_ready()
        for packet in (b"\xff\xff", lane_pb2.ControlMessage(counts={"queued_count": -1}).SerializeToString()):
            process._take(packet)
        os.kill(process.pid, signal.SIGSTOP)
        lost = orders_pb2.WorkerEnd(session_id=1, worker_id="w", reason="r" * 100_000)
        while process.is_alive:
            process.send(lane_pb2.ControlMessage(worker_lost=lost))
            await asyncio.sleep(0)
        return await died, counts
    finally:
        await process.stop()


def test_lane_that_does_not_read_is_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is bounded; another takes its place. What it tells and cannot be is left out."""
    monkeypatch.setattr(lanes, "MAX_OUTGOING_BYTES", 1 << 20)

    reason, counts = loops.run(stop_reading(settings))

    assert "died (exit status -9)" in reason
    assert counts == []


SNDBUF_BYTES = 50_000


async def send_too_much(settings: Settings) -> int:
    """How many tasks a lane counts that was told something too large for its socket, and then a session."""
    counts: asyncio.Queue[lane_pb2.ControlMessage] = asyncio.Queue()
    process = LaneProcess(settings)
    try:
        process.listen(testing.free_ports(1)[0], on_message=counts.put_nowait, on_death=print)
        await process.wait_until_ready()
        process._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF_BYTES // 4)
        for size in (CONTROL_BYTES + 1, SNDBUF_BYTES):
            too_large = orders_pb2.WorkerEnd(session_id=1, worker_id="w", reason="r" * size)
            process.send(lane_pb2.ControlMessage(worker_lost=too_large))
        process.send(lane_pb2.ControlMessage(open=lane_pb2.OpenLaneSession(session_id=7, max_attempts=2)))
        process.send(lane_pb2.ControlMessage(close=lane_pb2.CloseLaneSession(session_id=7)))
        return (await asyncio.wait_for(counts.get(), 20)).counts.session_id
    finally:
        await process.stop()


def test_order_that_no_socket_takes_is_left_out_and_no_other(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The lane hears what follows; else it would never hear of a session again."""
    assert loops.run(send_too_much(settings)) == 7
    assert caplog.text.count("lane_order_too_large") == 2
