"""Templates that cannot be started for a while, or do not answer, in the test's own event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from quakegrid import testing
from quakegrid.services.agent import orders, packets
from quakegrid.services.agent.node.templates import templates as templates_module
from quakegrid.services.agent.node.templates.templates import Templates
from quakegrid.services.agent.rules import load_failures
from quakegrid.settings import config
from tests.integration.agent.test_template_orders import full_pipe

TIMEOUT_S = 60.0
SPEC = orders.WorkerSpec("w", 1, "tcp://127.0.0.1:1", "node", (0,), 0, 0, "", "")
FORK_WORKER = orders.ForkWorker("w", SPEC)


def test_template_is_started_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was ordered meanwhile waits and is done."""
    path = testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    monkeypatch.setenv("OQ_CONFIG_FILE", str(path))
    monkeypatch.setattr(load_failures, "LOAD_PAUSE_S", 0.01)
    executable = sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))

    async def run() -> list[orders.ChildReport]:
        loop = asyncio.get_running_loop()
        reports: list[orders.ChildReport] = []
        told = loop.create_future()

        def on_report(report: orders.ChildReport) -> None:
            reports.append(report)
            if not told.done():
                told.set_result(None)

        def on_lost(_names: Sequence[str], _reason: str) -> None:
            raise AssertionError("no template was lost")

        templates = Templates(settings, "a-b-c", on_report=on_report, on_state=lambda: None, on_lost=on_lost)
        templates.start()
        # Without its setup, which the template will refuse.
        templates.fork(FORK_WORKER)
        assert not templates.pid
        monkeypatch.setattr(sys, "executable", executable)
        try:
            await asyncio.wait_for(told, TIMEOUT_S)
            assert templates.state.is_ready
        finally:
            templates.stop(1.0)
        return reports

    (report,) = asyncio.run(run())

    assert isinstance(report, orders.NotForked)
    assert report.name == "w"


def test_template_that_is_stopped_is_kept_for_its_driver_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one takes the orders meanwhile; the agent sees the end of the driver, and how it ended."""
    path = testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    monkeypatch.setenv("OQ_CONFIG_FILE", str(path))
    monkeypatch.setattr(templates_module, "LOOK_S", 0.05)

    async def run() -> None:
        changed = asyncio.Event()

        async def until(is_so: Callable[[], Any]) -> None:
            async with asyncio.timeout(TIMEOUT_S):
                while not is_so():
                    changed.clear()
                    await changed.wait()

        forked: dict[str, int] = {}
        ended: dict[int, int] = {}
        lost: list[str] = []

        def on_report(report: orders.ChildReport) -> None:
            if isinstance(report, orders.Forked):
                forked[report.name] = report.pid
            if isinstance(report, orders.Exited):
                ended[report.pid] = report.status
            changed.set()

        def on_lost(names: Sequence[str], _reason: str) -> None:
            lost.extend(names)
            changed.set()

        templates = Templates(settings, "a-b-c", on_report=on_report, on_state=changed.set, on_lost=on_lost)
        templates.start()
        reader, writer = full_pipe()
        stdio = [os.open(os.devnull, os.O_RDWR) for _ in range(4)]  # and where it writes the ids of its jobs
        request = packets.write_memfd("request", b"{}")
        try:
            # Without an engine it refuses, and waits until somebody reads that.
            templates.fork(orders.ForkDriver("driver-1"), [request, writer, *stdio])
            await until(lambda: "driver-1" in forked)
            first = psutil.Process(templates.pid)
            first.suspend()
            templates.fork(FORK_WORKER, [request, request])
            await until(lambda: templates.state.is_ready and templates.pid != first.pid)
            assert (first.is_running(), lost) == (True, ["w"])  # it never forked that one

            os.kill(forked["driver-1"], signal.SIGKILL)
            await until(lambda: ended)
            assert ended == {forked["driver-1"]: signal.SIGKILL}
            assert (first.is_running(), lost) == (False, ["w"])
        finally:
            packets.close_all([reader, writer, request, *stdio])
            templates.stop(1.0)

    asyncio.run(run())
