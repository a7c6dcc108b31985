"""Each worker's share of this node besides cores: limits, a folder for blobs, and pipes for its output.

Runs in the agent's event loop.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from quakegrid.services.agent.node.leftovers import BlobFolders, FolderLeftovers
from quakegrid.services.agent.node.limits.limits import NodeLimits, WorkerLimits
from quakegrid.services.agent.node.output.pipes import OutputPipes
from quakegrid.services.agent.rules.persons import Account
from quakegrid.services.agent.rules.roster import Member, Roster

log = logging.getLogger("quakegrid.agent")


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """What a worker gets besides cores. The caller closes `output_fds` when it has ordered the worker."""

    limits: WorkerLimits
    blob_dir: str
    output_fds: list[int]


class WorkerShares:
    """The shares of all workers.

    Args:
        roster: the workers.
        limits: of the node.
        blobs: folders of sessions.
        leftovers: has those of sessions of other users.
        output: pipes of workers.
    """

    def __init__(
        self,
        roster: Roster,
        limits: NodeLimits,
        blobs: BlobFolders,
        leftovers: FolderLeftovers,
        output: OutputPipes,
    ) -> None:
        self._roster, self._limits, self._blobs, self._output = roster, limits, blobs, output
        self._leftovers = leftovers
        self._accounts: dict[int, Account] = {}  # of sessions whose workers run as another user

    @property
    def cores_per_worker(self) -> int:
        """Cores of a worker whose session does not ask for wider workers."""
        return self._limits.cores_per_worker

    def open(self, member: Member, account: Account | None = None) -> WorkerShare:
        """Make room for a worker that is about to be forked, as an account or as the agent's own.

        Raises:
            OSError: the node has no room. The caller calls `close`, which frees what was made.
        """
        limits = self._limits.open_worker(member)
        if account is None:
            blob_dir = str(self._blobs.open(member.session_id))
        else:
            blob_dir = self._open_session(account, member.session_id)
        return WorkerShare(limits, blob_dir, self._output.open(member.name, member.session_id))

    def _open_session(self, account: Account, session_id: int) -> str:
        """The folder for the blobs of another user's session; empty if that user cannot have one here."""
        self._accounts[session_id] = account
        try:
            return str(self._leftovers.persons.open_session(account, session_id))
        except OSError as exc:
            log.warning("no_blobs account=%s session=%d reason=%s", account.name, session_id, exc)
            return ""

    def close(self, member: Member) -> tuple[list[str], str]:
        """Free the share of a worker that is off the roster.

        Returns:
            The end of the worker's stderr; and in words which limit ended it, or "".
        """
        if all(worker.session_id != member.session_id for worker in self._roster.workers):
            account = self._accounts.pop(member.session_id, None)
            if account is None:
                self._blobs.remove(member.session_id)
            else:
                self._leftovers.remove_session(account, member.session_id)
        return self._output.close(member.name), self._limits.close_worker(member)
