"""The core that decides which template takes orders, and when another one is to start.

Pure. Templates have numbers, their children have names and pids, and a stamp stands for the code on disk. The
core does not depend on processes, clocks and files. When the code changes, a successor loads beside the
template that takes orders, and takes over when it can fork. The older template is retired: it lives until its
last child has ended, and still forks for sessions that need its code. A template that does not answer is
killed. If it has drivers it is retired instead, since they would die with it, and it is killed when the last
of them has ended.

The core counts looks at the code on disk, not seconds. So no time-out runs while the agent itself is stopped.
For this reason `handle` takes no time, and there is no deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from quakegrid.errors import IllegalMoveError, StateError
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent.rules import load_failures
from quakegrid.services.agent.rules.lineage_events import (
    Action,
    ChildExited,
    ChildForked,
    ChildNotForked,
    ChildOrdered,
    CodeSeen,
    Event,
    KillTemplate,
    PingTemplate,
    ReportLost,
    StartTemplate,
    StopTemplate,
    TemplateAnswered,
    TemplateFailed,
    TemplateGone,
    TemplateNotStarted,
    TemplateReady,
)
from quakegrid.services.agent.rules.load_failures import LoadFailures
from quakegrid.services.agent.rules.template_life import LOADING, TemplateLife

# Our ping may wait behind many orders to fork. A child's end is no sign: the agent may have seen it itself.
_SIGNS_OF_LIFE = TemplateAnswered | ChildForked | ChildNotForked


@dataclass(slots=True)
class Lineage:
    """The templates of one agent.

    `current` takes orders, `successor` loads newer code; 0 for none. `state` is what the node can do.
    """

    templates: dict[int, TemplateLife] = field(default_factory=dict)
    current: int = 0
    successor: int = 0
    state: TemplateState = LOADING
    _stamp: str = ""  # of the code that the newest template was started for
    _seen_stamp: str = ""
    _failures: LoadFailures = field(default_factory=LoadFailures)
    _last_number: int = 0

    def handle(self, event: Event) -> list[Action]:  # noqa: C901 - one case an event
        """Take one event and say what is to be done, in order."""
        if isinstance(event, _SIGNS_OF_LIFE) and event.number in self.templates:
            self.templates[event.number].look_count = 0
        match event:
            case CodeSeen(stamp):
                return self._on_code_seen(stamp)
            case TemplateNotStarted(number):
                return self._on_not_started(number)
            case TemplateAnswered():
                pass
            case TemplateReady(number, state):
                return self._on_ready(number, state)
            case TemplateFailed(number, reason):
                self.templates[number].become(TemplateState(TemplateKind.FAILED, reason))
            case TemplateGone(number, how):
                return self._on_gone(number, how)
            case ChildOrdered(number, name, is_driver):
                self.templates[number].names.add(name)
                self.templates[number].drivers |= {name} if is_driver else set()
            case ChildForked(number, name, pid):
                self.templates[number].pids[pid] = name
            case ChildNotForked(number, name):
                return self._on_child_gone(self.templates[number], name)
            case ChildExited(number, pid):
                template = self.templates[number]
                return self._on_child_gone(template, template.pids.pop(pid, ""))
            case _ as unreachable:
                assert_never(unreachable)
        return []

    @property
    def silent(self) -> set[int]:
        """Templates that do not answer, and so would not obey orders."""
        return {template.number for template in self.templates.values() if template.is_silent}

    @property
    def doubtful_pids(self) -> list[int]:
        """Children of templates that do not answer, and so would not report their ends."""
        return [pid for number in self.silent for pid in self.templates[number].pids]

    @property
    def older(self) -> list[int]:
        """Retired templates that can fork for sessions that need their code, the newest first."""
        taken = (self.current, self.successor)
        found = [each for each in self.templates.values() if each.number not in taken]
        return sorted(
            (each.number for each in found if each.state.is_ready and not each.is_silent), reverse=True
        )

    def for_orders(self, number: int = 0) -> int:
        """The number of the template that is to fork a child: `number`, or if 0 that which takes orders.

        Raises:
            StateError: there is no such template.
        """
        number = number or self.current
        if number not in self.templates:
            raise StateError(f"there is no template: {self.state}")
        return number

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
            template.check()

    def _on_code_seen(self, stamp: str) -> list[Action]:
        """Start the first template; later load code that has changed, and see whether templates answer."""
        if not self._last_number:
            self._stamp = self._seen_stamp = stamp
            return self._start()
        actions: list[Action] = []
        # A change counts when it is seen twice, so that no half-installed code is loaded.
        if stamp == self._seen_stamp != self._stamp:
            self._stamp = stamp
            self._failures.forget()
            actions += self._refresh()
        self._seen_stamp = stamp
        for template in list(self.templates.values()):
            template.look_count += 1
            if template.is_silent:
                actions += self._on_silent(template)
            elif not template.is_loading:
                actions.append(PingTemplate(template.number))
        return actions

    def _on_not_started(self, number: int) -> list[Action]:
        """Start the template again after a pause, without a limit."""
        template = self.templates.get(number)
        if template is None:
            return []
        template.look_count = 0
        return [StartTemplate(number, template.bare_reason, load_failures.LOAD_PAUSE_S)]

    def _on_ready(self, number: int, state: TemplateState) -> list[Action]:
        """The newest template that can fork takes the orders from now on."""
        template = self.templates[number]
        template.become(state)
        template.look_count = 0
        if not template.bare_reason:
            self._failures.forget()
        if number not in (self.current, self.successor):
            return []
        self.state, retired = state, self.templates.get(self.current)
        if number == self.successor:
            self.current, self.successor = number, 0
        return self._stop_childless(retired) if retired else []

    def _on_gone(self, number: int, how: str) -> list[Action]:
        template = self.templates.pop(number)
        actions: list[Action] = []
        if template.names:
            actions.append(ReportLost(tuple(sorted(template.names)), template.loss(how)))
        if number == self.current and self.successor:
            self._promote_successor()
        elif number in (self.current, self.successor):
            self.successor = 0
            actions += self._replace(template, how)
        return actions

    def _start(
        self, bare_reason: str = "", delay_s: float = 0.0, *, is_successor: bool = False
    ) -> list[Action]:
        """Start a template that takes the orders, or one that will follow it."""
        self._last_number += 1
        number = self._last_number
        self.templates[number] = TemplateLife(number, bare_reason)
        if is_successor:
            self.successor = number
        else:
            self.current, self.state = number, LOADING
        return [StartTemplate(number, bare_reason, delay_s)]

    def _promote_successor(self) -> None:
        """Let the successor take the orders, though it still loads."""
        self.current, self.successor, self.state = self.successor, 0, LOADING

    def _refresh(self) -> list[Action]:
        """Load the new code, beside the template that works if one does."""
        outdated = self.templates.pop(self.successor, None)
        actions: list[Action] = [StopTemplate(outdated.number)] if outdated else []
        return actions + self._start(is_successor=bool(self.current))

    def _on_silent(self, template: TemplateLife) -> list[Action]:
        """End a template that does not answer; while drivers of it live, retire it instead."""
        if template.is_loading or not template.has_live_driver:
            return [KillTemplate(template.number)]
        # Workers that it was to fork would hold their cores for ever.
        lost = template.lose_unforked()
        actions: list[Action] = [ReportLost(lost, "its template does not answer")] if lost else []
        if template.number == self.current and self.successor:
            self._promote_successor()
        elif template.number == self.current:
            actions += self._start()
        return actions

    def _replace(self, dead: TemplateLife, how: str) -> list[Action]:
        """Start another template in the place of a dead one, unless not even a bare one works."""
        again = self._failures.next_try(dead, how)
        if again.given_up:  # an older template goes on taking orders if there is one
            if dead.number == self.current:
                self.current, self.state = 0, TemplateState(TemplateKind.FAILED, again.given_up)
            return []
        return self._start(again.bare_reason, again.delay_s, is_successor=dead.number != self.current)

    def _on_child_gone(self, template: TemplateLife, name: str) -> list[Action]:
        template.forget(name)
        return self._stop_childless(template)

    def _stop_childless(self, template: TemplateLife) -> list[Action]:
        if template.names or template.number in (self.current, self.successor):
            return []
        del self.templates[template.number]
        return [StopTemplate(template.number)]
