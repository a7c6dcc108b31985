"""The keys that drivers and workers need to connect to a lane, as the broker tells them."""

from __future__ import annotations

from quakegrid.internal.v1 import orders_pb2
from quakegrid.transport import credentials


def of_cluster(authkey: str) -> orders_pb2.LaneKeys:
    """The keys of all lanes of a cluster; they do not tell its authkey."""
    door = credentials.curve_keys(authkey).door
    return orders_pb2.LaneKeys(
        server_public=door.server_public.decode(),
        client_public=door.client_public.decode(),
        client_secret=door.client_secret.decode(),
    )
