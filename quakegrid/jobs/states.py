"""The states of a job, by upstream's names.

Has the names only; the dbserver's `transitions` says which moves are legal.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """State of a job, as the database's `status` column holds it."""

    CREATED = "created"
    SUBMITTED = "submitted"
    EXECUTING = "executing"
    COMPLETE = "complete"
    FAILED = "failed"
    ABORTED = "aborted"
    DELETED = "deleted"
    SHARED = "shared"

    @property
    def is_final(self) -> bool:
        """Whether the calculation has ended."""
        return self not in UNFINISHED

    @property
    def is_unsuccessful(self) -> bool:
        """Whether the calculation has ended without results."""
        return self in (JobState.FAILED, JobState.ABORTED)


UNFINISHED = frozenset({JobState.CREATED, JobState.SUBMITTED, JobState.EXECUTING})
