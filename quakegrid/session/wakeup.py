"""Ends a wait of the thread that owns the lane's socket; for any thread."""

from __future__ import annotations

import os
import weakref


class Wakeup:
    """A descriptor for pollers, readable from `set` until `clear`."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Closed with this object and not before: any thread may still wake us.
        weakref.finalize(self, os.close, self._fd).atexit = False

    def fileno(self) -> int:
        """The descriptor, which is what a poller reports."""
        return self._fd

    def set(self) -> None:
        """End a wait, now or the next one; for any thread."""
        os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Make the descriptor unreadable again; call it only after a `set`."""
        os.eventfd_read(self._fd)
