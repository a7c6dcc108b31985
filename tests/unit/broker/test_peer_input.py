"""What drivers, people, agents and lanes may tell the broker."""

from __future__ import annotations

from typing import Any

import pytest

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2
from quakegrid.internal.v1 import membership_pb2, orders_pb2, sessions_pb2
from quakegrid.services.broker.drivers import session_ids
from quakegrid.services.broker.rpc import peer_input
from quakegrid.session import stage_teller
from quakegrid.transport import lane_sockets
from quakegrid.wire.v1 import lane_pb2

BIG = (1 << 63) - 1


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": -1.0},
        {"weight": 1e9},
        {"weight": float("nan")},
        {"weight": float("inf")},
        {"cores_per_worker": 1 << 31},
        {"job_ids": range(1, 50_001)},
        {"job_ids": [1, 1]},
        {"job_ids": [0]},
        {"job_ids": [-3]},
        {"job_ids": [BIG]},
        {"resumed_session_id": BIG},
        {"resumed_session_id": -1},
        {"lane_port": 70_000},
        {"lane_port": -1},
        {"pid": -1},
        {"pid": BIG},
        {"worker_setup": bytes((32 << 20) + 1)},
        {"driver_nonce": bytes(65)},
        {"user_name": "x" * 256},
        {"user_name": "ann\n2026 ERROR forged"},
        {"host": "\x1b]0;title\x07"},
        {"fingerprint": {str(number): "1" for number in range(1000)}},
        {"fingerprint": {"numpy": "2" * 10_000}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_session_that_cannot_be_is_refused_in_words(fields: dict[str, Any]) -> None:
    """Each field has its range; what is large is not repeated in the message."""
    with pytest.raises(errors.UsageError) as refused:
        peer_input.check_session(sessions_pb2.OpenSessionRequest(**fields))

    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"weight": 0.01, "cores_per_worker": 1024, "max_workers": (1 << 32) - 1},
        {"job_ids": range(1, 40_001), "pid": 1, "host": "node1.example.org", "user_name": "Jörg"},
        {"resumed_session_id": 1_764_000_000_000, "lane_port": 1912},
        {"worker_setup": bytes(32 << 20), "fingerprint": {"numpy": "2.2.6"}},
    ],
)
def test_session_at_the_edge_of_its_ranges_is_taken(fields: dict[str, Any]) -> None:
    """No range is narrower than what people use."""
    peer_input.check_session(sessions_pb2.OpenSessionRequest(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"host": ""},
        {"port": 0},
        {"port": 70_000},
        {"instance_id": ""},
        {"host": "node\0"},
        {"host": "n" * 300},
        {"host": "node 1"},
        {"host": "node/1"},
        {"instance_id": "a\nb"},
    ],
    ids=str,
)
def test_join_from_what_is_no_address_is_refused(fields: dict[str, Any]) -> None:
    """It would be dialled for ten minutes."""
    good = {"host": "node1", "port": 1909, "instance_id": "abc"}

    with pytest.raises(errors.UsageError):
        peer_input.check_join(membership_pb2.JoinNodeRequest(**good | fields))

    for host in ("node-1.example.org", "10.0.0.7", "[fe80::1%eth0]"):
        peer_input.check_join(membership_pb2.JoinNodeRequest(**good | {"host": host}))


def test_counts_of_a_lane_that_cannot_be_are_refused() -> None:
    """A lane counts what its peers tell."""
    peer_input.check_counts(lane_pb2.LaneCounts(queued_count=5, busy_worker_ids=["w"]))

    for name in ("queued_count", "running_count", "done_count", "failed_count", "argument_bytes"):
        with pytest.raises(errors.PeerError):
            peer_input.check_counts(lane_pb2.LaneCounts(**{name: -1}))  # type: ignore[arg-type]


def test_words_about_the_end_of_a_worker_are_cut() -> None:
    """They go on to its lane and its driver."""
    ended = orders_pb2.WorkerEnd(reason="r" * 10**6, last_output=["line " * 10**5] * 1000)

    end = peer_input.cut_end(ended)

    assert len(end.reason) == 2000
    assert [len(line) for line in end.last_output] == [2000] * 20


def test_session_ids_grow_after_a_clock_was_set_back() -> None:
    """Records of tasks are ordered by them; an id that nobody can have given is left aside."""
    assert session_ids.first_id(1000, []) == 1000
    assert session_ids.first_id(1000, [400, 1_500_000]) == 1_500_001
    assert session_ids.first_id(1000, [400, BIG]) == 1000


def test_lane_is_told_the_jobs_of_the_largest_session_in_one_packet() -> None:
    """A packet that is too long for its socket never arrives."""
    opening = lane_pb2.OpenLaneSession(
        session_id=peer_input.LARGEST_ID,
        job_ids=[peer_input.LARGEST_ID] * peer_input.MAX_JOBS,
        user_name="\U0001f30d" * peer_input.MAX_NAME_CHARS,
    )
    message = lane_pb2.ControlMessage(open=opening)

    assert message.ByteSize() < lane_sockets.CONTROL_BYTES


@pytest.mark.parametrize(
    "fields",
    [
        {"done_count": -1},
        {"total_count": -1},
        {"done_count": 11},
        {"replayed_count": 6},
        {"replayed_count": -1},
        {"total_count": BIG},
        {"job_id": -1},
        {"job_id": BIG},
        {"operation": "x" * 256},
        {"operation": "classical\n2026 ERROR forged"},
        {"begin_time": {"seconds": -1}},
        {"begin_time": {"seconds": BIG}},
        {"change_time": {"nanos": -1}},
        {"change_time": {"nanos": 10**9}},
    ],
    ids=str,
)
def test_stage_that_cannot_be_is_refused_in_words(fields: dict[str, Any]) -> None:
    """One of them is enough; what is large is not repeated in the message."""
    stage: dict[str, Any] = {"job_id": 7, "operation": "classical", "done_count": 5, "total_count": 10}
    good = fleet_pb2.StageProgress(**stage)
    peer_input.check_stages([good, fleet_pb2.StageProgress(operation="work without a job")])

    with pytest.raises(errors.UsageError) as refused:
        peer_input.check_stages([good, fleet_pb2.StageProgress(**stage | fields)])

    assert len(str(refused.value)) < 200
    assert str(refused.value).isprintable()


def test_more_stages_than_a_status_shows_are_refused() -> None:
    """As many as drivers tell are taken."""
    peer_input.check_stages([fleet_pb2.StageProgress()] * stage_teller.MOST_STAGES)

    with pytest.raises(errors.UsageError, match="at most 64 stages, not 65"):
        peer_input.check_stages([fleet_pb2.StageProgress()] * (peer_input.MAX_STAGES + 1))
