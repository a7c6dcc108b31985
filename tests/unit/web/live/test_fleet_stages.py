"""The stages of calculations, as pages get them with the fleet."""

from __future__ import annotations

from quakegrid.api.v1 import fleet_pb2
from quakegrid.services.web.live import fleet


def test_pages_get_the_stages_of_a_session() -> None:
    """With their tasks, and with times as browsers have them; a session without any has an empty list."""
    stage = fleet_pb2.StageProgress(
        job_id=7, operation="classical", done_count=40, total_count=100, replayed_count=3
    )
    stage.begin_time.FromMilliseconds(1_700_000_000_250)
    stage.change_time.FromMilliseconds(1_700_000_009_000)
    status = fleet_pb2.GetStatusResponse(
        sessions=[
            fleet_pb2.SessionStatus(session_id=1, job_ids=[7], stages=[stage]),
            fleet_pb2.SessionStatus(session_id=2),
        ]
    )

    first, second = fleet.as_json(status)["sessions"]

    assert first["stages"] == [
        {
            "job_id": 7,
            "operation": "classical",
            "done_count": 40,
            "total_count": 100,
            "replayed_count": 3,
            "begin_s": 1_700_000_000.25,
            "change_s": 1_700_000_009.0,
        }
    ]
    assert second["stages"] == []
