"""Client of the broker's list of events: nodes that came and went, lost workers, ended sessions."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.clients import connection
from quakegrid.settings.config import Settings

CALL_TIMEOUT_S = 10.0
_PREFIX = "FLEET_EVENT_KIND_"


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """Something that happened to the fleet; the fields are those of `api/v1/fleet.proto`.

    `kind` is such as "node_lost"; `words` is a sentence. `is_trouble` says that somebody may have to look.
    """

    id: int
    time: datetime.datetime
    kind: str
    is_trouble: bool
    node: str
    session_id: int
    job_ids: tuple[int, ...]
    user_name: str
    words: str


class EventsClient:
    """The list of events, with the errors of a `Connection`.

    Args:
        settings: of the cluster.
        retry_s: how long a broker that does not answer is waited for.
    """

    def __init__(self, settings: Settings, retry_s: float = 0.0) -> None:
        self._connection = connection.to_broker(settings, CALL_TIMEOUT_S, retry_s)
        self._stub = fleet_pb2_grpc.FleetStub(self._connection.channel)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def newest(self, count: int) -> list[FleetEvent]:
        """The last events, at most so many, the oldest first."""
        request = fleet_pb2.ListEventsRequest(limit=count)
        return list(map(decode, self._connection.call(self._stub.ListEvents, request).events))

    def follow(self, after_id: int) -> Iterator[FleetEvent]:
        """The events after an id, and then each new one as it comes, also of the brokers that follow."""
        request = fleet_pb2.WatchEventsRequest(after_id=after_id)
        while True:
            for response in self._connection.follow(lambda: self._stub.WatchEvents(request)):
                for message in response.events:
                    request.after_id = message.id
                    yield decode(message)


def decode(message: fleet_pb2.FleetEvent) -> FleetEvent:
    """An event of a message; one of a kind that later versions know is of kind "other"."""
    known = message.kind in fleet_pb2.FleetEventKind.values()
    kind = fleet_pb2.FleetEventKind.Name(message.kind) if known else f"{_PREFIX}OTHER"
    return FleetEvent(
        id=message.id,
        time=message.event_time.ToDatetime(datetime.UTC),
        kind=kind.removeprefix(_PREFIX).lower(),
        is_trouble=message.is_trouble,
        node=message.node,
        session_id=message.session_id,
        job_ids=tuple(message.job_ids),
        user_name=message.user_name,
        words=message.words,
    )
