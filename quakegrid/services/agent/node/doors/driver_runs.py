"""Runs a request in a driver, and in another one when that has died for a reason that is not its own.

A driver that is killed, by hand, with its template or by the kernel, leaves a journal on this machine. The
agent outlives it, or the next agent finds its ticket; so the agent starts the next driver. That driver
decides whether the calculation goes on: it knows its journal and state. Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quakegrid import errors
from quakegrid.journals import files as journal_files
from quakegrid.services.agent.node.doors import driver_tickets
from quakegrid.services.agent.node.doors.driver_tickets import DriverTicket, Request
from quakegrid.services.agent.node.doors.notifications import Notifications
from quakegrid.services.agent.node.drivers import STOP_SIGNALS, DriverEnd, DriverFiles, Drivers
from quakegrid.services.agent.rules.persons import Account
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.agent")
# How long the start of the next driver is tried again, as when the dbserver is away.
TRIES, PAUSE_S = 600, 1.0
# How many drivers may come to nothing, before they are forked, until a request is given up.
FORK_TRIES = 60
# Before the second, third and each further driver of a request: twice as long each time, and at most so long.
LONGEST_PAUSE_S = 60.0
# How long a calculation may take to its place in the queue before the next one is taken up.
PLACE_TRIES, PLACE_PAUSE_S = 1500, 0.1
AUTO = "auto"
# What such a request begins with; exports and views are asked for again by who wants them.
_CALCULATIONS = frozenset({"engine", "start", "resume"})
# A driver that has these by default was told to end before it could say so.
_TOLD_TO_END = frozenset({128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP})


class DriverRun:
    """One request, and the driver that works on it now.

    Args:
        runs: of this agent.
        request: prepared.
        ticket: of its drivers.
        events_fd: where the events go, also those of further drivers; owned from now on.
        on_end: called once, when no further driver follows.
    """

    def __init__(
        self, runs: DriverRuns, request: Request, ticket: DriverTicket, events_fd: int, on_end: DriverEnd
    ) -> None:
        self._runs, self._request, self._on_end = runs, request, on_end
        self.ticket, self._events_fd = ticket, events_fd
        self._name = ""
        self._is_detached = False
        self._again_count = 0
        # While there is no driver, and the next one is on its way.
        self._next: asyncio.Task[Any] | None = None
        self.is_over = False

    def start(self, files: DriverFiles, account: Account | None, request: Request | None = None) -> None:
        """Start a driver.

        Args:
            files: what it gets beside its events and its list of jobs; they stay the caller's.
            account: as whom it runs.
            request: for a further driver; None for the first one.
        Raises:
            QuakeGridError: none can be started.
        """
        self._runs.clear_place(account)
        files = replace(files, events_fd=self._events_fd, jobs_fd=self.ticket.jobs_fd)
        drivers = self._runs.drivers
        self._name = drivers.start(request or self._request, files, self._on_driver_end, account=account)
        if self._is_detached:
            drivers.detach(self._name)

    def signal(self, number: int) -> None:
        """Pass a signal on. Between two drivers one that ends drivers ends the request."""
        if self._next is None:
            self._runs.drivers.signal(self._name, number)
        elif number in STOP_SIGNALS:
            self._give_up(128 + number)

    def detach(self) -> None:
        """Go on without the command line."""
        self._is_detached = True
        self._runs.drivers.detach(self._name)

    def terminate(self) -> None:
        """End: the command line is gone."""
        if self._next is None:
            self._runs.drivers.terminate(self._name)
        else:
            self._give_up(128 + signal.SIGTERM)

    def _give_up(self, code: int) -> None:
        """Start no further driver: the calculation has failed, and stays so."""
        assert self._next is not None, "it is on its way"
        self._next.cancel()
        self._next = None
        self.end(code, "")

    def _on_driver_end(self, code: int, reason: str) -> None:
        if not self._runs.drivers.is_stopping and self._is_again(code, reason):
            self._next = self._runs.keep(self._again(code, reason))
        else:
            self.end(code, reason)

    def _is_again(self, code: int, reason: str) -> bool:
        """Whether another driver shall go on with what this one has left."""
        if not self.ticket.job_ids or (reason and self._again_count >= FORK_TRIES):
            return False
        # Also by the broker, as it may after an abort: then the next driver finds the job aborted, and ends.
        # A driver may also have come to nothing, as when its template was killed before it was forked.
        is_lost = bool(reason) or (code > 128 and code not in _TOLD_TO_END)
        is_wanted = is_lost and not self._runs.drivers.was_ended(self._name)
        return code == errors.EXIT_AGAIN or (is_wanted and self.ticket.is_kept)

    async def _again(self, code: int, reason: str) -> None:
        """Start the next driver; end like the last one if that cannot be."""
        job_id = self.ticket.job_ids[0]
        log.warning("driver_died code=%d job=%d reason=%s", code, job_id, reason)
        self._again_count += 1
        if self._again_count > 1:  # one that dies at once shall not keep the node busy
            await asyncio.sleep(min(PAUSE_S * 2.0 ** min(self._again_count - 2, 30), LONGEST_PAUSE_S))
        try:
            await self.resume()
            self._next = None
        except errors.QuakeGridError as exc:
            log.warning("not_resumed job=%d reason=%s", job_id, exc)
            self._next = None
            self.end(code, reason)

    async def resume(self) -> None:
        """Start a driver that goes on with the jobs.

        Raises:
            QuakeGridError: none can be started, also after many tries.
        """
        argv = ["resume", *map(str, self.ticket.job_ids), "--by-itself"]
        for tries_left in reversed(range(TRIES)):
            try:
                request, account = await self._runs.prepare(self._request | {"argv": argv})
                self.start(DriverFiles(self._events_fd), account, request)
            except errors.QuakeGridError:
                if not tries_left or self._runs.drivers.is_stopping:
                    raise
                await asyncio.sleep(PAUSE_S)
            else:
                return

    def end(self, code: int, reason: str) -> None:
        """No further driver follows here; what ends with its agent is taken up by the next one."""
        self.is_over = True
        if self._runs.drivers.is_stopping and self.ticket.path is not None and self.ticket.job_ids:
            self.ticket.close()
        else:
            self._runs.notifications.on_driver_end(self._request, self.ticket.job_ids)
            self.ticket.remove()
        os.close(self._events_fd)
        self._on_end(code, reason)


class DriverRuns:
    """All requests of one agent.

    Args:
        drivers: of this node.
        notifications: told of the ends of drivers.
        settings: of the cluster.
        prepare: gives a request a new certificate, and an account.
    """

    def __init__(
        self,
        drivers: Drivers,
        notifications: Notifications,
        settings: Settings,
        prepare: Callable[[Request], Awaitable[tuple[Request, Account | None]]],
    ) -> None:
        self.drivers, self.notifications, self.prepare = drivers, notifications, prepare
        self._is_auto = settings.resume == AUTO
        self._state_dir = settings.state_dir
        self._folder: Path = settings.state_dir / driver_tickets.FOLDER
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(
        self, request: Request, files: DriverFiles, on_end: DriverEnd, account: Account | None
    ) -> DriverRun:
        """Run a request.

        Args:
            request: prepared.
            files: of the command line; they stay the caller's. There is no list of jobs in them.
            on_end: called once, with the exit code of the last driver.
            account: as whom it runs.
        Raises:
            QuakeGridError: no driver can be started.
            OSError: there is no descriptor left.
        """
        is_kept = self._is_auto and request["is_detachable"] and bool(_CALCULATIONS & {*request["argv"][:1]})
        ticket = DriverTicket.written(self._folder, request) if is_kept else DriverTicket.unwritten()
        events_fd = -1
        try:
            events_fd = os.dup(files.events_fd)
            run = DriverRun(self, request, ticket, events_fd, on_end)
            run.start(files, account)
        except (errors.QuakeGridError, OSError):
            ticket.remove()
            if events_fd >= 0:
                os.close(events_fd)
            raise
        return run

    def take_up(self) -> None:
        """Go on with what the drivers of an earlier agent have left, one after the other."""
        if found := driver_tickets.left(self._folder):
            self.keep(self._take_up(found))

    def clear_place(self, account: Account | None) -> None:
        """Let the driver of an account have its journals, whatever others have put in their place."""
        if account is None:
            return
        try:
            found = journal_files.clear_place(self._state_dir, account.uid)
        except OSError as exc:
            found = f"{exc}; it stays"
        if found:
            log.warning("journals_place_taken account=%s by=%s", account.name, found)

    def keep(self, work: Any) -> asyncio.Task[Any]:
        """Keep a task running."""
        task = asyncio.get_running_loop().create_task(work, name="next driver")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def stop(self) -> None:
        """Start no further driver; tickets stay for the next agent."""
        for task in self._tasks:
            task.cancel()

    async def _take_up(self, found: Sequence[tuple[DriverTicket, Request]]) -> None:
        """Resume in the order of the jobs: each has its place in the queue before the next one starts."""
        for old, request in found:
            ids = old.job_ids
            log.info("driver_taken_up jobs=%s", ids)
            if not self._is_auto:
                self.notifications.on_driver_end(request, ids)
                old.remove()
                continue
            await self._resume(old, request)

    async def _resume(self, ticket: DriverTicket, request: Request) -> None:
        """Resume with the ticket as it is: another one could not be written on a full disk."""
        ours, theirs = socket.socketpair()
        ours.close()
        run = DriverRun(self, request, ticket, theirs.detach(), _ignore)
        ticket.begin_again()
        try:
            await run.resume()
        except errors.QuakeGridError as exc:
            log.warning("not_resumed jobs=%s reason=%s", ticket.job_ids, exc)
            run.end(errors.EXIT_FAILED, "")
            return
        run.detach()
        for _ in range(PLACE_TRIES):
            if run.is_over or ticket.has_place:
                return
            await asyncio.sleep(PLACE_PAUSE_S)


def _ignore(_code: int, _reason: str) -> None:
    """Nobody waits for it."""
