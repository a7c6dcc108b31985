"""Tasks of `bench_broker.py`, in a module of their own that workers can import."""

from __future__ import annotations

import time
from typing import Any


def empty() -> None:
    """Do nothing."""


def empty_of(_number: int) -> None:
    """Do nothing with an argument, which the engine's tasks must have."""


def large(size: int) -> bytes:
    """Return as many bytes."""
    return b"x" * size


def first(array: Any) -> float:
    """Look at the first number."""
    return float(array[0])


def spin(duration_s: float) -> None:
    """Keep a core busy so long."""
    end_s = time.perf_counter() + duration_s
    while time.perf_counter() < end_s:
        pass
