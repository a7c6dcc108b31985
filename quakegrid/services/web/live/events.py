"""The events of the fleet, followed for all pages at once: what happened to nodes, workers and sessions."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Any

import grpc

from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.clients.happenings.events import decode
from quakegrid.services.web.live import limited
from quakegrid.services.web.live.feed import Event
from quakegrid.services.web.live.following import FollowedFeed
from quakegrid.services.web.live.frames import Frames, kept_by_reader

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


class EventFeed(FollowedFeed):
    """Events as they come; the last ones are kept.

    Args:
        channel: gives the connection to the broker.
    """

    def __init__(self, channel: Callable[[], grpc.aio.Channel]) -> None:
        super().__init__("events")
        self._channel = channel
        self.frames = Frames(self, "events", self.snapshot)
        self.frames_for = kept_by_reader(self._frames_for)
        self._newest: deque[dict[str, Any]] = deque(maxlen=SHOWN_EVENTS)

    def snapshot(self, name: str | None = None) -> str:
        """The last events, the newest first, as JSON.

        Args:
            name: of a person who sees their own calculations only; None for all.
        """
        events = list(self._newest)[::-1]
        if name is not None:
            events = [limited.event(event, name) for event in events]
        return json.dumps({"is_connected": self.is_connected, "events": events})

    def _frames_for(self, name: str) -> Frames:
        """The events for a person who sees their own calculations only."""

        def change(event: Event) -> Event:
            if event.kind != "event":
                return event
            return event._replace(text=json.dumps(limited.event(json.loads(event.text), name)))

        return Frames(self, "events", lambda: self.snapshot(name), change)

    def _open(self) -> AsyncIterable[fleet_pb2.WatchEventsResponse]:
        after_id = self._newest[-1]["id"] if self._newest else 0
        stub = fleet_pb2_grpc.FleetStub(self._channel())
        return stub.WatchEvents(fleet_pb2.WatchEventsRequest(after_id=after_id))

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
