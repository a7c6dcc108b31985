"""Sessions that no node of the fleet fits, which therefore fail.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quakegrid.services.broker.fleet.events import Action, FailSession
from quakegrid.services.broker.fleet.state import FleetNode, FleetSession, SessionPhase
from quakegrid.services.broker.fleet.workers import WorkerTable

# The reason names so many nodes; a user who mends one of them mends the others, too.
MAX_TOLD = 20


def fail(
    sessions: Iterable[FleetSession], nodes: Mapping[str, FleetNode], workers: WorkerTable
) -> list[Action]:
    """Fail sessions that have no worker and no node that could work for them, when all nodes are known.

    A node that leaves is not known: it may join again with what a session needs. A fleet without nodes, all
    of which join, gets some when a scheduler starts their agents.

    Args:
        sessions: that may have workers.
        nodes: of the fleet, by host.
        workers: of the fleet.
    """
    unfit = [
        session
        for session in sessions
        if len(session.left_out) >= len(nodes) > 0
        and not session.is_failed
        and not workers.count_of_session(session.session_id)
    ]
    if not unfit or not all(node.is_ready for node in nodes.values()):
        return []
    failed: list[Action] = []
    for session in unfit:
        session.move_to(SessionPhase.FAILED)
        told = list(nodes.values())[:MAX_TOLD]
        lines = [f"{node.title}: {', '.join(session.left_out[node.host])}" for node in told]
        if len(nodes) > MAX_TOLD:
            lines.append(f"and {len(nodes) - MAX_TOLD} further nodes")
        failed.append(FailSession(session.session_id, f"every node is left out: {'; '.join(lines)}"))
    return failed
