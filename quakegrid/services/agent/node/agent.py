"""The agent: builds the parts of a node, connects them, and lets them start and end together.

Runs in one event loop. Each part has a module of its own; `__init__` of this folder shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket

from quakegrid.api.v1 import nodes_pb2
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.agent.node import status as node_status
from quakegrid.services.agent.node.children import Children
from quakegrid.services.agent.node.drivers import Drivers
from quakegrid.services.agent.node.exits import Exits
from quakegrid.services.agent.node.leftovers import BlobFolders, FolderLeftovers, remove_abandoned
from quakegrid.services.agent.node.limits.limits import NodeLimits
from quakegrid.services.agent.node.membership import Membership
from quakegrid.services.agent.node.output.pipes import OutputPipes
from quakegrid.services.agent.node.persons.accounts import NodeAccounts
from quakegrid.services.agent.node.serving import Serving
from quakegrid.services.agent.node.shares import WorkerShares
from quakegrid.services.agent.node.templates.templates import Templates
from quakegrid.services.agent.node.watchers import LAST_WORD, Changes, Watchers
from quakegrid.services.agent.node.worker_ends import WorkerEnds
from quakegrid.services.agent.node.workers import Workers
from quakegrid.services.agent.rules.roster import STOP_GRACE_S, Roster
from quakegrid.services.agent.rules.roster_events import StopAsked
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.agent")
# Seconds for a whole stop: the grace for workers, then a second for the end of killed processes and the
# template.
STOP_DEADLINE_S = STOP_GRACE_S + 1.0


class Agent:
    """One node: its workers and drivers, the cores that it serves, its fleet, and its watchers.

    Args:
        settings: of the cluster.
        instance_id: of this agent's process.
        mark: is in the environment of all processes that it starts.
    """

    def __init__(self, settings: Settings, instance_id: str, mark: str) -> None:
        self.instance_id, self.node = instance_id, socket.gethostname()
        self._proof_kind = node_status.proof_kind(settings)
        self.accounts = NodeAccounts(settings.agent_accounts, settings.state_dir)
        rights = self.accounts.rights
        self.leftovers = FolderLeftovers(settings.state_dir, rights)
        self.watchers = Watchers()
        self.fleet_watch_count = 0  # streams of brokers
        self.serving = Serving(settings, len(os.sched_getaffinity(0)), self)
        self.membership = Membership(settings, self)
        self.output = OutputPipes(self.node, self.watchers.publish_output, self.watchers.has_readers)
        self._roster = roster = Roster(sorted(os.sched_getaffinity(0)))
        self.templates = Templates(
            settings,
            mark,
            on_report=lambda report: self._exits.on_report(report),  # noqa: PLW0108 - it is made below
            on_state=self.publish_status,
            on_lost=lambda names, reason: self._exits.on_lost(names, reason),  # noqa: PLW0108 - as above
            rights=rights,
        )
        self._children = Children(roster, self.templates)
        self.limits = NodeLimits(settings, self.node, roster, lambda: self.templates.pid, rights)
        blobs = BlobFolders(settings.state_dir)
        shares = WorkerShares(roster, self.limits, blobs, self.leftovers, self.output)
        self.workers = Workers(self.node, self._children, self.serving, shares, self.publish_status)
        self.drivers = Drivers(settings, self.node, self._children, self.publish_status)
        self._exits = Exits(
            self.node,
            self._children,
            self.drivers,
            worker_ends=WorkerEnds(shares, self.watchers),
            leftovers=self.leftovers,
            on_change=self.publish_status,
        )

    def start_template(self) -> None:
        """Start the first template; watchers are told whenever its state changes."""
        remove_abandoned()  # agents of this user that were killed together with their templates left blobs
        self.templates.start()

    def restart_template(self) -> None:
        """Start a template in place of the present one, which has no children."""
        self.templates.restart()
        self.publish_status()

    async def watch_memory(self) -> None:
        """Kill workers that use too much memory, and tell when the node is short of it; does not return."""
        await self.limits.watch(self.workers.kill_for_limit, self.publish_status)

    async def stop(self) -> None:
        """Say goodbye, ask every child to end, kill those that do not, and end the template."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STOP_DEADLINE_S
        self._children.is_stopping = True
        self.publish_status()
        for name in list(self._roster.members):
            self._children.handle(StopAsked(name, "stopped with its agent", is_blameless=True))
        while self._roster.members and loop.time() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait_for_change(), deadline - loop.time())
        self.templates.stop(max(0.0, deadline - loop.time()) if self.templates.state.is_ready else 0.0)

    # --- for `Serving`

    def kill_workers(self) -> None:
        """Kill every worker of every session."""
        self.workers.kill_all()

    @property
    def worker_count(self) -> int:
        """Workers that run, start or end."""
        return len(self._roster.workers)

    @property
    def driver_count(self) -> int:
        """Drivers that run, start or end."""
        return len(self._roster.drivers)

    async def wait_for_change(self) -> None:
        """Wait until the status changes, or a worker ended."""
        await self.watchers.next_change()

    # --- for watchers of the node

    def watch(self) -> Changes:
        """Returns a queue that starts with the status and gets every change."""
        return self.watchers.add(orders_pb2.WatchResponse(status=self.status()))

    def end_watches(self) -> None:
        """Tell the watchers that nothing more will come."""
        self.watchers.publish(LAST_WORD)

    def publish_status(self) -> None:
        """Tell the watchers the node's present status."""
        self.watchers.publish(orders_pb2.WatchResponse(status=self.status()))

    def status(self, *, with_samples: bool = False) -> nodes_pb2.AgentStatus:
        """The node as it is now. `with_samples` adds what it uses, which takes some milliseconds."""
        status = node_status.describe(self._roster, self.drivers, self.templates, self.serving)
        status.node, status.instance_id = self.node, self.instance_id
        status.is_watched, status.proof_kind = self.fleet_watch_count > 0, self._proof_kind
        status.master, status.is_leaving = self.membership.master, self.membership.is_leaving
        self.limits.describe(status, with_samples=with_samples)
        if self._children.is_stopping:
            node_status.say_goodbye(status)
        return status
