"""The template: imports the engine and other modules once, then forks workers and drivers on request.

Single-threaded by construction, and it never opens an HDF5 file, a socket to the cluster or a log
file: whatever it did would be inherited by all its children. It reaps its children and reports each
exit at once. It dies with its agent, and its children die with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import quakegrid.transport.fast_zmq  # noqa: F401  before the engine loads pyzmq
from quakegrid.errors import PeerError
from quakegrid.machine import parent_death
from quakegrid.settings.config import Settings, load_settings
from services.agent.linux import orphans
from services.agent.linux.oom_scores import DRIVER_SCORE, set_oom_score
from services.agent.node.blob_folders import BlobFolders
from services.agent.orders import (
    BUSY_ERRORS,
    MAX_REASON_CHARS,
    check_order,
    close_all,
    read_memfd,
    receive_packet,
    send_packet,
)
from services.agent.template.preload import one_line, preload

EXIT_CRASHED = 70
# How long children may take to end by SIGKILL when the agent is gone.
END_TIMEOUT_S = 2.0
END_POLL_S = 0.02
CHILD_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Template:
    """The loop that forks and reaps.

    Args:
        settings: of the cluster.
        control: our end of the agent's control socket.
        wakeup: readable when a child ended.
        run_driver: what a forked driver runs: the request, the event stream's descriptor.
    """

    def __init__(
        self,
        settings: Settings,
        control: socket.socket,
        wakeup: int,
        run_driver: Callable[[dict[str, Any], int], int],
    ) -> None:
        self._settings, self._control, self._wakeup = settings, control, wakeup
        self._run_driver = run_driver
        self._children: set[int] = set()
        self._pid = os.getpid()
        self._is_dismissed = False

    def run(self) -> None:
        """Serve until dismissed or the agent is gone, then end all children; free a dead agent's blobs."""
        try:
            with contextlib.suppress(ConnectionError):  # it was killed while we told it something
                self._serve()
        finally:
            self._end_all()
            if not self._is_dismissed:
                BlobFolders(self._settings.state_dir).clear()

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
                self._reap(self._tell)
            if self._control.fileno() in ready and not self._take_order():
                return

    def _take_order(self) -> bool:
        """Receive one order and obey it; whether to go on.

        An order that cannot be obeyed is reported and changes nothing: others' children depend on us.
        """
        packet: dict[str, Any] = {}
        fds: list[int] = []
        try:
            packet, fds = receive_packet(self._control)
            if not packet:
                return False
            check_order(packet, len(fds))
            self._is_dismissed = packet["order"] == "end"
            if not self._is_dismissed:
                self._obey(packet, fds)
        except (PeerError, ValueError, TypeError, OSError) as exc:
            if isinstance(exc, ConnectionError):  # the agent is gone
                raise
            self._refuse(packet, exc)
        finally:
            close_all(fds)
        return not self._is_dismissed

    def _tell(self, report: dict[str, Any]) -> None:
        """Send a report that must not be lost: while the kernel has no room for it, wait."""
        while True:
            try:
                send_packet(self._control, report)
            except OSError as exc:
                if exc.errno not in BUSY_ERRORS:
                    raise
                time.sleep(END_POLL_S)
            else:
                return

    def _refuse(self, packet: dict[str, Any], exc: Exception) -> None:
        report = {"report": "refused", "reason": one_line(exc)}
        if str(packet.get("order")).startswith("fork_") and isinstance(packet.get("name"), str):
            report |= {"report": "not_forked", "name": packet["name"]}
        with contextlib.suppress(PeerError):  # the name alone is too long: whoever sent it knows
            self._tell(report)

    def _end_all(self) -> None:
        """Kill every child and all that they left; nobody is told."""
        end_s = time.monotonic() + END_TIMEOUT_S
        for pid in self._children:
            _send_signal(pid, signal.SIGKILL)
        while time.monotonic() < end_s and (self._children or self._end_orphans()):
            select.select([self._wakeup], [], [], END_POLL_S)
            self._reap(lambda _report: None)

    def _obey(self, packet: dict[str, Any], fds: list[int]) -> None:
        match packet["order"]:
            case "fork_worker":
                self._fork(packet["name"], lambda: self._live_as_worker(packet, fds))
            case "fork_driver":
                self._fork(packet["name"], lambda: self._live_as_driver(fds))
            case "ping":
                self._tell({"report": "pong"})
            case "signal":
                # Ours and not reaped, so the pid cannot have become somebody else's.
                if packet["pid"] in self._children:
                    _send_signal(packet["pid"], packet["signal"])

    def _fork(self, name: str, live: Callable[[], int]) -> None:
        try:
            _check_single_threaded()
            # The child unblocks them when it has handlers of its own.
            signal.pthread_sigmask(signal.SIG_BLOCK, CHILD_SIGNALS)
            pid = os.fork()
        except OSError as exc:  # the node's process limit or memory, or a thread of ours
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_SIGNALS)
            self._tell({"report": "not_forked", "name": name, "reason": str(exc)})
            return
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_SIGNALS)
            raise
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_SIGNALS)
        else:
            self._become_child(live)
        self._children.add(pid)
        self._tell({"report": "forked", "name": name, "pid": pid})

    def _become_child(self, live: Callable[[], int]) -> NoReturn:
        code = EXIT_CRASHED
        try:
            parent_death.die_with_parent()
            if os.getppid() != self._pid:  # it ended before that
                os._exit(EXIT_CRASHED)
            orphans.adopt_orphans()
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._control.close()
            code = live()
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
            if isinstance(exc.code, str):
                print(exc.code, file=sys.stderr)
        except BaseException:  # noqa: BLE001 - the child's last frame
            traceback.print_exc()
            code = 1
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError):
                    code = code or 1
            os._exit(code)

    def _live_as_worker(self, packet: dict[str, Any], fds: list[int]) -> int:
        from services.agent.worker.worker import WorkerOrder, run_worker  # noqa: PLC0415 - loaded after the fork guard

        setup_fd, *output_fds = fds
        _print_to(output_fds)
        order = WorkerOrder(**packet["worker"], setup=read_memfd(setup_fd))
        return run_worker(order, self._settings.authkey)

    def _live_as_driver(self, fds: list[int]) -> int:
        set_oom_score(DRIVER_SCORE)
        request_fd, events_fd, *stdio = (os.dup(fd) for fd in fds)
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
            os.close(fd)
        for fd in fds:
            os.close(fd)
        request = json.loads(read_memfd(request_fd))
        return self._run_driver(request, events_fd)

    def _reap(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Take note of every child that has ended, then end what it left."""
        has_any = False
        while (ended := _next_ended()) is not None:
            has_any = True
            if ended in self._children:
                orphans.kill_group(ended)  # before the number may become somebody else's
            _pid, status, usage = os.wait4(ended, 0)
            if ended in self._children:
                self._children.discard(ended)
                peak_bytes = usage.ru_maxrss * 1024
                tell({"report": "exited", "pid": ended, "status": status, "peak_memory_bytes": peak_bytes})
        if has_any:
            self._end_orphans()

    def _end_orphans(self) -> bool:
        """Kill children that are ours only because their parents have ended; whether there were any."""
        return bool(orphans.end_orphans(lambda process: process.pid in self._children))


def _print_to(fds: list[int]) -> None:
    """Make pipes our stdout and stderr; without any we go on with the template's."""
    for number, fd in enumerate(fds, 1):
        os.dup2(fd, number)
        os.close(fd)
    # By lines: what is printed is there also if we are killed.
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )


def _next_ended() -> int | None:
    """A child that has ended and is not reaped."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None


def _check_single_threaded() -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise OSError(f"the template has {threads} threads and must not fork")


def _send_signal(pid: int, number: int) -> None:
    """Signal a child; a kill reaches what it started itself, too.

    A child that has become another user's, by a set-user-id program, cannot be signalled.
    """
    if number == signal.SIGKILL:
        orphans.kill_group(pid)  # it may have no group of its own yet
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def main() -> int:
    """Preload, report, serve; started by the agent only."""
    parent_death.die_with_parent()
    control = socket.socket(fileno=int(sys.argv[2]))
    settings = load_settings(Path(sys.argv[1]))
    # They are for the agent, as Ctrl-C is, also where a scheduler tells everyone.
    for number in CHILD_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    wakeup, wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup_writer, warn_on_full_buffer=False)
    start_s = time.monotonic()
    try:
        loaded = preload(settings, sys.argv[3])
        _check_single_threaded()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the state that `status` shows
        traceback.print_exc()
        send_packet(control, {"report": "failed", "reason": one_line(exc)})
        return 1
    gc.collect()
    gc.freeze()  # collections in the children leave the shared pages alone
    ready = {
        "report": "ready",
        "kind": loaded.state.kind.value,
        "reason": loaded.state.reason[:MAX_REASON_CHARS],
        "engine_version": loaded.engine_version,
        "engine_missing": loaded.engine_missing[:MAX_REASON_CHARS],
        "fingerprint": loaded.fingerprint,
        "duration_s": time.monotonic() - start_s,
    }
    send_packet(control, ready)
    sys.stdout.flush()  # what was printed while loading is not the children's
    orphans.adopt_orphans()
    parent_death.die_with_parent(0)  # the agent's end is seen in time, and there are children to end first
    Template(settings, control, wakeup, loaded.run_driver).run()
    return 0
