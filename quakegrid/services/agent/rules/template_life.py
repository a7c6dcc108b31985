"""The life of one template: what it can do, its children, and whether it still answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from quakegrid.errors import IllegalMoveError
from quakegrid.nodes.template_state import TemplateKind, TemplateState

# Both count looks, not seconds, so that no time-out runs while the agent itself is stopped.
MAX_UNANSWERED_PINGS = 5
MAX_LOADING_LOOKS = 300
LOADING = TemplateState(TemplateKind.LOADING)
# The legal moves: a template says once whether it can work, and keeps that state until it ends.
MOVES: dict[TemplateKind, frozenset[TemplateKind]] = {
    TemplateKind.LOADING: frozenset({TemplateKind.WARM, TemplateKind.COLD, TemplateKind.FAILED}),
    TemplateKind.WARM: frozenset(),
    TemplateKind.COLD: frozenset(),
    TemplateKind.FAILED: frozenset(),
}


@dataclass(slots=True)
class TemplateLife:
    """One template process.

    Args:
        number: of the template; a later one has a higher number.
        bare_reason: why it preloads nothing; empty if it preloads.
        state: what it can do.
        names: of its children, whether they are forked or only ordered.
        pids: its forked children by process id.
        look_count: looks since it was started, while it loads; later, pings without an answer.
        drivers: names of the children that no other template could take over.
    """

    number: int
    bare_reason: str = ""
    state: TemplateState = LOADING
    names: set[str] = field(default_factory=set)
    pids: dict[int, str] = field(default_factory=dict)
    look_count: int = 0
    drivers: set[str] = field(default_factory=set)

    @property
    def is_loading(self) -> bool:
        """Whether it has not said yet what it can do."""
        return self.state.kind is TemplateKind.LOADING

    @property
    def has_failed(self) -> bool:
        """Whether it has said that it cannot work."""
        return self.state.kind is TemplateKind.FAILED

    @property
    def is_silent(self) -> bool:
        """Whether it has not answered for too long."""
        return self.look_count > (MAX_LOADING_LOOKS if self.is_loading else MAX_UNANSWERED_PINGS)

    @property
    def has_live_driver(self) -> bool:
        """Whether a driver that it forked lives."""
        return not self.drivers.isdisjoint(self.pids.values())

    def is_awaited(self, name: str) -> bool:
        """Whether it was told to fork a child of this name, and has not reported that."""
        return name in self.names and name not in self.pids.values()

    def may_become(self, kind: TemplateKind) -> bool:
        """Whether a template in this state may move to that kind of state."""
        return kind in MOVES[self.state.kind]

    def become(self, state: TemplateState) -> None:
        """Take the state that the template has reported.

        Raises:
            IllegalMoveError: the template had reported a state before.
        """
        if not self.may_become(state.kind):
            raise IllegalMoveError(f"template {self.number} is {self.state} and becomes {state}")
        self.state = state

    def forget(self, name: str) -> None:
        """Drop a child that has ended, or was not forked."""
        self.names.discard(name)
        self.drivers.discard(name)

    def lose_unforked(self) -> tuple[str, ...]:
        """Give up the children that it was to fork; returns their names."""
        lost = self.names - set(self.pids.values())
        self.names -= lost
        self.drivers -= lost
        return tuple(sorted(lost))

    def loss(self, how: str) -> str:
        """Why its children are lost when it has ended; `how` tells how it did."""
        return f"the template {self.state}" if self.has_failed else f"its template ended ({how})"

    def check(self) -> None:
        """Raise `IllegalMoveError` when it has a child that nobody ordered."""
        if not set(self.pids.values()) | self.drivers <= self.names:
            raise IllegalMoveError(f"template {self.number} has children that nobody ordered")
