"""A signal that is repeated until the calculation that it should stop has stopped.

Does not depend on the engine: the owner tells whether a calculation runs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

INTERVAL_S = 0.5


class Insistence:
    """Repeats one signal to this process.

    Args:
        is_running: whether there is something to stop; asked in the signal's handler.
        interval_s: time between two signals.
    """

    def __init__(self, is_running: Callable[[], bool], interval_s: float = INTERVAL_S) -> None:
        self._is_running, self._interval_s = is_running, interval_s
        self._calm = threading.Event()

    def begin(self, number: int) -> None:
        """Repeat a signal until `end`; does nothing when nothing runs, as nobody would call `end` then."""
        if not self._is_running() or any(thread.name == "insist" for thread in threading.enumerate()):
            return
        self._calm.clear()
        threading.Thread(target=self._repeat, args=[number], name="insist", daemon=True).start()

    def end(self) -> None:
        """The signal has done its work; for any thread."""
        self._calm.set()

    def _repeat(self, number: int) -> None:
        while not self._calm.wait(self._interval_s):
            os.kill(os.getpid(), number)
