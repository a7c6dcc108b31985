"""The log of a service: lines on stderr. If stderr is a file, its size is limited.

systemd and container engines limit the logs that they collect. `quakegrid up` gives each service a file,
which has no other limit, and peers can cause any number of lines.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import TextIO

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
MAX_BYTES = 20 << 20
# How often the size is looked at.
LOOK_EVERY_LINES = 100


def start(log_format: str = FORMAT) -> None:
    """Log to stderr from now on."""
    handler = BoundedHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(log_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def is_logged(count: int, first_count: int = 1) -> bool:
    """Whether to log the `count`-th of many equal events: the first ones, then each power of two."""
    return count <= first_count or count & (count - 1) == 0


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Writes lines. A file that is full is copied to `NAME.1` beside it and emptied.

    Args:
        stream: of the process. It is emptied only if it is a file that is open for appending.
        max_bytes: the size, about, from which on the file is full.
    """

    def __init__(self, stream: TextIO, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(stream)
        self._max_bytes = max_bytes
        self._line_count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, and check the size now and then. Callers hold the handler's lock."""
        super().emit(record)
        self._line_count += 1
        if self._line_count % LOOK_EVERY_LINES == 0:
            try:
                self._put_aside()
            except OSError:  # such as a full disk
                self.handleError(record)

    def _put_aside(self) -> None:
        descriptor = self.stream.fileno()
        status = os.fstat(descriptor)
        is_appended = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)
        if not stat.S_ISREG(status.st_mode) or not is_appended or status.st_size <= self._max_bytes:
            return
        # The file is not renamed, since other processes of the service, such as lanes, have it open.
        file = Path(f"/proc/self/fd/{descriptor}")
        shutil.copyfile(file, f"{file.readlink()}.1")
        os.ftruncate(descriptor, 0)
