"""Between the frames of a lane and the scheduler's events and actions: encoding and decoding only.

Raises `PeerError` for what no peer of ours sends.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence

from quakegrid.blobs.table import BLOB_ID_BYTES
from quakegrid.errors import PeerError
from quakegrid.nodes import worker_end_messages
from quakegrid.services.lane.records import Usage
from quakegrid.services.lane.tasks import events as core
from quakegrid.services.lane.tasks.events import Lease, Peer, SessionId, TaskId, WorkerId
from quakegrid.services.lane.tasks.session import Counts
from quakegrid.transport import lane_sockets
from quakegrid.transport.lane_names import DriverName, PeerName, WorkerName
from quakegrid.wire.v1 import lane_pb2

# Bounds of what a peer says. A header is never cut, and no peer of ours sends a longer one.
MAX_HEADER_BYTES = lane_sockets.PIECE_BYTES
NAME_CHARACTERS = 200
REASON_CHARACTERS = 10_000
MAX_ATTEMPTS = 1_000_000
MAX_DURATION_S = 1e9
# Leases that a worker names: what it runs, what waits there, and outcomes that are not acknowledged yet.
MAX_HELD = 10_000
STOP = lane_pb2.LaneMessage(stop=lane_pb2.Stop()).SerializeToString()
# Of a worker's name in a packet to the broker, beside its characters.
NAME_OVERHEAD_BYTES = 4
Blobs = Sequence[lane_pb2.BlobRef]


class UnknownSessionError(PeerError):
    """A message is for a session that is not open here: it is over, or not known yet."""

    def __init__(self, session_id: SessionId) -> None:
        super().__init__(f"session {session_id} is not open on this lane")


def hello(blob_folder_id: str, number: int = 0) -> bytes:
    """The header that greets a peer, which says the number back."""
    greeting = lane_pb2.Hello(
        protocol_version=lane_sockets.PROTOCOL_VERSION, blob_folder_id=blob_folder_id, number=number
    )
    return lane_pb2.LaneMessage(hello=greeting).SerializeToString()


def check_blob_id(blob_id: bytes) -> None:
    """Refuse what is no hash of a blob: it becomes the name of a file."""
    if len(blob_id) != BLOB_ID_BYTES:
        raise PeerError(f"a blob has an id of {BLOB_ID_BYTES} bytes, not of {len(blob_id)}")


def check_session(session_id: int, who: PeerName) -> SessionId:
    """The session that a message names, which must be its sender's."""
    if session_id != who.session_id:
        raise PeerError(f"this connection belongs to session {who.session_id}, not to session {session_id}")
    return SessionId(session_id)


def outcome_arrived(outcome: lane_pb2.Outcome, who: WorkerName) -> core.OutcomeArrived:
    """An outcome that a worker tells; a duration that cannot be one is 0."""
    worker_id = outcome.worker_id
    if worker_id != who.worker_id:
        _check_worker(worker_id, who)
    load_s, duration_s, memory_bytes = outcome.load_s, outcome.duration_s, outcome.peak_memory_bytes
    return core.OutcomeArrived(
        decode_lease(outcome.lease, who),
        WorkerId(who.worker_id),
        duration_s if 0.0 <= duration_s <= MAX_DURATION_S else 0.0,
        Usage(load_s if 0.0 <= load_s <= MAX_DURATION_S else 0.0, max(0, memory_bytes)),
    )


def from_worker(
    kind: str | None, message: lane_pb2.LaneMessage, who: WorkerName, peer: Peer
) -> core.WorkerEvent | None:
    """What a worker tells of its tasks; None if it is about something else.

    Args:
        kind: of the message: the name of its body.
        message: of the worker.
        who: the worker.
        peer: its name.
    """
    match kind:
        case "outcome":
            return outcome_arrived(message.outcome, who)
        case "task_returned":
            returned = message.task_returned
            _check_worker(returned.worker_id, who)
            return core.TaskReturned(decode_lease(returned.lease, who), WorkerId(who.worker_id))
        case "worker_ready":
            ready = message.worker_ready
            check_version(ready.protocol_version, f"worker {who.worker_id} on {ready.node[:NAME_CHARACTERS]}")
            _check_worker(ready.worker_id, who)
            if len(ready.held) > MAX_HELD:
                raise PeerError(f"a worker has {MAX_HELD} tasks at most, not {len(ready.held)}")
            return core.WorkerJoined(
                check_session(ready.session_id, who),
                WorkerId(who.worker_id),
                ready.node[:NAME_CHARACTERS],
                peer,
                tuple([decode_lease(lease, who) for lease in ready.held]),
            )
    return None


def submission(task: lane_pb2.SubmitTask, peer: Peer, payload: object) -> core.TaskSubmitted:
    """What a driver submits; values that many tasks share are kept once, for there may be a million.

    A weight that cannot be one is 1, an expectation that cannot be one is none.
    """
    weight, expected_s = task.weight, task.expected_s
    return core.TaskSubmitted(
        SessionId(task.session_id),
        TaskId(task.task_id),
        peer,
        sys.intern(task.operation[:NAME_CHARACTERS]),
        payload,
        weight if 0 < weight < math.inf and weight != 1.0 else 1.0,
        expected_s if expected_s > 0 else 0.0,
        min(task.max_attempts, MAX_ATTEMPTS),
    )


def check_submission(task: lane_pb2.SubmitTask, who: DriverName) -> TaskId:
    """The id of a task that a driver submits; refuses what no task can have."""
    check_session(task.session_id, who)
    if task.task_id < 1:
        raise PeerError(f"ids of tasks begin at 1: {task.task_id}")
    for ref in task.blobs:
        check_blob_id(ref.blob_id)
        if ref.byte_count < 0:
            raise PeerError(f"a blob has no negative size: {ref.byte_count}")
    return TaskId(task.task_id)


def _check_worker(worker_id: str, who: WorkerName) -> None:
    if worker_id != who.worker_id:
        raise PeerError(
            f"this connection belongs to worker {who.worker_id}, not to {worker_id[:NAME_CHARACTERS]}"
        )


def worker_died(action: core.TellDeath) -> bytes:
    """The header that tells a driver of a dead worker."""
    leases = action.leases
    died = lane_pb2.WorkerDied(
        end=worker_end_messages.encode(action.end),
        lease=encode_lease(leases[0]) if leases else None,
        operation=action.operation,
        waiting_count=max(0, len(leases) - 1),
    )
    return lane_pb2.LaneMessage(worker_died=died).SerializeToString()


def check_version(version: int, who: str) -> None:
    """Refuse a peer of another version of the protocol."""
    if version != lane_sockets.PROTOCOL_VERSION:
        raise PeerError(
            f"{who} speaks version {version} of the lanes and this lane version "
            f"{lane_sockets.PROTOCOL_VERSION}; install the same QuakeGrid on all machines"
        )


def decode_lease(lease: lane_pb2.Lease, who: WorkerName) -> Lease:
    """A lease that a worker names; one of its session, with numbers that can be counted on."""
    task_id, attempt = lease.task_id, lease.attempt
    if task_id < 1 or not 1 <= attempt <= MAX_ATTEMPTS:
        raise PeerError(f"there is no attempt {attempt} of task {task_id}")
    session_id = lease.session_id
    if session_id != who.session_id:
        check_session(session_id, who)
    return Lease(SessionId(session_id), TaskId(task_id), attempt)


def encode_lease(lease: Lease) -> lane_pb2.Lease:
    """A lease for the wire."""
    return lane_pb2.Lease(session_id=lease.session_id, task_id=lease.task_id, attempt=lease.attempt)


class RunTaskEncoder:
    """Writes the headers that give the tasks of one session to its workers.

    One message is filled in again and again: to make a new one for each task takes five times as long.
    """

    def __init__(self, session_id: SessionId) -> None:
        self._message = lane_pb2.LaneMessage()
        self._run = self._message.run_task
        self._lease = self._run.lease
        self._lease.session_id = session_id

    def encode(self, lease: Lease, blobs: Blobs, outcome_count: int) -> bytes:
        """The header that gives a task to a worker."""
        run, written = self._run, self._lease
        _session_id, written.task_id, written.attempt = lease
        run.outcome_count = outcome_count
        if not blobs:
            return self._message.SerializeToString()
        run.blobs.extend(blobs)
        try:
            return self._message.SerializeToString()
        finally:
            del run.blobs[:]


def take_back(lease: Lease) -> bytes:
    """The header that asks for a task."""
    return lane_pb2.LaneMessage(take_back=lane_pb2.TakeBack(lease=encode_lease(lease))).SerializeToString()


def drain(outcome_count: int) -> bytes:
    """The message that lets a worker end when its outcomes have come; so many have."""
    stop = lane_pb2.Stop(is_drain=True, outcome_count=outcome_count)
    return lane_pb2.LaneMessage(stop=stop).SerializeToString()


def task_failed(lease: Lease, operation: str, reasons: Sequence[str]) -> bytes:
    """The header that gives up a task."""
    failed = lane_pb2.TaskFailed(lease=encode_lease(lease), operation=operation, reasons=reasons)
    return lane_pb2.LaneMessage(task_failed=failed).SerializeToString()


def refused(reason: str, *, is_unknown_session: bool = False, is_join: bool = False) -> bytes:
    """The header that says why a message was not taken."""
    refusal = lane_pb2.Refused(
        reason=reason[:REASON_CHARACTERS], is_unknown_session=is_unknown_session, is_join=is_join
    )
    return lane_pb2.LaneMessage(refused=refusal).SerializeToString()


def joined(session_id: SessionId) -> bytes:
    """The header that confirms a `Join`."""
    return lane_pb2.LaneMessage(joined=lane_pb2.Joined(session_id=session_id)).SerializeToString()


def opened(order: lane_pb2.OpenLaneSession) -> core.SessionOpened:
    """What the broker tells of a session that it admitted."""
    return core.SessionOpened(
        SessionId(order.session_id), order.max_attempts, order.task_timeout_s or math.inf
    )


def overdue(session_id: SessionId, worker_id: WorkerId) -> bytes:
    """The packet that asks the broker to have a worker killed."""
    told = lane_pb2.TaskOverdue(session_id=session_id, worker_id=worker_id)
    return lane_pb2.ControlMessage(overdue=told).SerializeToString()


def broken(session_id: int, reason: str) -> bytes:
    """The packet that asks the broker to fail a session."""
    told = lane_pb2.SessionBroken(session_id=session_id, reason=reason[:REASON_CHARACTERS])
    return lane_pb2.ControlMessage(broken=told).SerializeToString()


def counts(session_id: SessionId, now: Counts, argument_bytes: int, result_bytes: int) -> lane_pb2.LaneCounts:
    """A session's counters, without its workers."""
    return lane_pb2.LaneCounts(
        session_id=session_id,
        queued_count=now.queued_count,
        running_count=now.running_count,
        done_count=now.done_count,
        requeued_count=now.requeued_count,
        failed_count=now.failed_count,
        argument_bytes=argument_bytes,
        result_bytes=result_bytes,
    )


def counts_packet(told: lane_pb2.LaneCounts) -> bytes:
    """The packet that tells the broker a session's counters."""
    return lane_pb2.ControlMessage(counts=told).SerializeToString()


def names_packets(
    told: lane_pb2.LaneCounts, busy: Iterable[WorkerId], idle: Iterable[WorkerId], room_bytes: int
) -> Iterator[bytes]:
    """The packets that tell the broker a session's counters, and which workers are busy or idle now.

    Args:
        told: the counters; names are added to them.
        busy: those that hold a task.
        idle: those that hold none any more.
        room_bytes: of names in one packet.
    """
    room = room_bytes
    names = [
        *((told.busy_worker_ids, each) for each in busy),
        *((told.idle_worker_ids, each) for each in idle),
    ]
    for target, worker_id in names:
        room -= len(worker_id) + NAME_OVERHEAD_BYTES
        if room < 0:
            yield counts_packet(told)
            told.are_names_anew = False
            del told.busy_worker_ids[:], told.idle_worker_ids[:]
            room = room_bytes - len(worker_id) - NAME_OVERHEAD_BYTES
        target.append(worker_id)
    yield counts_packet(told)


def get_blob(session_id: SessionId, blob_id: bytes) -> bytes:
    """The header that asks a driver for a blob's content."""
    get = lane_pb2.GetBlob(session_id=session_id, blob_id=blob_id)
    return lane_pb2.LaneMessage(get_blob=get).SerializeToString()


def blob(blob_id: bytes) -> bytes:
    """The header of a blob's content."""
    return lane_pb2.LaneMessage(blob=lane_pb2.Blob(blob_id=blob_id)).SerializeToString()
