"""Functions that tests of limits send to workers, which import them by name."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from quakegrid.services.agent.worker import threads

THREAD_GETTERS = (
    "omp_get_max_threads",
    "openblas_get_num_threads",
    "scipy_openblas_get_num_threads",
    "scipy_openblas_get_num_threads64_",
)


def eat(size_bytes: int) -> NoReturn:
    """Fill memory, and keep it until killed."""
    food = b"x" * size_bytes
    while food:
        signal.pause()
    raise AssertionError("unreachable")


def eat_in_children(count: int, size_bytes: int) -> NoReturn:
    """Let children of the worker do it, each within the worker's own limit."""
    for _ in range(count):
        if os.fork() == 0:
            eat(size_bytes)
    while True:
        signal.pause()


def eat_at_first(path: str, size_bytes: int) -> str:
    """Let two children eat so much each in the first attempt; eat nothing in later ones."""
    if Path(path).exists():
        return "modest"
    Path(path).touch()
    eat_in_children(2, size_bytes)


def share(size_bytes: int) -> NoReturn:
    """Fill memory that no limit on a process's own data sees."""
    with mmap.mmap(-1, size_bytes) as food:
        for place in range(0, size_bytes, mmap.PAGESIZE):
            food[place] = 1
        while True:
            signal.pause()


def limits() -> dict[str, Any]:
    """What this worker may use."""
    return {
        "pid": os.getpid(),
        "cores": sorted(os.sched_getaffinity(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score": oom_score(os.getpid()),
        "threads": os.environ["OMP_NUM_THREADS"],
    }


def thread_counts() -> dict[str, Any]:
    """How many threads numerical libraries may use here, those that the template loaded and those to come."""
    numba = sys.modules["numba"]  # not imported here: the template has it
    libraries = {}
    for path in threads._loaded_libraries():
        library = ctypes.CDLL(path)
        found = [getattr(library, name)() for name in THREAD_GETTERS if hasattr(library, name)]
        libraries[Path(path).name] = found
    return {
        "environment": {name: os.environ.get(name) for name in threads.THREAD_VARIABLES},
        "libraries": libraries,
        "numba": numba.get_num_threads(),
    }


def oom_score(pid: int) -> int:
    """How soon the kernel would kill a process: -1000 never, 1000 first."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))
