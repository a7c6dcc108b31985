"""Those who watch an agent."""

from __future__ import annotations

from quakegrid.api.v1 import nodes_pb2
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.agent.node import watchers
from quakegrid.services.agent.node.watchers import Watchers


def message(node: str) -> orders_pb2.WatchResponse:
    """A change."""
    return orders_pb2.WatchResponse(status=nodes_pb2.AgentStatus(node=node))


def test_each_watcher_gets_every_change_after_the_first_word() -> None:
    """In order, until it leaves."""
    found = Watchers()
    queue, left = found.add(message("first")), found.add()
    found.remove(left)

    found.publish(message("second"))

    assert [queue.get_nowait().status.node for _ in range(2)] == ["first", "second"]
    assert left.empty()


def test_watcher_that_does_not_read_is_ended_and_costs_no_more() -> None:
    """Others go on."""
    found = Watchers()
    stuck, other = found.add(), found.add()

    for _ in range(watchers.MAX_BEHIND_MESSAGES + 5):
        found.publish(message("x"))
        assert other.get_nowait().status.node == "x"

    assert stuck.get_nowait() is watchers.LAST_WORD
    assert stuck.empty()


def test_slow_watcher_gets_no_more_output() -> None:
    """What workers print is the first to go."""
    found = Watchers()
    queue = found.add()
    for _ in range(watchers.MAX_WAITING_MESSAGES):
        found.publish(message("x"))

    found.publish_output(message("printed"))

    assert not found.has_readers()
    assert queue.qsize() == watchers.MAX_WAITING_MESSAGES
