"""One calculation as a person reads it."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from quakegrid.cli.views import job_card
from quakegrid.jobs.states import JobState
from tests.unit.cli.test_cli_jobs import START, make_job

END = START + datetime.timedelta(seconds=75)


@pytest.mark.parametrize(
    ("state", "changes", "words"),
    [
        (JobState.FAILED, {"state_reason": "Unknown GSIM"}, "It failed: Unknown GSIM."),
        (JobState.ABORTED, {"state_reason": "aborted by ann"}, "It was aborted by ann."),
        (JobState.COMPLETE, {"stop_time": END}, "It is complete, and took 1m15s."),
        (JobState.COMPLETE, {}, "It is complete."),
        (JobState.EXECUTING, {"is_running": True}, "It is executing, for 1m15s so far."),
        (JobState.SUBMITTED, {}, "It is submitted, and waits for its turn."),
        (JobState.CREATED, {}, "It is created."),
    ],
)
def test_first_is_what_has_become_of_it(state: JobState, changes: dict[str, object], words: str) -> None:
    """Why it failed, or who aborted it, before anything else."""
    job = dataclasses.replace(make_job(3, state), **changes)  # type: ignore[arg-type]

    assert job_card.headline(job, END) == words


def test_facts_leave_out_what_says_nothing() -> None:
    """A size that the engine does not know, a process that has ended."""
    job = dataclasses.replace(make_job(3), stop_time=END, size_mb=-1.0, pid=7, host="m1")

    found = dict(job_card.facts(job, END))

    assert found["datastore"] == "/data/calc_3.hdf5"
    assert found["took"] == "1m15s"
    assert not {"size, MiB", "driver", "tags", "starts from"} & found.keys()


def test_facts_tell_where_a_running_job_is_and_where_it_comes_from() -> None:
    """Its process, parent, tags and size."""
    job = dataclasses.replace(
        make_job(3, JobState.EXECUTING), is_running=True, size_mb=2.5, pid=7, host="m1", resume_count=2
    )

    found = dict(job_card.facts(dataclasses.replace(job, hazard_calculation_id=2), END, ("paper",)))

    assert found["driver"] == "process 7 on m1"
    assert (found["starts from"], found["tags"]) == ("job 2", "paper")
    assert (found["size, MiB"], found["started again"]) == ("2.50", "2 times")
