"""What a driver does whose stream broke, by the answers of the nodes that could be its own."""

from __future__ import annotations

import pytest

from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.broker.drivers import absence
from quakegrid.session import options

UNKNOWN, GONE, RUNNING, STOPPED = (
    orders_pb2.PROCESS_STATE_UNSPECIFIED,
    orders_pb2.PROCESS_STATE_GONE,
    orders_pb2.PROCESS_STATE_RUNNING,
    orders_pb2.PROCESS_STATE_STOPPED,
)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], UNKNOWN),
        ([GONE], GONE),
        ([RUNNING, GONE], RUNNING),
        ([GONE, RUNNING], RUNNING),
        ([STOPPED, GONE], STOPPED),
        ([GONE, UNKNOWN], UNKNOWN),
        ([UNKNOWN, GONE], UNKNOWN),
        ([RUNNING, UNKNOWN], RUNNING),
    ],
)
def test_node_that_has_the_process_is_right(
    states: list[orders_pb2.ProcessState.ValueType], expected: orders_pb2.ProcessState.ValueType
) -> None:
    """In whatever order nodes of one name answer; one that does not answer may have it."""
    assert absence.combine(states) == expected


def test_driver_that_runs_is_waited_for_longer_than_it_looks_for_a_broker() -> None:
    """Two processes, two constants."""
    assert options.PATIENCE.broker_s + 10 <= absence.RUNNING_S
