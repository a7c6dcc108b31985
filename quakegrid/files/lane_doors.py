"""What a connection for files needs to find its lane: given to a driver's file server and to file readers."""

from __future__ import annotations

from dataclasses import dataclass, field

from quakegrid.transport.keys.lane_keys import DoorKeys


@dataclass(frozen=True, slots=True)
class LaneDoor:
    """The lane of a session.

    Args:
        endpoint: such as "tcp://10.0.0.1:1912".
        keys: of the cluster's lanes.
        session_id: whose lane it is.
        token: of the driver, or of the worker.
        worker_id: of the worker; empty for the driver.
        blob_dir: where the worker's node has the session's blobs; empty for nowhere.
    """

    endpoint: str
    keys: DoorKeys = field(repr=False)
    session_id: int
    token: str = field(repr=False)
    worker_id: str = ""
    blob_dir: str = ""


class OfThisWorker:
    """The lane of this process, if it is a worker; set once, before its setup runs."""

    door: LaneDoor | None = None
