"""Children of a template that does not answer: the agent signals them itself, and sees that they have ended.

What a stopped template has not reaped keeps its number. One that works on, only too slowly, reports the end
of what it reaped by itself, before it answers again.
"""

from __future__ import annotations

import contextlib
import signal

from quakegrid.machine import process_stats
from quakegrid.machine.pinned_processes import pinned
from services.agent.linux import orphans
from services.agent.linux.processes import has_ended


def signal_child(parent: int, pid: int, number: int) -> None:
    """Signal a child, as its template would; a kill reaches what it started itself, too."""
    with contextlib.suppress(OSError), pinned(pid) as send:  # it is gone, or another user's
        process = orphans.look_at(pid)
        if process is None or process.parent != parent:
            return
        if number == signal.SIGKILL:
            orphans.kill_group(pid)
        send(number)


class EndedChildren:
    """Finds the children that have ended, look by look."""

    def __init__(self) -> None:
        self._missing: set[int] = set()

    def find(self, children: list[int]) -> dict[int, int]:
        """The wait statuses of those that have ended.

        One that is gone was reaped, and its report is on the way; it is found, as killed, when none has come
        until the next look.
        """
        found, missing = {}, set()
        for pid in children:
            status = _zombie_status(pid)
            if status is not None:
                found[pid] = status
            elif has_ended(pid):
                missing.add(pid)
        found |= dict.fromkeys(missing & self._missing, int(signal.SIGKILL))
        self._missing = missing
        return found


def _zombie_status(pid: int) -> int | None:
    """The wait status of a child that nobody has reaped; None of any other."""
    fields = process_stats.fields(pid)
    return int(fields[process_stats.EXIT_STATUS]) if fields[:1] == [b"Z"] else None
