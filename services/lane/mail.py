"""What a lane keeps of one session beside its tasks: blobs, outcomes for a slow driver, what came too early.

Sends through the function that it is given; decides nothing about tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid.blobs import shared_memory
from quakegrid.errors import PeerError
from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from services.lane import codec
from services.lane.outcome_flow import OutcomeFlow
from services.lane.payloads import Frame, Payload, Payloads
from services.lane.records import Submitted, TaskRecorder
from services.lane.tasks import events as core
from services.lane.tasks.events import Lease, Peer, SessionId, WorkerId

Message = list[zmq.Frame]
# What workers say before the driver is there, beyond which they are asked again.
MAX_EARLY_BYTES = 4 * lane_sockets.FLOW_BYTES
# A worker waits for one blob at a time.
MAX_AWAITED_BLOBS = 100_000
# Sends a message to a peer; tells whether it is there.
Send = Callable[[Peer, Sequence[Frame]], bool]


@dataclass(slots=True)
class SessionMail:
    """The mail of one session.

    Args:
        session_id: its number.
        blob_folder: where its driver may have left blobs, if it is on this machine.
        payloads: of the lane.
        send: to a peer of the lane.
        recorder: of the session's task records.
    """

    session_id: SessionId
    blob_folder: Path
    payloads: Payloads
    send: Send
    recorder: TaskRecorder
    worker_count: int = 0
    driver: Peer | None = None
    argument_bytes: int = 0
    result_bytes: int = 0
    flow: OutcomeFlow = field(default_factory=OutcomeFlow)
    # Outcomes of each worker since it last told what it has. There is none of a worker that we have greeted
    # and that is to tell again.
    outcome_counts: dict[Peer, int] = field(default_factory=dict)
    # What workers said before the driver had told its tasks.
    early: list[tuple[Peer, core.WorkerEvent, Message]] = field(default_factory=list)
    # Workers that joined before the driver, or were lost.
    early_worker_ids: set[WorkerId] = field(default_factory=set)
    _blobs: dict[bytes, Payload] = field(default_factory=dict)
    # Who waits for a blob; each worker once, also if it asks again on a new connection.
    _blob_waiters: dict[bytes, dict[Peer, None]] = field(default_factory=dict)
    _early_bytes: int = 0
    # Workers that told more than we keep: they are asked to tell again when the driver is there.
    _unheard: set[Peer] = field(default_factory=set)

    @property
    def has_all_workers(self) -> bool:
        """Whether all that an earlier lane had are heard of; false if nobody knows."""
        return 0 < self.worker_count <= len(self.early_worker_ids)

    def join(self, peer: Peer) -> None:
        """The driver is there, perhaps again: what was on its way to it is lost or taken."""
        self.driver = peer
        self.flow.sent_bytes = 0
        self._send_parked()
        for blob_id in self._blob_waiters:
            self._ask_driver(blob_id)

    def send_task(self, peer: Peer, lease: Lease, payload: Payload, now_s: float) -> None:
        """Send a task to a worker."""
        submitted: Submitted = payload.annex
        self.argument_bytes += payload.byte_count
        self.recorder.on_sent(peer, lease, submitted, payload.byte_count, now_s)
        header = codec.run_task(lease, submitted.blobs, self.outcome_counts.get(peer, 0))
        self.send(peer, [header, *self.payloads.read(payload)])

    def deliver(self, peer: Peer, lease: Lease, frames: Message) -> None:
        """Pass an outcome to the driver, now or when it has taken earlier ones."""
        byte_count = lane_sockets.message_bytes(frames[1:])
        self.result_bytes += byte_count
        if self.flow.is_open and self.send(peer, frames):
            self.flow.sent_bytes += byte_count
            return
        payload = self.payloads.keep(frames[1:], is_forced=True)
        self.flow.park(lease.task_id, frames[0].bytes, payload, byte_count)

    def keep_early(self, peer: Peer, event: core.WorkerEvent, frames: Message) -> None:
        """Keep what a worker says until the driver is there."""
        if type(event) is core.WorkerJoined:
            self.early_worker_ids.add(event.worker_id)
        elif peer not in self.outcome_counts:
            return  # sent to the lane before us; it is going to tell us
        byte_count = lane_sockets.message_bytes(frames)
        if self._early_bytes + byte_count > MAX_EARLY_BYTES:
            self._unheard.add(peer)
            return
        self._early_bytes += byte_count
        self.early.append((peer, event, frames))

    def take_early(self) -> tuple[list[tuple[Peer, core.WorkerEvent, Message]], set[Peer]]:
        """What was kept until the driver is there, and who said more than we keep."""
        early, self.early, self._early_bytes = self.early, [], 0
        unheard, self._unheard = self._unheard, set()
        return early, unheard

    def count_outcomes(self, peer: Peer, event: core.WorkerEvent) -> None:
        """Count a worker's outcomes, from when it tells what it has; again if the event was kept."""
        if type(event) is core.WorkerJoined:
            self.outcome_counts[peer] = 0
        elif type(event) is core.OutcomeArrived and peer in self.outcome_counts:
            self.outcome_counts[peer] += 1

    def goodbye(self, peer: Peer) -> bytes:
        """What lets a worker end as soon as its outcomes have come."""
        return codec.drain(self.outcome_counts.get(peer, 0))

    def on_received(self, byte_count: int) -> None:
        """The driver has taken so much."""
        if byte_count < 0:
            raise PeerError(f"nobody has received {byte_count} bytes")
        if self.driver is None:
            return  # of an earlier lane's
        self.flow.receive(byte_count)
        self._send_parked()

    def put_blob(self, blob_id: bytes, frames: Message) -> None:
        """Keep a blob, and send it to who asked for it already; no frames if nobody needs it any more."""
        waiters = self._blob_waiters.pop(blob_id, ())
        if frames and blob_id not in self._blobs:
            self._blobs[blob_id] = self.payloads.keep(frames, is_forced=True)
        for peer in waiters:
            if frames:
                self.get_blob(peer, blob_id)
            else:
                self.send(peer, [codec.blob(blob_id)])

    def get_blob(self, peer: Peer, blob_id: bytes) -> None:
        """Send a blob to a worker, as soon as we have it: from the driver's folder, or from the driver."""
        blob = self._blobs.get(blob_id)
        if blob is not None:
            self.argument_bytes += blob.byte_count
            self.send(peer, [codec.blob(blob_id), *self.payloads.read(blob)])
            return
        content = shared_memory.map_whole(self.blob_folder / blob_id.hex())
        if content is not None:
            self.argument_bytes += content.nbytes
            self.send(peer, [codec.blob(blob_id), *lane_sockets.cut([content])])
            return
        waiters = self._blob_waiters.get(blob_id)
        if waiters is None:
            if len(self._blob_waiters) >= MAX_AWAITED_BLOBS:
                raise PeerError(f"session {self.session_id} waits for {MAX_AWAITED_BLOBS} blobs already")
            waiters = self._blob_waiters[blob_id] = {}
            self._ask_driver(blob_id)
        waiters[peer] = None

    def lose_worker(self, peer: Peer, end: WorkerEnd, now_s: float) -> None:
        """A worker has ended."""
        self.outcome_counts.pop(peer, None)
        self.recorder.forget_worker(peer)
        self._unheard.discard(peer)
        self.recorder.on_lost(WorkerId(end.worker_id), end.words, now_s, is_clean=end.is_clean)
        if self.driver is None:
            self.early_worker_ids.add(WorkerId(end.worker_id))

    def close(self) -> None:
        """Drop everything."""
        self.recorder.close()
        for payload in [*self._blobs.values(), *self.flow.parked_payloads]:
            self.payloads.drop(payload)

    def _send_parked(self) -> None:
        while self.driver is not None and (parked := self.flow.take()) is not None:
            header, payload = parked
            self.send(self.driver, [header, *self.payloads.read(payload)])
            self.payloads.drop(payload)

    def _ask_driver(self, blob_id: bytes) -> None:
        if self.driver is not None:  # else when it joins
            self.send(self.driver, [codec.get_blob(self.session_id, blob_id)])
