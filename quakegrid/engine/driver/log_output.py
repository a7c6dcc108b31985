"""Output of a driver that writes to a log file: a full disk costs lines of the log, never a calculation."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _LossyFile(io.FileIO):
    """Drops what cannot be written, and goes on when there is room again."""

    def write(self, data: ReadableBuffer) -> int:
        """Write what can be written; all of it counts as written."""
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


def take_over() -> None:
    """Make stdout and stderr of this process such files; by lines, which are there if we are killed."""
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(_LossyFile(number, "w", closefd=False)),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        for number in (1, 2)
    )
