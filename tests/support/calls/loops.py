"""One event loop for all that tests call through gRPC in their own process, in place of `asyncio.run`.

gRPC has one queue of events for all loops of a process. An event of a loop that was closed meanwhile
raises an error in another loop, such as that of a dbserver beside the test. This one stays open.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@functools.cache
def _runner() -> asyncio.Runner:
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, and cancel what it has left running."""

    async def run_alone() -> T:
        before = asyncio.all_tasks()
        try:
            return await coroutine
        finally:
            left = asyncio.all_tasks() - before
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    return _runner().run(run_alone())
