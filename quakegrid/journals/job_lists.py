"""The list of a driver's jobs, in a file of the agent that the driver can write into, but not make larger.

The agent makes the file with its full size. A driver runs code of its person, so its process maps the file
before it becomes the person's, and has no descriptor of it. What is in the file outlives both processes.
"""

from __future__ import annotations

import ctypes
import mmap
import os

MAX_JOBS = 1000
# Each line has a number of at most 19 digits and its end.
SIZE = 40 * MAX_JOBS
# A driver writes it when its jobs have their place in the queue, each driver once.
PLACED = b"placed"
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_FAILED = ctypes.c_void_p(-1).value


def reserve(fd: int) -> None:
    """Give a file that is empty the size of a list, and its room on the disk.

    Raises:
        OSError: the disk is full.
    """
    os.posix_fallocate(fd, 0, SIZE)


def lines_of(fd: int) -> list[bytes]:
    """The lines that are in a list, each with its end: a driver that died may have left a part of one."""
    return _whole_lines(os.pread(fd, SIZE, 0)).split()


class JobList:
    """A list that is mapped until this process ends; nobody else writes into it meanwhile.

    Python's own `mmap` would keep a descriptor of the file.

    Args:
        fd: of the file, open for reading and writing; it stays the caller's.
    Raises:
        OSError: it cannot be mapped, or is no list.
    """

    def __init__(self, fd: int) -> None:
        if os.fstat(fd).st_size < SIZE:
            raise OSError("it is no list of jobs")
        place = _LIBC.mmap(None, SIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
        if place == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._place = place

    def add(self, line: bytes) -> None:
        """Add a line. An id that is there is not added, and a list that is full stays as it is."""
        there = _whole_lines(ctypes.string_at(self._place, SIZE))
        data = line + b"\n"
        is_new = line == PLACED or line not in there.split()
        if is_new and len(there) + len(data) <= SIZE:
            ctypes.memmove(self._place + len(there), data, len(data))


def _whole_lines(data: bytes) -> bytes:
    """What is before the first zero, up to the end of its last line."""
    return data[: data.partition(b"\0")[0].rfind(b"\n") + 1]
