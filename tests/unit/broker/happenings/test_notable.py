"""Which events of the fleet people are told of, and in which words."""

from __future__ import annotations

import dataclasses

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.happenings.notable import FleetWatcher, Happening, HappeningKind

UP = core.NodeReported("10.0.0.1", "n1", 4, "warm")
LOST_WORKER = WorkerEnd(7, "w-1", "killed by SIGKILL", is_clean=False, node="n1", peak_memory_bytes=3 << 20)


def words(found: list[Happening]) -> list[str]:
    """What is told."""
    return [each.words for each in found]


def test_node_that_comes_stops_and_serves_again_is_told_once_each() -> None:
    """Reports that change nothing tell nothing; a node is called as its agent calls it."""
    watcher = FleetWatcher()
    stopped = dataclasses.replace(UP, core_count=0, state="stopped", is_serving=False)
    restarting = dataclasses.replace(stopped, state="restarting")
    loading = dataclasses.replace(UP, state="loading", is_ready=False)
    failed = dataclasses.replace(loading, state="failed: no numpy")

    reports = [UP, UP, stopped, stopped, restarting, loading, failed, UP]
    found = [each for report in reports for each in watcher.on_event(report)]

    assert words(found) == [
        "node n1 is up: 4 cores",
        "node n1 was stopped: it takes no new tasks",
        "node n1 cannot start workers: no numpy",
        "node n1 is up: 4 cores",
    ]
    assert [each.is_trouble for each in found] == [False, False, True, False]
    assert {each.node for each in found} == {"n1"}


def test_cores_and_memory_of_a_node_are_told_when_they_change() -> None:
    """How many now, and how many before."""
    watcher = FleetWatcher()
    watcher.on_event(UP)

    fewer = watcher.on_event(dataclasses.replace(UP, core_count=1))
    short = watcher.on_event(dataclasses.replace(UP, core_count=1, is_short_of_memory=True))
    enough = watcher.on_event(dataclasses.replace(UP, core_count=1))

    assert words(fewer) == ["node n1 gives 1 core, 4 before"]
    assert words(short) == ["node n1 is short of memory: one worker goes on"]
    assert words(enough) == ["node n1 has memory again"]
    assert [short[0].is_trouble, enough[0].is_trouble] == [True, False]


def test_lost_node_is_told_once_whatever_the_reasons() -> None:
    """The reason may change while it is away; a node that nobody heard of has only its host."""
    watcher = FleetWatcher()
    watcher.on_event(UP)

    first = watcher.on_event(core.NodeLost("10.0.0.1", "no route"))
    again = watcher.on_event(core.NodeLost("10.0.0.1", "connection refused"))
    unheard = watcher.on_event(core.NodeLost("10.0.0.9", "no route"))

    assert words(first) == ["node n1 is not reached: no route"]
    assert again == []
    assert words(unheard) == ["node 10.0.0.9 is not reached: no route"]


def test_node_that_joins_and_leaves_is_told_unless_it_was_expected() -> None:
    """Members of an earlier broker's fleet do not join."""
    watcher = FleetWatcher()
    watcher.expect(["n2"])

    told = [
        *watcher.on_event(core.NodeJoined("n2")),
        *watcher.on_event(core.NodeJoined("n3")),
        *watcher.on_event(core.NodeJoined("n3")),
        *watcher.on_action(core.ForgetNode("n3")),
        *watcher.on_event(core.NodeLeaving("n2")),
    ]

    assert words(told) == ["node n3 joined the fleet", "node n3 left the fleet"]


def test_lost_worker_and_left_out_node_are_told_with_the_job() -> None:
    """What was asked for, and what a node that is told of took along, is not."""
    watcher = FleetWatcher()
    watcher.on_event(UP)
    watcher.on_event(core.SessionRequested(7, (42,), person="anna"))

    lost = watcher.on_action(core.LoseWorker(LOST_WORKER))
    unknown = watcher.on_action(core.LoseWorker(dataclasses.replace(LOST_WORKER, session_id=8, node="")))
    quiet = [
        *watcher.on_action(core.LoseWorker(dataclasses.replace(LOST_WORKER, is_clean=True))),
        *watcher.on_action(core.LoseWorker(dataclasses.replace(LOST_WORKER, is_blameless=True))),
        *watcher.on_action(core.Admit(7)),
    ]
    left_out = watcher.on_action(core.LeaveOut("10.0.0.1", 7, ("numpy 1 there, 2 here", "no engine")))

    assert words(lost) == ["a worker of job 42 on n1 was lost: killed by SIGKILL, peak memory 3 MiB"]
    assert lost[0].job_ids == (42,)
    assert (lost[0].node, lost[0].user_name, lost[0].is_trouble) == ("n1", "anna", True)
    assert words(unknown) == ["a worker of session 8 was lost: killed by SIGKILL, peak memory 3 MiB"]
    assert quiet == []
    assert words(left_out) == ["node n1 is left out by job 42: numpy 1 there, 2 here, no engine"]


def test_end_of_a_session_is_told_if_it_had_jobs_or_ended_badly() -> None:
    """An abort by a person is no trouble; work without a job that ends in order is nobody's news."""
    watcher = FleetWatcher()
    for session_id, job_ids in ((1, (42,)), (2, (43, 44)), (3, ()), (4, ())):
        watcher.on_event(core.SessionRequested(session_id, job_ids))

    well = watcher.on_session_ended(1, "anna", "", 1)
    aborted = watcher.on_session_ended(2, "anna", "aborted by bert", 2)
    quiet = watcher.on_session_ended(3, "anna", "", 0)
    failed = watcher.on_session_ended(4, "", "its driver ended before it did", 0)

    assert words([*well, *aborted, *failed]) == [
        "job 42 of anna ended",
        "jobs 43, 44 of anna ended: aborted by bert",
        "session 4 ended: its driver ended before it did",
    ]
    assert [each.is_trouble for each in (*well, *aborted, *failed)] == [False, False, True]
    assert quiet == []
    assert well[0].kind is HappeningKind.SESSION_ENDED


def test_session_of_very_many_jobs_is_told_in_few_words() -> None:
    """The first ones, and how many more."""
    watcher = FleetWatcher()
    watcher.on_event(core.SessionRequested(1, tuple(range(1, 40_001))))

    (told,) = watcher.on_session_ended(1, "anna", "", 40_000)

    assert told.words.endswith("19, 20 and 39980 more of anna ended")
    assert len(told.job_ids) == 20


def test_tables_are_as_large_as_the_fleet() -> None:
    """A row a node, a row a session; what has gone takes none, whatever happened."""
    watcher = FleetWatcher()
    for round_ in range(50):
        watcher.on_event(dataclasses.replace(UP, host=f"h{round_}"))
        watcher.on_event(core.SessionRequested(round_, (round_,)))
        watcher.on_action(core.ForgetNode(f"h{round_}"))
        watcher.on_session_ended(round_, "anna", "", 1)

    assert not watcher._nodes
    assert not watcher._sessions
