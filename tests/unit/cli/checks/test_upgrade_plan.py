"""What `upgrade --check` says."""

from __future__ import annotations

from quakegrid.cli.checks import upgrade_plan
from quakegrid.cli.checks.upgrade_plan import RunningNode, RunningService

INSTALLED = ("1.1.0", "3.26.2", 100.0)
NODE = RunningNode("n1", "1.1.0", "3.26.2")


def test_nothing_is_to_be_done_where_all_is_new() -> None:
    """And that is said."""
    found = upgrade_plan.plan(INSTALLED, [RunningService("agent", "1.1.0", 200.0)], [NODE], is_busy=True)

    assert found.is_done
    assert upgrade_plan.in_words(found, "restart") == [
        "installed here: QuakeGrid 1.1.0, openquake.engine 3.26.2",
        "All that runs is what is installed here.",
    ]


def test_services_are_restarted_in_order() -> None:
    """Those with another version, and those that started before the code changed."""
    services = [
        RunningService("web", "1.0.0", 200.0),
        RunningService("agent", "1.1.0", 200.0),
        RunningService("dbserver", "1.1.0", 50.0),
    ]

    found = upgrade_plan.plan(INSTALLED, services, [NODE], is_busy=True)

    assert (found.old_services, found.is_done) == (["dbserver", "web"], False)
    lines = upgrade_plan.in_words(found, "systemctl restart")
    assert "  to restart them, in this order: systemctl restart dbserver web" in lines
    assert any("calculations run or wait" in line for line in lines)
    idle = upgrade_plan.plan(INSTALLED, services, [NODE], is_busy=False)
    assert len(upgrade_plan.in_words(idle, "")) == len(lines) - 1


def test_nodes_are_compared_with_this_machine() -> None:
    """QuakeGrid, engine, and those that do not answer."""
    nodes = [
        NODE,
        RunningNode("n2", "1.0.0", "3.26.2"),
        RunningNode("n3", "1.1.0", ""),
        RunningNode("n4", trouble="it is not up"),
    ]

    found = upgrade_plan.plan(INSTALLED, [], nodes, is_busy=False)

    assert (found.old_nodes, found.other_engines) == (["n2 (1.0.0)"], ["n3 (none)"])
    text = "\n".join(upgrade_plan.in_words(found, ""))
    assert "nodes with another QuakeGrid: n2 (1.0.0)" in text
    assert "node not reached: n4: it is not up" in text


def test_machine_without_engine_is_compared_by_its_quakegrid_only() -> None:
    """A master may have none."""
    found = upgrade_plan.plan(("1.1.0", "", 0.0), [], [NODE], is_busy=False)

    assert found.is_done
    assert "without an engine" in upgrade_plan.in_words(found, "")[0]
