"""What a status costs the broker when many people watch."""

from __future__ import annotations

from typing import cast

from benchmarks.support.fleet_crowd import FleetCrowd
from benchmarks.support.fleet_edges import NoLanes, driver_sessions, status_writer
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.state import PersonLimits
from quakegrid.services.broker.lanes.pool import LanePool
from quakegrid.services.broker.status.status import RECENT_S, StatusWriter
from quakegrid.services.broker.status.totals import SessionTotals


def crowd() -> FleetCrowd:
    """Two sessions on ten nodes; the first one leaves out the last node."""
    made = FleetCrowd(10, is_mixed=True, core_count=4)
    for session_id in (1, 2):
        made.open(session_id)
    made.obey(burst=64)
    made.turn([made.count(session_id) for session_id in (1, 2)])
    return made


def test_status_counts_workers_of_nodes_and_sessions() -> None:
    """All of them, busy ones and others, and tells which sessions leave a node out."""
    made = crowd()
    idle = made.core.workers.of_host("n0")[0]
    busy = made.core.sessions[idle.session_id].busy_worker_ids - {idle.worker_id}
    made.turn([fleet.TasksCounted(idle.session_id, 1000, busy)])

    status = status_writer(made).status(0.0)

    assert [node.worker_count for node in status.nodes] == [4] * 10
    assert [node.running_count for node in status.nodes] == [3] + [4] * 9
    assert sum(session.worker_count for session in status.sessions) == 40
    assert [len(node.left_out) for node in status.nodes] == [0] * 9 + [1]
    assert list(status.nodes[9].left_out[0].job_ids) == [1]


def test_those_who_watch_share_a_status_for_a_moment() -> None:
    """A hundred watchers cost the broker four statuses a second."""
    writer = status_writer(crowd())

    first = writer.recent(10.0)
    shared = [writer.recent(10.0 + RECENT_S * number / 101) for number in range(100)]
    later = writer.recent(10.0 + RECENT_S)
    asked = writer.status(10.1 + RECENT_S)

    assert all(each is first for each in shared)
    assert later is not first
    assert writer.recent(10.2 + RECENT_S) is asked


def test_status_tells_why_sessions_wait_and_who_has_no_task_yet() -> None:
    """The jobs before a submitted session, its limit, and the seconds of an executing one without tasks."""
    made = FleetCrowd(1, is_mixed=False, core_count=4, limits=PersonLimits(max_jobs=1, max_cores=3))
    for session_id in (1, 2):
        made.open(session_id, person="anna")
    for _ in range(5):
        made.turn([fleet.SecondPassed()])
    sessions = driver_sessions(made)
    sessions[1].is_admitted = True

    writer = StatusWriter(made.core, sessions, cast("LanePool", NoLanes()), SessionTotals(), {})
    status = writer.status(0.0)

    first, second = status.sessions
    assert (first.state, first.unused_s, first.core_count) == ("executing", 5, 3)
    assert (second.state, second.unused_s, second.core_count) == ("submitted", 0, 0)
    assert list(second.ahead_job_ids) == [1]
    assert second.wait_reason == "anna has 1 of 1 calculations that may execute at once"
    assert (status.serialize_jobs, status.max_jobs_per_user, status.max_cores_per_user) == (0, 1, 3)
    made.turn([made.count(1)])
    assert writer.status(0.0).sessions[0].unused_s == 0
