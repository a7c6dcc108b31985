"""What a node serves, how it restarts, what it remembers, and under which address it joins."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.api.v1 import nodes_pb2
from quakegrid.machine import node_state
from quakegrid.services.agent.node.membership import own_address
from quakegrid.services.agent.node.serving import Serving
from quakegrid.settings import config
from quakegrid.settings.config import Settings


class FakeNode:
    """Children that end when the test says so."""

    def __init__(self) -> None:
        self.worker_count = self.driver_count = 0
        self.template_count = 1
        self._changed = asyncio.Event()

    def publish_status(self) -> None:
        """Wake who waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    def kill_workers(self) -> None:
        """They end at once."""
        self.worker_count = 0

    def restart_template(self) -> None:
        """Count it."""
        assert self.worker_count == self.driver_count == 0
        self.template_count += 1

    async def wait_for_change(self) -> None:
        """Wait for `publish_status`."""
        await self._changed.wait()

    async def end(self, *, workers: int = 0, drivers: int = 0) -> None:
        """Let some end, and let others notice."""
        self.worker_count -= workers
        self.driver_count -= drivers
        self.publish_status()
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a node."""
    return config.load_settings(tmp_path, {})


def in_loop(test: Callable[[Settings], Coroutine[Any, Any, None]]) -> Callable[[Settings], None]:
    """Run a test in an event loop."""

    def run(settings: Settings) -> None:
        asyncio.run(test(settings))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_loop
async def test_stop_and_start_keep_the_number_of_cores(settings: Settings) -> None:
    """Also in another process."""
    serving = Serving(settings, 8, FakeNode())

    assert serving.start(3)
    assert serving.stop(is_forced=False)
    assert (serving.core_count, serving.state) == (0, nodes_pb2.SERVICE_STATE_STOPPED)
    assert not serving.stop(is_forced=False)
    later = Serving(settings, 8, FakeNode())
    assert not later.is_serving
    assert not later.start(0)
    assert later.core_count == 3
    assert later.start(-1)
    assert later.core_count == 8
    with pytest.raises(errors.UsageError, match="0 to 8 or all, not 9"):
        later.start(9)


@in_loop
async def test_limit_above_the_cores_of_a_smaller_machine_is_all_of_them(settings: Settings) -> None:
    """The affinity of the agent may have changed."""
    Serving(settings, 8, FakeNode()).start(6)

    assert Serving(settings, 4, FakeNode()).core_count == 4


@in_loop
async def test_restart_waits_for_workers_then_replaces_the_template(settings: Settings) -> None:
    """No cores meanwhile."""
    node = FakeNode()
    node.worker_count = 2
    serving = Serving(settings, 4, node)

    assert serving.restart(is_forced=False)
    await node.end(workers=1)
    assert (serving.core_count, serving.state) == (0, nodes_pb2.SERVICE_STATE_RESTARTING)
    await node.end(workers=1)

    assert (serving.core_count, node.template_count) == (4, 2)


@in_loop
async def test_restart_serves_the_drivers_that_keep_the_old_template(settings: Settings) -> None:
    """They wait for workers, and would die with it."""
    node = FakeNode()
    node.worker_count = node.driver_count = 1
    serving = Serving(settings, 4, node)

    serving.restart(is_forced=False)
    await node.end(workers=1)
    assert (serving.core_count, node.template_count) == (4, 1)
    node.worker_count = 1
    await node.end(drivers=1)
    assert node.template_count == 1
    await node.end(workers=1)

    assert (serving.core_count, node.template_count) == (4, 2)


@in_loop
async def test_stop_ends_a_restart_that_waits(settings: Settings) -> None:
    """The last word counts, and a kill leaves nothing to wait for."""
    node = FakeNode()
    node.worker_count = 2
    serving = Serving(settings, 4, node)
    serving.restart(is_forced=False)

    serving.stop(is_forced=True)
    await node.end()

    assert (node.worker_count, node.template_count) == (0, 1)
    assert serving.state == nodes_pb2.SERVICE_STATE_STOPPED


@pytest.mark.parametrize("text", ["", "{", "[]", '{"core_limit": "many", "is_stopped": 0, "master": ""}'])
def test_damaged_record_is_that_of_a_new_node(tmp_path: Path, text: str) -> None:
    """It serves, and belongs to nobody."""
    (tmp_path / node_state.FILE_NAME).write_text(text)

    assert node_state.read(tmp_path) == node_state.NodeState()


def test_own_address_is_where_the_agent_listens(settings: Settings) -> None:
    """Loopback is reached from this machine only, and the wildcard is no address."""
    there = dataclasses.replace(settings, agent_listen="127.0.0.2")
    everywhere = dataclasses.replace(settings, agent_listen="0.0.0.0")

    assert own_address(there, "127.0.0.1:1911") == "127.0.0.2"
    assert own_address(everywhere, "127.0.0.1:1911") == "127.0.0.1"
    for master in ("no.such.host.invalid:1911", "127.0.0.1:port"):
        with pytest.raises(errors.PeerUnreachableError, match="no way"):
            own_address(there, master)
