"""The events of the fleet in the broker: takes what happens, keeps it, and wakes those who follow.

Runs in the broker's event loop. Decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from quakegrid.api.v1 import fleet_pb2
from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.happenings.kept import EventFile
from quakegrid.services.broker.happenings.notable import FleetWatcher, Happening, HappeningKind
from quakegrid.services.broker.happenings.ring import EventRing, Numbered


class EventBook:
    """What happened to the fleet of one broker, and of those before it.

    Args:
        folder: the state directory, where the events are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._file = EventFile(folder)
        self._ring = EventRing(self._file.read())
        self._watcher = FleetWatcher()
        self.expect = self._watcher.expect
        self._bell = asyncio.Event()

    def on_event(self, event: core.Event) -> None:
        """Take an event that enters the fleet core."""
        self._tell(self._watcher.on_event(event))

    def on_action(self, action: core.Action) -> None:
        """Take an action of the fleet core."""
        self._tell(self._watcher.on_action(action))

    def on_session_ended(self, session_id: int, user_name: str, reason: str, job_count: int) -> None:
        """Take the end of a session, see `FleetWatcher.on_session_ended`."""
        self._tell(self._watcher.on_session_ended(session_id, user_name, reason, job_count))

    def on_started(self, version: str) -> None:
        """Take the start of this broker."""
        self._tell([Happening(HappeningKind.BROKER_STARTED, f"the broker started, QuakeGrid {version}")])

    def on_lane_lost(self, port: int, reason: str) -> None:
        """Take the end of a lane that nobody asked to end."""
        words = f"the lane on port {port} ended and is started again: {reason}"
        self._tell([Happening(HappeningKind.LANE_LOST, words, is_trouble=True)])

    def since(self, after_id: int, limit: int) -> list[fleet_pb2.FleetEvent]:
        """The newest events after a number, the oldest first."""
        return list(map(encode, self._ring.since(after_id, limit)))

    async def follow(self, after_id: int) -> AsyncIterator[list[fleet_pb2.FleetEvent]]:
        """The events after a number, at once also if there are none, then each new one."""
        while True:
            bell, found = self._bell, self._ring.since(after_id)
            after_id = self._ring.newest_id
            yield list(map(encode, found))
            await bell.wait()

    def _tell(self, happenings: Iterable[Happening]) -> None:
        for happening in happenings:
            added = self._ring.add(happening, time.time(), time.monotonic())
            if added:
                self._file.append(added, self._ring.all())
                self._bell.set()
                self._bell = asyncio.Event()


def encode(event: Numbered) -> fleet_pb2.FleetEvent:
    """An event as a message."""
    happening = event.happening
    kind = fleet_pb2.FleetEventKind.Value(f"FLEET_EVENT_KIND_{happening.kind.name}")
    message = fleet_pb2.FleetEvent(
        id=event.id,
        kind=kind,
        is_trouble=happening.is_trouble,
        node=happening.node,
        session_id=happening.session_id,
        job_ids=happening.job_ids,
        user_name=happening.user_name,
        words=happening.words,
    )
    message.event_time.FromMilliseconds(round(event.time_s * 1000))
    return message
