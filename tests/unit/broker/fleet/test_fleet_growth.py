"""What the fleet core does grows no faster than the fleet, counted in steps of the interpreter.

Steps, unlike seconds, are the same on every machine. `make bench-fleet` measures seconds at full size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from benchmarks.support.fleet_crowd import MANY_TASKS, FleetCrowd
from quakegrid.services.broker.fleet import events as fleet

FEW_NODES, MANY_NODES = 10, 100
SESSION_COUNTS = [1, 2, 10, 50]


def count_steps(work: Callable[[], object]) -> int:
    """How many lines of Python some work executes, in every function."""
    count = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def settled(node_count: int, session_count: int) -> FleetCrowd:
    """A fleet whose sessions have their shares; every second one leaves out every tenth node."""
    crowd = FleetCrowd(node_count, is_mixed=True, core_count=8)
    for session_id in range(1, session_count + 1):
        crowd.open(session_id)
    for _ in range(4):
        crowd.obey(burst=64)
        crowd.turn([crowd.count(session_id) for session_id in crowd.core.sessions])
        crowd.turn([fleet.SecondPassed()])
    return crowd


def steps_of_events(crowd: FleetCrowd) -> list[int]:
    """Steps of the end of a worker, of a report, and of a count, each in a turn of its own."""
    host = crowd.hosts[0]
    worker_id = next(iter(crowd.seats[host]))
    events = [crowd.exit(worker_id), crowd.report(host), crowd.count(1, MANY_TASKS + 1)]
    return [count_steps(lambda event=event: crowd.turn([event])) for event in events]  # type: ignore[misc]


@pytest.mark.parametrize("session_count", SESSION_COUNTS)
def test_event_takes_as_many_steps_in_a_fleet_of_ten_times_as_many_nodes(session_count: int) -> None:
    """The placement after it looks at sessions and at nodes with free cores, not at all nodes."""
    few = steps_of_events(settled(FEW_NODES, session_count))
    many = steps_of_events(settled(MANY_NODES, session_count))

    assert all(large <= 1.5 * small + 100 for small, large in zip(few, many, strict=True)), (few, many)


@pytest.mark.parametrize("session_count", [2, 10, 50])
def test_end_of_a_session_takes_steps_in_proportion_to_its_workers(session_count: int) -> None:
    """From the end of the session until others have its cores: each worker costs the same."""
    steps = []
    for node_count in (FEW_NODES, MANY_NODES):
        crowd = settled(node_count, session_count)

        def end(crowd: FleetCrowd = crowd) -> None:
            crowd.turn([fleet.SessionEnded(session_count, is_forced=False)])
            crowd.obey(burst=1)

        steps.append(count_steps(end))
        crowd.core.check()

    assert steps[1] <= 12 * steps[0], steps


def test_second_takes_steps_in_proportion_to_the_nodes() -> None:
    """And looks at no worker of a fleet at rest."""
    steps = []
    for node_count in (FEW_NODES, MANY_NODES):
        crowd = settled(node_count, 10)
        steps.append(count_steps(lambda crowd=crowd: crowd.turn([fleet.SecondPassed()])))  # type: ignore[misc]

    assert steps[1] <= 12 * steps[0], steps
