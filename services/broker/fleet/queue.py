"""Which sessions may execute: as many with jobs as `serialize_jobs` says, in the order of their requests.

Pure. Sessions without jobs have no turn to wait for.
"""

from __future__ import annotations

from collections.abc import Mapping

from quakegrid.errors import IllegalMoveError
from services.broker.fleet.events import Action, Admit, Queue
from services.broker.fleet.state import FleetSession, SessionPhase

# A session is told at most so many of the jobs before it: its driver prints them.
MAX_AHEAD = 100


class SessionQueue:
    """Admits sessions.

    Args:
        sessions: that are open, by id, in order of request.
        limit: how many sessions with jobs execute at once; 0 for no limit.
    """

    def __init__(self, sessions: Mapping[int, FleetSession], limit: int) -> None:
        self._sessions, self._limit = sessions, limit

    def admit(self) -> list[Action]:
        """Admit each session whose turn has come."""
        room = self._room()
        admitted: list[Action] = []
        for session in self._sessions.values():
            if session.is_admitted or (session.job_ids and room <= 0):
                continue
            room -= bool(session.job_ids)
            session.move_to(SessionPhase.EXECUTING)
            admitted.append(Admit(session.session_id))
        return admitted

    def tell(self) -> list[Action]:
        """Tell the sessions that wait for their turn which jobs are before them, if that is news."""
        if not self._limit:
            return []
        ahead: list[int] = []
        room = max(0, self._room())
        told: list[Action] = []
        for session in self._sessions.values():
            if session.job_ids and not session.is_admitted:
                room -= 1
                before = tuple(ahead[:MAX_AHEAD])
                if room < 0 and before != session.ahead:
                    session.ahead = before
                    told.append(Queue(session.session_id, before))
            ahead += session.job_ids[:MAX_AHEAD]
        return told

    def check(self) -> None:
        """Raise `IllegalMoveError` unless at most as many sessions execute as may."""
        admitted = self._executing_count() - sum(each.is_resumed for each in self._sessions.values())
        if self._limit and admitted > self._limit:
            raise IllegalMoveError(f"{admitted} sessions execute, {self._limit} may")

    def _room(self) -> float:
        """How many more sessions with jobs may execute."""
        return self._limit - self._executing_count() if self._limit else float("inf")

    def _executing_count(self) -> int:
        return sum(each.is_admitted and bool(each.job_ids) for each in self._sessions.values())
