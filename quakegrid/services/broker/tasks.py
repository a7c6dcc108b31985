"""Coroutines that run beside the calls, until the broker stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from quakegrid.services.broker.guard import BrokerFailedError, StateGuard

log = logging.getLogger("quakegrid.broker")


class BackgroundTasks:
    """Keeps tasks running; one that fails is a bug of ours and ends the broker.

    Args:
        guard: is shut by a failure.
    """

    def __init__(self, guard: StateGuard) -> None:
        self._guard = guard
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    async def stop(self) -> None:
        """Cancel all tasks, and wait for their ends."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure and not isinstance(failure, BrokerFailedError):  # that has been told
            log.error("broker_task_failed", exc_info=failure)
        if failure:
            self._guard.failed.set()
