"""Drivers ordered, signalled and refused while the template loads or is gone, in the test's own loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from pathlib import Path

import pytest

from quakegrid import errors, testing
from quakegrid.services.agent.node.agent import Agent
from quakegrid.services.agent.node.drivers import DriverFiles
from quakegrid.services.agent.node.state_lock import StateLock
from quakegrid.services.agent.packets import close_all
from quakegrid.settings import config
from quakegrid.settings.config import Settings

REQUEST = {"argv": ["info"], "cwd": "/", "environ": {}, "mode": "oq"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a node without an engine."""
    path = testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    monkeypatch.setenv("OQ_CONFIG_FILE", str(path))
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


def test_drivers_are_refused_without_a_template_and_while_the_agent_stops(settings: Settings) -> None:
    """Nothing is left of them; one that is signalled twice before it is forked is told once."""
    ends: list[tuple[int, str]] = []

    def on_end(code: int, reason: str) -> None:
        ends.append((code, reason))

    async def run() -> None:
        lock = StateLock(settings.state_dir, "x")
        agent = Agent(settings, "x", lock.mark)
        fds = [os.open(os.devnull, os.O_RDWR) for _ in range(4)]

        def start() -> str:
            return agent.drivers.start(REQUEST, DriverFiles(fds[0], fds[1:]), on_end)

        with pytest.raises(errors.QuakeGridError, match="no template"):
            start()
        assert agent.driver_count == 0

        agent.start_template()
        name = start()
        for _ in range(2):
            agent.drivers.signal(name, signal.SIGINT)
        agent.drivers.signal("nobody", signal.SIGINT)
        assert (agent.driver_count, len(agent.status().drivers)) == (1, 1)

        await agent.stop()
        with pytest.raises(errors.QuakeGridError, match="about to stop"):
            start()
        close_all(fds)
        lock.close()

    gc.collect()  # what other tests have left
    before = len(list(Path("/proc/self/fd").iterdir()))
    asyncio.run(run())

    assert ends == [(128 + signal.SIGINT, "")]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_too_few_descriptors_leave_no_driver(settings: Settings) -> None:
    """It is told which one is missing."""

    async def run() -> None:
        lock = StateLock(settings.state_dir, "x")
        agent = Agent(settings, "x", lock.mark)
        agent.start_template()
        with pytest.raises(errors.QuakeGridError, match=r"could not start a driver: .*Bad file descriptor"):
            agent.drivers.start(REQUEST, DriverFiles(10_000, [0, 1, 2]), lambda _code, _reason: None)
        assert agent.driver_count == 0
        await agent.stop()
        lock.close()

    asyncio.run(run())
