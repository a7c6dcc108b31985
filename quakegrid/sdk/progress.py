"""How an executor tells its user how many calls are done."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("quakegrid.sdk")
# Called with the counts of done and submitted calls.
OnProgress = Callable[[int, int], object]


class Progress:
    """The counts of one executor.

    Args:
        on_progress: the user's function, if there is one.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self.done_count = 0
        self.answered_count = 0  # without being sent; for any thread that has the futures' lock
        self._told_count = 0

    @property
    def is_wanted(self) -> bool:
        """Whether there is somebody to tell."""
        return self._on_progress is not None

    def tell(self, open_count: int) -> None:
        """Call the user's function if calls were done since the last time.

        Args:
            open_count: calls that are not done.
        """
        done_count = self.done_count + self.answered_count
        if self._on_progress is None or self._told_count == done_count:
            return
        self._told_count = done_count
        try:
            self._on_progress(done_count, done_count + open_count)
        except Exception:  # as futures treat the callbacks of theirs
            log.exception("progress_callback_failed")
