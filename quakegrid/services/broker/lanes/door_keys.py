"""The keys that drivers and workers need to connect to a lane, as the broker tells them."""

from __future__ import annotations

from quakegrid.internal.v1 import orders_pb2
from quakegrid.transport.keys import lane_keys


def of_broker(secret: str) -> orders_pb2.LaneKeys:
    """The keys of all lanes of a broker; they do not tell its secret."""
    door = lane_keys.curve_keys(secret).door
    return orders_pb2.LaneKeys(
        server_public=door.server_public.decode(),
        client_public=door.client_public.decode(),
        client_secret=door.client_secret.decode(),
    )
