"""The blobs of one session on a lane: who waits for them, and where they come from.

A blob comes from the driver's folder in shared memory, if the driver is on this machine, or from the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid.blobs import shared_memory
from quakegrid.errors import PeerError
from quakegrid.services.lane import codec
from quakegrid.services.lane.payloads import Frame, Payload, Payloads
from quakegrid.services.lane.tasks.events import Peer, SessionId
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq

# A worker waits for one blob at a time.
MAX_AWAITED_BLOBS = 100_000
# Sends a message to a peer; returns whether it is there.
Send = Callable[[Peer, Sequence[Frame]], bool]


@dataclass(slots=True)
class SessionBlobs:
    """The blobs of one session.

    Args:
        session_id: its number.
        folder: where its driver may have left blobs, if it is on this machine.
        payloads: of the lane.
        send: to a peer of the lane.
    """

    session_id: SessionId
    folder: Path
    payloads: Payloads
    send: Send
    sent_bytes: int = 0
    _driver: Peer | None = None
    _blobs: dict[bytes, Payload] = field(default_factory=dict)
    # Which workers wait for a blob; each worker once, also if it asks again on a new connection.
    _waiters: dict[bytes, dict[Peer, None]] = field(default_factory=dict)

    def join(self, driver: Peer) -> None:
        """The driver is there, perhaps again: ask it for what workers wait for."""
        self._driver = driver
        for blob_id in self._waiters:
            self._ask_driver(blob_id)

    def put(self, blob_id: bytes, frames: Sequence[zmq.Frame]) -> None:
        """Keep a blob, and send it to the workers that wait; no frames if nobody needs it any more."""
        waiters = self._waiters.pop(blob_id, ())
        if frames and blob_id not in self._blobs:
            self._blobs[blob_id] = self.payloads.keep(frames, is_forced=True)
        for peer in waiters:
            if frames:
                self.get(peer, blob_id)
            else:
                self.send(peer, [codec.blob(blob_id)])

    def get(self, peer: Peer, blob_id: bytes) -> None:
        """Send a blob to a worker, as soon as it is here.

        Raises:
            PeerError: too many blobs are awaited.
        """
        blob = self._blobs.get(blob_id)
        if blob is not None:
            self.sent_bytes += blob.byte_count
            self.send(peer, [codec.blob(blob_id), *self.payloads.read(blob)])
            return
        content = shared_memory.map_whole(self.folder / blob_id.hex())
        if content is not None:
            self.sent_bytes += content.nbytes
            self.send(peer, [codec.blob(blob_id), *lane_sockets.cut([content])])
            return
        waiters = self._waiters.get(blob_id)
        if waiters is None:
            if len(self._waiters) >= MAX_AWAITED_BLOBS:
                raise PeerError(f"session {self.session_id} waits for {MAX_AWAITED_BLOBS} blobs already")
            waiters = self._waiters[blob_id] = {}
            self._ask_driver(blob_id)
        waiters[peer] = None

    def close(self) -> None:
        """Drop everything."""
        for payload in self._blobs.values():
            self.payloads.drop(payload)

    def _ask_driver(self, blob_id: bytes) -> None:
        if self._driver is not None:  # else when it joins
            self.send(self._driver, [codec.get_blob(self.session_id, blob_id)])
