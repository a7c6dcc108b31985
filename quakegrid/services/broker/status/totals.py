"""Counts of sessions that have ended, for the totals since the broker's start."""

from __future__ import annotations

from collections.abc import Iterable

from quakegrid.api.v1 import fleet_pb2
from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.wire.v1 import lane_pb2

# How many ended sessions wait for the last counts of their lanes; a lane that died never tells them.
MAX_ENDING = 1000


class SessionTotals:
    """Adds up the counters of sessions."""

    def __init__(self) -> None:
        self._ended = fleet_pb2.TaskTotals()
        # The counts of each ended session that were added to the totals.
        self._last_counts: dict[int, lane_pb2.LaneCounts] = {}

    def on_session_ended(self, session: DriverSession) -> None:
        """Add the counters of a session that has ended; its lane will tell its last counts."""
        self._ended.session_count += 1
        _add(self._ended, session.counts)
        if len(self._last_counts) >= MAX_ENDING:
            del self._last_counts[next(iter(self._last_counts))]
        self._last_counts[session.session_id] = session.counts

    def on_last_counts(self, counts: lane_pb2.LaneCounts) -> None:
        """Take the last counts of a session that has ended, from its lane."""
        before = self._last_counts.pop(counts.session_id, None)
        if before is not None:
            _add(self._ended, counts)
            _add(self._ended, before, -1)

    def with_open(self, sessions: Iterable[DriverSession]) -> fleet_pb2.TaskTotals:
        """The totals, those of open sessions included."""
        totals = fleet_pb2.TaskTotals()
        totals.CopyFrom(self._ended)
        for session in sessions:
            totals.session_count += 1
            _add(totals, session.counts)
        return totals


def _add(totals: fleet_pb2.TaskTotals, counts: lane_pb2.LaneCounts, sign: int = 1) -> None:
    totals.done_count += sign * counts.done_count
    totals.requeued_count += sign * counts.requeued_count
    totals.failed_count += sign * counts.failed_count
    totals.argument_bytes += sign * counts.argument_bytes
    totals.result_bytes += sign * counts.result_bytes
