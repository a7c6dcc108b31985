"""What the broker counts of sessions, and how Prometheus sees it."""

from __future__ import annotations

import pytest

from quakegrid.api.v1 import fleet_pb2
from quakegrid.services.broker.drivers.session import Rate
from quakegrid.services.broker.status import metrics


def test_rate_is_growth_over_the_last_ten_seconds() -> None:
    """It follows the counter up, and down to nothing when that rests."""
    rate = Rate(0.0)
    for second in range(1, 21):
        rate.add(float(second), 5 * second)

    assert rate.hz(20.0, 100) == pytest.approx(5.0)
    assert 0.0 < rate.hz(25.0, 100) < 5.0
    assert rate.hz(60.0, 100) < 1.0
    assert rate.hz(71.0, 100) == 0.0


def test_rate_of_a_young_counter_is_not_exaggerated() -> None:
    """A thousand tasks in the first millisecond are not a million a second."""
    assert Rate(0.0).hz(0.001, 1000) == 1000.0


def test_only_so_many_sessions_have_series() -> None:
    """Totals count all; a job has its number as a label."""
    sessions = [
        fleet_pb2.SessionStatus(session_id=number, job_ids=[7], state="executing", done_count=3)
        for number in range(metrics.MAX_SESSIONS + 5)
    ]
    status = fleet_pb2.GetStatusResponse(sessions=sessions)

    lines = metrics.text(lambda: status).splitlines()

    series = [line for line in lines if line.startswith("quakegrid_session_tasks_done_total")]
    assert len(series) == metrics.MAX_SESSIONS
    assert series[0] == 'quakegrid_session_tasks_done_total{job="7",session="0"} 3.0'
    assert f'quakegrid_open_sessions{{state="executing"}} {metrics.MAX_SESSIONS + 5}.0' in lines
