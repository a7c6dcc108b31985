"""Whether a calculation can start from another one that did not end well."""

from __future__ import annotations

from pathlib import Path

from quakegrid import errors

_ENDED_BADLY = ("failed", "aborted")


def doubt(job_id: int, status: str, datastore: Path) -> str:
    """A warning about results to start from; empty if there is nothing to say.

    The engine reads what a job has stored, however it ended: a calculation may need no more than that.

    Args:
        job_id: whose results they are.
        status: how that job ended.
        datastore: its file.
    Raises:
        StateError: the job ended badly and its file is not there.
    """
    if status not in _ENDED_BADLY:
        return ""
    if not datastore.exists():
        is_or_was = "failed" if status == "failed" else "was aborted"
        raise errors.StateError(
            f"job {job_id} {is_or_was} and has no results to start from (--hc); "
            f"`quakegrid explain {job_id}` says why"
        )
    return f"job {job_id} is {status}, so the results to start from (--hc) may not be complete"
