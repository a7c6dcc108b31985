"""The core that decides whether and with how many cores the node serves the fleet.

Pure. Does not depend on processes, files and clocks. A node that is stopped or restarts offers no cores: the
broker drains its workers, each ends after the task that it holds. A restart replaces the template when the
node has no children. Drivers wait for workers, which the old template must fork; so a node whose workers have
ended and that has drivers serves again, and is restarted when they have ended, too.

No time-out ends a state, so `handle` takes no time, and there is no deadline.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from quakegrid.errors import IllegalMoveError

ALL_CORES = -1


class ServicePhase(Enum):
    """Whether the node serves, and what it waits for before it is restarted."""

    SERVING = "serving"
    STOPPED = "stopped"
    # Serves no cores until its workers have ended, then restarts.
    DRAINING = "draining"
    # Serves until it has no children, then restarts.
    AWAITING_DRIVERS = "awaiting drivers"


@dataclass(frozen=True, slots=True)
class ServeAsked:
    """The node is to serve so many cores; 0 for as many as before."""

    core_limit: int


@dataclass(frozen=True, slots=True)
class CoresDialled:
    """The node is to serve so many cores whenever it serves."""

    core_limit: int


@dataclass(frozen=True, slots=True)
class ServiceStopAsked:
    """The node is to serve no cores; its workers end after their tasks, or at once if forced."""

    is_forced: bool


@dataclass(frozen=True, slots=True)
class RestartAsked:
    """The template is to be replaced when the workers have ended, after their tasks, or at once if forced."""

    is_forced: bool


@dataclass(frozen=True, slots=True)
class WorkersEnded:
    """The node has no workers, and this many drivers."""

    driver_count: int


ServiceEvent = ServeAsked | CoresDialled | ServiceStopAsked | RestartAsked | WorkersEnded
_P = ServicePhase
# A node without workers moves on at `WorkersEnded`: to `SERVING` if it has no drivers either.
MOVES: dict[tuple[ServicePhase, type[ServiceEvent]], frozenset[ServicePhase]] = {
    **{(phase, ServeAsked): frozenset({_P.SERVING}) for phase in _P},
    **{(phase, CoresDialled): frozenset({phase}) for phase in _P},
    **{(phase, ServiceStopAsked): frozenset({_P.STOPPED}) for phase in _P},
    **{(phase, RestartAsked): frozenset({_P.DRAINING}) for phase in _P},
    (_P.DRAINING, WorkersEnded): frozenset({_P.AWAITING_DRIVERS, _P.SERVING}),
    (_P.AWAITING_DRIVERS, WorkersEnded): frozenset({_P.AWAITING_DRIVERS, _P.SERVING}),
}


@dataclass(frozen=True, slots=True)
class RememberService:
    """Write down what a later agent of this node is to serve, then tell who watches."""

    core_limit: int
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class PublishService:
    """Tell who watches that the node serves other cores than before."""


@dataclass(frozen=True, slots=True)
class KillWorkers:
    """Kill every worker."""


@dataclass(frozen=True, slots=True)
class ReplaceTemplate:
    """Replace the template, which has no children."""


ServiceAction = RememberService | PublishService | KillWorkers | ReplaceTemplate


@dataclass(slots=True)
class Service:
    """What one node serves.

    Args:
        all_core_count: cores of the node.
        core_limit: cores that it serves at most; -1 for all.
        phase: as an earlier agent left it.
    """

    all_core_count: int
    core_limit: int = ALL_CORES
    phase: ServicePhase = ServicePhase.SERVING

    def handle(self, event: ServiceEvent) -> list[ServiceAction]:
        """Take one event and say what is to be done, in order.

        Raises:
            IllegalMoveError: workers are reported to have ended, and nobody waits for that.
        """
        match event:
            case ServeAsked(core_limit):
                self.core_limit = core_limit or self.core_limit
                return self._obey(event, ServicePhase.SERVING, is_forced=False)
            case CoresDialled(core_limit):
                self.core_limit = core_limit
                return self._obey(event, self.phase, is_forced=False)
            case ServiceStopAsked(is_forced):
                return self._obey(event, ServicePhase.STOPPED, is_forced=is_forced)
            case RestartAsked(is_forced):
                return self._obey(event, ServicePhase.DRAINING, is_forced=is_forced)
            case WorkersEnded(driver_count):
                return self._on_workers_ended(event, driver_count)
            case _ as unreachable:
                assert_never(unreachable)

    @property
    def is_serving(self) -> bool:
        """Whether workers may start."""
        return self.phase in (ServicePhase.SERVING, ServicePhase.AWAITING_DRIVERS)

    @property
    def awaits_children(self) -> bool:
        """Whether `WorkersEnded` is wanted as soon as the node has no workers."""
        return self.phase in (ServicePhase.DRAINING, ServicePhase.AWAITING_DRIVERS)

    @property
    def core_count(self) -> int:
        """Cores that the fleet may use now."""
        if not self.is_serving:
            return 0
        return (
            self.all_core_count if self.core_limit == ALL_CORES else min(self.core_limit, self.all_core_count)
        )

    def check(self) -> None:
        """Raise `IllegalMoveError` when the node would serve more cores than it has, or fewer than none."""
        if self.core_limit < ALL_CORES or not 0 <= self.core_count <= self.all_core_count:
            raise IllegalMoveError(f"a node of {self.all_core_count} cores serves {self.core_limit} at most")

    def _obey(self, event: ServiceEvent, phase: ServicePhase, *, is_forced: bool) -> list[ServiceAction]:
        self._move(event, phase)
        is_stopped = self.phase is ServicePhase.STOPPED
        remember: list[ServiceAction] = [RememberService(self.core_limit, is_stopped)]
        return [*remember, KillWorkers()] if is_forced else remember

    def _on_workers_ended(self, event: ServiceEvent, driver_count: int) -> list[ServiceAction]:
        was_serving = self.is_serving
        self._move(event, ServicePhase.AWAITING_DRIVERS if driver_count else ServicePhase.SERVING)
        if not driver_count:
            return [ReplaceTemplate()]
        return [] if was_serving else [PublishService()]

    def _move(self, event: ServiceEvent, phase: ServicePhase) -> None:
        if phase not in MOVES.get((self.phase, type(event)), ()):
            raise IllegalMoveError(f"the node is {self.phase.value}, and there came {event}")
        self.phase = phase
