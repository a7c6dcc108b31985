"""The lineage core: which template takes orders, refresh, health and failures."""

from __future__ import annotations

from typing import Any

import pytest

from quakegrid.errors import IllegalMoveError, StateError
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent.rules.lineage import Lineage
from quakegrid.services.agent.rules.lineage_events import (
    Action,
    ChildExited,
    ChildForked,
    ChildNotForked,
    ChildOrdered,
    CodeSeen,
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
from quakegrid.services.agent.rules.load_failures import LOAD_PAUSE_S, MAX_LOAD_FAILURES
from quakegrid.services.agent.rules.template_life import MAX_LOADING_LOOKS, MAX_UNANSWERED_PINGS, TemplateLife

WARM = TemplateState(TemplateKind.WARM)
COLD = TemplateState(TemplateKind.COLD, "no module named x")


def warm_lineage() -> Lineage:
    """A lineage whose first template is warm."""
    lineage = Lineage()
    lineage.handle(CodeSeen("old"))
    lineage.handle(TemplateReady(1, WARM))
    return lineage


def order(lineage: Lineage, name: str, number: int = 0, *, is_driver: bool = False) -> int:
    """Order a child; returns the number of the template that forks it."""
    chosen = lineage.for_orders(number)
    assert lineage.handle(ChildOrdered(chosen, name, is_driver)) == []
    return chosen


def test_first_template_takes_orders_while_it_loads() -> None:
    """They wait for it."""
    lineage = Lineage()

    actions = lineage.handle(CodeSeen("old"))

    assert actions == [StartTemplate(1)]
    assert order(lineage, "driver-1") == 1
    assert lineage.state.kind is TemplateKind.LOADING


def test_ready_template_is_the_state_of_the_node() -> None:
    """Warm or cold."""
    lineage = Lineage()
    lineage.handle(CodeSeen("old"))

    assert lineage.handle(TemplateReady(1, COLD)) == []
    assert lineage.state == COLD


def test_unchanged_code_starts_nothing() -> None:
    """A look asks for a sign of life only."""
    lineage = warm_lineage()

    assert lineage.handle(CodeSeen("old")) == [PingTemplate(1)]


def test_changed_code_counts_when_it_is_seen_twice() -> None:
    """An upgrade that is still being written is not loaded."""
    lineage = warm_lineage()

    assert lineage.handle(CodeSeen("half")) == [PingTemplate(1)]
    assert lineage.handle(CodeSeen("new")) == [PingTemplate(1)]
    assert lineage.handle(CodeSeen("new")) == [StartTemplate(2), PingTemplate(1)]
    assert lineage.handle(CodeSeen("new")) == [PingTemplate(1)]


def test_orders_go_to_the_old_template_until_the_new_one_is_ready() -> None:
    """Nothing waits for a refresh; the node stays warm."""
    lineage = warm_lineage()
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))

    assert order(lineage, "a") == 1
    assert lineage.state == WARM
    assert lineage.successor == 2


def test_old_template_lives_until_its_last_child_ended() -> None:
    """And what it runs is not disturbed."""
    lineage = warm_lineage()
    for name, pid in (("a", 10), ("b", 11)):
        order(lineage, name)
        lineage.handle(ChildForked(1, name, pid))
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))

    taken_over = lineage.handle(TemplateReady(2, COLD))

    assert taken_over == []
    assert lineage.state == COLD
    assert order(lineage, "c") == 2
    assert lineage.parent_of(11) == 1
    assert lineage.handle(ChildExited(1, 10)) == []
    assert lineage.handle(ChildExited(1, 11)) == [StopTemplate(1)]
    assert lineage.parent_of(11) == 0


def test_old_template_may_get_more_children_while_it_has_some() -> None:
    """For sessions that need its code; then it lives until the last of those has ended, too."""
    lineage = warm_lineage()
    order(lineage, "a")
    lineage.handle(ChildForked(1, "a", 10))
    assert lineage.older == []
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))
    assert lineage.older == []
    lineage.handle(TemplateReady(2, WARM))

    assert lineage.older == [1]
    assert order(lineage, "b", 1) == 1
    lineage.handle(ChildForked(1, "b", 11))
    assert lineage.handle(ChildExited(1, 10)) == []
    assert lineage.handle(ChildExited(1, 11)) == [StopTemplate(1)]
    assert lineage.older == []


def test_old_template_waits_for_forks_that_were_ordered() -> None:
    """A child that it could not fork does not hold it."""
    lineage = warm_lineage()
    order(lineage, "a")
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))

    assert lineage.handle(TemplateReady(2, WARM)) == []
    assert lineage.handle(ChildNotForked(1, "a")) == [StopTemplate(1)]


def test_childless_template_goes_when_its_successor_is_ready() -> None:
    """At once."""
    lineage = warm_lineage()
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))

    assert lineage.handle(TemplateReady(2, WARM)) == [StopTemplate(1)]
    assert lineage.handle(CodeSeen("new")) == [PingTemplate(2)]


def test_code_that_changes_while_its_successor_loads_is_loaded_again() -> None:
    """The outdated one is stopped."""
    lineage = warm_lineage()
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("newer"))

    assert lineage.handle(CodeSeen("newer")) == [StopTemplate(2), StartTemplate(3), PingTemplate(1)]


def test_dead_template_loses_its_children_and_no_others() -> None:
    """Another one starts in its place, if it was the one for orders."""
    lineage = warm_lineage()
    order(lineage, "a")
    lineage.handle(ChildForked(1, "a", 10))
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))
    lineage.handle(TemplateReady(2, WARM))
    order(lineage, "b")

    old = lineage.handle(TemplateGone(1, "killed by SIGKILL"))
    current = lineage.handle(TemplateGone(2, "killed by SIGKILL"))

    assert old == [ReportLost(("a",), "its template ended (killed by SIGKILL)")]
    assert current == [ReportLost(("b",), "its template ended (killed by SIGKILL)"), StartTemplate(3)]
    assert lineage.state.kind is TemplateKind.LOADING


def test_successor_takes_over_from_a_dead_template_while_it_loads() -> None:
    """Orders wait for it."""
    lineage = warm_lineage()
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))

    assert lineage.handle(TemplateGone(1, "exit code 1")) == []
    assert order(lineage, "a") == 2
    assert lineage.state.kind is TemplateKind.LOADING


def test_template_that_dies_while_loading_is_tried_again_and_then_bare() -> None:
    """With pauses; the bare one says why it is."""
    lineage = Lineage()
    lineage.handle(CodeSeen("old"))

    actions = [
        lineage.handle(TemplateGone(number, "killed by SIGSEGV"))
        for number in range(1, MAX_LOAD_FAILURES + 1)
    ]

    reason = f"it ended {MAX_LOAD_FAILURES} times while loading (killed by SIGSEGV)"
    assert actions[0] == [StartTemplate(2, "", LOAD_PAUSE_S)]
    assert actions[-1] == [StartTemplate(MAX_LOAD_FAILURES + 1, reason)]


def test_template_that_says_it_cannot_work_is_not_tried_again() -> None:
    """A bare one is, and if that cannot work either the node has failed, until the code changes."""
    lineage = Lineage()
    lineage.handle(CodeSeen("old"))
    lineage.handle(TemplateFailed(1, "it has 2 threads"))
    bare = lineage.handle(TemplateGone(1, "exit code 1"))
    lineage.handle(TemplateFailed(2, "no memory"))
    given_up = lineage.handle(TemplateGone(2, "exit code 1"))
    state = lineage.state
    lineage.handle(CodeSeen("new"))

    assert bare == [StartTemplate(2, "it has 2 threads")]
    assert given_up == []
    assert state == TemplateState(TemplateKind.FAILED, "no memory")
    assert lineage.handle(CodeSeen("new")) == [StartTemplate(3)]
    assert lineage.state.kind is TemplateKind.LOADING


def test_successor_that_cannot_load_leaves_the_old_template_alone() -> None:
    """The node goes on with what it has."""
    lineage = warm_lineage()
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))
    lineage.handle(TemplateFailed(2, "SyntaxError"))
    bare = lineage.handle(TemplateGone(2, "exit code 1"))
    lineage.handle(TemplateFailed(3, "SyntaxError"))

    assert bare == [StartTemplate(3, "SyntaxError")]
    assert lineage.handle(TemplateGone(3, "exit code 1")) == []
    assert lineage.state == WARM
    assert order(lineage, "a") == 1


def test_silent_template_is_killed() -> None:
    """An answer counts for as many looks again."""
    lineage = warm_lineage()
    looks = [lineage.handle(CodeSeen("old")) for _ in range(MAX_UNANSWERED_PINGS)]
    lineage.handle(TemplateAnswered(1))
    looks += [lineage.handle(CodeSeen("old")) for _ in range(MAX_UNANSWERED_PINGS)]

    assert looks == [[PingTemplate(1)]] * 2 * MAX_UNANSWERED_PINGS
    assert lineage.handle(CodeSeen("old")) == [KillTemplate(1)]


def test_template_that_forks_slowly_is_not_silent() -> None:
    """On a machine that starts a thousand processes our ping waits behind its orders for minutes."""
    lineage = warm_lineage()
    for number in range(2 * MAX_UNANSWERED_PINGS):
        order(lineage, f"w{number}")
    looks = []
    for number in range(0, 2 * MAX_UNANSWERED_PINGS, 2):
        looks += [lineage.handle(CodeSeen("old")) for _ in range(MAX_UNANSWERED_PINGS)]
        lineage.handle(ChildForked(1, f"w{number}", 10 + number))
        looks += [lineage.handle(CodeSeen("old")) for _ in range(MAX_UNANSWERED_PINGS)]
        lineage.handle(ChildNotForked(1, f"w{number + 1}"))

    assert looks == [[PingTemplate(1)]] * 2 * MAX_UNANSWERED_PINGS**2
    lineage.check()


def test_template_that_loads_for_ever_is_killed() -> None:
    """It has far longer."""
    lineage = Lineage()
    lineage.handle(CodeSeen("old"))

    looks = [lineage.handle(CodeSeen("old")) for _ in range(MAX_LOADING_LOOKS)]

    assert looks == [[]] * MAX_LOADING_LOOKS
    assert lineage.handle(CodeSeen("old")) == [KillTemplate(1)]


def with_driver(lineage: Lineage) -> None:
    """A driver of the first template."""
    order(lineage, "driver-1", is_driver=True)
    lineage.handle(ChildForked(1, "driver-1", 10))


def be_silent(lineage: Lineage, stamp: str = "old") -> list[Action]:
    """Look until a template has left too many pings unanswered."""
    while not lineage.templates[1].is_silent:
        actions = lineage.handle(CodeSeen(stamp))
    return actions


def test_silent_template_without_drivers_is_killed() -> None:
    """Workers are replaced elsewhere."""
    lineage = warm_lineage()
    order(lineage, "a")
    lineage.handle(ChildForked(1, "a", 10))

    assert be_silent(lineage) == [KillTemplate(1)]


def test_silent_template_with_drivers_is_retired_instead() -> None:
    """Its drivers, which may have run for days, go on; another one takes the orders at once."""
    lineage = warm_lineage()
    with_driver(lineage)

    actions = be_silent(lineage)

    assert actions == [StartTemplate(2)]
    assert order(lineage, "b") == 2
    assert lineage.state.kind is TemplateKind.LOADING
    assert lineage.doubtful_pids == [10]
    assert lineage.older == []
    assert lineage.handle(CodeSeen("old")) == []
    lineage.check()


def test_children_that_a_retired_template_never_forked_are_given_up() -> None:
    """They would hold their cores for ever; one that is forked after all is nobody's."""
    lineage = warm_lineage()
    with_driver(lineage)
    order(lineage, "a")

    actions = be_silent(lineage)

    assert actions == [ReportLost(("a",), "its template does not answer"), StartTemplate(2)]
    assert not lineage.templates[1].is_awaited("a")
    assert lineage.handle(CodeSeen("old")) == []
    lineage.check()


def test_silent_template_is_killed_when_its_drivers_have_ended() -> None:
    """The agent sees that; the workers are replaced elsewhere."""
    lineage = warm_lineage()
    with_driver(lineage)
    order(lineage, "a")
    lineage.handle(ChildForked(1, "a", 11))
    be_silent(lineage)
    lineage.handle(TemplateReady(2, WARM))

    assert lineage.handle(ChildExited(1, 10)) == []
    assert lineage.handle(CodeSeen("old")) == [KillTemplate(1), PingTemplate(2)]
    assert lineage.handle(TemplateGone(1, "killed by SIGKILL")) == [
        ReportLost(("a",), "its template ended (killed by SIGKILL)")
    ]
    lineage.check()


def test_children_of_a_silent_template_are_doubtful() -> None:
    """Workers, too: one that was killed would hold its core and its job for ever."""
    lineage = warm_lineage()
    with_driver(lineage)
    order(lineage, "a")
    lineage.handle(ChildForked(1, "a", 11))
    assert (lineage.silent, lineage.doubtful_pids) == (set(), [])

    be_silent(lineage)

    assert (lineage.silent, lineage.doubtful_pids) == ({1}, [10, 11])
    assert lineage.handle(ChildExited(1, 11)) == []
    assert lineage.doubtful_pids == [10]
    assert lineage.handle(ChildExited(1, 10)) == [StopTemplate(1)]
    lineage.check()


def test_retired_template_that_answers_again_goes_on_as_an_older_one() -> None:
    """Until its last child has ended."""
    lineage = warm_lineage()
    with_driver(lineage)
    be_silent(lineage)
    lineage.handle(TemplateReady(2, WARM))

    lineage.handle(TemplateAnswered(1))

    assert lineage.older == [1]
    assert lineage.doubtful_pids == []
    assert lineage.handle(ChildExited(1, 10)) == [StopTemplate(1)]


def test_driver_that_a_silent_template_never_forked_does_not_save_it() -> None:
    """Its command line is told."""
    lineage = warm_lineage()
    order(lineage, "driver-1", is_driver=True)

    assert be_silent(lineage) == [KillTemplate(1)]


def test_successor_that_loads_takes_over_from_a_silent_template() -> None:
    """There is no need for a third one."""
    lineage = warm_lineage()
    with_driver(lineage)
    lineage.handle(CodeSeen("new"))
    lineage.handle(CodeSeen("new"))

    assert be_silent(lineage, "new") == []
    assert (lineage.current, lineage.successor) == (2, 0)
    lineage.check()


def test_template_that_could_not_be_started_is_tried_again() -> None:
    """There was no room for a process; what was ordered waits on."""
    lineage = Lineage()
    lineage.handle(CodeSeen("old"))
    order(lineage, "a")

    for _ in range(10):
        assert lineage.handle(TemplateNotStarted(1)) == [StartTemplate(1, delay_s=LOAD_PAUSE_S)]

    assert lineage.state.kind is TemplateKind.LOADING
    assert lineage.templates[1].is_awaited("a")
    lineage.check()


def test_template_that_is_gone_is_not_started_again() -> None:
    """Newer code came meanwhile."""
    lineage = warm_lineage()

    assert lineage.handle(TemplateNotStarted(7)) == []


def test_order_without_a_template_is_refused_in_words() -> None:
    """Not even a bare one could be loaded."""
    lineage = Lineage()

    with pytest.raises(StateError, match="no template"):
        order(lineage, "a")


def test_report_of_a_child_that_nobody_ordered_is_recognised() -> None:
    """It counts once, and for the template that was asked."""
    lineage = warm_lineage()
    order(lineage, "a")

    assert lineage.templates[1].is_awaited("a")
    assert not lineage.templates[1].is_awaited("b")
    assert 2 not in lineage.templates
    lineage.handle(ChildForked(1, "a", 10))
    assert not lineage.templates[1].is_awaited("a")


# --- check, and events that should not come


def test_sign_of_life_of_a_template_that_is_gone_changes_nothing() -> None:
    """It crossed the news of its end."""
    lineage = warm_lineage()

    assert lineage.handle(TemplateAnswered(7)) == []
    assert lineage.templates.keys() == {1}


def test_unknown_event_is_a_mistake_of_ours() -> None:
    """It is not passed over."""
    event: Any = "no event"

    with pytest.raises(AssertionError, match="no event"):
        warm_lineage().handle(event)


def test_check_finds_orders_that_a_template_which_is_not_there_takes() -> None:
    """Nobody would fork."""
    lineage = warm_lineage()

    lineage.current = 7

    with pytest.raises(IllegalMoveError, match=r"template 7 takes orders and the node is"):
        lineage.check()


def test_check_finds_a_successor_that_is_not_there() -> None:
    """Nothing would ever take over."""
    lineage = warm_lineage()

    lineage.successor = 7

    with pytest.raises(IllegalMoveError, match="template 7 follows 1"):
        lineage.check()


def test_check_finds_a_retired_template_without_children() -> None:
    """It should have been stopped."""
    lineage = warm_lineage()

    lineage.templates[2] = TemplateLife(2, state=WARM)

    with pytest.raises(IllegalMoveError, match="template 2 lives on without children"):
        lineage.check()


def test_check_finds_a_child_that_nobody_ordered() -> None:
    """It would hold no core."""
    lineage = warm_lineage()

    lineage.templates[1].pids[100] = "unknown"

    with pytest.raises(IllegalMoveError, match="template 1 has children that nobody ordered"):
        lineage.check()
