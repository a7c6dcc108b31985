"""What the broker counts of sessions, and how Prometheus sees it."""

from __future__ import annotations

import datetime

import pytest

from quakegrid.api.v1 import fleet_pb2, jobs_pb2
from quakegrid.services.broker.drivers.session import Rate
from quakegrid.services.broker.status import metrics
from quakegrid.services.broker.status.job_totals import JobTotals


def test_rate_is_growth_over_the_last_ten_seconds() -> None:
    """It follows the counter up, and down to nothing when that rests."""
    rate = Rate(0.0)
    for second in range(1, 21):
        rate.add(float(second), 5 * second)

    assert rate.hz(20.0, 100) == pytest.approx(5.0)
    assert 0.0 < rate.hz(25.0, 100) < 5.0
    assert rate.hz(60.0, 100) < 1.0
    assert rate.hz(71.0, 100) == 0.0


def test_rate_of_a_young_counter_is_not_exaggerated() -> None:
    """A thousand tasks in the first millisecond are not a million a second."""
    assert Rate(0.0).hz(0.001, 1000) == 1000.0


def test_only_so_many_sessions_have_series() -> None:
    """Totals count all; a job has its number as a label."""
    sessions = [
        fleet_pb2.SessionStatus(session_id=number, job_ids=[7], state="executing", done_count=3)
        for number in range(metrics.MAX_SESSIONS + 5)
    ]
    status = fleet_pb2.GetStatusResponse(sessions=sessions)

    lines = metrics.text(lambda: status, JobTotals()).splitlines()

    series = [line for line in lines if line.startswith("quakegrid_session_tasks_done_total")]
    assert len(series) == metrics.MAX_SESSIONS
    assert series[0] == 'quakegrid_session_tasks_done_total{job="7",session="0"} 3.0'
    assert f'quakegrid_open_sessions{{state="executing"}} {metrics.MAX_SESSIONS + 5}.0' in lines


def test_memory_of_nodes_and_of_jobs_over_all_nodes() -> None:
    """A node that has told nothing yet has no series of its memory."""
    status = fleet_pb2.GetStatusResponse()
    status.sessions.add(session_id=3, job_ids=[12])
    for host, own_bytes in (("n1", 100), ("n2", 50)):
        sample = status.nodes.add(host=host).sample
        sample.memory_used_bytes, sample.memory_total_bytes, sample.hard_percent = 800, 1000, 95
        sample.sessions.add(session_id=3, own_bytes=own_bytes)
    status.nodes.add(host="n3", is_short_of_memory=True)

    lines = metrics.text(lambda: status, JobTotals()).splitlines()

    assert 'quakegrid_session_memory_bytes{job="12",session="3"} 150.0' in lines
    assert 'quakegrid_node_memory_used_bytes{host="n2"} 800.0' in lines
    assert 'quakegrid_node_memory_limit_bytes{host="n2"} 950.0' in lines
    assert 'quakegrid_node_memory_is_short{host="n3"} 1.0' in lines
    assert [line for line in lines if line.startswith('quakegrid_node_memory_bytes{host="n3"')] == []


def change(number: int, old: str, new: str, duration_s: int = 0) -> jobs_pb2.WatchJobsResponse:
    """An event of job 7."""
    event = jobs_pb2.JobEvent(id=number, job_id=7)
    event.old_state = jobs_pb2.JobState.Value(f"JOB_STATE_{old}")
    event.new_state = jobs_pb2.JobState.Value(f"JOB_STATE_{new}")
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    event.job.start_time.FromDatetime(start)
    if duration_s:
        event.job.stop_time.FromDatetime(start + datetime.timedelta(seconds=duration_s))
    return jobs_pb2.WatchJobsResponse(event=event)


def snapshot(*states: str, is_complete: bool = True) -> jobs_pb2.WatchJobsResponse:
    """Jobs that there are, or a part of them."""
    jobs = [jobs_pb2.Job(state=jobs_pb2.JobState.Value(f"JOB_STATE_{state}")) for state in states]
    part = jobs_pb2.JobSnapshot(jobs=jobs, event_id=40, is_complete=is_complete)
    return jobs_pb2.WatchJobsResponse(snapshot=part)


def job_lines(totals: JobTotals) -> list[str]:
    """Series of jobs that are not 0."""
    lines = metrics.text(fleet_pb2.GetStatusResponse, totals).splitlines()
    return [line for line in lines if line.startswith("quakegrid_job") and not line.endswith(" 0.0")]


def test_jobs_are_counted_by_state_and_those_that_end_by_their_time() -> None:
    """Ended jobs that were there at the start have no time here; a job that is shared has not ended anew."""
    totals = JobTotals()
    totals.take(snapshot("COMPLETE", is_complete=False))
    totals.take(snapshot("EXECUTING"))
    totals.take(change(41, "UNSPECIFIED", "CREATED"))
    totals.take(change(42, "CREATED", "FAILED", duration_s=100))
    totals.take(change(43, "EXECUTING", "COMPLETE", duration_s=7))
    totals.take(change(44, "COMPLETE", "SHARED", duration_s=7))
    totals.take(change(45, "SHARED", "COMPLETE", duration_s=7))
    totals.take(change(46, "FAILED", "DELETED"))

    lines = job_lines(totals)

    assert totals.after_event_id == 46
    assert [line for line in lines if line.startswith("quakegrid_jobs{")] == [
        'quakegrid_jobs{state="complete"} 2.0'
    ]
    assert 'quakegrid_job_duration_seconds_bucket{le="10",state="complete"} 1.0' in lines
    assert 'quakegrid_job_duration_seconds_count{state="failed"} 1.0' in lines
    assert 'quakegrid_job_duration_seconds_sum{state="failed"} 100.0' in lines
    assert 'quakegrid_job_duration_seconds_bucket{le="60",state="failed"} 1.0' not in lines
    assert 'quakegrid_job_duration_seconds_bucket{le="300",state="failed"} 1.0' in lines


def test_part_of_a_snapshot_counts_for_nothing_when_the_dbserver_goes() -> None:
    """The next one begins anew; whole ones stay while it is away."""
    totals = JobTotals()
    totals.take(snapshot("COMPLETE", "COMPLETE", is_complete=False))
    totals.lose()
    assert (totals.is_heard, totals.states.total()) == (False, 0)
    totals.take(snapshot("COMPLETE"))
    assert (totals.is_heard, totals.states.total()) == (True, 1)
    totals.lose()
    assert (totals.is_heard, totals.states.total(), totals.after_event_id) == (False, 1, 40)


def test_states_of_a_newer_dbserver_are_not_counted() -> None:
    """They end nothing; what is known is counted on."""
    totals = JobTotals()
    newer = max(jobs_pb2.JobState.values()) + 1
    first = snapshot("COMPLETE", "EXECUTING")
    first.snapshot.jobs[1].state = newer  # type: ignore[assignment]
    there = change(41, "EXECUTING", "CREATED")
    there.event.old_state = newer  # type: ignore[assignment]
    back = change(42, "CREATED", "EXECUTING")
    back.event.new_state = newer  # type: ignore[assignment]

    totals.take(first)
    totals.take(there)
    assert dict(totals.counts()) | {"complete": 1, "created": 1} == dict(totals.counts())
    totals.take(back)

    assert (totals.states.total(), totals.after_event_id) == (1, 42)


def test_job_without_a_start_has_taken_no_time() -> None:
    """It counts as ended; the time since 1970 is not its duration."""
    totals = JobTotals()
    totals.take(snapshot())
    ended = change(41, "CREATED", "FAILED", duration_s=7)
    ended.event.job.ClearField("start_time")

    totals.take(ended)

    assert 'quakegrid_job_duration_seconds_count{state="failed"} 1.0' in job_lines(totals)
    assert not [line for line in job_lines(totals) if "seconds_sum" in line]
