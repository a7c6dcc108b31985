"""What a driver makes of its broker's messages, and of the end of a stream. Pure.

Takes the time from its caller, and knows no thread and no connection. The broker may be started again: then
the session goes on over another stream.
"""

from __future__ import annotations

import enum

from quakegrid import errors
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.session.broker_patience import BrokerPatience
from quakegrid.session.options import Patience


class StreamState(enum.Enum):
    """The state of a session, as its broker tells it."""

    OPENING = enum.auto()  # no broker has answered yet
    QUEUED = enum.auto()
    ADMITTED = enum.auto()
    ABORTED = enum.auto()  # the driver was told to stop; the broker ends the stream
    FAILED = enum.auto()
    CLOSED = enum.auto()


# A move that is not here changes nothing: it comes from a late message, or from two threads that end a
# session at the same time.
MOVES: dict[StreamState, frozenset[StreamState]] = {
    StreamState.OPENING: frozenset(StreamState) - {StreamState.OPENING},
    StreamState.QUEUED: frozenset(StreamState) - {StreamState.OPENING},
    StreamState.ADMITTED: frozenset(StreamState) - {StreamState.OPENING, StreamState.QUEUED},
    StreamState.ABORTED: frozenset({StreamState.ABORTED, StreamState.FAILED, StreamState.CLOSED}),
    StreamState.FAILED: frozenset({StreamState.CLOSED}),
    StreamState.CLOSED: frozenset(),
}


class Heard(enum.Enum):
    """What a message of the broker means for the driver."""

    NOTHING_NEW = enum.auto()  # it came too late, or only a newer broker sends it
    QUEUED = enum.auto()
    ADMITTED = enum.auto()
    ADMITTED_AGAIN = enum.auto()  # by a broker that was started again
    ABORTED = enum.auto()
    FAILED = enum.auto()
    OUTPUT = enum.auto()
    OUTPUT_FLUSHED = enum.auto()
    NODE_LEFT_OUT = enum.auto()


class Next(enum.Enum):
    """What follows the end of a stream."""

    TRY_AGAIN = enum.auto()
    WAIT_FOR_BROKER = enum.auto()  # try again, and say so: no broker has answered yet
    FAIL = enum.auto()
    END = enum.auto()  # the session has failed or was closed


class StreamRules:
    """The broker's side of one session, as its driver knows it.

    Args:
        request: for the session; it is changed into one for a broker that was started again.
        patience: how long to wait.
    """

    def __init__(self, request: sessions_pb2.OpenSessionRequest, patience: Patience) -> None:
        self.request = request
        self._patience = BrokerPatience(patience, is_calculation=bool(request.job_ids))
        self.state = StreamState.OPENING
        self.failure: errors.QuakeGridError | None = None
        self.abort_reason = ""
        self.session_id = 0
        # How often a broker has admitted the session: more than once if it was started again.
        self.admission_count = 0

    def take(self, answer: sessions_pb2.OpenSessionResponse) -> Heard:
        """Take a message of the broker."""
        match answer.WhichOneof("event"):
            case "queued":
                return Heard.QUEUED if self._move(StreamState.QUEUED) else Heard.NOTHING_NEW
            case "admitted":
                return self._on_admitted(answer.admitted)
            case "aborted":
                return self._on_aborted(answer.aborted.reason or "aborted")
            case "failed":
                has_failed = self.fail(errors.QuakeGridError(answer.failed.reason))
                return Heard.FAILED if has_failed else Heard.NOTHING_NEW
            case "worker_output":
                return Heard.OUTPUT
            case "output_flushed":
                return Heard.OUTPUT_FLUSHED
            case "node_left_out":
                return Heard.NODE_LEFT_OUT
            case _:
                return Heard.NOTHING_NEW

    def lose(self, failure: errors.QuakeGridError | None, now_s: float, *, was_reached: bool) -> Next:
        """A stream has ended. The caller fails the session with `why_ended` if that is what follows.

        Args:
            failure: why it broke; None if the broker ended it.
            now_s: the time.
            was_reached: the broker had taken the call.
        """
        is_known = self.state is not StreamState.OPENING
        is_first = self._patience.lose(now_s, was_reached=was_reached, is_known=is_known)
        is_unreachable = isinstance(self.why_ended(failure), errors.PeerUnreachableError)
        if not is_unreachable or self._patience.is_over(now_s):
            return Next.FAIL
        if self.failure:
            return Next.END
        return Next.WAIT_FOR_BROKER if is_first and not is_known else Next.TRY_AGAIN

    def why_ended(self, failure: errors.QuakeGridError | None) -> errors.QuakeGridError:
        """Why a stream is over. If the broker is unreachable, another stream is opened.

        A session that was aborted does not go on with another broker. Such a broker does not know of the
        abort, and would keep the session, while the driver waits for its end.
        """
        if self.abort_reason:
            return errors.StateError(f"the session has ended: {self.abort_reason}")
        return failure or errors.PeerUnreachableError("the broker ended the session")

    def fail(self, failure: errors.QuakeGridError) -> bool:
        """The session has failed; returns False if it had failed or was closed before."""
        if not self._move(StreamState.FAILED):
            return False  # the first failure is the reason
        self.failure = failure
        return True

    def close(self) -> bool:
        """The driver ends the session; returns False if it was closed before."""
        return self._move(StreamState.CLOSED)

    def _on_admitted(self, admitted: sessions_pb2.SessionAdmitted) -> Heard:
        if not self._move(StreamState.ADMITTED):
            return Heard.NOTHING_NEW
        self.admission_count += 1
        if self.admission_count > 1:
            return Heard.ADMITTED_AGAIN
        self.session_id = admitted.session_id
        # The request for a broker that was started again.
        self.request.resumed_session_id = admitted.session_id
        self.request.resumed_token = admitted.session_token
        self.request.lane_port = int(admitted.lane_endpoint.rpartition(":")[2])
        return Heard.ADMITTED

    def _on_aborted(self, reason: str) -> Heard:
        if not self._move(StreamState.ABORTED):
            return Heard.NOTHING_NEW
        self.abort_reason = reason
        return Heard.ABORTED

    def _move(self, state: StreamState) -> bool:
        """Change the state if that is allowed; returns whether it was."""
        is_allowed = state in MOVES[self.state]
        if is_allowed:
            self.state = state
        return is_allowed
