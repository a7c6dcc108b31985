"""What the kernel says of a process in /proc/PID/stat: proc_pid_stat(5) has the fields.

A few microseconds a process, since some look at all processes of the machine.
"""

from __future__ import annotations

import os

# Places in the fields that come after the name of the command, which may have any bytes in it.
STATE, PARENT, GROUP, SESSION = 0, 1, 2, 3
USER_TICKS, SYSTEM_TICKS = 11, 12
START_TICKS, STACK_START, EXIT_STATUS = 19, 25, 49
_MOST_BYTES = 1024


def fields(pid: int, proc: str | os.PathLike[str] = "/proc") -> list[bytes]:
    """The fields after the name; none if the process is gone or cannot be read.

    Args:
        pid: of the process.
        proc: where /proc is.
    """
    try:
        fd = os.open(f"{os.fspath(proc)}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(fd, _MOST_BYTES).rpartition(b")")[2].split()
    except OSError:  # it ended just now
        return []
    finally:
        os.close(fd)


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; -1 when it has ended. Tells a reused pid."""
    found = fields(pid)
    return -1 if not found or found[STATE] == b"Z" else int(found[START_TICKS])
