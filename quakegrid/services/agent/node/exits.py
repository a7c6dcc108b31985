"""The ends of workers and drivers: takes the reports of templates, and tells who waits for them.

Runs in the agent's event loop.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from typing import assert_never

from quakegrid.services.agent.linux.exits import describe_exit, exit_code
from quakegrid.services.agent.node.children import Children
from quakegrid.services.agent.node.drivers import Drivers
from quakegrid.services.agent.node.leftovers import FolderLeftovers
from quakegrid.services.agent.node.worker_ends import WorkerEnds
from quakegrid.services.agent.orders import ChildReport, Exited, Forked, NotForked
from quakegrid.services.agent.rules.roster import Member
from quakegrid.services.agent.rules.roster_events import MemberForked, MemberGone

log = logging.getLogger("quakegrid.agent")
FORK_FAILED_STATUS = 1 << 8  # the wait status of a process that ended with exit code 1


class Exits:
    """Takes the reports of templates on their children.

    Args:
        node: name of this node.
        children: has their roster.
        drivers: told of the ends of drivers.
        worker_ends: told of the ends of workers.
        leftovers: temporary files, freed when a process ended.
        on_change: called when the status changes.
    """

    def __init__(
        self,
        node: str,
        children: Children,
        drivers: Drivers,
        *,
        worker_ends: WorkerEnds,
        leftovers: FolderLeftovers,
        on_change: Callable[[], None],
    ) -> None:
        self._node, self._children, self._drivers = node, children, drivers
        self._worker_ends, self._leftovers, self._on_change = worker_ends, leftovers, on_change

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
        """Take the loss of children that died with their template, or that it never forked."""
        for name in names:
            self._end(self._children.roster.members.get(name), signal.SIGKILL, reason, is_lost=True)
        self._on_change()

    def _end(
        self,
        member: Member | None,
        status: int,
        reason: str,
        peak_memory_bytes: int = 0,
        *,
        is_lost: bool = False,
    ) -> bool:
        """Take a member off the roster, and tell of its end; returns whether there was one."""
        if member is None:
            return False
        account = self._children.accounts.get(member.name)
        self._children.handle(MemberGone(member.name))
        if member.pid:
            self._leftovers.remove_of(member.pid, account)
        if member.core < 0:
            self._drivers.on_end(member.name, exit_code(status), reason if member.pid == 0 else "")
        else:
            # One that had begun was lost with all its siblings, for no fault of its task.
            is_blameless = is_lost and member.pid > 0
            self._worker_ends.tell(member, status, reason, peak_memory_bytes, is_blameless=is_blameless)
        return True
