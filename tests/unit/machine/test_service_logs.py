"""Which of many lines alike a service logs."""

from __future__ import annotations

from quakegrid.machine import service_logs


def test_lines_that_a_peer_causes_without_end_are_logged_ever_more_seldom() -> None:
    """A million of them are some twenty lines, and the first ones are all there."""
    each = [count for count in range(1, 1_000_001) if service_logs.is_logged(count)]
    first = [count for count in range(1, 200) if service_logs.is_logged(count, 100)]

    assert each == [1 << power for power in range(20)]
    assert first == [*range(1, 101), 128]
