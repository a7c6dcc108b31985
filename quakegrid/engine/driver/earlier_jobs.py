"""Earlier calculations of this user: which there are, and whether another one can start from one of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from quakegrid import errors

# Of datastores, as upstream looks for them.
_STORE_NAME = re.compile(r"(calc|cache)_(\d+)\.hdf5")
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


def own_ids(folder: Path, own: Iterable[int]) -> list[int]:
    """The jobs of one user whose datastores are in a folder that others may use, too; the oldest first.

    Args:
        folder: it may be missing.
        own: ids of all jobs of that user.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = {int(match[2]) for match in map(_STORE_NAME.match, names) if match}
    return sorted(found & set(own))
