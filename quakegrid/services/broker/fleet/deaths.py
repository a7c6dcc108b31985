"""How many workers of a session may die before a node, and then the session, is given up.

Pure. A session fails when its workers die all over the fleet and no task is done. Deaths at one node count
only up to a share of that limit, so that one broken node ends no session: the session avoids the node until
its next task is done.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.broker.fleet.events import Action, FailSession, LoseWorker
from quakegrid.services.broker.fleet.state import FleetSession, SessionPhase

# Each core is tried three times, and a small fleet a few times more. A large one has tried enough with this
# many: as many may die together, in the middle of long tasks, when somebody kills all of a node of 256 cores.
MAX_DEATHS = 300
# The deaths at one node of many count up to this part of the limit.
NODE_PART = 10
# A session bears so many deaths at each node, however few cores the node has.
MIN_PATIENCE = 10
# So many of its workers may end by orders of people, or with their template, before a task is done. With a
# template that dies whenever a worker begins, workers would otherwise be started for ever.
MAX_EXCUSED_ENDS = 300
# How long a lane may have a worker that the fleet does not have: twice as long as a node may be silent.
STRANGE_S = 30


def limit(core_counts: Mapping[str, int]) -> int:
    """Deaths that a session survives on nodes with these cores, by host."""
    return min(3 * sum(core_counts.values()) + 3, MAX_DEATHS)


def share(core_counts: Mapping[str, int]) -> int:
    """Deaths at one node that count towards the limit; those of all nodes together reach it."""
    most = limit(core_counts) + 1
    return max(-(-most // max(1, len(core_counts))), -(-most // NODE_PART))


def patience(host: str, core_counts: Mapping[str, int]) -> int:
    """Deaths at a node after which its session avoids it."""
    return min(max(3 * core_counts.get(host, 0), MIN_PATIENCE), share(core_counts))


def is_too_many(deaths: Mapping[str, int], avoided: Container[str], core_counts: Mapping[str, int]) -> bool:
    """Whether a session is given up.

    Args:
        deaths: of its workers since its last task was done, by host.
        avoided: hosts where it gets no workers for that.
        core_counts: cores of the nodes that are up and that it can use, by host.
    """
    most = share(core_counts)
    if sum(min(count, most) for count in deaths.values()) > limit(core_counts):
        return True
    return bool(core_counts) and all(host in avoided for host in core_counts)


def is_excused(session: FleetSession, end: WorkerEnd) -> bool:
    """Whether the end of a worker is nobody's death; counts the ends that have an excuse."""
    session.excused_count += end.is_blameless
    return end.is_clean or (end.is_blameless and session.excused_count <= MAX_EXCUSED_ENDS)


def note(session: FleetSession, host: str, reason: str, core_counts: Mapping[str, int]) -> list[Action]:
    """A worker of the session died at a host, and its task may be to blame."""
    session.deaths[host] += 1
    session.last_death = reason
    if session.deaths[host] >= patience(host, core_counts):
        session.avoid(host)
    return check_session(session, core_counts)


def check_session(session: FleetSession, core_counts: Mapping[str, int]) -> list[Action]:
    """Give up a session whose workers die wherever they are."""
    if session.is_failed or not is_too_many(session.deaths, session.avoided, core_counts):
        return []
    session.move_to(SessionPhase.FAILED)
    count = session.deaths.total()
    reason = f"{count} workers died and no task was done; the last: {session.last_death}"
    return [FailSession(session.session_id, reason)]


def lose_strangers(session: FleetSession, known: Container[str]) -> list[LoseWorker]:
    """Give up workers that a lane has and nobody else knows; called each second.

    Either an earlier broker started them, and they ended before this one reached their agent. Or this broker
    gave them up with their node while the order to start them was still on its way; if the lane died after
    that, the new lane was not told.

    Args:
        session: whose lane tells.
        known: the workers of the fleet.
    """
    strange = sorted(name for name in session.busy_worker_ids if name not in known)
    session.strange_s = {name: session.strange_s.get(name, 0) + 1 for name in strange}
    return [
        LoseWorker(WorkerEnd(session.session_id, name, "no agent has it", is_clean=False, is_blameless=True))
        for name, seconds in session.strange_s.items()
        if seconds % STRANGE_S == 0
    ]
