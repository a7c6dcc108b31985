"""The lineage core: which template takes orders, refresh, health and failures."""

from __future__ import annotations

from quakegrid.template_state import TemplateKind, TemplateState
from services.agent.lineage import (
    LOAD_PAUSE_S,
    MAX_LOAD_FAILURES,
    MAX_LOADING_LOOKS,
    MAX_UNANSWERED_PINGS,
    Kill,
    Lineage,
    Lose,
    Ping,
    Start,
    Stop,
)

WARM = TemplateState(TemplateKind.WARM)
COLD = TemplateState(TemplateKind.COLD, "no module named x")


def warm_lineage() -> Lineage:
    """A lineage whose first template is warm."""
    lineage = Lineage()
    lineage.start("old")
    lineage.on_ready(1, WARM)
    return lineage


def test_first_template_takes_orders_while_it_loads() -> None:
    """They wait for it."""
    lineage = Lineage()

    actions = lineage.start("old")

    assert actions == [Start(1)]
    assert lineage.on_order("driver-1") == 1
    assert lineage.state.kind is TemplateKind.LOADING


def test_ready_template_is_the_state_of_the_node() -> None:
    """Warm or cold."""
    lineage = Lineage()
    lineage.start("old")

    assert lineage.on_ready(1, COLD) == []
    assert lineage.state == COLD


def test_unchanged_code_starts_nothing() -> None:
    """A look asks for a sign of life only."""
    lineage = warm_lineage()

    assert lineage.on_look("old") == [Ping(1)]


def test_changed_code_counts_when_it_is_seen_twice() -> None:
    """An upgrade that is still being written is not loaded."""
    lineage = warm_lineage()

    assert lineage.on_look("half") == [Ping(1)]
    assert lineage.on_look("new") == [Ping(1)]
    assert lineage.on_look("new") == [Start(2), Ping(1)]
    assert lineage.on_look("new") == [Ping(1)]


def test_orders_go_to_the_old_template_until_the_new_one_is_ready() -> None:
    """Nothing waits for a refresh; the node stays warm."""
    lineage = warm_lineage()
    lineage.on_look("new")
    lineage.on_look("new")

    assert lineage.on_order("a") == 1
    assert lineage.state == WARM
    assert lineage.successor == 2


def test_old_template_lives_until_its_last_child_ended() -> None:
    """And what it runs is not disturbed."""
    lineage = warm_lineage()
    for name, pid in (("a", 10), ("b", 11)):
        lineage.on_order(name)
        lineage.on_forked(1, name, pid)
    lineage.on_look("new")
    lineage.on_look("new")

    taken_over = lineage.on_ready(2, COLD)

    assert taken_over == []
    assert lineage.state == COLD
    assert lineage.on_order("c") == 2
    assert lineage.parent_of(11) == 1
    assert lineage.on_exited(1, 10) == []
    assert lineage.on_exited(1, 11) == [Stop(1)]
    assert lineage.parent_of(11) == 0


def test_old_template_may_get_more_children_while_it_has_some() -> None:
    """For sessions that need its code; then it lives until the last of those has ended, too."""
    lineage = warm_lineage()
    lineage.on_order("a")
    lineage.on_forked(1, "a", 10)
    assert lineage.older == []
    lineage.on_look("new")
    lineage.on_look("new")
    assert lineage.older == []
    lineage.on_ready(2, WARM)

    assert lineage.older == [1]
    assert lineage.on_order("b", 1) == 1
    lineage.on_forked(1, "b", 11)
    assert lineage.on_exited(1, 10) == []
    assert lineage.on_exited(1, 11) == [Stop(1)]
    assert lineage.older == []


def test_old_template_waits_for_forks_that_were_ordered() -> None:
    """A child that it could not fork does not hold it."""
    lineage = warm_lineage()
    lineage.on_order("a")
    lineage.on_look("new")
    lineage.on_look("new")

    assert lineage.on_ready(2, WARM) == []
    assert lineage.on_not_forked(1, "a") == [Stop(1)]


def test_childless_template_goes_when_its_successor_is_ready() -> None:
    """At once."""
    lineage = warm_lineage()
    lineage.on_look("new")
    lineage.on_look("new")

    assert lineage.on_ready(2, WARM) == [Stop(1)]
    assert lineage.on_look("new") == [Ping(2)]


def test_code_that_changes_while_its_successor_loads_is_loaded_again() -> None:
    """The outdated one is stopped."""
    lineage = warm_lineage()
    lineage.on_look("new")
    lineage.on_look("new")
    lineage.on_look("newer")

    assert lineage.on_look("newer") == [Stop(2), Start(3), Ping(1)]


def test_dead_template_loses_its_children_and_no_others() -> None:
    """Another one starts in its place, if it was the one for orders."""
    lineage = warm_lineage()
    lineage.on_order("a")
    lineage.on_forked(1, "a", 10)
    lineage.on_look("new")
    lineage.on_look("new")
    lineage.on_ready(2, WARM)
    lineage.on_order("b")

    old = lineage.on_gone(1, "killed by SIGKILL")
    current = lineage.on_gone(2, "killed by SIGKILL")

    assert old == [Lose(("a",), "its template ended (killed by SIGKILL)")]
    assert current == [Lose(("b",), "its template ended (killed by SIGKILL)"), Start(3)]
    assert lineage.state.kind is TemplateKind.LOADING


def test_successor_takes_over_from_a_dead_template_while_it_loads() -> None:
    """Orders wait for it."""
    lineage = warm_lineage()
    lineage.on_look("new")
    lineage.on_look("new")

    assert lineage.on_gone(1, "exit code 1") == []
    assert lineage.on_order("a") == 2
    assert lineage.state.kind is TemplateKind.LOADING


def test_template_that_dies_while_loading_is_tried_again_and_then_bare() -> None:
    """With pauses; the bare one says why it is."""
    lineage = Lineage()
    lineage.start("old")

    actions = [lineage.on_gone(number, "killed by SIGSEGV") for number in range(1, MAX_LOAD_FAILURES + 1)]

    reason = f"it ended {MAX_LOAD_FAILURES} times while loading (killed by SIGSEGV)"
    assert actions[0] == [Start(2, "", LOAD_PAUSE_S)]
    assert actions[-1] == [Start(MAX_LOAD_FAILURES + 1, reason)]


def test_template_that_says_it_cannot_work_is_not_tried_again() -> None:
    """A bare one is, and if that cannot work either the node has failed, until the code changes."""
    lineage = Lineage()
    lineage.start("old")
    lineage.on_failed(1, "it has 2 threads")
    bare = lineage.on_gone(1, "exit code 1")
    lineage.on_failed(2, "no memory")
    given_up = lineage.on_gone(2, "exit code 1")
    state = lineage.state
    lineage.on_look("new")

    assert bare == [Start(2, "it has 2 threads")]
    assert given_up == []
    assert state == TemplateState(TemplateKind.FAILED, "no memory")
    assert lineage.on_look("new") == [Start(3)]
    assert lineage.state.kind is TemplateKind.LOADING


def test_successor_that_cannot_load_leaves_the_old_template_alone() -> None:
    """The node goes on with what it has."""
    lineage = warm_lineage()
    lineage.on_look("new")
    lineage.on_look("new")
    lineage.on_failed(2, "SyntaxError")
    bare = lineage.on_gone(2, "exit code 1")
    lineage.on_failed(3, "SyntaxError")

    assert bare == [Start(3, "SyntaxError")]
    assert lineage.on_gone(3, "exit code 1") == []
    assert lineage.state == WARM
    assert lineage.on_order("a") == 1


def test_silent_template_is_killed() -> None:
    """An answer counts for as many looks again."""
    lineage = warm_lineage()
    looks = [lineage.on_look("old") for _ in range(MAX_UNANSWERED_PINGS)]
    lineage.on_pong(1)
    looks += [lineage.on_look("old") for _ in range(MAX_UNANSWERED_PINGS)]

    assert looks == [[Ping(1)]] * 2 * MAX_UNANSWERED_PINGS
    assert lineage.on_look("old") == [Kill(1)]


def test_template_that_loads_for_ever_is_killed() -> None:
    """It has far longer."""
    lineage = Lineage()
    lineage.start("old")

    looks = [lineage.on_look("old") for _ in range(MAX_LOADING_LOOKS)]

    assert looks == [[]] * MAX_LOADING_LOOKS
    assert lineage.on_look("old") == [Kill(1)]
