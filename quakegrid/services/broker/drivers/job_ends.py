"""How the broker ends jobs in the database, through the dbserver.

Does not depend on sessions. The dbserver may be away for long. Until it is back, the ends that it has not
heard of wait here. The dbserver itself ends each job whose driver does not renew its hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from quakegrid import errors
from quakegrid.access.principals import Principal
from quakegrid.clients.backoff import Backoff
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.services.broker.drivers import jobs_aio
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0
# The most calls to the dbserver at a time, as a session may have a thousand jobs.
MAX_CALLS = 16
# The most jobs that wait for the dbserver. It fails the others itself when the holds on them end.
MAX_WAITING = 100_000
log = logging.getLogger("quakegrid.broker")


class Transition(Protocol):
    """Moves a job to another state."""

    def __call__(
        self, channel: grpc.aio.Channel, job_id: int, state: JobState, reason: str, *, address: str
    ) -> Coroutine[Any, Any, Job]:
        """See `jobs_aio.transition_job`."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """How a job is to end, and whether it has ended."""

    state: JobState
    reason: str
    done: asyncio.Event = field(default_factory=asyncio.Event)


class JobEnds:
    """Ends jobs over one connection, and tries again until the dbserver has answered for each.

    Args:
        settings: of the cluster.
        spawn: keeps a task running.
        transition: moves a job to another state.
    """

    def __init__(
        self,
        settings: Settings,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        transition: Transition = jobs_aio.transition_job,
    ) -> None:
        self._settings, self._spawn, self._transition = settings, spawn, transition
        self._wishes: dict[int, _Wish] = {}
        self._is_running = False

    async def end_now(self, job_id: int, state: JobState, reason: str) -> bool:
        """Move a job to a final state; returns False if the job had ended, and keeps its state.

        Raises:
            NotFoundError: there is no such job.
            PeerUnreachableError: the dbserver does not answer.
        """
        async with self._channel() as channel:
            return await self._end(channel, job_id, state, reason)

    async def owner_of(self, job_id: int) -> str | None:
        """The user whose job this is; None if there is no such job.

        Raises:
            PeerUnreachableError: the dbserver does not answer.
        """
        async with self._channel() as channel:
            return await jobs_aio.owner_of_job(channel, job_id, address=self._settings.dbserver_address)

    async def check_own(self, principal: Principal, job_ids: Sequence[int]) -> None:
        """Refuse jobs that do not belong to the person of a driver, or that there are not.

        Raises:
            NotAllowedError: there is one.
            PeerUnreachableError: the dbserver does not answer.
        """
        address = self._settings.dbserver_address
        async with self._channel() as channel:
            own = await jobs_aio.own_jobs(channel, job_ids, principal.person, address=address)
        for job_id in job_ids:
            if job_id not in own:
                raise errors.NotAllowedError(
                    f"job {job_id} is not a job of {principal.person}; you are {principal} and may not run it"
                )

    def end(self, job_ids: Iterable[int], state: JobState, reason: str) -> None:
        """Move jobs to a final state, unless they ended or were deleted. The first call for a job counts."""
        dropped_count = 0
        for job_id in job_ids:
            if len(self._wishes) < MAX_WAITING:
                self._wishes.setdefault(job_id, _Wish(state, reason))
            dropped_count += job_id not in self._wishes
        if dropped_count:
            log.error("job_ends_dropped count=%d reason=%s", dropped_count, reason)
        if self._wishes and not self._is_running:
            self._is_running = True
            self._spawn(self._run())

    async def wait(self, job_ids: Iterable[int], timeout_s: float) -> bool:
        """Wait until these jobs have ended; False if it takes longer."""
        waits = [self._wishes[job_id].done.wait() for job_id in job_ids if job_id in self._wishes]
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*waits)
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        try:
            while self._wishes:
                before = len(self._wishes)
                async with self._channel() as channel:
                    await self._try_all(channel, list(self._wishes))
                if self._wishes and len(self._wishes) >= before:
                    await asyncio.sleep(backoff.next_s())
        finally:
            self._is_running = False

    async def _try_all(self, channel: grpc.aio.Channel, job_ids: Sequence[int]) -> None:
        """Try to end each job once; stop when the dbserver does not answer."""
        failures: list[errors.QuakeGridError] = []
        for start in range(0, len(job_ids), MAX_CALLS):
            batch = job_ids[start : start + MAX_CALLS]
            found = await asyncio.gather(*(self._try(channel, each) for each in batch))
            failures += [each for each in found if each]
            if all(isinstance(each, errors.PeerUnreachableError) for each in found):
                break
        if failures:
            log.warning("jobs_not_ended_yet count=%d reason=%s", len(self._wishes), failures[-1])

    async def _try(self, channel: grpc.aio.Channel, job_id: int) -> errors.QuakeGridError | None:
        """Try to end a job; why it could not be done yet."""
        wish = self._wishes[job_id]
        try:
            await self._end(channel, job_id, wish.state, wish.reason)
        except errors.NotFoundError:
            pass  # the job was deleted
        except errors.QuakeGridError as exc:  # the dbserver is away, or its disk is full
            return exc
        wish.done.set()
        del self._wishes[job_id]
        return None

    async def _end(self, channel: grpc.aio.Channel, job_id: int, state: JobState, reason: str) -> bool:
        address = self._settings.dbserver_address
        try:
            await self._transition(channel, job_id, state, reason, address=address)
        except errors.StateError:
            return False
        return True

    def _channel(self) -> grpc.aio.Channel:
        """Open a new channel, which has a fresh certificate."""
        return grpc_channels.open_aio_channel(self._settings.dbserver_address, self._settings.proof)
