"""The log of the drivers that have no terminal: their output goes to one file of the agent's user.

The agent opens the file, not the command line. A command line may be root's, and root must neither follow
links that others put there nor leave files that the agent's user cannot write.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from quakegrid.errors import QuakeGridError

NAME = "drivers.log"
MAX_LOG_BYTES = 50 << 20
# O_NONBLOCK: if the path is a pipe, the agent must not wait for a reader.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


def open_stdio(log_dir: Path) -> list[int]:
    """Descriptors for 0, 1 and 2: nothing to read, and the log to write.

    Raises:
        QuakeGridError: the log cannot be opened.
    """
    path = log_dir / NAME
    opened: list[int] = []
    try:
        log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        put_aside(log_dir)
        opened.append(os.open(path, _FLAGS, 0o600))
        return [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), os.dup(opened[0]), opened.pop()]
    except OSError as exc:
        raise QuakeGridError(
            f"{path} cannot be written ({exc.strerror}); free space, or remove what is there"
        ) from None
    finally:
        for fd in opened:
            os.close(fd)


def put_aside(log_dir: Path) -> None:
    """Copy a log that is too large, and empty it.

    The file stays the same, since drivers may write into it for days. What they write in this moment is lost.
    A full disk costs the copy.
    """
    path = log_dir / NAME
    if not path.is_file() or path.stat().st_size <= MAX_LOG_BYTES:
        return
    kept = path.with_suffix(".log.1")
    try:
        shutil.copyfile(path, kept)
        kept.chmod(0o600)
    except OSError:
        kept.unlink(missing_ok=True)
    os.truncate(path, 0)
