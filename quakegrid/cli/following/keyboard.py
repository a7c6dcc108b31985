"""Reads single keys of a terminal while a question is open; otherwise the terminal stays as it was."""

from __future__ import annotations

import os
import sys
import termios
import tty
from typing import Any

STDIN = 0


def is_interactive() -> bool:
    """Whether a person can be asked: all streams are terminals, and this process is in the foreground."""
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        return False
    return _is_in_foreground()


class Keyboard:
    """The terminal at stdin."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether keys can be read now."""
        return self._before is not None

    def open(self) -> bool:
        """Let each key come at once, and forget what was typed before; returns whether that is possible."""
        if not _is_in_foreground():  # the kernel would stop this process
            return False
        try:
            self._before = termios.tcgetattr(STDIN)
            tty.setcbreak(STDIN, termios.TCSAFLUSH)  # Ctrl-C still makes a signal
        except (OSError, termios.error):
            self._before = None
        return self.is_open

    def read(self) -> str:
        """The key that was pressed; empty if the terminal is gone."""
        try:
            return os.read(STDIN, 1).decode("ascii", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        """Leave the terminal as it was before `open`."""
        before, self._before = self._before, None
        if before is None:
            return
        try:
            termios.tcsetattr(STDIN, termios.TCSAFLUSH, before)
        except (OSError, termios.error):
            return


def _is_in_foreground() -> bool:
    try:
        return os.tcgetpgrp(STDIN) == os.getpgrp()
    except OSError:  # the terminal is gone, or not ours
        return False
