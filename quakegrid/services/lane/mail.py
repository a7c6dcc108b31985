"""What a lane keeps of one session beside its tasks: outcomes for a slow driver, and what came too early.

What is on its way to a driver is bounded, so a driver that does not read costs the lane a bounded amount of
memory. The rest is parked; past a bound of its own no new tasks are placed. Decides nothing about tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from quakegrid.errors import PeerError
from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.lane import codec
from quakegrid.services.lane.blobs import Send, SessionBlobs
from quakegrid.services.lane.files.relay import SessionFiles
from quakegrid.services.lane.payloads import Payload, Payloads
from quakegrid.services.lane.records import Submitted, TaskRecorder
from quakegrid.services.lane.tasks import events as core
from quakegrid.services.lane.tasks.events import Lease, Peer, SessionId, TaskId, WorkerId
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.lane_sockets import FLOW_BYTES, RECEIPT_BYTES

# A header, and the frames of its payload.
Message = tuple[bytes, Sequence[zmq.Frame]]
NOTHING: Message = (b"", ())
# Outcomes are sent until so much is on its way: then the rest fits that the driver takes before it says so.
_OPEN_BYTES = FLOW_BYTES - RECEIPT_BYTES
# Parked outcomes of one driver, beyond which its tasks are placed no more.
PARKED_BYTES = 4 * FLOW_BYTES
# Outcomes of a turn are sent together, but larger ones at once, and not more than so many.
_AT_ONCE_BYTES = 64 << 10
_AT_ONCE_COUNT = 200
# What workers say before the driver is there, beyond which they are asked again.
MAX_EARLY_BYTES = 4 * FLOW_BYTES


@dataclass(frozen=True, slots=True)
class _Parked:
    """An outcome that waits for its driver."""

    header: bytes
    payload: Payload
    byte_count: int


@dataclass(slots=True)
class SessionMail:
    """The mail of one session.

    Args:
        session_id: its number.
        payloads: of the lane.
        send: to a peer of the lane.
        recorder: of the session's task records.
        blobs: of the session.
    """

    session_id: SessionId
    payloads: Payloads
    send: Send
    recorder: TaskRecorder
    blobs: SessionBlobs
    files: SessionFiles = field(init=False)
    _encoder: codec.RunTaskEncoder = field(init=False)
    driver: Peer | None = None
    task_bytes: int = 0  # sent to workers
    result_bytes: int = 0
    # Outcomes of each worker since it last told what it has. There is none of a worker that we have greeted
    # and that is to tell again.
    outcome_counts: dict[Peer, int] = field(default_factory=dict)
    # The last hello to each worker.
    hello_numbers: dict[Peer, int] = field(default_factory=dict)
    # Outcomes that are sent at the end of this turn.
    _outbox: list[tuple[Peer, TaskId, Message, int]] = field(default_factory=list)
    # Outcomes that wait, in the order in which they came.
    parked: dict[TaskId, _Parked] = field(default_factory=dict)
    _parked_bytes: int = 0
    _sent_bytes: int = 0  # on their way to the driver
    # The driver has a new connection, and is to tell its tasks again. What ends meanwhile waits for its join:
    # it would cross the driver's word, and the lane would run again what it has just forgotten.
    _is_held: bool = False
    # What workers said before the driver had told its tasks.
    _early: list[tuple[Peer, core.WorkerEvent, Message]] = field(default_factory=list)
    _early_bytes: int = 0
    # Workers that joined before the driver, or were lost, and those that are to do so.
    _early_worker_ids: set[WorkerId] = field(default_factory=set)
    _awaited_worker_ids: set[WorkerId] = field(default_factory=set)
    _are_workers_known: bool = False
    # Workers that told more than we keep: they are asked to tell again when the driver is there.
    _unheard: set[Peer] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.files = SessionFiles(self.session_id, self.send)
        self._encoder = codec.RunTaskEncoder(self.session_id)

    @property
    def has_all_workers(self) -> bool:
        """Whether all workers that an earlier lane had are heard of; false while nobody knows them."""
        return self._are_workers_known and not self._awaited_worker_ids

    @property
    def is_full(self) -> bool:
        """Whether so many outcomes wait that no more tasks should be done for now."""
        return self._parked_bytes > PARKED_BYTES

    @property
    def argument_bytes(self) -> int:
        """What was sent to workers."""
        return self.task_bytes + self.blobs.sent_bytes + self.files.sent_bytes

    def join(self, peer: Peer) -> None:
        """The driver is there, perhaps again: what was on its way to it is lost or taken."""
        self.flush()
        self.driver = peer
        self._is_held = False
        self._sent_bytes = 0
        self._send_parked(peer)
        self.blobs.join(peer)

    def hold(self) -> None:
        """The driver is about to be asked for its tasks. What it may hear before that is sent now."""
        self.flush()
        self._is_held = True

    def send_task(self, peer: Peer, lease: Lease, payload: Payload, now_s: float) -> None:
        """Send a task to a worker."""
        submitted: Submitted = payload.annex
        byte_count = payload.byte_count
        self.task_bytes += byte_count
        self.recorder.on_sent(peer, lease, submitted, byte_count, now_s)
        header = self._encoder.encode(lease, submitted.blobs, self.outcome_counts.get(peer, 0))
        self.send(peer, [header, *self.payloads.read(payload)])

    def deliver(self, peer: Peer, lease: Lease, message: Message) -> None:
        """Pass an outcome to the driver with the next `flush`, or when it has taken earlier ones."""
        byte_count = lane_sockets.message_bytes(message[1])
        self.result_bytes += byte_count
        if self._is_held or self.parked or self._sent_bytes >= _OPEN_BYTES:
            self._park(lease.task_id, message, byte_count)
            return
        self._sent_bytes += byte_count
        self._outbox.append((peer, lease.task_id, message, byte_count))
        if byte_count >= _AT_ONCE_BYTES or len(self._outbox) >= _AT_ONCE_COUNT:
            self.flush()

    def deliver_failure(self, peer: Peer, task_id: TaskId, header: bytes) -> None:
        """Pass on as an outcome that a task cannot be run; drivers do not count it among those they took."""
        if self._is_held or self.parked:
            self._park(task_id, (header, ()), 0)
        else:
            self._outbox.append((peer, task_id, (header, ()), 0))

    def flush(self) -> None:
        """Send the outcomes that `deliver` gathered; each that is sent alone wakes a thread and a driver."""
        outbox, self._outbox = self._outbox, []
        for peer, task_id, message, byte_count in outbox:
            header, frames = message
            if not self.send(peer, [header, *frames]):
                self._sent_bytes -= byte_count
                self._park(task_id, message, byte_count)

    def on_received(self, byte_count: int) -> None:
        """The driver has taken so many bytes of outcomes.

        They may include what was on its way when the driver joined, which is not counted here.

        Raises:
            PeerError: no driver takes so many.
        """
        if byte_count < 0:
            raise PeerError(f"nobody has received {byte_count} bytes")
        if self.driver is not None and not self._is_held:  # else they came over an earlier connection
            self._sent_bytes = max(0, self._sent_bytes - byte_count)
            self._send_parked(self.driver)

    def await_workers(self, worker_ids: Iterable[WorkerId], *, is_last: bool) -> None:
        """An earlier lane had these workers; `is_last` says that no further ones follow."""
        self._awaited_worker_ids |= set(worker_ids) - self._early_worker_ids
        self._are_workers_known |= is_last

    def _note_early(self, worker_id: WorkerId) -> None:
        self._early_worker_ids.add(worker_id)
        self._awaited_worker_ids.discard(worker_id)

    def keep_early(self, peer: Peer, event: core.WorkerEvent, message: Message) -> None:
        """Keep what a worker says until the driver is there."""
        if type(event) is core.WorkerJoined:
            self._note_early(event.worker_id)
        elif peer not in self.outcome_counts:
            return  # sent to the lane before us; the worker is going to tell us
        byte_count = lane_sockets.message_bytes(message[1]) + len(message[0])
        if self._early_bytes + byte_count > MAX_EARLY_BYTES:
            self._unheard.add(peer)
            return
        self._early_bytes += byte_count
        self._early.append((peer, event, message))

    def take_early(self) -> tuple[list[tuple[Peer, core.WorkerEvent, Message]], set[Peer]]:
        """What was kept until the driver is there, and which workers said more than we keep."""
        early, self._early, self._early_bytes = self._early, [], 0
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

    def lose_worker(self, peer: Peer, end: WorkerEnd, now_s: float) -> None:
        """A worker has ended."""
        self.outcome_counts.pop(peer, None)
        self.hello_numbers.pop(peer, None)
        self.recorder.forget_worker(peer)
        self._unheard.discard(peer)
        self.recorder.on_lost(WorkerId(end.worker_id), end.words, now_s, is_clean=end.is_clean)
        if self.driver is None:
            self._note_early(WorkerId(end.worker_id))

    def close(self) -> None:
        """Drop everything."""
        self.recorder.close()
        self.blobs.close()
        for parked in self.parked.values():
            self.payloads.drop(parked.payload)

    def _park(self, task_id: TaskId, message: Message, byte_count: int) -> None:
        header, frames = message
        self.parked[task_id] = _Parked(header, self.payloads.keep(frames, is_forced=True), byte_count)
        self._parked_bytes += byte_count

    def _send_parked(self, driver: Peer) -> None:
        while self.parked and self._sent_bytes < _OPEN_BYTES:
            parked = self.parked.pop(next(iter(self.parked)))
            self._parked_bytes -= parked.byte_count
            self._sent_bytes += parked.byte_count
            self.send(driver, [parked.header, *self.payloads.read(parked.payload)])
            self.payloads.drop(parked.payload)
