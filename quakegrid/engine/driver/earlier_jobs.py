"""Earlier calculations of this user: which there are, and whether another one can start from one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from quakegrid import errors

# Of datastores, as upstream looks for them.
_STORE_NAME = re.compile(r"(calc|cache)_(\d+)\.hdf5")
ENDED_BADLY = ("failed", "aborted")


def doubt(job_id: int, status: str, datastore: Path, recorded_count: int = 0) -> str:
    """A warning about results to start from; empty if there is nothing to say.

    The engine reads what a job has stored, however it ended: a calculation may need no more than that.

    Args:
        job_id: whose results they are.
        status: how that job ended.
        datastore: its file.
        recorded_count: tasks of it whose outcomes are in a journal here.
    Raises:
        StateError: the job ended badly and its file is not there.
    """
    if status not in ENDED_BADLY:
        return ""
    if not datastore.exists():
        is_or_was = "failed" if status == "failed" else "was aborted"
        remedy = _reusable(job_id, recorded_count) or f"; `quakegrid explain {job_id}` says why"
        raise errors.StateError(f"job {job_id} {is_or_was} and has no results to start from (--hc){remedy}")
    words = f"job {job_id} is {status}, so the results to start from (--hc) may not be complete"
    return words + _reusable(job_id, recorded_count)


def _reusable(job_id: int, recorded_count: int) -> str:
    """What of a job that ended badly need not be computed again, and how; empty if nothing is known."""
    if not recorded_count:
        return ""
    tasks = "1 of its tasks was" if recorded_count == 1 else f"{recorded_count} of its tasks were"
    return (
        f". {tasks} done and need not be computed again: `quakegrid resume {job_id}` completes it from there"
    )


def own_ids(folder: Path, own: Iterable[int]) -> list[int]:
    """The jobs of one user whose datastores are in a folder that others may use, too; the oldest first.

    Args:
        folder: it may be missing.
        own: ids of all jobs of that user.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = {int(match[2]) for match in map(_STORE_NAME.match, names) if match}
    return sorted(found & set(own))
