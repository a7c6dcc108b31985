"""Aborts jobs that people name, wherever they are, and all that executes for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from quakegrid.jobs.states import JobState
from quakegrid.services.broker.drivers.ends import SessionEnds
from quakegrid.services.broker.drivers.job_ends import JobEnds
from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.services.broker.guard import StateGuard
from quakegrid.services.broker.rpc import peer_input


class Aborts:
    """Aborts jobs.

    Args:
        sessions: that are open.
        ends: end sessions.
        job_ends: give final states to jobs without a session.
        guard: of the broker's state.
    """

    def __init__(
        self, sessions: Mapping[int, DriverSession], ends: SessionEnds, job_ends: JobEnds, guard: StateGuard
    ) -> None:
        self._sessions, self._ends, self._job_ends, self._guard = sessions, ends, job_ends, guard

    async def abort_job(self, job_id: int, user_name: str) -> bool:
        """Abort a job wherever it is, or a session by its own id: that of a program has no job.

        Returns:
            Whether it was executing or submitted here.
        Raises:
            UsageError: that is nobody's name.
            NotFoundError: there is no such job.
            PeerUnreachableError: the job is not executing here, and the dbserver does not answer.
        """
        with self._guard:
            peer_input.check_name(user_name, "a user's name")
            session = session_of(self._sessions, job_id)
            reason = f"aborted by {user_name or 'somebody'}"
            if session is not None:
                self._ends.abort(session, reason)
        if session is None:
            if job_id not in self._ends.reasons:  # the id of a session that has ended
                await self._job_ends.end_now(job_id, JobState.ABORTED, reason)
            return False
        await self._ends.wait(session)
        return True

    async def end_sessions(self, person: str, user_name: str) -> tuple[list[int], int]:
        """Abort all that is executing or submitted for a person.

        Returns:
            The jobs of these sessions, and how many sessions there were.
        Raises:
            UsageError: a name is nobody's.
        """
        with self._guard:
            for name in (person, user_name):
                peer_input.check_name(name, "a user's name")
            found = [each for each in self._sessions.values() if person and each.request.user_name == person]
            for session in found:
                self._ends.abort(session, f"aborted by {user_name or 'somebody'}, with all of {person}")
        await asyncio.gather(*map(self._ends.wait, found))
        return sorted(job_id for session in found for job_id in session.request.job_ids), len(found)


def session_of(sessions: Mapping[int, DriverSession], number: int) -> DriverSession | None:
    """The session that has a job, or that has this id, which no job reaches; None if there is none."""
    with_job = (each for each in sessions.values() if number in each.request.job_ids)
    return next(with_job, sessions.get(number))
