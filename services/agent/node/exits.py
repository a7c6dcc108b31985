"""The ends of workers and drivers: what templates report of their children, and who is told.

Runs in the agent's event loop.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import assert_never

from quakegrid.internal.v1 import orders_pb2
from quakegrid.nodes import worker_end_messages
from services.agent.linux.exits import describe_exit, exit_code
from services.agent.node import status as node_status
from services.agent.node.children import Children
from services.agent.node.drivers import Drivers
from services.agent.node.leftovers import FolderLeftovers
from services.agent.node.shares import WorkerShares
from services.agent.node.watchers import Watchers
from services.agent.orders import ChildReport, Exited, Forked, NotForked
from services.agent.rules.roster import Member, MemberForked, MemberGone, MemberState

log = logging.getLogger("quakegrid.agent")
FORK_FAILED_STATUS = 1 << 8  # as if it had ended with exit code 1


class Exits:
    """Takes reports of children, and tells of their ends.

    Args:
        node: name of this node.
        children: has their roster.
        drivers: told of the ends of drivers.
        shares: freed when a worker ended.
        leftovers: temporary files, freed when a process ended.
        watchers: told of the ends of workers.
        on_change: called when the status changes.
    """

    def __init__(
        self,
        node: str,
        children: Children,
        drivers: Drivers,
        *,
        shares: WorkerShares,
        leftovers: FolderLeftovers,
        watchers: Watchers,
        on_change: Callable[[], None],
    ) -> None:
        self._node, self._children, self._drivers = node, children, drivers
        self._shares, self._leftovers, self._watchers = shares, leftovers, watchers
        self._on_change = on_change

    def on_report(self, report: ChildReport) -> None:
        """Take a report of a template."""
        roster = self._children.roster
        match report:
            case Forked(name, pid):
                if name in roster.members:
                    self._children.handle(MemberForked(name, pid))
                return
            case NotForked(name, reason):
                log.error("fork_failed name=%s reason=%s", name, reason)
                why = f"{self._node} could not start it: {reason}"
                found = self._end(roster.members.get(name), FORK_FAILED_STATUS, why)
            case Exited(pid, status, peak_bytes):
                found = self._end(roster.of_pid(pid), status, describe_exit(status), peak_bytes)
            case _ as unreachable:
                assert_never(unreachable)
        if found:
            self._on_change()

    def on_lost(self, names: Sequence[str], reason: str) -> None:
        """Children died with their template, or it never forked them."""
        for name in names:
            member = self._children.roster.members.get(name)
            if member is not None and member.pid:
                member.is_blameless = True  # it had begun, and its siblings died in the same moment
            self._end(member, signal.SIGKILL, reason)
        self._on_change()

    def _end(self, member: Member | None, status: int, reason: str, peak_memory_bytes: int = 0) -> bool:
        """Take a member off the roster, and tell of its end; returns whether there was one."""
        if member is None:
            return False
        self._children.handle(MemberGone(member.name))
        if member.pid:
            self._leftovers.remove_of(member.pid)
        if member.core < 0:
            self._drivers.on_end(member.name, exit_code(status), reason if member.pid == 0 else "")
        else:
            self._tell_worker_end(member, status, reason, peak_memory_bytes)
        return True

    def _tell_worker_end(self, member: Member, status: int, reason: str, peak_memory_bytes: int) -> None:
        # A program that breaks ends by another signal, and so does one that the kernel ends. This one comes
        # from people, or from a scheduler that ends all processes of the node at once.
        if os.WTERMSIG(status) == signal.SIGTERM and member.state is not MemberState.STOPPING:
            member.is_blameless = True
        last_output, limit_reason = self._shares.close(member)
        end = node_status.describe_end(member, status, limit_reason or reason, last_output, peak_memory_bytes)
        if not end.is_clean:
            words = "worker_exited worker=%s reason=%s peak_memory_bytes=%d"
            log.warning(words, end.worker_id, end.reason, end.peak_memory_bytes)
        message = worker_end_messages.encode(end)
        self._watchers.publish(orders_pb2.WatchResponse(worker_ended=message))
