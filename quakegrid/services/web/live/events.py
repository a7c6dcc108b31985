"""The events of the fleet, followed for all pages at once: what happened to nodes, workers and sessions."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Any

import grpc

from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.clients.happenings.events import decode
from quakegrid.services.web.live import following
from quakegrid.services.web.live.feed import Feed
from quakegrid.services.web.live.frames import Frames

log = logging.getLogger("quakegrid.web")
# Pages show these.
SHOWN_EVENTS = 200


def as_json(message: fleet_pb2.FleetEvent) -> dict[str, Any]:
    """An event as pages get it; `time_s` counts from 1970."""
    found = decode(message)
    return {
        "id": found.id,
        "time_s": found.time.timestamp(),
        "kind": found.kind,
        "is_trouble": found.is_trouble,
        "node": found.node,
        "job_ids": list(found.job_ids),
        "user_name": found.user_name,
        "words": found.words,
    }


class EventFeed(Feed):
    """Events as they come; the last ones are kept.

    Args:
        channel: gives the connection to the broker.
    """

    def __init__(self, channel: Callable[[], grpc.aio.Channel]) -> None:
        super().__init__()
        self._channel = channel
        self.frames = Frames(self, "events", self.snapshot)
        self._newest: deque[dict[str, Any]] = deque(maxlen=SHOWN_EVENTS)
        self.is_connected = False

    def snapshot(self) -> str:
        """The last events, the newest first, as JSON."""
        return json.dumps({"is_connected": self.is_connected, "events": list(self._newest)[::-1]})

    async def follow_source(self) -> None:
        """Follow the broker for ever."""
        await following.follow(self._open, self._take, self._lose)

    def _open(self) -> AsyncIterable[fleet_pb2.WatchEventsResponse]:
        after_id = self._newest[-1]["id"] if self._newest else 0
        stub = fleet_pb2_grpc.FleetStub(self._channel())
        return stub.WatchEvents(fleet_pb2.WatchEventsRequest(after_id=after_id))

    def _lose(self, code: grpc.StatusCode | None) -> None:
        if code is not None and self.is_connected:
            log.warning("events_not_followed code=%s", code.name)
        self._connected(is_connected=False)

    def _connected(self, *, is_connected: bool) -> None:
        if is_connected != self.is_connected:
            self.is_connected = is_connected
            self.tell("connection", json.dumps({"is_connected": is_connected}))

    def _take(self, response: fleet_pb2.WatchEventsResponse) -> None:
        found = list(map(as_json, response.events))
        if not self._newest or (found and found[0]["id"] <= self._newest[-1]["id"]):
            # The first ones, or those of a broker whose list is another one.
            self._newest.clear()
            self._newest.extend(found)
            self.is_connected = True
            self.tell("anew", "{}")
            return
        self._connected(is_connected=True)
        for event in found:
            self._newest.append(event)
            self.tell("event", json.dumps(event))
