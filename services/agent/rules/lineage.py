"""The core that decides which template takes orders, and when another one is to start.

Pure. Knows templates by number, their children by name and pid, and the code on disk as a stamp; does not
know processes, clocks and files. When the code changes a successor loads beside the template that takes
orders, and takes over when it can fork. A retired template lives until its last child has ended, and may get
more children for sessions that need its code. A template that does not answer is killed; one that has drivers
is retired instead, since its drivers would die with it, and is killed when none of them lives.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quakegrid.errors import IllegalMoveError, StateError
from quakegrid.nodes.template_state import TemplateKind, TemplateState

MAX_LOAD_FAILURES = 3
LOAD_PAUSE_S = 2.0
# In looks, not in seconds: while the agent itself is stopped nobody's patience ends.
MAX_UNANSWERED_PINGS = 5
MAX_LOADING_LOOKS = 300
LOADING = TemplateState(TemplateKind.LOADING)


@dataclass(frozen=True, slots=True)
class Start:
    """Start a template; one that is bare preloads nothing, for the reason given."""

    number: int
    bare_reason: str = ""
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """End a template that has no children and is not needed."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a template that does not answer; its end is reported."""

    number: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask a template for a sign of life."""

    number: int


@dataclass(frozen=True, slots=True)
class Lose:
    """Children died with their template, or it never forked them."""

    names: tuple[str, ...]
    reason: str


Action = Start | Stop | Kill | Ping | Lose


@dataclass(slots=True)
class Template:
    """One template process.

    `look_count` counts looks while it loads, and pings without an answer then. `drivers` are the names of
    children that no other template could take over.
    """

    number: int
    bare_reason: str = ""
    state: TemplateState = LOADING
    names: set[str] = field(default_factory=set)
    pids: dict[int, str] = field(default_factory=dict)
    look_count: int = 0
    drivers: set[str] = field(default_factory=set)

    @property
    def is_silent(self) -> bool:
        """Whether it has not answered for too long."""
        limit = MAX_LOADING_LOOKS if self.state == LOADING else MAX_UNANSWERED_PINGS
        return self.look_count > limit


@dataclass(slots=True)
class Lineage:
    """The templates of one agent.

    `current` takes orders, `successor` loads newer code; 0 for none. `state` is what the node can do.
    """

    templates: dict[int, Template] = field(default_factory=dict)
    current: int = 0
    successor: int = 0
    state: TemplateState = LOADING
    _stamp: str = ""  # of the code that the newest template was started for
    _seen_stamp: str = ""
    _failure_count: int = 0
    _last_number: int = 0

    def start(self, stamp: str) -> list[Action]:
        """Start the first template."""
        self._stamp = self._seen_stamp = stamp
        return self._start_current(self._new())

    def on_look(self, stamp: str) -> list[Action]:
        """The code on disk was looked at; a change counts when it is seen twice, so not in its middle."""
        actions: list[Action] = []
        if stamp == self._seen_stamp != self._stamp:
            self._stamp, self._failure_count = stamp, 0
            actions += self._refresh()
        self._seen_stamp = stamp
        for template in list(self.templates.values()):
            template.look_count += 1
            if template.is_silent:
                actions += self._on_silent(template)
            elif template.state != LOADING:
                actions.append(Ping(template.number))
        return actions

    @property
    def silent(self) -> set[int]:
        """Templates that do not answer, and so would not obey either."""
        return {template.number for template in self.templates.values() if template.is_silent}

    @property
    def doubtful_pids(self) -> list[int]:
        """Children of templates that do not answer, and so would not report their ends."""
        return [pid for number in self.silent for pid in self.templates[number].pids]

    def on_not_started(self, number: int) -> list[Action]:
        """A template could not be started, for want of room for a process: it is tried again for ever."""
        template = self.templates.get(number)
        if template is None:
            return []
        template.look_count = 0
        return [Start(number, template.bare_reason, LOAD_PAUSE_S)]

    def on_pong(self, number: int) -> None:
        """A template answered."""
        if number in self.templates:
            self.templates[number].look_count = 0

    def on_ready(self, number: int, state: TemplateState) -> list[Action]:
        """A template can fork; the newest takes the orders from now on."""
        template = self.templates[number]
        template.state, template.look_count = state, 0
        if not template.bare_reason:
            self._failure_count = 0
        if number == self.successor:
            retired, self.current, self.successor = self.templates.get(self.current), number, 0
            self.state = state
            return self._stop_childless(retired) if retired else []
        if number == self.current:
            self.state = state
        return []

    def on_failed(self, number: int, reason: str) -> None:
        """A template says that it cannot work; it ends by itself."""
        self.templates[number].state = TemplateState(TemplateKind.FAILED, reason)

    def on_gone(self, number: int, how: str) -> list[Action]:
        """A template is dead, and its children with it."""
        template = self.templates.pop(number)
        actions: list[Action] = []
        if template.names:
            actions.append(Lose(tuple(sorted(template.names)), self._loss(template, how)))
        if number == self.current:
            if self.successor:
                self.current, self.successor, self.state = self.successor, 0, LOADING
            else:
                actions += self._replace(template, how)
        elif number == self.successor:
            self.successor = 0
            actions += self._replace(template, how)
        return actions

    @property
    def older(self) -> list[int]:
        """Templates that can fork and take no orders but for sessions that need them, the newest first."""
        return sorted(
            (
                each.number
                for each in self.templates.values()
                if each.number not in (self.current, self.successor)
                and each.state.is_ready
                and not each.is_silent
            ),
            reverse=True,
        )

    def on_order(self, name: str, number: int = 0, *, is_driver: bool = False) -> int:
        """The number of the template that is to fork a child: this one, or else the one that takes orders.

        Raises:
            StateError: there is none.
        """
        template = self.templates.get(number or self.current)
        if template is None:
            raise StateError(f"there is no template: {self.state}")
        template.names.add(name)
        if is_driver:
            template.drivers.add(name)
        return template.number

    def on_forked(self, number: int, name: str, pid: int) -> None:
        """A template forked a child."""
        self.templates[number].pids[pid] = name

    def on_not_forked(self, number: int, name: str) -> list[Action]:
        """A template could not fork a child."""
        template = self.templates[number]
        template.names.discard(name)
        template.drivers.discard(name)
        return self._stop_childless(template)

    def is_awaited(self, number: int, name: str) -> bool:
        """Whether a template was told to fork a child and has not reported it."""
        template = self.templates.get(number)
        return template is not None and name in template.names and name not in template.pids.values()

    def on_exited(self, number: int, pid: int) -> list[Action]:
        """A child ended."""
        template = self.templates[number]
        name = template.pids.pop(pid, "")
        template.names.discard(name)
        template.drivers.discard(name)
        return self._stop_childless(template)

    def parent_of(self, pid: int) -> int:
        """The number of the template that has this child, 0 if none has."""
        return next((each.number for each in self.templates.values() if pid in each.pids), 0)

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        has_failed = self.state.kind is TemplateKind.FAILED
        if has_failed != (self.current == 0) or (self.current and self.current not in self.templates):
            raise IllegalMoveError(f"template {self.current} takes orders and the node is {self.state}")
        if self.successor and (self.successor == self.current or self.successor not in self.templates):
            raise IllegalMoveError(f"template {self.successor} follows {self.current}")
        for template in self.templates.values():
            if template.number not in (self.current, self.successor) and not template.names:
                raise IllegalMoveError(f"template {template.number} lives on without children")
            if not set(template.pids.values()) | template.drivers <= template.names:
                raise IllegalMoveError(f"template {template.number} has children that nobody ordered")

    # --- inside

    def _new(self, bare_reason: str = "") -> int:
        self._last_number += 1
        self.templates[self._last_number] = Template(self._last_number, bare_reason)
        return self._last_number

    def _start_current(self, number: int, bare_reason: str = "", delay_s: float = 0.0) -> list[Action]:
        self.current, self.state = number, LOADING
        return [Start(number, bare_reason, delay_s)]

    def _refresh(self) -> list[Action]:
        """Load the new code, beside the template that works if one does."""
        outdated = self.templates.pop(self.successor, None)
        actions: list[Action] = [Stop(outdated.number)] if outdated else []
        if not self.current:
            return actions + self._start_current(self._new())
        self.successor = self._new()
        return [*actions, Start(self.successor)]

    def _on_silent(self, template: Template) -> list[Action]:
        """End a template that does not answer, or, while drivers of it live, retire it."""
        if template.state == LOADING or not template.drivers & set(template.pids.values()):
            return [Kill(template.number)]
        actions = self._lose_unforked(template)
        if template.number != self.current:
            return actions
        if self.successor:
            self.current, self.successor, self.state = self.successor, 0, LOADING
            return actions
        return actions + self._start_current(self._new())

    def _lose_unforked(self, template: Template) -> list[Action]:
        """Give up the children that a silent template was to fork: they would hold their cores for ever."""
        lost = template.names - set(template.pids.values())
        template.names -= lost
        template.drivers -= lost
        return [Lose(tuple(sorted(lost)), "its template does not answer")] if lost else []

    def _replace(self, dead: Template, how: str) -> list[Action]:
        """Start another in the place of a dead one: the same, a bare one, or none."""
        is_failed = dead.state.kind is TemplateKind.FAILED
        is_loading = dead.state == LOADING
        self._failure_count += is_loading
        is_given_up = is_failed or self._failure_count >= MAX_LOAD_FAILURES
        reason = f"it ended {MAX_LOAD_FAILURES} times while loading ({how})"
        if is_failed:
            reason = dead.state.reason
        if is_given_up and dead.bare_reason:
            return self._give_up(dead.number, reason)
        bare_reason = dead.bare_reason
        if is_given_up:
            bare_reason, self._failure_count = reason, 0
        delay_s = LOAD_PAUSE_S * self._failure_count
        number = self._new(bare_reason)
        if dead.number == self.current:
            return self._start_current(number, bare_reason, delay_s)
        self.successor = number
        return [Start(number, bare_reason, delay_s)]

    def _give_up(self, number: int, reason: str) -> list[Action]:
        """Not even a bare template works; an older one goes on if there is one."""
        if number == self.current:
            self.current, self.state = 0, TemplateState(TemplateKind.FAILED, reason)
        return []

    def _loss(self, template: Template, how: str) -> str:
        if template.state.kind is TemplateKind.FAILED:
            return f"the template {template.state}"
        return f"its template ended ({how})"

    def _stop_childless(self, template: Template) -> list[Action]:
        if template.names or template.number in (self.current, self.successor):
            return []
        del self.templates[template.number]
        return [Stop(template.number)]
