"""JSON lines from a driver to the command line that waits for it.

A command line that does not read (stopped, or in a full pipe) stalls no calculation: progress and log
records are left out then; what tells of jobs and their ends waits. A line is never sent in part.
"""

from __future__ import annotations

import json
import select
import socket
import threading

from quakegrid.journals.job_lists import PLACED, JobList

Event = dict[str, object]
PASSING = frozenset({"progress", "log", "inputs_read"})


class Events:
    """The driver's end of the command line's connection.

    The agent's loop shares the open file, which must stay non-blocking.

    Args:
        fd: the connection's descriptor, owned from now on.
        is_wanted: whether anybody reads events.
        is_detachable: whether the driver goes on when the command line is gone.
        job_list: where the ids of jobs are written for the agent; None for nowhere.
    """

    def __init__(
        self, fd: int, *, is_wanted: bool, is_detachable: bool = False, job_list: JobList | None = None
    ) -> None:
        self._socket = socket.socket(fileno=fd)
        self._lock = threading.Lock()
        self._rest = b""
        self._is_wanted, self._is_detachable = is_wanted, is_detachable
        self._job_list = job_list

    def tell(self, event: Event, *, is_of_another: bool = False) -> None:
        """Send one event. It is no error that the command line is gone: the agent knows what that means.

        Args:
            event: to send.
            is_of_another: whether it tells of a job that this driver only follows; then all of it waits.
        """
        if event["event"] == "job" and self._job_list is not None and not is_of_another:
            self._job_list.add(str(event["job_id"]).encode())
        if not self._is_wanted:
            return
        is_passing = event["event"] in PASSING and not is_of_another
        with self._lock:
            try:
                self._send(wait=not is_passing)
                if is_passing and self._rest:
                    return
                self._rest += json.dumps(event, default=str).encode() + b"\n"
                self._send(wait=not is_passing)
            except OSError:
                self._is_wanted = False

    def tell_placed(self) -> None:
        """Tell the agent that the jobs have their place in the queue."""
        if self._job_list is not None:
            self._job_list.add(PLACED)

    def is_abandoned(self) -> bool:
        """Whether the command line is gone and takes its driver along."""
        if self._is_detachable:
            return False
        try:
            return self._socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Send what is left of a line."""
        with self._lock:
            try:
                self._send(wait=True)
            except OSError:
                self._is_wanted = False

    def _send(self, *, wait: bool) -> None:
        while self._rest:
            try:
                sent = self._socket.send(self._rest, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                if not wait:
                    return
                writable = select.poll()  # select() takes no descriptor above 1023
                writable.register(self._socket, select.POLLOUT)
                writable.poll()
            else:
                self._rest = self._rest[sent:]
