"""The template's loop: takes orders of its agent, forks workers and drivers, reaps them.

The template has one thread, and never opens an HDF5 file, a socket to the cluster or a log file, since all
its children would inherit them. It reports the exit of each child at once. A template dies with its agent,
and its children die with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import assert_never

from quakegrid.errors import PeerError
from quakegrid.services.agent.linux import orphans, user_rights
from quakegrid.services.agent.linux.user_rights import UserRights
from quakegrid.services.agent.node.leftovers import BlobFolders, clear_persons
from quakegrid.services.agent.orders import (
    EndTemplate,
    Exited,
    ForkDriver,
    Forked,
    ForkWorker,
    NotForked,
    Order,
    OrderRefused,
    Ping,
    Pong,
    Report,
    SignalChild,
)
from quakegrid.services.agent.packets import (
    BUSY_ERRORS,
    OrderRefusedError,
    close_all,
    encode_report,
    receive_order,
    send,
)
from quakegrid.services.agent.rules.persons import Account
from quakegrid.services.agent.template import children
from quakegrid.services.agent.template.preload import one_line
from quakegrid.settings.config import Settings

# How long children may take to end after SIGKILL when the agent is gone.
END_TIMEOUT_S = 2.0
END_POLL_S = 0.02
# The template ignores them, as they are for the agent; a child blocks them until it has its own handlers.
CHILD_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ForkLoop:
    """The loop that forks and reaps.

    Args:
        settings: of the cluster.
        control: the template's end of the agent's control socket.
        wakeup: both ends of a pipe; the first is readable when a child ended.
        run_driver: the driver's main function.
    """

    def __init__(
        self,
        settings: Settings,
        control: socket.socket,
        wakeup: tuple[int, int],
        run_driver: children.DriverMain,
    ) -> None:
        self._settings, self._control = settings, control
        self._wakeup, self._wakeup_writer = wakeup
        self._run_driver = run_driver
        self._children: set[int] = set()
        self._rights = UserRights(is_able=user_rights.is_able())
        self._pid = os.getpid()
        self._is_dismissed = False

    def run(self) -> None:
        """Work until the agent asks for the end or is gone, then end all children.

        If the agent is gone, remove its blobs, too.
        """
        try:
            with contextlib.suppress(ConnectionError):  # the agent was killed during a report
                self._serve()
        finally:
            self._end_all()
            if not self._is_dismissed:
                BlobFolders(self._settings.state_dir).clear()
                clear_persons(self._settings.state_dir, self._rights)

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
                self._reap(self._report)
            if self._control.fileno() in ready and not self._take_order():
                return

    def _take_order(self) -> bool:
        """Receive one order and obey it; returns whether to go on.

        An order that cannot be obeyed is reported and changes nothing, since the children depend on this
        loop.
        """
        fds: list[int] = []
        order: Order | None = None
        try:
            order, fds = receive_order(self._control)
            if order is None:
                return False
            self._obey(order, fds)
        except OrderRefusedError as exc:
            self._refuse(exc.fork_name, exc)
        except (PeerError, ValueError, TypeError, OSError) as exc:
            if isinstance(exc, ConnectionError):  # the agent is gone
                raise
            self._refuse(order.name if isinstance(order, ForkWorker | ForkDriver) else None, exc)
        finally:
            close_all(fds)
        return not self._is_dismissed

    def _obey(self, order: Order, fds: list[int]) -> None:
        match order:
            case ForkWorker(name, spec, account):
                self._note(account)
                self._fork(name, partial(children.live_as_worker, spec, fds, account))
            case ForkDriver(name, account, _):
                self._note(account)
                self._fork(name, partial(children.live_as_driver, fds, self._run_driver, account))
            case SignalChild(pid, number):
                # The child is not reaped, so no other process can have its pid.
                if pid in self._children:
                    self._signal(pid, number)
            case Ping():
                self._report(Pong())
            case EndTemplate():
                self._is_dismissed = True
            case _ as unreachable:
                assert_never(unreachable)

    def _note(self, account: Account | None) -> None:
        """Note that an account will have a process here."""
        if account is not None:
            self._rights.add(account.uid)

    def _report(self, report: Report) -> None:
        """Send a report that must not be lost; waits while the kernel has no room for it."""
        packet = encode_report(report)
        while True:
            try:
                send(self._control, packet)
            except OSError as exc:
                if exc.errno not in BUSY_ERRORS:
                    raise
                time.sleep(END_POLL_S)
            else:
                return

    def _refuse(self, fork_name: str | None, exc: Exception) -> None:
        """Report an order that cannot be obeyed; `fork_name` is that of the child that it asked for."""
        reason = one_line(exc)
        report = OrderRefused(reason) if fork_name is None else NotForked(fork_name, reason)
        with contextlib.suppress(PeerError):  # the name alone is too long; the agent never sends such a name
            self._report(report)

    def _fork(self, name: str, live: Callable[[], int]) -> None:
        try:
            check_single_threaded()
            # The child unblocks the signals when it has handlers of its own.
            signal.pthread_sigmask(signal.SIG_BLOCK, CHILD_SIGNALS)
            pid = os.fork()
        except OSError as exc:  # the node's process limit or memory, or this process has a second thread
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_SIGNALS)
            self._report(NotForked(name, str(exc)))
            return
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_SIGNALS)
            raise
        if pid == 0:
            children.live_and_exit(self._pid, partial(self._live, live))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_SIGNALS)
        self._children.add(pid)
        self._report(Forked(name, pid))

    def _live(self, live: Callable[[], int]) -> int:
        """In the child: close what belongs to the template, then be a worker or a driver."""
        self._control.close()
        for fd in (self._wakeup, self._wakeup_writer):
            os.close(fd)
        return live()

    def _reap(self, report: Callable[[Exited], None]) -> None:
        """Report every child that has ended, then kill the processes that it left."""
        has_any = False
        while (ended := _next_ended()) is not None:
            has_any = True
            if ended in self._children:
                orphans.kill_group(ended, self._rights)  # before another process may get the number
            _pid, status, usage = os.wait4(ended, 0)
            if ended in self._children:
                self._children.discard(ended)
                report(Exited(ended, status, usage.ru_maxrss * 1024))
        if has_any:
            self._end_orphans()

    def _end_all(self) -> None:
        """Kill every child and all processes that they left, without a report."""
        end_s = time.monotonic() + END_TIMEOUT_S
        for pid in self._children:
            self._signal(pid, signal.SIGKILL)
        while time.monotonic() < end_s and (self._children or self._end_orphans()):
            select.select([self._wakeup], [], [], END_POLL_S)
            self._reap(lambda _report: None)

    def _end_orphans(self) -> bool:
        """Kill the adopted children; returns whether there were any."""
        return bool(orphans.end_orphans(lambda process: process.pid in self._children, self._rights))

    def _signal(self, pid: int, number: int) -> None:
        """Signal a child. A kill also reaches the processes that the child started.

        Without the right to change users, a child that runs a set-user-id program cannot be signalled.
        """
        if number == signal.SIGKILL:
            orphans.kill_group(pid, self._rights)  # the child may have no process group of its own yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            self._rights.signal(pid, partial(os.kill, pid, number))


def check_single_threaded() -> None:
    """Raise `OSError` if this process has more than one thread: a fork would copy their locks."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise OSError(f"the template has {threads} threads and must not fork")


def _next_ended() -> int | None:
    """A child that has ended and is not reaped."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None
