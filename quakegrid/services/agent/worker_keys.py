"""The keys of one worker, as its agent hands them to it: in a memfd that the template passes on unread.

So the memory of the template, which all children inherit, never has them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from quakegrid.internal.v1 import orders_pb2
from quakegrid.transport.keys.lane_keys import DoorKeys

_NAMES = ("server_public", "client_public", "client_secret")


@dataclass(frozen=True, slots=True)
class WorkerKeys:
    """What a worker proves with that the broker had it started; its `repr` shows no secret.

    Args:
        token: says to the lane which worker of which session this is.
        door: opens the connection to the lane.
    """

    token: str = field(repr=False)
    door: DoorKeys


def encode(token: str, keys: orders_pb2.LaneKeys) -> bytes:
    """The keys of a worker as bytes."""
    return json.dumps({"token": token} | {name: getattr(keys, name) for name in _NAMES}).encode()


def decode(data: bytes) -> WorkerKeys:
    """Read what `encode` has made."""
    fields = json.loads(data)
    return WorkerKeys(fields["token"], DoorKeys(*(fields[name].encode() for name in _NAMES)))
