"""What a lane keeps of one session beside its tasks: blobs, outcomes for a slow driver, what came too early.

Sends through the function that it is given; decides nothing about tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import zmq

from quakegrid import lane
from services.broker import lane_events as core
from services.broker import lane_messages
from services.broker.lane_events import Lease, Peer
from services.broker.outcome_flow import OutcomeFlow
from services.broker.payloads import Frame, Payload, Payloads
from services.broker.task_recorder import TaskRecorder

Message = list[zmq.Frame]
# Sends a message to a peer; tells whether it is there.
Send = Callable[[Peer, Sequence[Frame]], bool]


@dataclass(slots=True)
class SessionMail:
    """The mail of one session.

    Args:
        payloads: of the lane.
        send: to a peer of the lane.
        recorder: of the session's task records.
    """

    payloads: Payloads
    send: Send
    recorder: TaskRecorder
    driver: Peer | None = None
    flow: OutcomeFlow = field(default_factory=OutcomeFlow)
    # Of each worker, since it last greeted.
    outcome_counts: dict[Peer, int] = field(default_factory=dict)
    # What workers said before the driver had told its tasks.
    early: list[tuple[Peer, core.Event, Message]] = field(default_factory=list)
    _blobs: dict[bytes, Payload] = field(default_factory=dict)
    _blob_waiters: dict[bytes, list[Peer]] = field(default_factory=dict)

    def join(self, peer: Peer) -> None:
        """The driver is there, perhaps again: what was on its way to it is lost or taken."""
        self.driver = peer
        self.flow.sent_bytes = 0
        self._send_parked()

    def deliver(self, peer: Peer, lease: Lease, frames: Message) -> None:
        """Pass an outcome to the driver, now or when it has taken earlier ones."""
        byte_count = lane.message_bytes(frames[1:])
        if self.flow.is_open and self.send(peer, frames):
            self.flow.sent_bytes += byte_count
            return
        payload = self.payloads.keep(frames[1:], is_forced=True)
        self.flow.park(lease.task_id, frames[0].bytes, payload, byte_count)

    def goodbye(self, peer: Peer) -> bytes:
        """What lets a worker end as soon as its outcomes have come."""
        return lane_messages.drain(self.outcome_counts.get(peer, 0))

    def on_received(self, byte_count: int) -> None:
        """The driver has taken so much."""
        self.flow.sent_bytes -= byte_count
        self._send_parked()

    def put_blob(self, blob_id: bytes, content: zmq.Frame) -> None:
        """Keep a blob, and send it to who asked for it already."""
        if blob_id in self._blobs:
            return
        self._blobs[blob_id] = self.payloads.keep([content], is_forced=True)
        for peer in self._blob_waiters.pop(blob_id, ()):
            self.get_blob(peer, blob_id)

    def get_blob(self, peer: Peer, blob_id: bytes) -> None:
        """Send a blob to a worker, as soon as it is there: after a restart the driver puts it again."""
        blob = self._blobs.get(blob_id)
        if blob is None:
            self._blob_waiters.setdefault(blob_id, []).append(peer)
        else:
            self.send(peer, [lane_messages.blob(blob_id), *self.payloads.read(blob)])

    def close(self) -> None:
        """Drop everything."""
        self.recorder.close()
        for payload in [*self._blobs.values(), *self.flow.parked_payloads]:
            self.payloads.drop(payload)

    def _send_parked(self) -> None:
        assert self.driver is not None
        while (parked := self.flow.take()) is not None:
            header, payload = parked
            self.send(self.driver, [header, *self.payloads.read(payload)])
            self.payloads.drop(payload)
