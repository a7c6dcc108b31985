"""Well-behaved peers that are served while others misbehave, and the longest time that they waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

PAUSE_S = 0.01
FAILURE_PAUSE_S = 0.2
CALL_S = 30.0


class Neighbour:
    """Makes one call after the other in a thread; a context manager.

    Args:
        name: for people.
        call: one call; raises if it was not served.
        close: ends what `call` needs.
    """

    def __init__(self, name: str, call: Callable[[], object], close: Callable[[], object]) -> None:
        self.name, self._call, self._close = name, call, close
        self._ended = threading.Event()
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"neighbour-{name}", daemon=True)
        self._last_s = 0.0
        self.call_count = 0
        self.longest_s = 0.0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._call()  # connected, with workers: what comes is a gap of the fuzzing
        self._last_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join(CALL_S)
        self._close()

    def wait_for_call(self, count: int, timeout_s: float) -> bool:
        """Wait until more than so many calls were answered."""
        with self._progress:
            return self._progress.wait_for(lambda: self.call_count > count, timeout_s)

    @property
    def gap_s(self) -> float:
        """The longest time between two answers, the one that is not over included."""
        return max(self.longest_s, time.monotonic() - self._last_s)

    def _run(self) -> None:
        while not self._ended.wait(PAUSE_S):
            try:
                self._call()
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is told
                self.failures.append(f"{type(exc).__name__}: {exc}")
                self._ended.wait(FAILURE_PAUSE_S)
                continue
            now_s = time.monotonic()
            with self._progress:
                self.longest_s = max(self.longest_s, now_s - self._last_s)
                self._last_s = now_s
                self.call_count += 1
                self._progress.notify_all()
