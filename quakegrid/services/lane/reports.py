"""When a lane tells its broker the counters of sessions: those that changed, at most once an interval."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from quakegrid.services.lane import codec
from quakegrid.services.lane import control as lane_control
from quakegrid.services.lane.control import ControlLink
from quakegrid.services.lane.mail import SessionMail
from quakegrid.services.lane.tasks.events import SessionId, WorkerId
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.services.lane.tasks.session import Counts
from quakegrid.wire.v1 import lane_pb2

INTERVAL_S = 0.2
# All names of busy workers are told again after so long; in between, only those that changed.
ANEW_S = 10.0
# Names in one packet take so much at most; less where the kernel gives a socket little room.
NAMES_BYTES = 100_000


@dataclass(slots=True)
class _Told:
    """The busy workers of a session as the broker knows them, and when to tell all of them again."""

    busy: frozenset[WorkerId] = frozenset()
    anew_s: float = -math.inf


class Reports:
    """What the broker hears of a lane's sessions.

    Args:
        control: our end of the broker's control socket, for sending.
        scheduler: has the counters of tasks.
        sessions: have the counters of bytes; only read here.
    """

    def __init__(
        self, control: socket.socket, scheduler: Scheduler, sessions: Mapping[SessionId, SessionMail]
    ) -> None:
        self._link, self._scheduler, self._sessions = ControlLink(control), scheduler, sessions
        self._due_s = 0.0
        # The kernel cuts what was asked for to its own limit, and takes no packet beyond what there is.
        room_bytes = control.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._names_bytes = min(NAMES_BYTES, room_bytes // 4)
        self._told: dict[SessionId, _Told] = {}
        # Sessions whose counters have changed; whoever changes them adds the session.
        self.changed: set[SessionId] = set()

    def send_due(self, now_s: float) -> None:
        """Tell the counters that changed, if it is time, and write the task records of their sessions."""
        self._link.flush()
        if not self.changed or now_s < self._due_s:
            return
        self._due_s = now_s + INTERVAL_S
        self.changed.intersection_update(self._scheduler.session_ids)
        for session_id in self.changed:
            self._sessions[session_id].recorder.flush()
        if self._link.is_blocked:
            return  # what has changed is told when the broker reads again
        for session_id in self.changed:
            self._tell_names(session_id, now_s)
        self.changed.clear()

    def hasten(self) -> None:
        """Tell what has changed at the end of this turn."""
        self._due_s = 0.0

    def next_deadline_s(self) -> float | None:
        """When `send_due` is to be called again; None if there is nothing to tell."""
        due_s = [self._due_s] if self.changed else []
        due_s += [time.monotonic() + lane_control.RETRY_S] if self._link.is_blocked else []
        return min(due_s, default=None)

    def tell_last(self, session_id: SessionId) -> None:
        """Tell the counters of a session that is about to be closed."""
        packet = codec.counts_packet(self._counts(session_id, self._scheduler.counts(session_id)))
        self._link.tell(("last", session_id), packet)

    def forget(self, session_id: SessionId) -> None:
        """A session was closed."""
        self.changed.discard(session_id)
        self._told.pop(session_id, None)

    def _tell_names(self, session_id: SessionId, now_s: float) -> None:
        """Tell the counters of an open session, and which of its workers became busy or idle."""
        counts = self._scheduler.counts(session_id)
        message, busy = self._counts(session_id, counts), frozenset(counts.busy_worker_ids)
        told = self._told.setdefault(session_id, _Told())
        before = told.busy
        if now_s >= told.anew_s:
            message.are_names_anew, before = True, frozenset()
            told.anew_s = now_s + ANEW_S
        told.busy = busy
        packets = codec.names_packets(message, busy - before, before - busy, self._names_bytes)
        for number, packet in enumerate(packets):
            self._link.tell(("counts", session_id, number), packet)

    def _counts(self, session_id: SessionId, counts: Counts) -> lane_pb2.LaneCounts:
        session = self._sessions[session_id]
        return codec.counts(session_id, counts, session.argument_bytes, session.result_bytes)

    def tell_overdue(self, session_id: SessionId, worker_id: WorkerId) -> None:
        """Ask the broker to have a worker killed."""
        self._link.tell(("overdue", session_id, worker_id), codec.overdue(session_id, worker_id))

    def tell_broken(self, session_id: SessionId, reason: str) -> None:
        """Ask the broker to fail a session that met with a fault of ours."""
        reason = f"its lane met with a fault of its own: {reason}"
        self._link.tell(("broken", session_id), codec.broken(session_id, reason))
