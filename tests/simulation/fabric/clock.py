"""Virtual time: one event loop in which nothing waits, and clocks that go by it.

The event loop is asyncio's own, so the broker's coroutines run as they are. Where it would sleep it moves its
clock on. Everything that happens in a world is a callback of this one loop, in one order.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

EPOCH_S = 1_800_000_000.0


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop that sleeps by moving its clock.

    Its turns are its own: asyncio's compare timers by a method of Python, which took a fifth of a run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_numbers = itertools.count()

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.now_s

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call something at an instant; what is due at the same one is called in the order of these calls."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def _run_once(self) -> None:
        """Move the clock to what is due next, unless something waits already, and run all that is due."""
        timers, ready = self._timers, self._ready
        if not (ready or self._stopping):
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                self.stop()  # nobody waits for anything
                return
            self.now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= self.now_s:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def close(self) -> None:
        """Let go of everything that still waits."""
        self._ready.clear()
        self._timers.clear()
        super().close()

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""


class WallClock:
    """The wall clock of a machine, which may jump.

    Args:
        loop: whose time it goes by.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset_s = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return EPOCH_S + self._loop.now_s + self.offset_s


class _Secrets:
    """Random tokens that a seed decides."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def hex(self, byte_count: int = 4) -> str:
        return self._source.randbytes(byte_count).hex()


@contextlib.contextmanager
def virtual(loop: VirtualLoop, wall: WallClock, seed: int) -> Iterator[None]:
    """Let all code of this process go by virtual time, and draw its random numbers by a seed."""
    source = _Secrets(random.Random(f"{seed} secrets"))
    state = random.getstate()
    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (time, "monotonic", loop.time),
        (time, "time", wall.time),
        (time, "time_ns", lambda: int(wall.time() * 1e9)),
        (secrets, "token_hex", source.hex),
        (os, "sched_getaffinity", lambda _pid: {0, 1}),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    random.seed(f"{seed} random")
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        random.setstate(state)
