"""Ends processes that workers, drivers and templates have started and left behind.

A process that calls `adopt_orphans` becomes the parent of every process below it whose own parent has ended,
even if it has a session of its own. When an agent is killed together with its template, nobody adopts the
processes that they leave. The next agent knows these by a variable in their environment, the mark (see
`state_lock`). Process 1 of a container also gets children that others started there; it kills only those with
its mark. Processes of accounts that the agent has given processes to are killed with their own rights (see
`user_rights`); those of other users are left. The module does not depend on workers, drivers and tasks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from quakegrid.machine import process_stats
from quakegrid.machine.pinned_processes import pinned
from quakegrid.services.agent.linux.user_rights import NO_RIGHTS, UserRights

PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine, as `/proc` showed it."""

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int = 0


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose parent ends. Children do not inherit this."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_orphans(is_own: Callable[[Process], bool], rights: UserRights = NO_RIGHTS) -> list[int]:
    """Kill every adopted child, with all processes below it; returns these children.

    Call it again when they have ended, since only then their own children become children of this process. It
    finds none while this process has no free descriptor.
    """
    try:
        table = list(_processes())
    except OSError:
        return []
    ours = os.getpid()
    orphans = {each.pid for each in table if each.parent == ours and not is_own(each)}
    for process in _with_descendants(table, orphans):
        _kill(process, rights)
    return list(orphans)


def kill_group(pid: int, rights: UserRights = NO_RIGHTS) -> None:
    """Kill the process group of this number, if there is one. No process escapes from it by a fork."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        rights.signal(pid, partial(os.killpg, pid, signal.SIGKILL))


def end_adopted(mark: bytes = b"", rights: UserRights = NO_RIGHTS) -> bool:
    """Kill and reap the orphans that this process has adopted; its own children stay in its session.

    Args:
        mark: how the variable in the environment of our orphans begins; empty if all adopted processes are
            ours.
        rights: of this process over other users.
    Returns:
        Whether there were orphans.
    """
    session = os.getsid(0)
    strangers: list[int] = []

    def is_spared(process: Process) -> bool:
        if process.session == session:
            return True
        if mark and not _has_mark(process.pid, mark, rights):
            strangers.append(process.pid)
        return process.pid in strangers

    orphans = end_orphans(is_spared, rights)
    for pid in [*orphans, *strangers]:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return bool(orphans)


def end_all_adopted(timeout_s: float, mark: bytes = b"", rights: UserRights = NO_RIGHTS) -> None:
    """Call `end_adopted` until no orphan is left, or the time is over."""
    end_s = time.monotonic() + timeout_s
    while end_adopted(mark, rights) and time.monotonic() < end_s:
        time.sleep(_POLL_S)


def end_marked(mark: bytes, timeout_s: float, rights: UserRights = NO_RIGHTS) -> int:
    """Kill the processes that earlier agents left; returns how many were found.

    The processes are found by their environment, never by name. Call it before there is a template.

    Args:
        mark: how the marks of these agents begin, and those of no other agents.
        timeout_s: how long the killed processes may take to be gone.
        rights: of this process over other users, whose processes are searched, too.
    """
    spared = _ancestors()
    end_s = time.monotonic() + timeout_s
    seen: set[int] = set()
    while found := [pid for pid in _marked(mark, rights) if pid not in spared]:
        seen.update(found)
        for pid in found:
            _kill_marked(pid, mark, rights)
        if time.monotonic() > end_s:
            break
        time.sleep(_POLL_S)
    return len(seen)


def _kill(process: Process, rights: UserRights = NO_RIGHTS) -> None:
    """Kill a process and its group, unless another process has its number now, or a stranger owns it."""
    with contextlib.suppress(OSError), pinned(process.pid) as send:
        now = look_at(process.pid)
        if now is None or now.start_ticks != process.start_ticks:
            return
        if process.group == process.pid:
            kill_group(process.pid, rights)
        rights.signal(process.pid, partial(send, signal.SIGKILL))


def _kill_marked(pid: int, mark: bytes, rights: UserRights) -> None:
    with contextlib.suppress(OSError), pinned(pid) as send:  # it is gone
        if _has_mark(pid, mark, rights):
            rights.signal(pid, partial(send, signal.SIGKILL))


def _marked(mark: bytes, rights: UserRights) -> Iterator[int]:
    uids = {os.getuid(), *rights.taken}
    for path in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid in uids and _has_mark(int(path.name), mark, rights):
                yield int(path.name)


def _has_mark(pid: int, mark: bytes, rights: UserRights) -> bool:
    """Whether a process was started with the mark. A process that has ended and is not reaped has no mark."""
    try:
        with rights.reading(pid):
            environ = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return any(variable.startswith(mark) for variable in environ.split(b"\0"))


def _processes() -> Iterator[Process]:
    """All processes, in 8 us each: the template calls this whenever one of its children has ended."""
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
    for process in found:  # the loop visits those that it adds, too
        found += children.get(process.pid, ())
    return found


def _ancestors() -> set[int]:
    """This process, its parent and so on; the processes that started an agent are not its orphans."""
    parents = {each.pid: each.parent for each in _processes()}
    pid, found = os.getpid(), set()
    while pid and pid not in found:
        found.add(pid)
        pid = parents.get(pid, 0)
    return found
