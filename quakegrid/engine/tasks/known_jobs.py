"""The jobs that tasks may look up: those that their driver has looked up, and what it found.

A task of the engine opens a parent calculation by its number. A worker has no connection to the dbserver, so
the driver sends along where the jobs are: with the setup of its workers, and with tasks if it has learnt more
since.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

# The last ones that were looked up.
MOST_JOBS = 100


class KnownJobs:
    """Rows of jobs by id, as the engine's `get_job` gave them to a driver."""

    def __init__(self) -> None:
        self._rows: dict[int, Any] = {}
        self._sent: dict[int, tuple[Any, ...]] = {}
        self._news: bytes | None = b""

    def note(self, row: Any) -> None:
        """Remember what was found."""
        self._rows.pop(row.id, None)
        self._rows[row.id] = row
        if len(self._rows) > MOST_JOBS:
            del self._rows[next(iter(self._rows))]
        self._news = None

    def for_setup(self) -> dict[int, Any]:
        """All of them, for the workers of a new session."""
        self._sent = self._places()
        self._news = b""
        return dict(self._rows)

    def for_task(self) -> bytes:
        """All of them, pickled, if workers may not know them from their setup; empty if they do."""
        if self._news is None:
            is_new = self._places() != self._sent
            self._news = pickle.dumps(self._rows, pickle.HIGHEST_PROTOCOL) if is_new else b""
        return self._news

    def _places(self) -> dict[int, tuple[Any, ...]]:
        """What tasks look for; the rest, such as the state of a job, may be older."""
        return {job_id: (row.ds_calc_dir, row.hazard_calculation_id) for job_id, row in self._rows.items()}


def find(rows: Mapping[int, Any], action: str, args: tuple[Any, ...]) -> Any:
    """The answer to a task that asks the database.

    Raises:
        RuntimeError: its driver has not sent it along.
    """
    if action == "get_job" and len(args) == 1 and args[0] in rows:
        return rows[args[0]]
    raise RuntimeError(
        f"a task cannot ask the database for {action} {args!r}: only its driver can; ask there, and pass the "
        "answer to the task"
    )
