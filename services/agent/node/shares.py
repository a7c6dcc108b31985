"""Each worker's share of this node besides cores: limits, a folder for blobs, and pipes for its output.

Runs in the agent's event loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.agent.node.leftovers import BlobFolders
from services.agent.node.limits.limits import NodeLimits, WorkerLimits
from services.agent.node.output.pipes import OutputPipes
from services.agent.rules.roster import Member, Roster


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
        output: pipes of workers.
    """

    def __init__(self, roster: Roster, limits: NodeLimits, blobs: BlobFolders, output: OutputPipes) -> None:
        self._roster, self._limits, self._blobs, self._output = roster, limits, blobs, output

    @property
    def cores_per_worker(self) -> int:
        """Cores of a worker whose session does not ask for wider workers."""
        return self._limits.cores_per_worker

    def open(self, member: Member) -> WorkerShare:
        """Make room for a worker that is about to be forked.

        Raises:
            OSError: the node has no room. The caller calls `close`, which frees what was made.
        """
        limits = self._limits.open_worker(member)
        blob_dir = str(self._blobs.open(member.session_id))
        return WorkerShare(limits, blob_dir, self._output.open(member.name, member.session_id))

    def close(self, member: Member) -> tuple[list[str], str]:
        """Free the share of a worker that is off the roster.

        Returns:
            The end of the worker's stderr; and in words which limit ended it, or "".
        """
        if all(worker.session_id != member.session_id for worker in self._roster.workers):
            self._blobs.remove(member.session_id)
        return self._output.close(member.name), self._limits.close_worker(member)
