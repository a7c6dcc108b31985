"""The fleet core: admission, division of cores, losses."""

from __future__ import annotations

import itertools

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import TURN_S, Fleet
from quakegrid.services.broker.fleet.deaths import MAX_DEATHS, MAX_EXCUSED_ENDS
from quakegrid.services.broker.fleet.nodes import FORGET_AFTER_S
from quakegrid.services.broker.fleet.placing.unfit import MAX_TOLD
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step


def warm(*cores: int, serialize_jobs: int = 1, is_packed: bool = False) -> Fleet:
    """A fleet of nodes that are up."""
    hosts = [HostCores(f"n{i}", -1) for i in range(len(cores))]
    core = Fleet(hosts, serialize_jobs, "run", is_packed=is_packed)
    for number, count in enumerate(cores):
        step(core, fleet.NodeReported(f"n{number}", f"node{number}", count, "warm"))
    return core


def starts(actions: list[fleet.Action]) -> dict[str, int]:
    """Workers that an answer starts, by node."""
    found = [action for action in actions if isinstance(action, fleet.StartWorkers)]
    return {action.host: len(action.worker_ids) for action in found}


def drains(actions: list[fleet.Action]) -> list[tuple[int, str]]:
    """Workers that an answer drains, with their sessions."""
    found = [action for action in actions if isinstance(action, fleet.DrainWorker)]
    return [(action.session_id, action.worker_id) for action in found]


def pass_seconds(core: Fleet, count: int) -> list[fleet.Action]:
    """Let time go by."""
    return [action for _ in range(count) for action in step(core, fleet.SecondPassed())]


def test_first_session_is_admitted_and_gets_every_core() -> None:
    """A job alone has the cluster to itself."""
    core = warm(2, 4)

    actions = step(core, fleet.SessionRequested(1, (10,)))

    assert fleet.Admit(1) in actions
    assert starts(actions) == {"n0": 2, "n1": 4}
    core.check()


def test_second_session_waits_for_its_turn_and_is_told_for_whom() -> None:
    """`serialize_jobs = 1`: one after the other."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))

    queued = step(core, fleet.SessionRequested(2, (11,)))
    admitted = step(core, fleet.SessionEnded(1, is_forced=False))

    assert queued == [fleet.Queue(2, (10,))]
    assert fleet.StopWorkers("n0", 1, is_forced=False) in admitted
    assert fleet.Admit(2) in admitted


def test_cores_of_an_ended_session_are_free_when_its_workers_exited() -> None:
    """A core is not given out twice."""
    core = warm(1)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.SessionRequested(2, (11,)))

    stopped = step(core, fleet.SessionEnded(1, is_forced=False))
    exited = step(core, ended("run-1", "exit code 0", is_clean=True))

    assert starts(stopped) == {}
    assert starts(exited) == {"n0": 1}


def test_two_sessions_share_the_cores_evenly() -> None:
    """The first gives back what is more than its share, by draining."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,)))

    actions = step(core, fleet.SessionRequested(2, (11,)))

    drained = [action for action in actions if isinstance(action, fleet.DrainWorker)]
    assert [action.session_id for action in drained] == [1, 1]


def test_node_limit_of_host_cores_holds() -> None:
    """`host_cores = n0 3` uses three cores of a larger node."""
    core = Fleet([HostCores("n0", 3)], 1, "run")
    step(core, fleet.SessionRequested(1, (10,)))

    actions = step(core, fleet.NodeReported("n0", "big", 64, "warm"))

    assert starts(actions) == {"n0": 3}


def test_node_that_warms_up_later_gets_work_at_once() -> None:
    """A node may join in the middle of a calculation."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.NodeReported("n0", "node0", 0, "loading"))

    actions = step(core, fleet.NodeReported("n0", "node0", 4, "warm"))

    assert starts(actions) == {"n0": 2}


def test_lost_node_loses_its_workers_with_a_reason() -> None:
    """What a vanished node held is given up."""
    core = warm(1, 1)
    step(core, fleet.SessionRequested(1, (10,)))

    actions = step(core, fleet.NodeLost("n0", "its agent stopped"))

    reason = "node node0: its agent stopped"
    lost = fleet.LoseWorker(WorkerEnd(1, "run-1", reason, is_clean=False, node="node0", is_blameless=True))
    assert actions == [lost]
    assert core.core_count == 1


def test_session_whose_workers_all_die_fails() -> None:
    """Workers that cannot start are not started for ever."""
    core = warm(1)
    step(core, fleet.SessionRequested(1, (10,)))
    number = 1

    actions: list[fleet.Action] = []
    while not any(isinstance(action, fleet.FailSession) for action in actions):
        actions = step(core, ended(f"run-{number}", "exit code 1", is_clean=False))
        number += 1

    assert number < 20
    assert "exit code 1" in next(a.reason for a in actions if isinstance(a, fleet.FailSession))


def test_failed_session_is_told_once_and_gets_no_more_workers() -> None:
    """Its driver has heard why; what dies later is no news."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))
    actions: list[fleet.Action] = []
    while not any(isinstance(action, fleet.FailSession) for action in actions):
        worker_id = next(iter(core.workers))
        actions = step(core, ended(worker_id, "exit code 1", is_clean=False))

    later = [
        action
        for worker_id in list(core.workers)
        for action in step(core, ended(worker_id, "exit code 1", is_clean=False))
    ]

    assert len(later) == 1
    assert isinstance(later[0], fleet.LoseWorker)
    assert core.workers == {}


def test_workers_that_people_end_do_not_fail_their_session() -> None:
    """However many they end, and however long the tasks are."""
    core = warm(1)
    step(core, fleet.SessionRequested(1, (10,)))

    told = [
        action
        for number in range(1, 50)
        for action in step(
            core, ended(f"run-{number}", "stopped by request", is_clean=False, is_blameless=True)
        )
    ]

    assert not any(isinstance(action, fleet.FailSession) for action in told)


def test_excuses_end_where_no_task_is_ever_done() -> None:
    """A template that dies whenever a worker begins; a task that is done in between starts the count anew."""
    core = warm(1)
    step(core, fleet.SessionRequested(1, (10,)))
    numbers = itertools.count(1)

    def end_workers(count: int) -> list[fleet.Action]:
        ends = (
            ended(f"run-{next(numbers)}", "its template ended", is_clean=False, is_blameless=True)
            for _ in range(count)
        )
        return [action for end in ends for action in step(core, end) if isinstance(action, fleet.FailSession)]

    assert end_workers(MAX_EXCUSED_ENDS) == []
    step(core, fleet.ProgressMade(1))
    assert end_workers(MAX_EXCUSED_ENDS) == []
    (failed,) = end_workers(20)
    assert failed.reason.endswith("its template ended")


def test_large_fleet_gives_up_before_each_core_was_tried_thrice() -> None:
    """6,400 cores would fork 19,203 workers for a setup that crashes."""
    core = warm(*[64] * 100)
    step(core, fleet.SessionRequested(1, (10,), max_workers=8))
    count = 0

    actions: list[fleet.Action] = []
    while not any(isinstance(action, fleet.FailSession) for action in actions):
        worker_id = next(iter(core.workers))
        actions = step(core, ended(worker_id, "exit code 1", is_clean=False))
        count += 1

    assert MAX_DEATHS < count < MAX_DEATHS * 2


def test_queued_session_is_told_again_as_the_queue_moves() -> None:
    """For whom it waits changes with each job that ends before it, and with nothing else."""
    core = warm(1)
    for session_id in (1, 2, 3):
        step(core, fleet.SessionRequested(session_id, (session_id * 10,)))

    ended = step(core, fleet.SessionEnded(1, is_forced=False))
    other = step(core, fleet.SessionRequested(4, (40,)))
    gave_up = step(core, fleet.SessionEnded(3, is_forced=False))

    def told(actions: list[fleet.Action]) -> list[fleet.Queue]:
        return [action for action in actions if isinstance(action, fleet.Queue)]

    assert told(ended) == [fleet.Queue(3, (20,))]
    assert told(other) == [fleet.Queue(4, (20, 30))]
    assert told(gave_up) == [fleet.Queue(4, (20,))]


def test_local_session_gets_no_workers() -> None:
    """`--nd` needs a turn and no cores."""
    core = warm(2)

    actions = step(core, fleet.SessionRequested(1, (10,), is_local=True))

    assert actions == [fleet.Admit(1)]


def test_refused_workers_free_their_cores() -> None:
    """An agent that says no is not asked again before it reports."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))

    refused = step(core, fleet.WorkersRefused(("run-1", "run-2")))
    reported = step(core, fleet.NodeReported("n0", "node0", 2, "warm"))

    assert refused == []
    assert starts(reported) == {"n0": 2}


def test_worker_that_ended_while_its_agent_was_out_of_reach_is_lost() -> None:
    """An agent that was restarted, or cut off, reports who is there when it is reached again."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.WorkersStarted(("run-1", "run-2")))

    actions = step(core, fleet.NodeReported("n0", "node0", 2, "warm", frozenset({"run-2"})))

    lost = [action.end.worker_id for action in actions if isinstance(action, fleet.LoseWorker)]
    assert lost == ["run-1"]
    assert starts(actions) == {"n0": 1}
    core.check()


def test_worker_that_is_being_started_is_not_missed() -> None:
    """The order may be under way when the agent reports."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))

    actions = step(core, fleet.NodeReported("n0", "node0", 2, "warm", frozenset()))

    assert actions == []


def test_session_without_a_job_waits_for_no_turn() -> None:
    """`serialize_jobs` counts jobs: somebody's executor neither waits for them nor holds them up."""
    core = warm(4)
    step(core, fleet.SessionRequested(1, (10,)))

    actions = step(core, fleet.SessionRequested(2, ()))
    step(core, fleet.SessionEnded(1, is_forced=False))
    next_job = step(core, fleet.SessionRequested(3, (11,)))

    assert fleet.Admit(2) in actions
    assert fleet.Admit(3) in next_job
    core.check()


def test_what_a_session_may_not_use_goes_to_the_others() -> None:
    """A session with one worker at most leaves the other cores alone."""
    core = warm(4, serialize_jobs=0)

    first = step(core, fleet.SessionRequested(1, (), max_workers=1))
    second = step(core, fleet.SessionRequested(2, (10,)))

    assert starts(first) == {"n0": 1}
    assert starts(second) == {"n0": 3}


def test_tail_gives_idle_workers_to_who_has_tasks() -> None:
    """A session with one task left keeps the worker that runs it."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.TasksCounted(1, 100, frozenset({"run-1", "run-2", "run-3", "run-4"})))
    step(core, fleet.SessionRequested(2, (11,)))

    step(core, fleet.TasksCounted(1, 1, frozenset({"run-1"})))
    actions = pass_seconds(core, 3)

    assert drains(actions) == [(1, "run-2")]  # two were drained for the fair share, idle or not
    core.check()


def test_idle_workers_stay_while_nobody_wants_their_cores() -> None:
    """The next stage of the calculation finds them."""
    core = warm(4)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.TasksCounted(1, 100))
    step(core, fleet.TasksCounted(1, 0))

    actions = pass_seconds(core, 5)

    assert actions == []
    assert len(core.workers) == 4


def test_session_between_two_stages_keeps_its_cores_for_a_moment() -> None:
    """Cores do not change hands because a queue was empty when it was counted."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.TasksCounted(1, 100))
    step(core, fleet.SessionRequested(2, (11,)))
    kept = [each.worker_id for each in core.workers_of(session_id=1) if not each.is_draining]

    paused = step(core, fleet.TasksCounted(1, 0))
    second = pass_seconds(core, 1)
    back = step(core, fleet.TasksCounted(1, 100))
    later = pass_seconds(core, 5)

    assert len(kept) == 2
    assert drains(paused + second + back + later) == []


def test_no_more_workers_start_than_there_are_tasks() -> None:
    """Once a session has shown what it has to do."""
    core = warm(4)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.TasksCounted(1, 1))

    for number in (1, 2):
        assert starts(step(core, ended(f"run-{number}", "exit code 0", is_clean=True))) == {}
    step(core, ended("run-3", "exit code 0", is_clean=True))
    last = step(core, ended("run-4", "signal 9", is_clean=False))
    more = step(core, fleet.TasksCounted(1, 3))

    assert starts(last) == {"n0": 1}
    assert starts(more) == {"n0": 2}


def test_heavier_session_gets_more_cores() -> None:
    """In proportion to the weights."""
    core = warm(9, serialize_jobs=0)

    step(core, fleet.SessionRequested(1, (10,), weight=2.0))
    actions = step(core, fleet.SessionRequested(2, (11,)))

    assert len(drains(actions)) == 3


def test_too_few_cores_go_in_turns() -> None:
    """Each of three sessions has the one core for a turn; nobody waits for ever."""
    core = warm(1, serialize_jobs=0)
    for session_id in (1, 2, 3):
        step(core, fleet.SessionRequested(session_id, (session_id,)))
    holders = []

    for _ in range(4):
        (worker,) = core.workers.values()
        holders.append(worker.session_id)
        assert drains(pass_seconds(core, TURN_S)) == [(worker.session_id, worker.worker_id)]
        step(core, ended(worker.worker_id, "exit code 0", is_clean=True))

    assert holders == [1, 2, 3, 1]


def test_session_that_wants_nothing_again_and_again_saves_up_no_turns() -> None:
    """Its turn is one turn, whatever it did not take before."""
    core = warm(1, serialize_jobs=0)
    for session_id in (1, 2, 3):
        step(core, fleet.SessionRequested(session_id, (session_id,)))
    step(core, fleet.TasksCounted(3, 0))
    for _ in range(10):
        pass_seconds(core, TURN_S)
        for worker in [each for each in core.workers.values() if each.is_draining]:
            step(core, ended(worker.worker_id, "exit code 0", is_clean=True))

    assert core.sessions[3].served >= max(session.served for session in core.sessions.values()) - 1


def test_refusing_node_is_asked_again_after_a_second() -> None:
    """And others are asked in the meantime."""
    core = warm(2, 2, is_packed=True)
    step(core, fleet.SessionRequested(1, (10,), max_workers=2))

    elsewhere = step(core, fleet.WorkersRefused(("run-1", "run-2")))
    lost = step(core, fleet.NodeLost("n1", "gone"))
    again = step(core, fleet.SecondPassed())

    assert starts(elsewhere) == {"n1": 2}
    assert starts(lost) == {}
    assert starts(again) == {"n0": 2}


def test_counts_of_a_session_that_is_gone_are_ignored() -> None:
    """Its lane may report once more."""
    core = warm(1)

    assert step(core, fleet.TasksCounted(9, 5)) == []
    assert step(core, fleet.ProgressMade(9)) == []
    assert step(core, fleet.WorkersStarted(("nobody",))) == []
    assert step(core, fleet.WorkersRefused(("nobody",))) == []
    assert step(core, fleet.SessionEnded(9, is_forced=True)) == []


def test_workers_of_an_earlier_broker_are_taken_over() -> None:
    """With its session, whichever of the two is heard of first; no further ones are started."""
    core = Fleet([HostCores("a", -1)], 0, "run")
    node = fleet.NodeReported("a", "a", 2, "warm", frozenset({"old-1"}), (("old-1", 7),))
    late = fleet.NodeReported("a", "a", 2, "warm", None, (("old-1", 7), ("old-2", 7)))

    step(core, node)
    resumed = step(core, fleet.SessionRequested(7, (1,), max_workers=1, resumed=(("old-1", "a"),)))
    step(core, late)

    assert resumed == []
    assert {worker.worker_id for worker in core.workers_of(session_id=7)} == {"old-1", "old-2"}
    assert core.sessions[7].is_admitted


def test_resumed_session_needs_no_turn() -> None:
    """It had one; new ones wait for it."""
    core = Fleet([HostCores("a", -1)], 1, "run")

    step(core, fleet.SessionRequested(7, (1,), resumed=()))
    step(core, fleet.SessionRequested(8, (2,), resumed=()))
    queued = step(core, fleet.SessionRequested(9, (3,)))

    assert core.sessions[7].is_admitted
    assert core.sessions[8].is_admitted
    assert queued == [fleet.Queue(9, (1, 2))]
    core.check()


def engine(version: str) -> dict[str, str]:
    """The fingerprint of a node, or the wish of a driver."""
    return {"openquake.engine": version}


def test_workers_of_a_calculation_start_where_its_engine_is() -> None:
    """A node without the engine, or with another one, is left out by name; other sessions may use it."""
    core = Fleet([HostCores(name, -1) for name in "abc"], 0, "run")
    for name, version in (("a", "3.26.2"), ("b", "none"), ("c", "3.25.0")):
        step(core, fleet.NodeReported(name, f"n{name}", 2, "warm", fingerprint=engine(version)))

    calculation = step(core, fleet.SessionRequested(1, (10,), fingerprint=engine("3.26.2")))
    functions = step(core, fleet.SessionRequested(2, ()))

    assert starts(calculation) == {"a": 2}
    assert fleet.LeaveOut("b", 1, ("openquake.engine none there, 3.26.2 here",)) in calculation
    assert fleet.LeaveOut("c", 1, ("openquake.engine 3.25.0 there, 3.26.2 here",)) in calculation
    assert starts(functions) == {"b": 2, "c": 2}
    assert core.nodes["c"].title == "nc (c)"
    core.check()


def test_node_that_comes_to_fit_is_used_and_told_of_once() -> None:
    """An upgraded node joins a calculation in its middle; what did not change is not said again."""
    core = Fleet([HostCores("a", -1), HostCores("b", -1)], 0, "run")
    step(core, fleet.NodeReported("a", "a", 1, "warm", fingerprint=engine("3.26.2")))
    step(core, fleet.SessionRequested(1, (10,), fingerprint=engine("3.26.2")))

    first = step(core, fleet.NodeReported("b", "b", 2, "warm", fingerprint=engine("3.25.0")))
    again = step(core, fleet.NodeReported("b", "b", 2, "warm", fingerprint=engine("3.25.0")))
    upgraded = step(core, fleet.NodeReported("b", "b", 2, "warm", fingerprint=engine("3.26.2")))

    assert [type(action) for action in first] == [fleet.LeaveOut]
    assert again == []
    assert starts(upgraded) == {"b": 2}
    assert core.sessions[1].left_out == {}


def test_running_calculation_survives_that_every_node_was_upgraded() -> None:
    """Its workers have the code that they started with; it fails when it has none left."""
    core = Fleet([HostCores("a", -1)], 0, "run")
    step(core, fleet.NodeReported("a", "a", 1, "warm", fingerprint=engine("3.26.2")))
    step(core, fleet.SessionRequested(1, (10,), fingerprint=engine("3.26.2")))

    upgraded = step(core, fleet.NodeReported("a", "a", 1, "warm", fingerprint=engine("3.26.3")))
    left = step(core, ended("run-1", "exit code 1", is_clean=False))

    reason = "every node is left out: a: openquake.engine 3.26.3 there, 3.26.2 here"
    assert [type(action) for action in upgraded] == [fleet.LeaveOut]
    assert fleet.FailSession(1, reason) in left


def test_running_calculation_gets_workers_where_the_code_it_began_with_lives_on() -> None:
    """A node that was upgraded still has a template with it; a new calculation gets the new code."""
    core = Fleet([HostCores("a", -1)], 0, "run")
    step(core, fleet.NodeReported("a", "a", 1, "warm", fingerprint=engine("3.26.2")))
    step(core, fleet.SessionRequested(1, (10,), fingerprint=engine("3.26.2")))
    older = (engine("3.26.1"), engine("3.26.2"))
    new = engine("3.26.3")

    upgraded = step(core, fleet.NodeReported("a", "a", 1, "warm", fingerprint=new, older_fingerprints=older))
    again = step(core, ended("run-1", "exit code 1", is_clean=False))
    gone = step(core, fleet.NodeReported("a", "a", 1, "warm", fingerprint=new))
    step(core, fleet.SessionRequested(2, (11,), fingerprint=new))

    assert upgraded == []
    assert starts(again) == {"a": 1}
    assert [type(action) for action in gone] == [fleet.LeaveOut]
    assert core.sessions[2].left_out == {}


def test_calculation_without_a_node_that_has_its_engine_fails_with_all_differences() -> None:
    """Once every node is up, and once only."""
    core = Fleet([HostCores("a", -1), HostCores("b", -1)], 0, "run")
    step(core, fleet.NodeReported("a", "a", 2, "warm", fingerprint=engine("3.25.0")))
    waiting = step(core, fleet.SessionRequested(1, (10,), fingerprint=engine("3.26.2")))

    failed = step(core, fleet.NodeReported("b", "b", 2, "warm", fingerprint=engine("none")))
    again = step(core, fleet.SecondPassed())

    reason = (
        "every node is left out: a: openquake.engine 3.25.0 there, 3.26.2 here; "
        "b: openquake.engine none there, 3.26.2 here"
    )
    assert [action for action in waiting if isinstance(action, fleet.FailSession)] == []
    assert fleet.FailSession(1, reason) in failed
    assert again == []


def test_session_does_not_fail_while_a_node_is_about_to_leave() -> None:
    """The node may join again with what the session needs; once it is gone the others decide."""
    core = Fleet([HostCores("a", -1)], 0, "run")
    step(core, fleet.NodeJoined("b"))
    for name in "ab":
        step(core, fleet.NodeReported(name, name, 1, "warm", fingerprint=engine("3.25.0")))
    step(core, fleet.SessionRequested(1, (10,)))
    leaving = step(core, fleet.NodeLeaving("b"))
    busy = [worker.worker_id for worker in core.workers.values() if worker.host == "b"]

    waiting = step(core, fleet.SessionRequested(2, (11,), fingerprint=engine("3.26.2")))
    waiting += pass_seconds(core, 3)
    gone = step(core, ended(busy[0], "exit code 0", is_clean=True))

    assert leaving == [fleet.DrainWorker(1, busy[0])]
    assert [action for action in waiting if isinstance(action, fleet.FailSession)] == []
    assert fleet.ForgetNode("b") in gone
    reason = "every node is left out: a: openquake.engine 3.25.0 there, 3.26.2 here"
    assert fleet.FailSession(2, reason) in gone


def test_reason_of_a_session_that_no_node_fits_names_some_nodes_only() -> None:
    """A thousand nodes with the wrong engine have the same fix."""
    core = Fleet([HostCores(f"n{number}", -1) for number in range(100)], 0, "run")
    for host in list(core.nodes):
        step(core, fleet.NodeReported(host, host, 1, "warm", fingerprint=engine("none")))

    actions = step(core, fleet.SessionRequested(1, (10,), fingerprint=engine("3.26.2")))

    reasons = [action.reason for action in actions if isinstance(action, fleet.FailSession)]
    assert len(reasons) == 1
    assert reasons[0].count(" there, ") == MAX_TOLD
    assert reasons[0].endswith("; and 80 further nodes")


def test_node_that_left_is_left_out_by_nobody() -> None:
    """What was known of it is forgotten with it; it is compared anew when it comes back."""
    core = Fleet([HostCores("a", -1)], 0, "run")
    step(core, fleet.NodeReported("a", "a", 1, "warm", fingerprint=engine("3.26.2")))
    step(core, fleet.SessionRequested(1, (10,), fingerprint=engine("3.26.2")))
    step(core, fleet.NodeJoined("b"))
    step(core, fleet.NodeReported("b", "b", 1, "warm", fingerprint=engine("none")))
    before = set(core.sessions[1].left_out)

    step(core, fleet.NodeLeaving("b"))
    after = set(core.sessions[1].left_out)
    step(core, fleet.NodeJoined("b"))
    again = step(core, fleet.NodeReported("b", "b", 1, "warm", fingerprint=engine("none")))

    assert (before, after) == ({"b"}, set())
    assert [type(action) for action in again] == [fleet.LeaveOut]


def test_node_that_gave_no_core_is_compared_when_it_gives_some() -> None:
    """Also with sessions that came in the meantime; what its agent says again is not compared again."""
    core = Fleet([HostCores("a", -1), HostCores("b", -1)], 0, "run")
    for name, count in (("a", 1), ("b", 2), ("b", 0)):
        step(core, fleet.NodeReported(name, name, count, "warm", fingerprint=engine("3.25.0")))
    step(core, fleet.SessionRequested(1, (10,), fingerprint={"x": "1"}))

    given = step(core, fleet.NodeReported("b", "b", 2, "warm", fingerprint=engine("3.25.0")))
    said_again = step(core, fleet.NodeReported("b", "b", 2, "warm", fingerprint=engine("3.25.0")))

    assert fleet.LeaveOut("b", 1, ("x none there, 1 here",)) in given
    assert said_again == []


def test_session_waits_for_the_first_node_to_join() -> None:
    """Where every node joins there may be none yet, and none is left out."""
    core = Fleet([], 0, "run")

    waiting = step(core, fleet.SessionRequested(1, (10,), fingerprint=engine("3.26.2")))
    waiting += pass_seconds(core, 3)
    step(core, fleet.NodeJoined("a"))
    joined = step(core, fleet.NodeReported("a", "a", 2, "warm", fingerprint=engine("3.26.2")))

    assert [action for action in waiting if isinstance(action, fleet.FailSession)] == []
    assert starts(joined) == {"a": 2}


def test_node_that_serves_fewer_cores_drains_idle_workers_first() -> None:
    """What runs goes on; cores that are free again stay free."""
    core = warm(3)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.TasksCounted(1, 3, frozenset({"run-1", "run-2"})))

    actions = step(core, fleet.NodeReported("n0", "node0", 2, "warm"))
    exited = step(core, ended("run-3", "exit code 0", is_clean=True))

    assert drains(actions) == [(1, "run-3")]
    assert starts(exited) == {}
    core.check()


def test_stopped_node_drains_all_and_gets_workers_when_it_serves_again() -> None:
    """Its session keeps its demand meanwhile."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))

    stopped = step(core, fleet.NodeReported("n0", "node0", 0, "stopped"))
    again = step(core, fleet.NodeReported("n0", "node0", 0, "stopped"))
    for name in ("run-1", "run-2"):
        step(core, ended(name, "exit code 0", is_clean=True))
    started = step(core, fleet.NodeReported("n0", "node0", 2, "warm"))

    assert len(drains(stopped)) == 2
    assert drains(again) == []
    assert starts(started) == {"n0": 2}


def test_joined_node_takes_part_and_is_forgotten_when_its_workers_ended() -> None:
    """Not before; and what it says meanwhile brings no new workers."""
    core = warm(1)
    step(core, fleet.SessionRequested(1, (10,)))

    step(core, fleet.NodeJoined("n9"))
    joined = step(core, fleet.NodeReported("n9", "node9", 1, "warm"))
    leaving = step(core, fleet.NodeLeaving("n9"))
    reported = step(core, fleet.NodeReported("n9", "node9", 1, "warm"))
    exited = step(core, ended("run-2", "exit code 0", is_clean=True))

    assert starts(joined) == {"n9": 1}
    assert drains(leaving) == [(1, "run-2")]
    assert fleet.ForgetNode("n9") not in [*leaving, *reported]
    assert starts(reported) == {}
    assert exited[1] == fleet.ForgetNode("n9")
    assert step(core, fleet.NodeLeaving("n9")) == []


def test_node_that_joins_again_while_it_leaves_stays() -> None:
    """The last word counts."""
    core = warm(1)
    step(core, fleet.NodeJoined("n9"))
    step(core, fleet.NodeReported("n9", "node9", 1, "warm"))
    step(core, fleet.SessionRequested(1, (10,)))

    step(core, fleet.NodeLeaving("n9"))
    step(core, fleet.NodeJoined("n9"))
    step(core, fleet.NodeReported("n9", "node9", 1, "warm"))
    step(core, ended("run-2", "exit code 0", is_clean=True))

    assert starts(step(core, fleet.SecondPassed())) == {}
    assert {worker.host for worker in core.workers.values()} == {"n0", "n9"}


def test_lost_node_that_leaves_is_forgotten_with_its_workers() -> None:
    """Their tasks are run elsewhere."""
    core = warm(1)
    step(core, fleet.NodeJoined("n9"))
    step(core, fleet.NodeReported("n9", "node9", 1, "warm"))
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.NodeLeaving("n9"))

    actions = step(core, fleet.NodeLost("n9", "gone"))

    assert [type(action) for action in actions] == [fleet.LoseWorker, fleet.ForgetNode]


def test_joined_node_that_vanished_is_forgotten_after_a_while() -> None:
    """One that the configuration names is not, nor one that was heard of again."""
    core = warm(1)
    for host in ("n8", "n9"):
        step(core, fleet.NodeJoined(host))
        step(core, fleet.NodeReported(host, host, 1, "warm"))
    for host in ("n0", "n8", "n9"):
        step(core, fleet.NodeLost(host, "gone"))

    early = pass_seconds(core, FORGET_AFTER_S)
    step(core, fleet.NodeReported("n8", "n8", 1, "warm"))
    late = pass_seconds(core, FORGET_AFTER_S)

    assert early == []
    assert late == [fleet.ForgetNode("n9")]
    assert list(core.nodes) == ["n0", "n8"]


def test_cores_that_a_session_cannot_use_cost_nobody_a_worker() -> None:
    """Another session keeps the node that does not fit."""
    core = Fleet([HostCores("a", -1), HostCores("b", -1)], 0, "run")
    for name, version in (("a", "3.26.2"), ("b", "none")):
        step(core, fleet.NodeReported(name, name, 2, "warm", fingerprint=engine(version)))
    step(core, fleet.SessionRequested(1, (), max_workers=0))

    actions = step(core, fleet.SessionRequested(2, (10,), fingerprint=engine("3.26.2")))

    assert len(drains(actions)) == 2
    core.check()
