"""The thread of a worker that answers the lane while a task runs for long.

Knows when it may read the worker's socket, and nothing of messages. The guard looks now and then whether the
same task still runs. If one does, or none began since its last look, the guard rests: it sleeps until a
message comes while a task runs. From then on a task costs two system calls and does not wake the guard. A
thousand workers that wait for tasks leave the machine alone.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from quakegrid.transport.fast_zmq import zmq

# How often the guard looks whether the same task still runs; the longer time is for a look between two tasks.
LOOK_S = 0.05
LOOK_IDLE_S = 0.25
_ANNOUNCED_ONCE = select.EPOLLIN | select.EPOLLONESHOT
_NOT_ANNOUNCED = 0


class Guard:
    """Reads a socket for the main thread while a task runs for long.

    Args:
        dealer: the socket; the main thread owns it until `release`, and again after `take_over`.
        read: takes all messages that have come.
        timeout_ms: how long may be waited for messages until `read` has something else to do; None for ever.
    """

    def __init__(
        self, dealer: zmq.Socket[bytes], read: Callable[[], None], timeout_ms: Callable[[], int | None]
    ) -> None:
        self._read, self._timeout_ms = read, timeout_ms
        self._owns_socket = threading.Lock()
        self._owns_socket.acquire()
        # The kernel tells the guard of a message once after each time that it is asked to.
        self._socket_fd = dealer.fileno()
        self._call = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # ends a rest
        self._announcements = select.epoll()
        self._announcements.register(self._call, select.EPOLLIN)
        self._announcements.register(self._socket_fd, _NOT_ANNOUNCED)
        self._is_announced = False  # belongs to the socket's owner
        self._task_count = 0
        self._is_running = False
        self._is_resting = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, name="guard", daemon=True).start()

    def release(self) -> None:
        """Called by the main thread when a task begins.

        Raises:
            BaseException: an error of reading.
        """
        self._task_count += 1
        self._is_running = True
        is_resting = self._is_resting
        if is_resting and self._timeout_ms() is None:
            is_resting = False  # it may go on to rest
            self._read_and_announce()
        self._owns_socket.release()
        if is_resting:
            os.eventfd_write(self._call, 1)

    def take_over(self) -> None:
        """Called by the main thread when the task has ended, to own the socket again.

        Raises:
            BaseException: the error of the guard, if it had one.
        """
        self._is_running = False
        self._owns_socket.acquire()  # the guard has it for a moment only
        if self._is_announced:
            self._announcements.modify(self._socket_fd, _NOT_ANNOUNCED)
            self._is_announced = False
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        seen = 0
        while self._failure is None:
            self._wait(LOOK_S if self._is_running else LOOK_IDLE_S)
            while self._task_count == seen and self._failure is None:
                self._answer()
                self._rest(seen)
            seen = self._task_count

    def _rest(self, seen: int) -> None:
        """Sleep until a message comes while a task runs, or a task begins that needs another look."""
        self._is_resting = True
        # A task that began just before may not have seen that. One that began just after has called, or asked
        # for an announcement.
        if self._task_count == seen:
            timeout_ms = self._timeout_ms()
            self._wait(None if timeout_ms is None else timeout_ms / 1000)
        self._is_resting = False

    def _wait(self, timeout_s: float | None) -> None:
        """Sleep for so long, or until there is something to do."""
        for fd, _ in self._announcements.poll(timeout_s):
            if fd == self._call:
                os.eventfd_read(self._call)

    def _answer(self) -> None:
        """Read the socket, unless the main thread owns it."""
        if not self._owns_socket.acquire(blocking=False):
            return
        try:
            self._read_and_announce()
        except BaseException as exc:  # noqa: BLE001 - raised where the task ends
            self._failure = exc
        finally:
            self._owns_socket.release()

    def _read_and_announce(self) -> None:
        """Take what has come, and ask to be told of what comes next; for the socket's owner.

        ZeroMQ tells of a message only if all before it were taken.
        """
        self._read()
        self._announcements.modify(self._socket_fd, _ANNOUNCED_ONCE)
        self._is_announced = True
