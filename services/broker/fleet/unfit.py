"""Sessions that no node of the fleet fits, which therefore fail.

Pure.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from services.broker.fleet.events import Action, FailSession
from services.broker.fleet.state import FleetNode, FleetSession, SessionPhase


def fail(
    sessions: Iterable[FleetSession], nodes: Mapping[str, FleetNode], having: Container[int]
) -> list[Action]:
    """Fail sessions that have no worker and no node that could work for them, when all nodes are up.

    A fleet without nodes, all of which join, gets some when a scheduler starts their agents.

    Args:
        sessions: that may have workers.
        nodes: of the fleet, by host.
        having: ids of sessions that have workers.
    """
    unfit = [
        session
        for session in sessions
        if len(session.left_out) >= len(nodes) > 0
        and not session.is_failed
        and session.session_id not in having
        and all(host in session.left_out for host in nodes)
    ]
    if not unfit or not all(node.tells_cores for node in nodes.values()):
        return []
    failed: list[Action] = []
    for session in unfit:
        session.move_to(SessionPhase.FAILED)
        lines = [f"{node.title}: {', '.join(session.left_out[node.host])}" for node in nodes.values()]
        failed.append(FailSession(session.session_id, f"every node is left out: {'; '.join(lines)}"))
    return failed
