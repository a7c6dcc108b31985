"""Limits how many bytes may pass: at a rate in the long run, and a burst at once.

Pure: callers pass the time.
"""

from __future__ import annotations


class Allowance:
    """The bytes that may pass. When all are used, nothing passes until half of the burst is available again.

    So the bytes beyond the rate are left out in few long pieces, and not in many short ones.

    Args:
        rate_bytes_s: how many may pass each second in the long run.
        burst_bytes: how many may pass at once at most, and at first.
    """

    def __init__(self, rate_bytes_s: float, burst_bytes: int) -> None:
        self._rate_bytes_s, self._burst_bytes = rate_bytes_s, burst_bytes
        self._left_bytes = float(burst_bytes)
        self._is_spent = False
        self._now_s: float | None = None

    def take(self, byte_count: int, now_s: float) -> int:
        """Ask for bytes to pass; returns how many may pass now."""
        since_s = 0.0 if self._now_s is None else now_s - self._now_s
        self._now_s = now_s
        self._left_bytes = min(self._burst_bytes, self._left_bytes + since_s * self._rate_bytes_s)
        if self._is_spent and self._left_bytes < self._burst_bytes / 2:
            return 0
        taken = min(byte_count, int(self._left_bytes))
        self._left_bytes -= taken
        self._is_spent = taken < byte_count
        return taken
