"""When a lane tells its broker the counters of sessions: those that changed, at most once an interval."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from services.lane import codec
from services.lane import control as lane_control
from services.lane.control import ControlLink
from services.lane.mail import SessionMail
from services.lane.tasks.events import SessionId, WorkerId
from services.lane.tasks.scheduler import Scheduler

INTERVAL_S = 0.2


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
        # Sessions whose counters have changed; whoever changes them adds the session.
        self.changed: set[SessionId] = set()

    def send_due(self, now_s: float) -> None:
        """Tell the counters that changed, if it is time, and write the task records of their sessions."""
        self._link.flush()
        if not self.changed or now_s < self._due_s:
            return
        self._due_s = now_s + INTERVAL_S
        open_ids = self.changed.intersection(self._scheduler.session_ids)
        self.changed.clear()
        for session_id in open_ids:
            self._sessions[session_id].recorder.flush()
            self.tell_counts(session_id)

    def hasten(self) -> None:
        """Tell what has changed at the end of this turn."""
        self._due_s = 0.0

    def next_deadline_s(self) -> float | None:
        """When `send_due` is to be called again; None if there is nothing to tell."""
        due_s = [self._due_s] if self.changed else []
        due_s += [time.monotonic() + lane_control.RETRY_S] if self._link.is_blocked else []
        return min(due_s, default=None)

    def tell_counts(self, session_id: SessionId) -> None:
        """Tell the counters of an open session."""
        session = self._sessions[session_id]
        traffic = session.argument_bytes, session.result_bytes
        packet = codec.counts(session_id, self._scheduler.counts(session_id), *traffic)
        self._link.tell(("counts", session_id), packet)

    def tell_overdue(self, session_id: SessionId, worker_id: WorkerId) -> None:
        """Ask the broker to have a worker killed."""
        self._link.tell(("overdue", session_id, worker_id), codec.overdue(session_id, worker_id))

    def tell_broken(self, session_id: SessionId, reason: str) -> None:
        """Ask the broker to fail a session that met with a fault of ours."""
        reason = f"its lane met with a fault of its own: {reason}"
        self._link.tell(("broken", session_id), codec.broken(session_id, reason))
