"""The sentences of `explain`, each for its reason."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from quakegrid.clients.broker import (
    FleetStatus,
    LeftOut,
    NodeStatus,
    SessionStatus,
    StageStatus,
    TaskTotals,
)
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.reports import job_report
from quakegrid.reports.explanations import explain, stage_of
from quakegrid.reports.task_history import Attempt, AttemptEnd, TaskHistory, WorkerLife

NODE = NodeStatus("10.0.0.1", "n1", True, 4, 4, 4, "warm")
SESSION = SessionStatus(100, (7,), "me", "executing", "n1", 4711, 1912, 4, 3, 4, 10, 0, 0, 1.0, 1.0, 4, 0, 0)


def fleet(*sessions: SessionStatus, node: NodeStatus = NODE) -> FleetStatus:
    """A fleet of one node."""
    return FleetStatus((node,), sessions, (), TaskTotals(0, 0, 0, 0), "1")


def said(status: FleetStatus | None, report: job_report.JobReport | None = None) -> str:
    """All sentences on job 7."""
    return " ".join(explain(7, status, report))


def ended(state: JobState, reason: str) -> Job:
    """Job 7, which has ended without results."""
    time = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    return Job(7, "", "me", "classical", None, state, False, time, time, "", None, None, "n1", True, reason)


@pytest.mark.parametrize(
    ("state", "reason", "sentence"),
    [
        (JobState.FAILED, "ValueError: unknown GSIM", "It failed: ValueError: unknown GSIM."),
        (JobState.FAILED, "", "It failed; its record does not say why, `quakegrid jobs logs 7` may."),
        (JobState.ABORTED, "aborted by ann", "It was aborted by ann."),
        (JobState.ABORTED, "its terminal was closed", "It was aborted: its terminal was closed."),
    ],
)
def test_job_without_results_says_why_first(state: JobState, reason: str, sentence: str) -> None:
    """And nothing calls it usual."""
    alone = explain(7, None, None, ended(state, reason))
    sentences = explain(7, None, report_of(done(1, 5.0, 5.0), done(2, 9.0, 5.0)), ended(state, reason))

    assert alone == [sentence]
    assert sentences[0] == sentence
    assert not any(each.startswith("Nothing unusual") for each in sentences)


def report_of(*attempts: Attempt, wall_s: float = 10.0) -> job_report.JobReport:
    """A session of two workers that is over; the second was killed."""
    workers = {
        "a": WorkerLife("a", "n1", 0.0),
        "b": WorkerLife("b", "n2", 0.0, wall_s, "killed by signal 9, peak memory 12 MiB", is_clean=False),
    }
    return job_report.make_report(TaskHistory(100, (7,), "me", 0.0, wall_s, list(attempts), workers), 0.0)


def done(task_id: int, end_s: float, duration_s: float, queued_s: float = 0.0) -> Attempt:
    """A done attempt on worker `a`."""
    return Attempt(task_id, 1, AttemptEnd.DONE, "op", "a", end_s, queued_s, duration_s, duration_s)


def test_node_that_gives_no_cores_is_not_called_down() -> None:
    """Its person turned the dial."""
    dialled = dataclasses.replace(NODE, core_count=0, state="warm, gives 0 of 4 cores (agentctl cores)")

    assert "no node gives cores (10.0.0.1: warm, gives 0 of 4 cores" in said(fleet(SESSION, node=dialled))


def test_queued_job_names_who_is_ahead() -> None:
    """Behind which jobs it waits, and which setting bounds them."""
    ahead = dataclasses.replace(SESSION, session_id=99, job_ids=(3, 4))

    text = said(fleet(ahead, dataclasses.replace(SESSION, state="submitted")))

    assert "behind job 3 and job 4" in text
    assert "serialize_jobs" in text


def test_queued_job_names_whose_jobs_it_waits_for_in_their_order() -> None:
    """As the broker told it, a later session may be before it."""
    first = dataclasses.replace(SESSION, session_id=99, job_ids=(3,), user_name="anna")
    later = dataclasses.replace(SESSION, session_id=101, job_ids=(9,), user_name="ben", state="submitted")
    mine = dataclasses.replace(SESSION, state="submitted", ahead_job_ids=(3, 9))

    assert "behind job 3 of anna and job 9 of ben: serialize_jobs" in said(fleet(first, mine, later))


def test_queued_job_names_few_of_many_before_it() -> None:
    """Nobody reads a hundred."""
    others = [dataclasses.replace(SESSION, session_id=each, job_ids=(each,)) for each in range(10, 20)]
    mine = dataclasses.replace(SESSION, state="submitted", ahead_job_ids=tuple(range(10, 20)))

    assert "job 14 of me and 5 more:" in said(fleet(mine, *others))


def test_job_that_waits_for_its_own_person_is_told_the_limit() -> None:
    """`max_jobs_per_user`, and which of the person's jobs count."""
    first = dataclasses.replace(SESSION, session_id=99, job_ids=(3,))
    reason = "me has 1 of 1 calculations that may execute at once"
    mine = dataclasses.replace(SESSION, state="submitted", ahead_job_ids=(3,), wait_reason=reason)

    text = said(fleet(first, mine))

    assert (
        f"It is submitted, and waits: {reason} (job 3 of me); the limit is [broker] max_jobs_per_user" in text
    )
    assert "serialize_jobs" not in text


def test_job_before_that_has_no_task_yet_is_told_with_its_driver() -> None:
    """It may prepare its tasks, or hang: only people know."""
    first = dataclasses.replace(SESSION, session_id=99, job_ids=(3,), user_name="anna", unused_s=700)
    mine = dataclasses.replace(SESSION, state="submitted", ahead_job_ids=(3,))

    text = said(fleet(first, mine))

    assert "Job 3 of anna has executed for 11.7 min and submitted no task yet" in text
    assert "process 4711 on n1" in text
    assert "`quakegrid abort 3`" in text
    quick = dataclasses.replace(first, unused_s=20)
    assert "no task yet" not in said(fleet(quick, mine))


def left_out(session: SessionStatus = SESSION) -> NodeStatus:
    """A node that a session leaves out."""
    found = LeftOut(session.session_id, session.job_ids, ("numpy 1.26.4 there, 2.2.6 here",))
    return dataclasses.replace(NODE, host="10.0.0.3", node="n3", left_out=(found,))


def test_node_that_is_left_out_is_named() -> None:
    """While others work for the job."""
    status = dataclasses.replace(fleet(SESSION), nodes=(NODE, left_out()))

    text = said(status)

    assert "Node n3 is left out: numpy 1.26.4 there, 2.2.6 here." in text
    assert "It waits" not in text


def test_job_that_no_node_fits_says_so() -> None:
    """Also which nodes might, if they came up."""
    waiting = dataclasses.replace(SESSION, worker_count=0, running_count=0, busy_worker_count=0)
    down = dataclasses.replace(NODE, is_up=False, core_count=0, state="its agent does not answer")

    text = said(dataclasses.replace(fleet(waiting), nodes=(left_out(), down)))

    assert text == (
        "It waits: no node can work for it; node n3 is left out: numpy 1.26.4 there, 2.2.6 here; "
        "node n1: its agent does not answer."
    )


def test_job_without_a_node_says_what_the_nodes_say() -> None:
    """No node is up, and why."""
    down = dataclasses.replace(NODE, is_up=False, core_count=0, state="the agent does not answer")

    assert "no node is up (10.0.0.1: the agent does not answer)" in said(fleet(SESSION, node=down))


def test_job_without_cores_names_who_has_them() -> None:
    """All cores are with another session."""
    other = dataclasses.replace(SESSION, session_id=50, job_ids=(2,))
    waiting = dataclasses.replace(SESSION, worker_count=0, running_count=0)

    text = said(fleet(other, waiting))

    assert "no core is free; all 4 are with job 2" in text


def test_job_without_tasks_waits_for_its_driver() -> None:
    """Nothing is queued or running."""
    idle = dataclasses.replace(SESSION, queued_count=0, running_count=0)

    assert "waits for its driver (process 4711 on n1)" in said(fleet(idle))


def test_running_job_with_few_tasks_left_says_so() -> None:
    """The queue is empty and workers idle."""
    tail = dataclasses.replace(SESSION, queued_count=0, running_count=1)

    assert "3 of 4 workers have nothing to do" in said(fleet(tail))


def test_retry_names_worker_node_and_reason() -> None:
    """A task ran again because its worker was killed."""
    gone = Attempt(3, 1, AttemptEnd.LOST, "op", "b", 10.0, 0.0, 4.0)

    text = said(None, report_of(gone, done(3, 10.0, 5.0)))

    assert "Task 3 (op) lost attempt 1: worker b on n2 ended (killed by signal 9" in text


def test_slow_job_says_where_the_time_went() -> None:
    """Waiting for the driver, and a tail."""
    text = said(None, report_of(done(1, 1.0, 1.0), done(2, 10.0, 5.0, queued_s=0.0)))

    assert "For 4 s of 10 s the workers waited for the driver" in text
    assert (
        "At the end some cores had nothing to do for 5 s of 10 s: fewer tasks were left than cores." in text
    )


def test_ordinary_job_is_nothing_unusual() -> None:
    """Many even tasks: no reproach."""
    text = said(None, report_of(*(done(number, number + 1.0, 1.0, float(number)) for number in range(10))))

    assert "Nothing unusual" in text or "nothing to do for 1 s of 10 s" in text


def test_running_job_says_which_stage_is_at_hand() -> None:
    """The last one with open tasks, or the last one; of several jobs the one that is asked for."""
    stages = (
        StageStatus(7, "classical", 40, 100, 3),
        StageStatus(7, "postclassical", 1, 1),
        StageStatus(8, "event_based", 0, 1),
    )
    both = dataclasses.replace(SESSION, stages=stages)

    assert stage_of(SESSION) == ""
    assert stage_of(both) == "event_based, 0 of 1 task done"
    assert stage_of(both, 7) == "classical, 40 of 100 tasks done, 3 of them from the journal"
    assert stage_of(dataclasses.replace(SESSION, stages=stages[1:2]), 7) == "postclassical, 1 of 1 task done"
    assert stage_of(both, 9) == ""
    reading = dataclasses.replace(SESSION, stages=(StageStatus(0, "read_source_model", 1, 2), *stages[1:]))
    assert stage_of(reading, 7) == "read_source_model, 1 of 2 tasks done"
    assert "Its stage at hand is event_based, 0 of 1 task done." in said(fleet(both))
    assert "stage at hand" not in said(fleet(SESSION))
