"""Whose jobs are: what a calculation may change is its own person's.

The check of callers (`quakegrid.transport.callers`) asks for the job that a request names. Here are the calls
whose requests name jobs in another way: batches in a stream, arguments of the engine's actions.
"""

from __future__ import annotations

from quakegrid import errors
from quakegrid.access import permissions
from quakegrid.access.permissions import Subject
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.store.database import Readers


def find(readers: Readers, job_id: int) -> str | None:
    """The person whose job this is; None if there is no such job. Reads one row by its key."""
    row = job_rows.find_row(readers.session(), job_id, columns="user_name") if job_id >= 0 else None
    return str(row["user_name"]) if row else None


def check(readers: Readers, principal: Principal, job_id: int) -> bool:
    """Refuse to change a job that is another person's.

    Returns:
        Whether it is the principal's. False if there is no such job: it is nobody's, and may be made later.
    Raises:
        NotAllowedError: it is another person's.
    """
    if principal.role is PrincipalRole.SERVICE:
        return True
    owner = find(readers, job_id)
    if owner is not None and not permissions.owns(principal, Subject.JOB, owner):
        raise errors.NotAllowedError(
            f"job {job_id} belongs to {owner}; you are {principal} and may not change it"
        )
    return owner is not None


class OwnJobs:
    """The jobs of one stream, each of which is looked up once.

    A job never changes hands while its calculation writes to it.

    Args:
        readers: connections that read.
        principal: whose stream it is.
    """

    # More are looked up again.
    MOST = 1000

    def __init__(self, readers: Readers, principal: Principal) -> None:
        self._readers, self._principal = readers, principal
        self._known: set[int] = set()

    def check(self, job_id: int) -> None:
        """Refuse to change a job that is another person's.

        Raises:
            NotAllowedError: it is.
        """
        if job_id in self._known:
            return
        if check(self._readers, self._principal, job_id):
            if len(self._known) >= self.MOST:
                self._known.clear()
            self._known.add(job_id)
