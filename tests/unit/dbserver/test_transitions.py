"""Legal moves of jobs."""

from __future__ import annotations

import pytest

from quakegrid.jobs.states import UNFINISHED, JobState
from quakegrid.services.dbserver.jobs.transitions import LEGAL, Move, judge

ENDS = (JobState.COMPLETE, JobState.FAILED, JobState.ABORTED)


def test_table_names_every_state() -> None:
    """Each state has a line in the table."""
    assert set(LEGAL) == set(JobState)


@pytest.mark.parametrize("state", JobState)
def test_judge_repeated_state_is_no_move(state: JobState) -> None:
    """A job that is there already stays."""
    assert judge(state, state) is Move.ALREADY_THERE


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("state", sorted(UNFINISHED))
def test_judge_unfinished_job_may_end_in_any_way(state: JobState, end: JobState) -> None:
    """What has not ended may end."""
    assert judge(state, end) is Move.MADE


@pytest.mark.parametrize("wanted", JobState)
@pytest.mark.parametrize("end", ENDS)
def test_judge_ended_job_keeps_its_end(end: JobState, wanted: JobState) -> None:
    """How a calculation ended is never overwritten, but it may be deleted, or shared if complete."""
    allowed = {JobState.DELETED} | ({JobState.SHARED} if end is JobState.COMPLETE else set())

    move = judge(end, wanted)

    assert (move is Move.MADE) == (wanted in allowed)


def test_judge_shared_job_can_be_unshared() -> None:
    """Sharing can be taken back."""
    assert judge(JobState.SHARED, JobState.COMPLETE) is Move.MADE


def test_judge_deleted_job_stays_deleted() -> None:
    """Nothing comes back."""
    moves = {judge(JobState.DELETED, state) for state in set(JobState) - {JobState.DELETED}}

    assert moves == {Move.ILLEGAL}
