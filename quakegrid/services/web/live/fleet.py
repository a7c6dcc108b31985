"""Nodes and sessions of the broker, followed for all pages at once: a reader needs the newest state only."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, Callable
from typing import Any

import grpc

from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.services.web.live import following
from quakegrid.services.web.live.feed import Event, Feed
from quakegrid.services.web.live.frames import Frames

log = logging.getLogger("quakegrid.web")


def as_json(status: fleet_pb2.GetStatusResponse) -> dict[str, Any]:
    """The fleet as pages get it."""
    return {
        "is_connected": True,
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
        "wait_reason": session.wait_reason,
        "requeued_count": session.requeued_count,
        "busy_worker_count": session.busy_worker_count,
        "queued_count": session.queued_count,
        "running_count": session.running_count,
        "done_count": session.done_count,
        "done_rate_hz": round(session.done_rate_hz, 2),
    }


class FleetFeed(Feed):
    """The newest state of the fleet.

    Args:
        channel: gives the connection to the broker.
    """

    def __init__(self, channel: Callable[[], grpc.aio.Channel]) -> None:
        super().__init__()
        self._channel = channel
        self.frames = Frames(self, "fleet", self.snapshot)
        self._newest: dict[str, Any] = {"is_connected": False, "version": "", "nodes": [], "sessions": []}

    def snapshot(self) -> str:
        """The newest state, as JSON."""
        return json.dumps(self._newest)

    def since(self, number: int) -> list[Event] | None:
        """Nothing, or begin anew: what was before the newest state is of no use."""
        return [] if number == self.number else None

    async def follow_source(self) -> None:
        """Follow the broker for ever."""
        await following.follow(self._open, lambda response: self._take(as_json(response.status)), self._lose)

    def _open(self) -> AsyncIterable[fleet_pb2.WatchStatusResponse]:
        return fleet_pb2_grpc.FleetStub(self._channel()).WatchStatus(fleet_pb2.WatchStatusRequest())

    def _lose(self, code: grpc.StatusCode | None) -> None:
        if code is not None and self._newest["is_connected"]:
            log.warning("fleet_not_followed code=%s", code.name)
        self._take({**self._newest, "is_connected": False})

    def _take(self, state: dict[str, Any]) -> None:
        if state != self._newest:
            self._newest = state
            self.number += 1
            self.ring_bell()
