"""A lane's process as the broker has it: one that does not read, and what it tells."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from quakegrid import testing
from quakegrid.internal.v1 import orders_pb2
from quakegrid.settings.config import Settings
from quakegrid.wire.v1 import lane_pb2
from services.broker.lanes import process as lanes
from services.broker.lanes.process import LaneProcess


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

    reason, counts = asyncio.run(stop_reading(settings))

    assert "died (exit status -9)" in reason
    assert counts == []
