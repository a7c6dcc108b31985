"""Whether and with how many cores the node serves the fleet, and how it gets from one to the other.

A node that is stopped or restarts offers no cores: the broker drains its workers, each ends after the
task that it holds. The agent remembers this over its restarts. Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from quakegrid import errors
from quakegrid.api.v1 import nodes_pb2
from quakegrid.machine import node_state, service_life
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.agent")


class Node(Protocol):
    """The children of this node, as serving needs them."""

    @property
    def worker_count(self) -> int:
        """Workers that live, or are about to."""

    @property
    def driver_count(self) -> int:
        """Drivers that live, or are about to."""

    def publish_status(self) -> None:
        """Tell who watches that something changed."""

    def kill_workers(self) -> None:
        """Kill every worker."""

    def restart_template(self) -> None:
        """Replace the template; it has no children."""

    async def wait_for_change(self) -> None:
        """Wait until the status changes."""


class Serving:
    """The cores that the fleet may use.

    Args:
        settings: of the cluster.
        core_count: cores of the node.
        node: its children.
    """

    def __init__(self, settings: Settings, core_count: int, node: Node) -> None:
        self._state_dir, self._node = settings.state_dir, node
        self.all_core_count = core_count
        record = node_state.read(settings.state_dir)
        self._limit, self._is_stopped = record.core_limit, record.is_stopped
        self._restart: asyncio.Task[None] | None = None
        self._is_draining = False

    @property
    def is_serving(self) -> bool:
        """Whether workers may start."""
        return not self._is_stopped and not self._is_draining

    @property
    def core_count(self) -> int:
        """Cores that the fleet may use now."""
        if not self.is_serving:
            return 0
        return self.all_core_count if self._limit < 0 else min(self._limit, self.all_core_count)

    @property
    def state(self) -> nodes_pb2.ServiceState.ValueType:
        """In the words of the status."""
        if self._is_draining:
            return nodes_pb2.SERVICE_STATE_RESTARTING
        return nodes_pb2.SERVICE_STATE_STOPPED if self._is_stopped else nodes_pb2.SERVICE_STATE_SERVING

    def start(self, core_limit: int) -> bool:
        """Serve so many cores, -1 for all, 0 for as many as before; whether the node served already.

        Raises:
            UsageError: there are not so many.
        """
        self._check(core_limit)
        was_serving = self.is_serving
        self._cancel_restart()
        self._keep(core_limit or self._limit, is_stopped=False)
        return was_serving

    def set_cores(self, core_limit: int) -> None:
        """Serve so many cores from now on, -1 for all; the broker drains what is above.

        Raises:
            UsageError: there are not so many.
        """
        self._check(core_limit)
        self._keep(core_limit, is_stopped=self._is_stopped)

    def stop(self, *, is_forced: bool) -> bool:
        """Serve no core; the workers end after their tasks, or at once. Whether the node served."""
        was_serving = self.is_serving
        self._cancel_restart()
        self._keep(self._limit, is_stopped=True)
        if is_forced:
            self._node.kill_workers()
        return was_serving

    def restart(self, *, is_forced: bool) -> bool:
        """Let the workers end, replace the template when it has no children, and serve; whether it served."""
        was_serving = self.is_serving
        self._cancel_restart()
        self._restart = asyncio.get_running_loop().create_task(self._run_restart(), name="restart")
        self._restart.add_done_callback(service_life.must_not_fail)
        self._is_draining = True
        self._keep(self._limit, is_stopped=False)
        if is_forced:
            self._node.kill_workers()
        return was_serving

    async def _run_restart(self) -> None:
        while self._node.worker_count:
            await self._node.wait_for_change()
        if self._node.driver_count:  # they wait for workers, which the old template must fork
            self._is_draining = False
            self._node.publish_status()
        while self._node.worker_count or self._node.driver_count:
            await self._node.wait_for_change()
        self._is_draining = False
        self._node.restart_template()

    def _cancel_restart(self) -> None:
        self._is_draining = False
        if self._restart:
            self._restart.cancel()
            self._restart = None

    def _check(self, core_limit: int) -> None:
        if not node_state.ALL_CORES <= core_limit <= self.all_core_count:
            most = self.all_core_count
            raise errors.UsageError(f"this node has {most} cores: 0 to {most} or all, not {core_limit}")

    def _keep(self, limit: int, *, is_stopped: bool) -> None:
        self._limit, self._is_stopped = limit, is_stopped
        try:
            node_state.change(self._state_dir, core_limit=limit, is_stopped=is_stopped)
        except OSError as exc:
            log.warning("not_remembered core_limit=%d is_stopped=%s reason=%s", limit, is_stopped, exc)
        log.info("serving state=%s cores=%d", nodes_pb2.ServiceState.Name(self.state), self.core_count)
        self._node.publish_status()
