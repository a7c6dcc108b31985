"""Waiting for changes of a job: the writer rings after each commit, followers wait.

A follower remembers the generation it has seen before it reads, so a change in between wakes it at
once and none is missed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from quakegrid.errors import PeerUnreachableError


class Followers:
    """Generations of jobs, and a condition that tells of new ones."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._generations: Counter[int] = Counter()
        self._is_closed = False

    def ring(self, job_ids: set[int]) -> None:
        """Tell that these jobs have changed; called after the commit."""
        with self._changed:
            self._generations.update(job_ids)
            self._changed.notify_all()

    def wake(self) -> None:
        """Make all who wait look whether they still should."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Send all followers away."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def generation(self, job_id: int) -> int:
        """How often a job has changed since this process started."""
        with self._changed:
            return self._generations[job_id]

    def wait(self, job_id: int, seen: int, is_wanted: Callable[[], bool]) -> None:
        """Wait until the job has changed since generation `seen`, or nobody wants to know any more.

        Raises:
            PeerUnreachableError: the dbserver is stopping.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or self._generations[job_id] != seen or not is_wanted()
            )
            if self._is_closed:
                raise PeerUnreachableError("the dbserver is stopping")
