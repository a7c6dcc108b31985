"""How a process with many threads takes memory from the system, where its C library is glibc."""

from __future__ import annotations

import ctypes

# glibc's number of the setting, which is in <malloc.h>.
_M_ARENA_MAX = -8
ARENA_COUNT = 2
_M_MMAP_THRESHOLD = -3
LARGE_BLOCK_BYTES = 1 << 20


def limit_arenas(count: int = ARENA_COUNT) -> bool:
    """Let all threads share a few of the allocator's heaps; returns False if the C library cannot do that.

    By default glibc gives each thread a heap ("arena") of its own, up to eight for each core of the machine.
    Each heap keeps what its thread once needed, so a service with fifty threads keeps it fifty times. Threads
    of Python seldom allocate at the same time, since the interpreter lets one of them run. Call this before
    threads are started: a heap that a thread has already stays.
    """
    return _set_option(_M_ARENA_MAX, count)


def give_large_blocks_back(size_bytes: int = LARGE_BLOCK_BYTES) -> bool:
    """Have blocks of this size and more given back to the system when they are freed; false if it cannot be.

    By default glibc takes blocks of up to 32 MB from its heaps once one of that size was freed, and heaps
    with something small above the block keep it.
    """
    return _set_option(_M_MMAP_THRESHOLD, size_bytes)


def _set_option(option: int, value: int) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(option, value))
