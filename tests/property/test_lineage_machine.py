"""The lineage core under code that changes, templates that die or fail to load, and their children."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent.rules import lineage_events as events
from quakegrid.services.agent.rules.lineage import Lineage

READY = [
    TemplateState(TemplateKind.WARM),
    TemplateState(TemplateKind.WARM, "without the engine: x"),
    TemplateState(TemplateKind.COLD, "x cannot be loaded"),
]


class LineageMachine(RuleBasedStateMachine):
    """Plays templates; its model is which of them live, and whose child each name is."""

    def __init__(self) -> None:
        super().__init__()
        self.lineage = Lineage()
        self.loading: set[int] = set()
        self.ready: set[int] = set()
        self.ordered: dict[str, int] = {}
        self.forked: dict[int, tuple[int, str]] = {}
        self.drivers: set[int] = set()  # those that live
        self.last_child = 0
        self.obey(self.lineage.handle(events.CodeSeen("0")))

    def obey(self, actions: list[events.Action]) -> None:
        """What the edge does."""
        for action in actions:
            match action:
                case events.StartTemplate(number):
                    assert number not in self.loading | self.ready
                    self.loading.add(number)
                case events.StopTemplate(number):
                    assert number not in self.parents(), "a template with children was stopped"
                    self.loading.discard(number)
                    self.ready.discard(number)
                case events.KillTemplate(number):
                    children = {pid for pid, (owner, _) in self.forked.items() if owner == number}
                    assert not children & self.drivers, "a driver was killed with its template"
                    self.die(number, "killed")
                case events.PingTemplate(number):
                    assert number in self.ready
                case events.ReportLost(names):
                    for name in names:  # those of a silent template, or of one that has died
                        number = self.ordered.pop(name, 0)
                        assert not number or self.lineage.templates[number].is_silent
                        assert name not in {each for _, each in self.forked.values()}

    def parents(self) -> set[int]:
        """Templates with children, forked or ordered."""
        return set(self.ordered.values()) | {number for number, _ in self.forked.values()}

    def die(self, number: int, how: str) -> None:
        """A template ends, and its children with it."""
        self.loading.discard(number)
        self.ready.discard(number)
        self.ordered = {name: owner for name, owner in self.ordered.items() if owner != number}
        self.forked = {pid: child for pid, child in self.forked.items() if child[0] != number}
        self.drivers &= set(self.forked)
        self.obey(self.lineage.handle(events.TemplateGone(number, how)))

    @rule(stamp=st.sampled_from("012"), count=st.sampled_from([1, 2, 10]))
    def look(self, stamp: str, count: int) -> None:
        """Time goes by; the code may have changed."""
        for _ in range(count):
            self.obey(self.lineage.handle(events.CodeSeen(stamp)))

    @precondition(lambda self: self.lineage.doubtful_pids)
    @rule(data=st.data())
    def notice(self, data: st.DataObject) -> None:
        """A child of a silent template ends, which only the agent sees."""
        pid = data.draw(st.sampled_from(sorted(self.lineage.doubtful_pids)))
        number, _ = self.forked.pop(pid)
        self.drivers.discard(pid)
        self.obey(self.lineage.handle(events.ChildExited(number, pid)))

    @precondition(lambda self: self.loading)
    @rule(data=st.data())
    def fail_to_start(self, data: st.DataObject) -> None:
        """There is no room for the process of a template: it is tried again."""
        number = data.draw(st.sampled_from(sorted(self.loading)))
        self.loading.remove(number)
        self.obey(self.lineage.handle(events.TemplateNotStarted(number)))
        assert number in self.loading

    @rule()
    def answer(self) -> None:
        """Every template gives a sign of life."""
        for number in self.ready:
            self.lineage.handle(events.TemplateAnswered(number))

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), state=st.sampled_from(READY))
    def become_ready(self, data: st.DataObject, state: TemplateState) -> None:
        """A template has loaded."""
        number = data.draw(st.sampled_from(sorted(self.loading)))
        self.loading.remove(number)
        self.ready.add(number)
        self.obey(self.lineage.handle(events.TemplateReady(number, state)))

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), is_reported=st.booleans())
    def fail_to_load(self, data: st.DataObject, is_reported: bool) -> None:
        """A template cannot load, and says so or not."""
        number = data.draw(st.sampled_from(sorted(self.loading)))
        if is_reported:
            self.lineage.handle(events.TemplateFailed(number, "no way"))
        self.die(number, "exit code 1")

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def be_killed(self, data: st.DataObject) -> None:
        """A template that worked dies."""
        self.die(data.draw(st.sampled_from(sorted(self.ready))), "killed by SIGKILL")

    def told(self, name: str, number: int = 0, *, is_driver: bool = False) -> int:
        """Order a child; returns the number of the template that forks it."""
        chosen = self.lineage.for_orders(number)
        self.obey(self.lineage.handle(events.ChildOrdered(chosen, name, is_driver)))
        return chosen

    @precondition(lambda self: self.lineage.current)
    @rule(is_driver=st.booleans())
    def order(self, is_driver: bool) -> None:
        """A child is wanted; the one for orders must live."""
        self.last_child += 1
        name = f"{'d' if is_driver else 'w'}{self.last_child}"
        number = self.told(name, is_driver=is_driver)
        assert number in self.loading | self.ready
        self.ordered[name] = number

    @precondition(lambda self: self.lineage.older)
    @rule(data=st.data())
    def order_older(self, data: st.DataObject) -> None:
        """A session needs older code; a template that has it can fork and has children."""
        number = data.draw(st.sampled_from(self.lineage.older))
        assert number in self.ready & self.parents()
        self.last_child += 1
        assert self.told(f"w{self.last_child}", number) == number
        self.ordered[f"w{self.last_child}"] = number

    @precondition(lambda self: self.ready & set(self.ordered.values()))
    @rule(data=st.data(), is_forked=st.booleans())
    def fork(self, data: st.DataObject, is_forked: bool) -> None:
        """A template obeys, if it can."""
        waiting = sorted(name for name, number in self.ordered.items() if number in self.ready)
        name = data.draw(st.sampled_from(waiting))
        number = self.ordered.pop(name)
        if is_forked:
            self.forked[int(name[1:])] = number, name
            self.drivers |= {int(name[1:])} if name[0] == "d" else set()
            self.lineage.handle(events.ChildForked(number, name, int(name[1:])))
        else:
            self.obey(self.lineage.handle(events.ChildNotForked(number, name)))

    @precondition(lambda self: self.forked)
    @rule(data=st.data())
    def exit(self, data: st.DataObject) -> None:
        """A child ends."""
        pid = data.draw(st.sampled_from(sorted(self.forked)))
        number, _name = self.forked.pop(pid)
        self.drivers.discard(pid)
        self.obey(self.lineage.handle(events.ChildExited(number, pid)))

    @invariant()
    def model_holds(self) -> None:
        """The core knows who lives, whose child each is, and keeps no template for nothing."""
        self.lineage.check()
        assert set(self.lineage.templates) == self.loading | self.ready
        assert all(self.lineage.parent_of(pid) == number for pid, (number, _) in self.forked.items())
        assert len(self.loading | self.ready) <= 2 + len(self.parents())
        assert self.lineage.state.is_ready == (self.lineage.current in self.ready)


TestLineage = LineageMachine.TestCase
TestLineage.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
