"""What the node serves: does what `rules/service.py` decides, and remembers it for the next agent.

Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, assert_never

from quakegrid import errors
from quakegrid.api.v1 import nodes_pb2
from quakegrid.machine import node_state, service_life
from quakegrid.services.agent.rules.service import (
    CoresDialled,
    KillWorkers,
    PublishService,
    RememberService,
    ReplaceTemplate,
    RestartAsked,
    ServeAsked,
    Service,
    ServiceAction,
    ServiceEvent,
    ServicePhase,
    ServiceStopAsked,
    WorkersEnded,
)
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.agent")
# The phases in the words of the status.
STATES = {
    ServicePhase.SERVING: nodes_pb2.SERVICE_STATE_SERVING,
    ServicePhase.STOPPED: nodes_pb2.SERVICE_STATE_STOPPED,
    ServicePhase.DRAINING: nodes_pb2.SERVICE_STATE_RESTARTING,
    ServicePhase.AWAITING_DRIVERS: nodes_pb2.SERVICE_STATE_SERVING,
}


class Node(Protocol):
    """The rest of the node, as serving needs it."""

    @property
    def worker_count(self) -> int:
        """Workers that run, start or end."""

    @property
    def driver_count(self) -> int:
        """Drivers that run, start or end."""

    def publish_status(self) -> None:
        """Tell the watchers the node's present status."""

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
        record = node_state.read(settings.state_dir)
        phase = ServicePhase.STOPPED if record.is_stopped else ServicePhase.SERVING
        self._service = Service(core_count, record.core_limit, phase)
        # Runs while the node is to be restarted when its children have ended.
        self._watching: asyncio.Task[None] | None = None

    @property
    def all_core_count(self) -> int:
        """Cores of the node."""
        return self._service.all_core_count

    @property
    def is_serving(self) -> bool:
        """Whether workers may start."""
        return self._service.is_serving

    @property
    def core_count(self) -> int:
        """Cores that the fleet may use now."""
        return self._service.core_count

    @property
    def state(self) -> nodes_pb2.ServiceState.ValueType:
        """The state, in the words of the status."""
        return STATES[self._service.phase]

    def start(self, core_limit: int) -> bool:
        """Serve so many cores, -1 for all, 0 for as many as before; returns whether the node served already.

        Raises:
            UsageError: the node has fewer cores.
        """
        self._check(core_limit)
        return self._handle(ServeAsked(core_limit))

    def set_cores(self, core_limit: int) -> None:
        """Serve so many cores from now on, -1 for all; the broker drains surplus workers.

        Raises:
            UsageError: the node has fewer cores.
        """
        self._check(core_limit)
        self._handle(CoresDialled(core_limit))

    def stop(self, *, is_forced: bool) -> bool:
        """Serve no core; workers end after their tasks, or now if forced. Returns whether the node served."""
        return self._handle(ServiceStopAsked(is_forced))

    def restart(self, *, is_forced: bool) -> bool:
        """Let the workers end, replace the template when it has no children, and serve again.

        Returns:
            Whether the node served before.
        """
        return self._handle(RestartAsked(is_forced))

    def _handle(self, event: ServiceEvent) -> bool:
        """Let the core take an event, and do what it asks for; returns whether the node served before."""
        was_serving = self._service.is_serving
        for action in self._service.handle(event):
            self._perform(action)
        if self._service.awaits_children and self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch_children(), name="restart")
            self._watching.add_done_callback(service_life.must_not_fail)
        return was_serving

    def _perform(self, action: ServiceAction) -> None:
        match action:
            case RememberService(core_limit, is_stopped):
                self._remember(core_limit, is_stopped=is_stopped)
            case PublishService():
                self._node.publish_status()
            case KillWorkers():
                self._node.kill_workers()
            case ReplaceTemplate():
                self._node.restart_template()
            case _ as unreachable:
                assert_never(unreachable)

    async def _watch_children(self) -> None:
        """Tell the core when the node has no workers, for as long as it waits for that."""
        while self._service.awaits_children:
            if not self._node.worker_count:
                self._handle(WorkersEnded(self._node.driver_count))
            if self._service.awaits_children:
                await self._node.wait_for_change()
        self._watching = None

    def _check(self, core_limit: int) -> None:
        if not node_state.ALL_CORES <= core_limit <= self.all_core_count:
            most = self.all_core_count
            raise errors.UsageError(f"this node has {most} cores: 0 to {most} or all, not {core_limit}")

    def _remember(self, core_limit: int, *, is_stopped: bool) -> None:
        """Write down what the node is to serve, for an agent that comes later, and tell who watches."""
        try:
            node_state.change(self._state_dir, core_limit=core_limit, is_stopped=is_stopped)
        except OSError as exc:
            log.warning("not_remembered core_limit=%d is_stopped=%s reason=%s", core_limit, is_stopped, exc)
        log.info("serving state=%s cores=%d", nodes_pb2.ServiceState.Name(self.state), self.core_count)
        self._node.publish_status()
