"""Children of a template that does not answer: the agent signals them itself, and sees that they have ended.

A child that a stopped template has not reaped keeps its process id. A template that works on too slowly
reports the ends of the children that it reaped before it answers again.
"""

from __future__ import annotations

import contextlib
import signal
from functools import partial

from quakegrid.machine import process_stats
from quakegrid.machine.pinned_processes import pinned
from quakegrid.services.agent.linux import orphans
from quakegrid.services.agent.linux.processes import has_ended
from quakegrid.services.agent.linux.user_rights import NO_RIGHTS, UserRights


def signal_child(parent: int, pid: int, number: int, rights: UserRights = NO_RIGHTS) -> None:
    """Signal a child, as its template would. A kill also reaches the processes that the child started."""
    with contextlib.suppress(OSError), pinned(pid) as send:  # the child is gone, or a stranger owns it
        process = orphans.look_at(pid)
        if process is None or process.parent != parent:
            return
        if number == signal.SIGKILL:
            orphans.kill_group(pid, rights)
        rights.signal(pid, partial(send, number))


class EndedChildren:
    """Finds the children that have ended; `find` is called again and again.

    Args:
        rights: of this process over other users.
    """

    def __init__(self, rights: UserRights = NO_RIGHTS) -> None:
        self._rights = rights
        self._missing: set[int] = set()

    def find(self, children: list[int]) -> dict[int, int]:
        """The wait statuses of the children that have ended.

        A child that is gone was reaped, and its report is on the way. If no report has come until the next
        call, the child counts as killed.
        """
        found, missing = {}, set()
        for pid in children:
            status = _zombie_status(pid, self._rights)
            if status is not None:
                found[pid] = status
            elif has_ended(pid):
                missing.add(pid)
        found |= dict.fromkeys(missing & self._missing, int(signal.SIGKILL))
        self._missing = missing
        return found


def _zombie_status(pid: int, rights: UserRights) -> int | None:
    """The wait status of a child that has ended and is not reaped; None for any other."""
    with rights.reading(pid):  # the kernel tells the status to the owner only
        fields = process_stats.fields(pid)
    return int(fields[process_stats.EXIT_STATUS]) if fields[:1] == [b"Z"] else None
