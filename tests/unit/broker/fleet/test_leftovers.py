"""Workers that nobody wants, on a cluster of 100 nodes with 64 cores each."""

from __future__ import annotations

from quakegrid.services.broker.fleet.events import StopWorkers
from quakegrid.services.broker.fleet.leftovers import RESUME_GRACE_S, STOP_AGAIN_S, Leftovers

NODE_COUNT, CORE_COUNT = 100, 64


def test_comparing_costs_one_look_a_worker_and_orders_go_by_node() -> None:
    """Not one for each pair of nodes, sessions and workers."""
    leftovers = Leftovers()
    for node in range(NODE_COUNT):
        workers = [(f"w-{node}-{number}", 1 + number % 2) for number in range(CORE_COUNT)]
        leftovers.report(f"n{node}", workers, is_first=True)
    for _ in range(RESUME_GRACE_S):
        leftovers.pass_second()
    asked: list[int] = []

    def is_wanted(session_id: int) -> bool:
        asked.append(session_id)
        return session_id == 1

    orders = list(leftovers.due(is_wanted))
    again = list(leftovers.due(is_wanted))

    assert len(asked) <= 2 * NODE_COUNT * CORE_COUNT
    assert len(orders) == NODE_COUNT
    assert all(len(order.worker_ids) == CORE_COUNT // 2 for order in orders)
    assert again == []


def test_what_is_not_reported_is_not_kept() -> None:
    """What is remembered is bounded by what agents have."""
    leftovers = Leftovers()
    for number in range(1000):
        leftovers.report("n0", [(f"w-{number}", number)], is_first=False)
        leftovers.condemn(number)
        leftovers.pass_second()
    for _ in range(STOP_AGAIN_S):
        leftovers.pass_second()

    last = list(leftovers.due(lambda _session_id: False))
    leftovers.forget("n0")

    assert last == [StopWorkers("n0", 999, is_forced=True, worker_ids=("w-999",))]
    assert leftovers.session_ids() == set()
    assert list(leftovers.due(lambda _session_id: False)) == []
