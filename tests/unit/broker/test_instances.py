"""One agent process under two names is one node."""

from __future__ import annotations

from services.broker.nodes.instances import Instances


def test_hosts_of_one_agent_are_known_together() -> None:
    """Until one of them has another agent, or none."""
    instances = Instances()

    assert instances.note("a", "x") == {"a"}
    assert instances.note("b", "x") == {"a", "b"}
    assert instances.note("b", "x") == {"a", "b"}
    assert instances.note("a", "y") == {"a"}
    assert instances.host_of("x") == "b"
    assert instances.note("b", "") == ()
    assert instances.host_of("x") is None
    assert instances.note("b", "") == ()
    assert instances.host_of("y") == "a"
