"""The roster core: which worker has which core of this node.

Pure. Knows core numbers, workers and drivers by name and pid; refuses to know signals, clocks and
sockets. A core is taken from the order to fork until the report of the exit.
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
    """A worker (with a core) or a driver (core -1) of this node; pid 0 until it is forked.

    `is_blameless` marks one that people end: what it runs has no part in that.
    """

    name: str
    session_id: int
    core: int
    pid: int = 0
    life: Life = Life.STARTING
    is_blameless: bool = False


@dataclass(slots=True)
class Roster:
    """All children of the template.

    Args:
        cores: the core numbers that workers may be pinned to.
    """

    cores: Sequence[int]
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def free_cores(self) -> list[int]:
        """Cores without a worker, in order."""
        taken = {member.core for member in self.members.values()}
        return [core for core in self.cores if core not in taken]

    @property
    def workers(self) -> list[Member]:
        """The workers."""
        return [member for member in self.members.values() if member.core >= 0]

    @property
    def drivers(self) -> list[Member]:
        """The drivers."""
        return [member for member in self.members.values() if member.core < 0]

    def take_cores(self, session_id: int, names: Iterable[str]) -> list[Member]:
        """Enter as many workers as there are free cores; the rest are refused by leaving them out."""
        fresh = [name for name in names if name not in self.members]
        started = []
        for name, core in zip(fresh, self.free_cores, strict=False):
            started.append(Member(name, session_id, core))
        self.members.update({member.name: member for member in started})
        return started

    def add_driver(self, name: str) -> Member:
        """Enter a driver; drivers take no core."""
        if name in self.members:
            raise IllegalMoveError(f"{name} is on the roster already")
        member = self.members[name] = Member(name, 0, -1)
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

    def on_stop(self, *, session_id: int, names: Sequence[str] = ()) -> list[Member]:
        """Mark workers of a session (all, if no names are given) as stopping, and return them."""
        chosen = [
            member
            for member in self.workers
            if member.session_id == session_id and (not names or member.name in names)
        ]
        for member in chosen:
            member.life = Life.STOPPING
        return chosen

    def on_exited(self, pid: int) -> Member | None:
        """Take a dead process off the roster; its core is free."""
        name = next((member.name for member in self.members.values() if member.pid == pid), None)
        return self.members.pop(name) if name else None

    def check(self) -> None:
        """Raise `IllegalMoveError` when two workers share a core."""
        taken = [member.core for member in self.workers]
        if len(taken) != len(set(taken)) or not set(taken) <= set(self.cores):
            raise IllegalMoveError(f"cores {list(self.cores)} are given out as {taken}")
