"""The fleet core at its real size, under many sessions: 100 nodes of 64 cores, bounded by counts of actions.

The small machine of `test_fleet_machine.py` finds wrong states; this one finds sums that go wrong, workers
that move for nothing and work that does not end, where thousands of workers are concerned.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from benchmarks.support.fleet_crowd import MANY_TASKS, FleetCrowd
from quakegrid.services.broker.fleet import events as fleet

NODE_COUNT, CORE_COUNT = 100, 64
ALL_CORES = NODE_COUNT * CORE_COUNT
# Sessions that come at once.
CROWD_SIZES = [1, 2, 10, 40]
MAX_SESSIONS = 100
# Cores that are given to one session, taken back for one that leaves nodes out, and given to it.
MOVES_A_CORE = 3


class FleetSizeMachine(RuleBasedStateMachine):
    """Agents and lanes do at once as they are told; every second session leaves out every tenth node."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd = FleetCrowd(NODE_COUNT, is_mixed=True)
        self.core = self.crowd.core
        self.last_id = 0

    def settle(self) -> None:
        """Workers come to rest where they belong, after few moves, and the sums are right."""
        moves = self.crowd.obey(burst=64)
        for _ in range(4):
            self.crowd.turn([self.crowd.count(each) for each in self.core.sessions if self.has_many(each)])
            self.crowd.turn([fleet.SecondPassed()])
            moves += self.crowd.obey(burst=64)
        assert moves <= MOVES_A_CORE * ALL_CORES
        assert self.crowd.turn([fleet.SecondPassed()]) == [], "workers move although nothing happens"
        self.core.check()
        self.check_cores()

    def has_many(self, session_id: int) -> bool:
        """Whether a session has more tasks than there are cores."""
        return self.core.sessions[session_id].task_count != 0

    def check_cores(self) -> None:
        """No core is free that a session could use, and each has its part of the nodes that fit it."""
        wanting = [each for each in self.core.sessions.values() if each.task_count != 0]
        free = {node.host for node in self.core.nodes.values() if self.core.cores[node.host].free > 0}
        for session in wanting:
            held, usable = (
                self.core.workers.held[session.session_id],
                self.core.cores.given_to(session.session_id),
            )
            limit = min(session.max_workers or ALL_CORES, usable)
            assert held == limit or free <= session.left_out.keys()
            assert held >= min(limit, usable // len(wanting)) - 1

    @precondition(lambda self: len(self.core.sessions) < MAX_SESSIONS)
    @rule(count=st.sampled_from(CROWD_SIZES), max_workers=st.sampled_from([0, 0, 0, 50]))
    def come(self, count: int, max_workers: int) -> None:
        """Drivers come, each with more tasks than there are cores."""
        for _ in range(min(count, MAX_SESSIONS - len(self.core.sessions))):
            self.last_id += 1
            self.crowd.open(self.last_id, max_workers=max_workers)
            self.crowd.turn([self.crowd.count(self.last_id, MANY_TASKS)])
        self.settle()

    @precondition(lambda self: self.core.sessions)
    @rule(data=st.data(), count=st.sampled_from(CROWD_SIZES))
    def go(self, data: st.DataObject, count: int) -> None:
        """Drivers go in one turn of the loop."""
        first = data.draw(st.integers(0, len(self.core.sessions) - 1))
        session_ids = list(self.core.sessions)[first : first + count]
        self.crowd.turn([fleet.SessionEnded(each, is_forced=True) for each in session_ids])
        self.settle()

    @precondition(lambda self: self.core.sessions)
    @rule(data=st.data(), has_tasks=st.booleans())
    def change_tasks(self, data: st.DataObject, has_tasks: bool) -> None:
        """A session has no task any more, or many again."""
        session_id = data.draw(st.sampled_from(sorted(self.core.sessions)))
        self.crowd.turn([self.crowd.count(session_id, MANY_TASKS if has_tasks else 0)])
        self.settle()

    @rule(first=st.integers(0, NODE_COUNT - 1), count=st.sampled_from([1, 10, NODE_COUNT]))
    def lose_and_find(self, first: int, count: int) -> None:
        """Nodes are lost together, as when a switch fails, and come back without their workers."""
        hosts = self.crowd.hosts[first : first + count]
        self.crowd.turn([fleet.NodeLost(host, "gone") for host in hosts])
        self.core.check()
        for host in hosts:
            self.crowd.lose_workers(host)
        self.crowd.turn([self.crowd.report(host, is_first=True) for host in hosts])
        self.settle()

    @rule(first=st.integers(0, NODE_COUNT - 1), count=st.sampled_from([1, 10]))
    def kill_workers(self, first: int, count: int) -> None:
        """All workers of some nodes end."""
        for host in self.crowd.hosts[first : first + count]:
            self.crowd.turn([self.crowd.exit(worker_id) for worker_id in list(self.crowd.seats[host])])
        self.settle()


TestFleetSizeMachine = pytest.mark.full(FleetSizeMachine.TestCase)
TestFleetSizeMachine.settings = settings(
    max_examples=20, stateful_step_count=12, deadline=None, derandomize=True
)
