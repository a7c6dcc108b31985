"""Nodes and sessions of the broker, followed for all pages at once: a reader needs the newest state only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Callable
from typing import Any

import grpc

from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.services.web.live import limited
from quakegrid.services.web.live.feed import Event
from quakegrid.services.web.live.following import FollowedFeed
from quakegrid.services.web.live.frames import Frames, kept_by_reader


def as_json(status: fleet_pb2.GetStatusResponse) -> dict[str, Any]:
    """The fleet as pages get it."""
    return {
        "version": status.version,
        "nodes": [_node(node) for node in status.nodes],
        "sessions": [_session(session) for session in status.sessions],
        "limits": {
            "jobs": status.serialize_jobs,
            "jobs_of_person": status.max_jobs_per_user,
            "cores_of_person": status.max_cores_per_user,
        },
    }


def _node(node: fleet_pb2.NodeStatus) -> dict[str, Any]:
    sample = node.sample
    return {
        "host": node.host,
        "node": node.node,
        "is_up": node.is_up,
        "core_count": node.core_count,
        "worker_count": node.worker_count,
        "running_count": node.running_count,
        "state": node.state,
        "is_stopped": node.is_stopped,
        "shares": {str(each.session_id): each.worker_count for each in node.shares},
        "all_core_count": node.all_core_count,
        "version": node.version,
        "engine_version": node.engine_version,
        "is_short_of_memory": node.is_short_of_memory,
        "sample": {
            "memory_used_bytes": sample.memory_used_bytes,
            "memory_total_bytes": sample.memory_total_bytes,
            "soft_percent": sample.soft_percent,
            "hard_percent": sample.hard_percent,
            "load_average": sample.load_average,
        }
        if node.HasField("sample")
        else None,
        "left_out": [
            {"session_id": each.session_id, "differences": list(each.differences)} for each in node.left_out
        ],
    }


def _session(session: fleet_pb2.SessionStatus) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "job_ids": list(session.job_ids),
        "user_name": session.user_name,
        "state": session.state,
        "host": session.host,
        "worker_count": session.worker_count,
        "core_count": session.core_count,
        "weight": session.weight,
        "ahead_job_ids": list(session.ahead_job_ids),
        "ahead_count": len(session.ahead_job_ids),
        "wait_reason": session.wait_reason,
        "requeued_count": session.requeued_count,
        "busy_worker_count": session.busy_worker_count,
        "queued_count": session.queued_count,
        "running_count": session.running_count,
        "done_count": session.done_count,
        "done_rate_hz": round(session.done_rate_hz, 2),
        "stages": [_stage(each) for each in session.stages],
    }


def _stage(stage: fleet_pb2.StageProgress) -> dict[str, Any]:
    return {
        "job_id": stage.job_id,
        "operation": stage.operation,
        "done_count": stage.done_count,
        "total_count": stage.total_count,
        "replayed_count": stage.replayed_count,
        "begin_s": stage.begin_time.ToMilliseconds() / 1000,
        "change_s": stage.change_time.ToMilliseconds() / 1000,
    }


class FleetFeed(FollowedFeed):
    """The newest state of the fleet.

    Args:
        channel: gives the connection to the broker.
    """

    def __init__(self, channel: Callable[[], grpc.aio.Channel]) -> None:
        super().__init__("fleet")
        self._channel = channel
        self.frames = Frames(self, "fleet", self.snapshot)
        self.frames_for = kept_by_reader(self._frames_for)
        self._newest: dict[str, Any] = {"version": "", "nodes": [], "sessions": []}
        self._shown = self._newest | {"is_connected": False}

    def snapshot(self, name: str | None = None) -> str:
        """The newest state, as JSON.

        Args:
            name: of a person who sees their own calculations only; None for all.
        """
        return json.dumps(self._shown if name is None else limited.fleet(self._shown, name))

    def _frames_for(self, name: str) -> Frames:
        """The fleet for a person who sees their own calculations only."""
        return Frames(self, "fleet", lambda: self.snapshot(name))

    def since(self, number: int) -> list[Event] | None:
        """Nothing, or begin anew: what was before the newest state is of no use."""
        return [] if number == self.number else None

    def _open(self) -> AsyncIterable[fleet_pb2.WatchStatusResponse]:
        return fleet_pb2_grpc.FleetStub(self._channel()).WatchStatus(fleet_pb2.WatchStatusRequest())

    def _take(self, response: fleet_pb2.WatchStatusResponse) -> None:
        self._newest = as_json(response.status)
        self.is_connected = True
        self._show()

    def _connected(self, *, is_connected: bool) -> None:
        self.is_connected = is_connected
        self._show()

    def _show(self) -> None:
        state = self._newest | {"is_connected": self.is_connected}
        if state != self._shown:
            self._shown = state
            self.number += 1
            self.ring_bell()
