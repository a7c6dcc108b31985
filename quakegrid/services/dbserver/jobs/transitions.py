"""The legal moves of a job from state to state, as one table.

Pure: decides what a request for a state means, given the present state of the job.
"""

from __future__ import annotations

from enum import Enum

from quakegrid.jobs.states import JobState

_ENDS = frozenset({JobState.COMPLETE, JobState.FAILED, JobState.ABORTED, JobState.DELETED})

# A calculation that has ended keeps its state. It can only be deleted, or shared and unshared.
# created -> complete: `oq run` and imports skip the states between.
LEGAL: dict[JobState, frozenset[JobState]] = {
    JobState.CREATED: _ENDS | {JobState.SUBMITTED, JobState.EXECUTING},
    JobState.SUBMITTED: _ENDS | {JobState.EXECUTING},
    JobState.EXECUTING: _ENDS,
    JobState.COMPLETE: frozenset({JobState.SHARED, JobState.DELETED}),
    JobState.SHARED: frozenset({JobState.COMPLETE, JobState.DELETED}),
    JobState.FAILED: frozenset({JobState.DELETED}),
    JobState.ABORTED: frozenset({JobState.DELETED}),
    JobState.DELETED: frozenset(),
}


class Move(Enum):
    """What becomes of a request for a state."""

    MADE = "made"
    ALREADY_THERE = "already there"
    ILLEGAL = "illegal"


def stored_state(status: object) -> JobState:
    """The state of a job by the status in its row.

    A status of an engine before 3.16, such as "pre_executing", counts as failed: no process runs such a job.
    """
    try:
        return JobState(str(status))
    except ValueError:
        return JobState.FAILED


def judge(current: JobState, wanted: JobState) -> Move:
    """Whether a job in state `current` may move to `wanted`."""
    if current is wanted:
        return Move.ALREADY_THERE
    return Move.MADE if wanted in LEGAL[current] else Move.ILLEGAL
