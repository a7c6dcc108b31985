"""Events of the children of a node, and the actions that the roster asks for. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CoresServed:
    """The workers may have this many cores at once from now on; those that have more keep theirs."""

    core_count: int


@dataclass(frozen=True, slots=True)
class WorkersAsked:
    """Workers of one session are wanted, as many as there are cores for; each of `width` cores, >= 1."""

    session_id: int
    names: tuple[str, ...]
    width: int = 1


@dataclass(frozen=True, slots=True)
class DriverAsked:
    """A driver is wanted."""

    name: str


@dataclass(frozen=True, slots=True)
class MemberForked:
    """The template forked a member."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A member is to end, gently first. A member that is not forked yet is killed as soon as it is.

    `reason` says why, if the report of its end is to say so. A blameless one ends for no fault of its work.
    """

    name: str
    reason: str = ""
    is_blameless: bool = False


@dataclass(frozen=True, slots=True)
class KillAsked:
    """A member is to end at once; otherwise like `StopAsked`."""

    name: str
    reason: str = ""
    is_blameless: bool = False


@dataclass(frozen=True, slots=True)
class LimitBroken:
    """A member went beyond a limit and is killed. Its end counts as a failure of what it runs."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemberGone:
    """A member has ended, or was never forked."""

    name: str


@dataclass(frozen=True, slots=True)
class GraceElapsed:
    """The time that `next_deadline_s` named has come."""


MemberEvent = MemberForked | StopAsked | KillAsked | LimitBroken
RosterEvent = CoresServed | WorkersAsked | DriverAsked | MemberEvent | MemberGone | GraceElapsed


@dataclass(frozen=True, slots=True)
class OrderMember:
    """A member was entered and has its cores: order it from a template."""

    name: str


@dataclass(frozen=True, slots=True)
class SignalMember:
    """Send a signal to a member."""

    pid: int
    number: int


RosterAction = OrderMember | SignalMember
