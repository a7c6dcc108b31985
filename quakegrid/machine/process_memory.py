"""How a process with many threads takes memory from the system, where its C library is glibc."""

from __future__ import annotations

import ctypes

# glibc's number of the setting, which is in <malloc.h>.
_M_ARENA_MAX = -8
ARENA_COUNT = 2


def limit_arenas(count: int = ARENA_COUNT) -> bool:
    """Let all threads share a few of the allocator's heaps; returns False if the C library cannot do that.

    By default glibc gives each thread a heap ("arena") of its own, up to eight for each core of the machine.
    Each heap keeps what its thread once needed, so a service with fifty threads keeps it fifty times. Threads
    of Python seldom allocate at the same time, since the interpreter lets one of them run. Call this before
    threads are started: a heap that a thread has already stays.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_ARENA_MAX, count))
