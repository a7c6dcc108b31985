"""Who may speak for a session: its own driver, and only for jobs of its person.

Services may speak for every session.
"""

from __future__ import annotations

from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.services.broker.drivers.job_ends import JobEnds
from quakegrid.services.broker.drivers.requests import SessionRequests
from quakegrid.services.broker.guard import StateGuard
from quakegrid.services.broker.rpc import peer_input


class Speakers:
    """Checks the calls of drivers before the broker does what they ask for.

    Args:
        requests: opens sessions.
        job_ends: asks the dbserver.
        guard: of the broker's state.
    """

    def __init__(self, requests: SessionRequests, job_ends: JobEnds, guard: StateGuard) -> None:
        self._requests, self._job_ends, self._guard = requests, job_ends, guard

    async def check_jobs(self, request: sessions_pb2.OpenSessionRequest, principal: Principal) -> None:
        """Refuse a driver that wants to run jobs which are not its person's.

        The jobs of a session that this broker has were checked when it began. That it is the same driver, the
        request's nonce or token proves. A token of an earlier broker says nothing of jobs.

        Raises:
            NotAllowedError: there is such a job.
            UsageError: the request is invalid.
            PeerUnreachableError: the dbserver does not answer.
        """
        if principal.role is PrincipalRole.SERVICE:
            return
        with self._guard:
            peer_input.check_session(request)
            is_known = self._requests.find(request) is not None
        if request.job_ids and not is_known:
            await self._job_ends.check_own(principal, request.job_ids)

    def check(self, session_id: int, token: str, principal: Principal) -> None:
        """Refuse to let a driver speak for the session of another one.

        Raises:
            NotAllowedError: the token is not the session's.
        """
        if principal.role is not PrincipalRole.SERVICE:
            self._requests.check_token(session_id, token)
