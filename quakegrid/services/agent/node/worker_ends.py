"""The ends of workers: frees the share of a worker that has ended, and tells the watchers how it ended.

Runs in the agent's event loop.
"""

from __future__ import annotations

import logging
import os
import signal

from quakegrid.internal.v1 import orders_pb2
from quakegrid.nodes import worker_end_messages
from quakegrid.services.agent.node import status as node_status
from quakegrid.services.agent.node.shares import WorkerShares
from quakegrid.services.agent.node.watchers import Watchers
from quakegrid.services.agent.rules.roster import Member

log = logging.getLogger("quakegrid.agent")


class WorkerEnds:
    """Frees the shares of workers, and tells of their ends.

    Args:
        shares: freed when a worker ended.
        watchers: told of the end.
    """

    def __init__(self, shares: WorkerShares, watchers: Watchers) -> None:
        self._shares, self._watchers = shares, watchers

    def tell(
        self, member: Member, status: int, reason: str, peak_memory_bytes: int, *, is_blameless: bool = False
    ) -> None:
        """Free a worker's share, and tell of its end.

        Args:
            member: the worker, which is off the roster.
            status: its wait status.
            reason: why it ended, unless a limit did it.
            peak_memory_bytes: largest resident memory of its life.
            is_blameless: whether something else than its task ended it.
        """
        # A program that breaks ends by another signal, and so does one that the kernel ends. SIGTERM comes
        # from people, or from a scheduler that ends all processes of the node at once.
        is_terminated = os.WTERMSIG(status) == signal.SIGTERM and not member.is_ending
        last_output, limit_reason = self._shares.close(member)
        end = node_status.describe_end(
            member,
            status,
            limit_reason or reason,
            is_blameless=member.is_blameless or is_terminated or is_blameless,
            last_output=last_output,
            peak_memory_bytes=peak_memory_bytes,
        )
        if not end.is_clean:
            words = "worker_exited worker=%s reason=%s peak_memory_bytes=%d"
            log.warning(words, end.worker_id, end.reason, end.peak_memory_bytes)
        message = worker_end_messages.encode(end)
        self._watchers.publish(orders_pb2.WatchResponse(worker_ended=message))
