"""A driver's session with the cluster: its stream from the broker and its end of the lane, as one thing.

`stream.py` tells when the driver may start and when it must stop, `lane_client.py` has its tasks. Any thread
may call `wake`. The rest belongs to the one thread that submits and receives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from quakegrid import errors
from quakegrid.blobs.table import BlobTable, Digests
from quakegrid.files.lane_doors import LaneDoor
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.session import options as session_options
from quakegrid.session.broker_link import BrokerLink, Connect
from quakegrid.session.driver_socket import DriverSocket
from quakegrid.session.lane_client import LaneClient
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask
from quakegrid.session.options import Patience, SessionOptions
from quakegrid.session.stage_teller import Counts
from quakegrid.session.stream import BrokerStream
from quakegrid.session.task_window import TaskWindow
from quakegrid.session.wakeup import Wakeup
from quakegrid.session.worker_output import OnWords
from quakegrid.settings.config import Settings
from quakegrid.transport.keys.lane_keys import DoorKeys


class Session:
    """A session, asked for at once.

    Args:
        settings: of the cluster.
        options: what is asked for.
        patience: how long to wait for broker and lane.
        connect: makes a connection with the broker.
    """

    def __init__(
        self,
        settings: Settings,
        options: SessionOptions,
        patience: Patience | None = None,
        connect: Connect = BrokerLink,
    ) -> None:
        patience = patience or session_options.PATIENCE
        self._wakeup = Wakeup()
        self._stream = BrokerStream(settings, options, self._wakeup, patience, connect)
        self._socket = DriverSocket(self._wakeup)
        self._lane = LaneClient(settings, self._stream, self._socket, patience)
        self.core_count = 0
        self.door: LaneDoor | None = None  # of its lane, from when it is admitted
        # Why it waits, as the broker told last; empty if it waits for its turn behind others.
        self.wait_reason = ""

    @property
    def session_id(self) -> int:
        """Its number; 0 until the broker admits it."""
        return self._stream.session_id

    @property
    def abort_reason(self) -> str:
        """Why the broker told this driver to stop; empty if it did not."""
        return self._stream.abort_reason

    @property
    def blobs(self) -> BlobTable:
        """The large frames of its tasks."""
        return self._lane.blobs

    @property
    def window(self) -> TaskWindow:
        """Which of its tasks are on the lane."""
        return self._lane.window

    def wait_for_turn(
        self, on_queued: Callable[[Sequence[int]], None], on_words: OnWords | None = None
    ) -> None:
        """Wait until the broker admits the session, and join its lane.

        Args:
            on_queued: called with the job ids ahead, if the session has to wait.
            on_words: called from then on, in any thread, with what workers print, and when one dies.
        Raises:
            PeerUnreachableError: the broker or the lane does not answer.
            StateError: one of the jobs is in another session.
        """
        if on_words is not None:
            self._stream.words.on_words = on_words
        while True:
            answer = self._stream.answers.get()
            if isinstance(answer, errors.QuakeGridError):
                raise answer
            if answer.HasField("queued"):
                self.wait_reason = answer.queued.reason
                on_queued(answer.queued.ahead_job_ids)
            else:
                self.core_count = answer.admitted.core_count
                self.door = _door(answer.admitted)
                self._lane.join(self.door, self.core_count)
                return

    def submit(
        self, frames: Sequence[bytes | memoryview], task: LaneTask, digests: Digests | None = None
    ) -> int:
        """Send a task to the lane; returns its id.

        Never waits. The lane has a bounded number of tasks at once; the others are sent as outcomes come.

        Args:
            frames: the payload. Large ones are not copied: leave them unchanged until the outcome is here.
            task: what the lane should know.
            digests: hashes of objects behind frames that are known already.
        """
        return self._lane.submit(frames, task, digests)

    def tell_stage(self, job_id: int, operation: str, counts: Counts) -> None:
        """Let people see how far an operation is; never waits.

        Args:
            job_id: its calculation; 0 for none.
            operation: its name.
            counts: tasks that are done, all tasks, and those of a journal.
        """
        self._stream.stages.take(job_id, operation, counts)

    def cancel(self, task_ids: Sequence[int]) -> None:
        """Give up the outcomes of tasks. Tasks that wait are not run. Does nothing after `close`."""
        if not self._stream.is_closed:
            self._lane.cancel(task_ids)

    def receive(self) -> LaneOutcome:
        """Wait for the next outcome of any task.

        Raises:
            QuakeGridError: the broker ended the session, or is gone.
        """
        while (outcome := self._lane.receive_ready()) is None:
            self._lane.wait()
        return outcome

    def receive_ready(self) -> LaneOutcome | None:
        """The next outcome if it is here already; raises like `receive`."""
        return self._lane.receive_ready()

    def wait(self, end_s: float = math.inf) -> None:
        """Wait for an outcome, for the session's failure, for `wake`, or until an instant."""
        self._lane.wait(end_s)

    def wake(self) -> None:
        """End a `wait`, now or the next one; for any thread."""
        self._wakeup.set()

    def close(self) -> None:
        """End the session; the broker stops its workers. Does nothing the second time."""
        if self._lane.has_joined and not self._stream.failure and not self._stream.is_closed:
            self._stream.flush_output()
        if self._stream.close():
            self._socket.close()


def _door(admitted: sessions_pb2.SessionAdmitted) -> LaneDoor:
    """The lane as its broker told it."""
    keys = admitted.lane_keys
    door = DoorKeys(keys.server_public.encode(), keys.client_public.encode(), keys.client_secret.encode())
    return LaneDoor(admitted.lane_endpoint, door, admitted.session_id, admitted.session_token)
