"""What becomes of the fleet's nodes: they join, report, are lost, leave and are forgotten.

Pure. Changes nodes, and takes their workers in or gives them up; who gets their cores is decided by the
placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.broker.fleet.cores import CoreTable
from quakegrid.services.broker.fleet.events import (
    Action,
    ForgetNode,
    LeaveOut,
    LoseWorker,
    NodeJoined,
    NodeLeaving,
    NodeLost,
    NodeReported,
)
from quakegrid.services.broker.fleet.leftovers import Leftovers
from quakegrid.services.broker.fleet.state import FleetNode, FleetSession, FleetWorker, NodePhase
from quakegrid.services.broker.fleet.workers import WorkerTable

# A node that joined and vanished without a word, as when a scheduler killed its job, will hardly come back;
# if it does, it joins again.
FORGET_AFTER_S = 600


class FleetNodes:
    """Changes the nodes of one fleet.

    Args:
        nodes: by host.
        sessions: that are open, by id.
        workers: of the fleet.
        leftovers: workers that nobody wants.
        cores: of the nodes, where the cores that they give are entered.
    """

    def __init__(
        self,
        nodes: dict[str, FleetNode],
        sessions: Mapping[int, FleetSession],
        workers: WorkerTable,
        leftovers: Leftovers,
        cores: CoreTable,
    ) -> None:
        self._nodes, self._sessions, self._workers = nodes, sessions, workers
        self._leftovers, self._cores = leftovers, cores
        # Nodes that leave, by host: they are forgotten when their workers have ended.
        self._leaving: dict[str, FleetNode] = {}

    def handle(self, event: NodeReported | NodeLost | NodeJoined | NodeLeaving) -> list[Action]:
        """Take an event of a node."""
        match event:
            case NodeReported():
                return self._on_reported(event)
            case NodeLost():
                return self._on_lost(event)
            case NodeJoined(host):
                self._on_joined(host)
            case NodeLeaving(host):
                self._on_leaving(host)
            case _ as unreachable:
                assert_never(unreachable)
        return []

    def pass_second(self) -> list[Action]:
        """About a second went by: guests that were lost long ago leave, and leftovers are stopped again."""
        for node in self._nodes.values():
            node.is_refusing = False
            if node.phase is NodePhase.LOST:
                node.lost_s += 1
                if node.is_guest and node.lost_s > FORGET_AFTER_S:
                    self._on_leaving(node.host)
        self._leftovers.pass_second()
        return list(self._leftovers.due(self._may_have_workers))

    def forget(self) -> list[Action]:
        """Let go of nodes that leave and have no workers any more."""
        if not self._leaving:
            return []
        gone = [host for host in self._leaving if not self._cores[host].used]
        for host in gone:
            del self._nodes[host], self._leaving[host]
            self._leftovers.forget(host)
            self._cores.forget(host)
            for session in self._sessions.values():
                session.forget_node(host)
        return [ForgetNode(host) for host in gone]

    def compare(self, session: FleetSession, node: FleetNode) -> list[Action]:
        """Tell a session that a node does not have what the session needs, if that is news."""
        found = () if session.is_local else session.compare(node)
        return [LeaveOut(node.host, session.session_id, found)] if found else []

    def adopt(self, worker_id: str, session_id: int, host: str) -> None:
        """Take over a worker that an earlier broker started, or one that was given up and runs on."""
        if worker_id in self._workers or not self._may_have_workers(session_id):
            return
        width = -(-self._sessions[session_id].width // self._nodes[host].cores_per_worker)
        worker = FleetWorker(worker_id, session_id, host, is_started=True, core_count=width)
        worker.is_draining = self._leftovers.is_condemned(host, worker_id)
        self._workers.add(worker)

    def look_of(self, host: str) -> object:
        """All of a node that matters for placement."""
        node = self._nodes.get(host)
        if node is None:
            return None
        had = node.core_count, node.phase, node.cores_per_worker, node.is_refusing
        return had, node.fingerprint, node.older_fingerprints, self._cores[host].used

    def usable_by(self, session: FleetSession) -> dict[str, int]:
        """Cores of the nodes that are up and have what a session needs, by host."""
        return {
            node.host: node.core_count
            for node in self._nodes.values()
            if node.core_count and node.host not in session.left_out
        }

    def title(self, host: str) -> str:
        """How a node's agent calls itself, or else its host."""
        return self._nodes[host].name or host

    def _on_reported(self, event: NodeReported) -> list[Action]:
        node = self._nodes[event.host]
        was_lost = node.phase is NodePhase.LOST
        self._take_in(node, event)
        actions: list[Action] = []
        if event.present is not None:  # its agent may be another
            for session in self._sessions.values():
                session.try_again(event.host)
        if node.core_count and not node.is_compared:
            node.is_compared = True
            for session in self._sessions.values():
                actions += self.compare(session, node)
        self._leftovers.report(event.host, event.workers, is_first=event.present is not None)
        if was_lost:  # the lanes have forgotten what the node still runs
            actions += self._leftovers.stop_all(event.host)
        for worker_id, session_id in event.workers:
            self.adopt(worker_id, session_id, event.host)
        if event.present is not None:
            actions += self._lose_absent(node, event.present)
        actions += self._leftovers.due(self._may_have_workers, [event.host])
        return actions

    def _lose_absent(self, node: FleetNode, present: frozenset[str]) -> list[Action]:
        """Give up the workers that ended while the agent was out of reach."""
        reason = f"node {node.name}: it ended while its agent was out of reach"
        here = self._workers.of_host(node.host)
        absent = [worker for worker in here if worker.is_started and worker.worker_id not in present]
        return [self._lose(worker, reason) for worker in absent]

    def _on_lost(self, event: NodeLost) -> list[Action]:
        node = self._nodes[event.host]
        self._give(node, 0)
        node.state = event.reason
        if not node.is_leaving:
            node.move_to(NodePhase.LOST)
        self._leftovers.forget(event.host)
        reason = f"node {node.name or node.host}: {event.reason}"
        return [self._lose(worker, reason) for worker in self._workers.of_host(event.host)]

    def _on_joined(self, host: str) -> None:
        node = self._nodes.setdefault(host, FleetNode(host, -1, is_guest=True))
        self._cores.enter(host)
        node.lost_s = 0
        if node.is_leaving:
            node.move_to(NodePhase.AWAITED)
            del self._leaving[host]

    def _on_leaving(self, host: str) -> None:
        node = self._nodes.get(host)
        if node is not None:
            node.move_to(NodePhase.LEAVING)
            node.state = "leaving"
            self._give(node, 0)
            self._leaving[host] = node

    def _lose(self, worker: FleetWorker, reason: str) -> LoseWorker:
        self._workers.remove(worker.worker_id)
        # That a node vanished says little about the task that it ran.
        end = WorkerEnd(
            worker.session_id,
            worker.worker_id,
            reason,
            is_clean=False,
            node=self.title(worker.host),
            is_blameless=True,
        )
        return LoseWorker(end)

    def _take_in(self, node: FleetNode, event: NodeReported) -> None:
        """Change a node to what its agent said."""
        had = node.fingerprint, node.older_fingerprints
        if had != (event.fingerprint, event.older_fingerprints):
            node.fingerprint, node.older_fingerprints = event.fingerprint, event.older_fingerprints
            node.is_compared = False
        node.name, node.state, node.is_refusing = event.node, event.state, False
        node.cores_per_worker = event.cores_per_worker
        if not node.is_leaving:
            node.move_to(_phase(event))
            node.lost_s = 0
        limit = event.core_count if node.limit == -1 else min(node.limit, event.core_count)
        most = 1 if event.is_short_of_memory else limit
        self._give(node, min(most, limit // event.cores_per_worker) if node.is_up else 0)

    def _give(self, node: FleetNode, core_count: int) -> None:
        """A node gives so many cores from now on; while it gives none, sessions are not compared with it."""
        node.core_count = core_count
        self._cores.give(node.host, core_count)
        if not core_count:
            node.is_compared = False

    def _may_have_workers(self, session_id: int) -> bool:
        """Whether workers of a session should be anywhere."""
        return session_id in self._sessions and self._sessions[session_id].may_have_workers


def _phase(event: NodeReported) -> NodePhase:
    if not event.is_ready:
        return NodePhase.LOADING
    return NodePhase.UP if event.is_serving else NodePhase.STOPPED
