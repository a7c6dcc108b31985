"""Ends processes that workers, drivers and templates have started and left behind.

A process that calls `adopt_orphans` becomes the parent of every process below it whose own parent ended, also
of one with a session of its own. What an agent left that was killed together with its template is known by a
variable of its environment, the mark (see `state_lock`). Process 1 of a container gets children that others
started there; it kills those with its mark only. Processes of other users cannot be killed and are left.
Does not depend on workers, drivers and tasks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from quakegrid.machine import process_stats
from quakegrid.machine.pinned_processes import pinned

PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine, as it was when we looked."""

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int = 0


def adopt_orphans() -> None:
    """Become the parent of every process below us whose parent ends; children do not inherit this."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_orphans(is_own: Callable[[Process], bool]) -> list[int]:
    """Kill every child that is not our own, with all below it; returns these children.

    To be called again when they have ended: what one of them left is a child of ours only then. It finds none
    while there is no descriptor left to look with.
    """
    try:
        table = list(_processes())
    except OSError:
        return []
    ours = os.getpid()
    orphans = {each.pid for each in table if each.parent == ours and not is_own(each)}
    for process in _with_descendants(table, orphans):
        _kill(process)
    return list(orphans)


def kill_group(pid: int) -> None:
    """Kill the process group of this number, if there is one; nothing in it can fork away."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end_adopted(mark: bytes = b"") -> bool:
    """Kill and reap orphans of a process whose own children stay in its session.

    Args:
        mark: what the environment of ours begins with; empty if all that we adopt is ours.
    Returns:
        Whether there were any.
    """
    session = os.getsid(0)
    strangers: list[int] = []

    def is_spared(process: Process) -> bool:
        if process.session == session:
            return True
        if mark and not _has_mark(process.pid, mark):
            strangers.append(process.pid)
        return process.pid in strangers

    orphans = end_orphans(is_spared)
    for pid in [*orphans, *strangers]:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return bool(orphans)


def end_all_adopted(timeout_s: float, mark: bytes = b"") -> None:
    """The same until none is left, or the time is over."""
    end_s = time.monotonic() + timeout_s
    while end_adopted(mark) and time.monotonic() < end_s:
        time.sleep(_POLL_S)


def end_marked(mark: bytes, timeout_s: float) -> int:
    """Kill what earlier agents left; returns how many processes were found.

    They are known by their environment, never by name. Call it before there is a template.

    Args:
        mark: what the mark of these agents begins with, and of no other.
        timeout_s: how long they may take to be gone.
    """
    spared = _ancestors()
    end_s = time.monotonic() + timeout_s
    seen: set[int] = set()
    while found := [pid for pid in _marked(mark) if pid not in spared]:
        seen.update(found)
        for pid in found:
            _kill_marked(pid, mark)
        if time.monotonic() > end_s:
            break
        time.sleep(_POLL_S)
    return len(seen)


def _kill(process: Process) -> None:
    """Kill a process and its group, unless its number is somebody else's by now, or it is another user's."""
    with contextlib.suppress(OSError), pinned(process.pid) as send:
        now = look_at(process.pid)
        if now is None or now.start_ticks != process.start_ticks:
            return
        if process.group == process.pid:
            kill_group(process.pid)
        send(signal.SIGKILL)


def _kill_marked(pid: int, mark: bytes) -> None:
    with contextlib.suppress(OSError), pinned(pid) as send:  # it is gone
        if _has_mark(pid, mark):
            send(signal.SIGKILL)


def _marked(mark: bytes) -> Iterator[int]:
    uid = os.getuid()
    for path in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == uid and _has_mark(int(path.name), mark):
                yield int(path.name)


def _has_mark(pid: int, mark: bytes) -> bool:
    """Whether a process started with the mark; one that has ended and is not reaped has none."""
    try:
        environ = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return any(variable.startswith(mark) for variable in environ.split(b"\0"))


def _processes() -> Iterator[Process]:
    """All processes; 8 us each, for the template looks whenever one of its children has ended."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path each takes longer than all the rest
        if name.isdigit():
            process = look_at(int(name))
            if process is not None:
                yield process


def look_at(pid: int) -> Process | None:
    """A process; None if it is gone."""
    fields = process_stats.fields(pid)
    if not fields:
        return None
    parent, group, session = map(int, fields[process_stats.PARENT : process_stats.SESSION + 1])
    return Process(pid, parent, group, session, int(fields[process_stats.START_TICKS]))


def _with_descendants(table: list[Process], roots: set[int]) -> list[Process]:
    """The processes of these numbers, and all below them."""
    children: dict[int, list[Process]] = {}
    for process in table:
        children.setdefault(process.parent, []).append(process)
    found = [each for each in table if each.pid in roots]
    for process in found:  # which grows
        found += children.get(process.pid, ())
    return found


def _ancestors() -> set[int]:
    """We, our parent and so on: whoever started an agent is none of its orphans."""
    parents = {each.pid: each.parent for each in _processes()}
    pid, found = os.getpid(), set()
    while pid and pid not in found:
        found.add(pid)
        pid = parents.get(pid, 0)
    return found
