"""The signals that a person or a terminal sends to a command line, readable from a descriptor."""

from __future__ import annotations

import os
import signal
from typing import Self

TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH)


class Signals:
    """The signals of this process; a context manager that restores the handlers. For the main thread.

    A signal that is ignored stays ignored, so that `nohup` works.
    """

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous = {number: signal.getsignal(number) for number in TAKEN}
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number, handler in self._previous.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)  # the wakeup descriptor tells
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Readable when a signal came."""
        return self._reader

    def read(self) -> list[int]:
        """Numbers of the signals that came."""
        return [number for number in os.read(self._reader, 64) if number in TAKEN]
