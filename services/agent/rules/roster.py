"""The roster core: which worker has which cores of this node.

Pure. Knows core numbers, workers and drivers by name and pid; does not know signals, clocks and sockets. A
core is taken from the order to fork until the report of the exit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from quakegrid.errors import IllegalMoveError


class Life(Enum):
    """Where a process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(slots=True)
class Member:
    """A worker (with cores) or a driver (without) of this node; pid 0 until it is forked.

    `stop_reason` says which limit it went beyond, or who wanted it to end, if it is ended for that. It is
    blameless if what it runs has no part in that.
    """

    name: str
    session_id: int
    cores: tuple[int, ...]
    pid: int = 0
    life: Life = Life.STARTING
    stop_reason: str = ""
    is_blameless: bool = False

    @property
    def core(self) -> int:
        """Its first core; -1 for a driver."""
        return self.cores[0] if self.cores else -1


@dataclass(slots=True)
class Roster:
    """All children of the template.

    Args:
        cores: the core numbers that workers may be pinned to.
        most_count: how many of them workers may have at once; None for all.
    """

    cores: Sequence[int]
    most_count: int | None = None
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def free_cores(self) -> list[int]:
        """Cores that may be given to a worker now, in order."""
        taken = {core for member in self.members.values() for core in member.cores}
        most_count = len(self.cores) if self.most_count is None else self.most_count
        free = [core for core in self.cores if core not in taken]
        return free[: max(0, most_count - len(taken))]

    @property
    def workers(self) -> list[Member]:
        """The workers."""
        return [member for member in self.members.values() if member.core >= 0]

    @property
    def drivers(self) -> list[Member]:
        """The drivers."""
        return [member for member in self.members.values() if member.core < 0]

    def take_cores(self, session_id: int, names: Iterable[str], width: int = 1) -> list[Member]:
        """Enter as many workers as there are cores for; the rest are refused by leaving them out.

        Args:
            session_id: whose workers they are.
            names: of the workers.
            width: cores of each, >= 1.
        """
        fresh = [name for name in dict.fromkeys(names) if name not in self.members]
        free = self.free_cores
        groups = [tuple(free[at : at + width]) for at in range(0, len(free) - width + 1, width)]
        started = [Member(name, session_id, cores) for name, cores in zip(fresh, groups, strict=False)]
        self.members.update({member.name: member for member in started})
        return started

    def add_driver(self, name: str) -> Member:
        """Enter a driver; drivers take no core."""
        if name in self.members:
            raise IllegalMoveError(f"{name} is on the roster already")
        member = self.members[name] = Member(name, 0, ())
        return member

    def on_forked(self, name: str, pid: int) -> Member:
        """The template forked a member."""
        member = self.members[name]
        if member.pid:
            raise IllegalMoveError(f"{name} was forked twice: {member.pid}, {pid}")
        member.pid = pid
        if member.life is Life.STARTING:
            member.life = Life.RUNNING
        return member

    def of_session(self, session_id: int, names: Sequence[str] = ()) -> list[Member]:
        """Workers of a session; all, if no names are given."""
        chosen_names = set(names)
        return [
            member
            for member in self.workers
            if member.session_id == session_id and (not chosen_names or member.name in chosen_names)
        ]

    def on_stop(self, *, session_id: int, names: Sequence[str] = ()) -> list[Member]:
        """Mark workers of a session (all, if no names are given) as stopping, and return them."""
        chosen = self.of_session(session_id, names)
        for member in chosen:
            member.life = Life.STOPPING
        return chosen

    def on_exited(self, pid: int) -> Member | None:
        """Take a dead process off the roster; its core is free."""
        name = next((member.name for member in self.members.values() if member.pid == pid), None)
        return self.members.pop(name) if name is not None else None

    def check(self) -> None:
        """Raise `IllegalMoveError` when two workers share a core."""
        taken = [core for member in self.workers for core in member.cores]
        if len(taken) != len(set(taken)) or not set(taken) <= set(self.cores):
            raise IllegalMoveError(f"cores {list(self.cores)} are given out as {taken}")
