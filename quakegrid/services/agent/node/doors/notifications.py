"""Notifications of the ends of jobs: a child of the template tells them when a job's driver has ended.

The child is forked as the driver was, as the job's person. So no service runs a command of a person, and a
driver that was killed has its end told, too. A driver writes the ids of its jobs into a memfd that the agent
keeps. What an agent that stops cannot tell any more is written down, and told by the next agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from quakegrid.errors import QuakeGridError
from quakegrid.services.agent.node.doors.preparation import START
from quakegrid.services.agent.node.drivers import DriverFiles, Drivers
from quakegrid.services.agent.rules.persons import Account

log = logging.getLogger("quakegrid.agent")
Request = dict[str, Any]
# How long the start of a child is tried again, as when the template has died with its drivers.
TRIES, PAUSE_S = 600, 1.0
_SUFFIX = ".notification.json"
# Of a request: the certificate of a driver, which has ended. It is not written down.
_PROOF = "proof"


class Notifications:
    """Starts the children that tell the ends of jobs. For the agent's event loop.

    Args:
        drivers: of this node.
        for_all: targets that are told of every job, of `[notify]`.
        folder: where untold ends are written down; private to the agent's user.
        prepare: gives a request what its child proves itself with, and the child an account.
    """

    def __init__(
        self,
        drivers: Drivers,
        for_all: Sequence[str],
        folder: Path,
        prepare: Callable[[Request], Awaitable[tuple[Request, Account | None]]],
    ) -> None:
        self._drivers, self._for_all, self._folder, self._prepare = drivers, for_all, folder, prepare
        self._tasks: set[asyncio.Task[None]] = set()

    def on_driver_end(self, request: Request, job_ids: Sequence[int]) -> None:
        """Tell the ends of the jobs of a driver that has ended, if wanted."""
        targets = [*request["notify"], *self._for_all]
        if job_ids and targets:
            is_sent = request["argv"][:1] == [START]
            more = {"job_ids": list(job_ids), "notify": targets, "is_from_elsewhere": is_sent}
            self._begin(request | more)

    def take_up(self) -> None:
        """Tell what an earlier agent could not tell."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                request = json.loads(path.read_bytes())
                path.unlink()
                log.info("notification_taken_up jobs=%s", request["job_ids"])
                self._begin(request)

    def stop(self) -> None:
        """Write down what is not told yet."""
        for task in self._tasks:
            task.cancel()

    def _begin(self, request: Request) -> None:
        if self._drivers.is_stopping:
            self._write_down(request)
            return
        task = asyncio.get_running_loop().create_task(self._tell(request), name="notification")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, request: Request) -> None:
        """Start the child; try again while none can be started."""
        is_over = False
        try:
            for tries_left in reversed(range(TRIES)):
                is_over = await self._try(request, tries_left)
                if is_over or self._drivers.is_stopping:
                    return
                await asyncio.sleep(PAUSE_S)
        finally:
            if not is_over:
                self._write_down(request)

    async def _try(self, request: Request, tries_left: int) -> bool:
        """Start the child; returns whether it was started, or the last try has failed."""
        try:
            self._start(*await self._prepare(request))
        except QuakeGridError as exc:
            if not tries_left:
                log.warning("notification_failed jobs=%s reason=%s", request["job_ids"], exc)
            return not tries_left
        return True

    def _start(self, request: Request, account: Account | None) -> None:
        ids = ", ".join(map(str, request["job_ids"]))
        child = request | {"mode": "notify", "argv": ["notify", ids], "is_detachable": True}
        events_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._drivers.start(child, DriverFiles(events_fd), _on_end, account=account)
        finally:
            os.close(events_fd)

    def _write_down(self, request: Request) -> None:
        path = self._folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, json.dumps({**request, _PROOF: None}).encode())
            finally:
                os.close(fd)
        except OSError as exc:
            log.warning("notification_lost jobs=%s reason=%s", request["job_ids"], exc)


def _on_end(code: int, reason: str) -> None:
    """The child has told in the job's log what went wrong, if anything did."""
    if reason:
        log.warning("notification_failed code=%d reason=%s", code, reason)
