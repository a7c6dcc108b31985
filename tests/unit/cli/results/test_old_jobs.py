"""Which old calculations `jobs prune` removes."""

from __future__ import annotations

import dataclasses
import datetime

from quakegrid.cli.results import old_jobs
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from tests.unit.cli.test_cli_jobs import START, make_job

LATER = START + datetime.timedelta(days=10)


def old(job_id: int, state: JobState = JobState.COMPLETE, parent: int | None = None) -> Job:
    """A job that ended early."""
    return dataclasses.replace(
        make_job(job_id, state), stop_time=START, hazard_calculation_id=parent, size_mb=float(job_id)
    )


def new(job_id: int, parent: int | None = None) -> Job:
    """A job that ended late."""
    return dataclasses.replace(old(job_id, parent=parent), stop_time=LATER)


def test_old_jobs_are_removed_and_new_ones_are_not() -> None:
    """By their end; one that has not ended is never old."""
    running = dataclasses.replace(old(3, JobState.EXECUTING), stop_time=None)
    found = old_jobs.choose([old(1), old(2), running, new(4)], LATER)

    assert [job.id for job in found.removed] == [1, 2]
    assert found.kept == []
    assert found.size_mb == 3.0


def test_job_whose_end_is_not_known_counts_from_its_start() -> None:
    """A failed one, say, of an old database."""
    job = dataclasses.replace(old(1, JobState.FAILED), stop_time=None, size_mb=-1.0)

    found = old_jobs.choose([job], LATER)

    assert (found.removed, found.size_mb) == ([job], 0)


def test_shared_tagged_and_needed_jobs_stay() -> None:
    """Each with its reason; what a removed job starts from may go."""
    jobs = [old(1), old(2), old(3, JobState.SHARED), old(4), new(5, parent=1), old(6, parent=2)]

    found = old_jobs.choose(jobs, LATER, tagged={4})

    assert [job.id for job in found.removed] == [2, 6]
    assert [(job.id, reason) for job, reason in found.kept] == [
        (1, "job 5 starts from it"),
        (3, "it is shared"),
        (4, "it has a tag"),
    ]


def test_parent_of_a_kept_old_job_stays() -> None:
    """A risk calculation with a tag needs its hazard."""
    found = old_jobs.choose([old(1), old(2, parent=1)], LATER, tagged={2})

    assert found.removed == []
    assert [job.id for job, _ in found.kept] == [1, 2]


def test_only_some_states_are_removed() -> None:
    """Failed ones, and what they start from stays."""
    found = old_jobs.choose([old(1), old(2, JobState.FAILED)], LATER, states=[JobState.FAILED])

    assert [job.id for job in found.removed] == [2]


def test_many_jobs_are_looked_at_once_each() -> None:
    """Fifty thousand, each of which starts from the one before."""
    jobs = [old(number, parent=number - 1 or None) for number in range(1, 50_001)]

    assert len(old_jobs.choose(jobs, LATER).removed) == 50_000
