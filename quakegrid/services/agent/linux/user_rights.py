"""The rights of other users: taken by one thread for a moment, or by a forked process for good.

A process with CAP_SETUID and CAP_SETGID, and no further capability, cannot signal or read what another user
has. It can become that user. A thread does so for a moment by system calls of the kernel, which concern this
thread alone; those of the C library concern all threads. Meanwhile it can do what that user can, and no more,
so what the user has put in its way, such as symbolic links, leads nowhere else.

Only for accounts that this agent has given processes to. Root is never one of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from quakegrid.services.agent.rules.persons import ROOT_ID, Account

# Numbers of setresuid, setresgid and setgroups.
_CALLS = {"x86_64": (117, 119, 116), "aarch64": (147, 149, 159)}
_MACHINE = platform.machine()
_SETGID, _SETUID = 6, 7
_UNCHANGED = -1
_LIBC = ctypes.CDLL(None, use_errno=True)
_STATUS = Path("/proc/self/status")
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 38, 47
_CLEAR_ALL = 4
_CAPABILITY_VERSION = 0x20080522


def is_able(status: Path = _STATUS) -> bool:
    """Whether this process may change users, and programs that it starts may do so, too."""
    if _MACHINE not in _CALLS:
        return False
    wanted = 1 << _SETGID | 1 << _SETUID
    sets = ("CapEff",) if os.geteuid() == ROOT_ID else ("CapEff", "CapAmb")
    found = dict(
        line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines() if ":" in line
    )
    return all(int(found.get(name, "0"), 16) & wanted == wanted for name in sets)


class UserRights:
    """The accounts whose rights this process may take.

    Args:
        is_able: whether it may change users at all.
        taken: numbers of accounts that have, or may have, processes of this node's agent.
    """

    def __init__(self, *, is_able: bool, taken: Sequence[int] = ()) -> None:
        self._is_able, self._taken = is_able, set(taken) - {ROOT_ID}

    @property
    def taken(self) -> frozenset[int]:
        """Numbers of these accounts."""
        return frozenset(self._taken) if self._is_able else frozenset()

    def add(self, uid: int) -> None:
        """Note that an account has processes of this agent.

        Raises:
            ValueError: it is root.
        """
        if uid == ROOT_ID:
            raise ValueError("root's rights are never taken")
        self._taken.add(uid)

    @contextlib.contextmanager
    def acting_as(
        self, uid: int, gid: int = _UNCHANGED, groups: Sequence[int] | None = None
    ) -> Iterator[None]:
        """Give this thread the rights of an account; nothing may wait or switch to another task meanwhile.

        Args:
            uid: of the account, one of `taken`; this process's own changes nothing.
            gid: of its group, for work with files.
            groups: all its groups, for work with files.
        Raises:
            PermissionError: it is none of `taken`, or the kernel refuses.
        """
        if uid == os.geteuid():
            yield
            return
        if uid not in self.taken:
            raise PermissionError(f"the rights of account {uid} are not for this process to take")
        own_uid, own_gid, own_groups = os.geteuid(), os.getegid(), os.getgroups()
        try:
            if groups is not None:
                _set_groups(groups)
            if gid != _UNCHANGED:
                _set_gid(gid)
            _set_uid(uid)
            yield
        finally:
            _restore(own_uid, own_gid, own_groups)

    @contextlib.contextmanager
    def in_group(self, gid: int) -> Iterator[None]:
        """Make this thread a member of a group, besides the own ones, so that it can give files to the group.

        Raises:
            PermissionError: this process may not change groups.
        """
        if not self._is_able:
            raise PermissionError("this process may not change groups")
        own_groups = os.getgroups()
        try:
            _set_groups([*own_groups, gid])
            yield
        finally:
            _restore(os.geteuid(), os.getegid(), own_groups)

    @contextlib.contextmanager
    def reading(self, pid: int) -> Iterator[None]:
        """Give this thread the rights of the owner of a process, if it is one of `taken`.

        Only to the owner the kernel shows all that /proc has on a process. It compares the group, too.
        """
        uid, gid = owner_of(pid) if self._taken else (ROOT_ID, ROOT_ID)
        with self.acting_as(uid, gid) if uid in self.taken else contextlib.nullcontext():
            yield

    def signal(self, pid: int, send: Callable[[], None]) -> None:
        """Call what sends a signal to a process or its group, with the rights of its owner if needed.

        Raises:
            PermissionError: it belongs to somebody else.
            OSError: what `send` raises.
        """
        try:
            send()
        except PermissionError:
            uid, _gid = owner_of(pid)
            with self.acting_as(uid):
                send()


# Of a process that changes no users.
NO_RIGHTS = UserRights(is_able=False)


def owner_of(pid: int) -> tuple[int, int]:
    """Numbers of the account and the group that a process belongs to; those of root if it is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
        uid, gid = (next(line for line in lines if line.startswith(name)) for name in (b"Uid:", b"Gid:"))
        return int(uid.split()[1]), int(gid.split()[1])
    return ROOT_ID, ROOT_ID


def become(account: Account) -> None:
    """Become an account for good, with no way back; for a process with one thread that was just forked.

    Raises:
        OSError: the kernel refuses. The process may have some of the account's rights then, and must end.
    """
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    drop_capabilities()
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    # The kernel closes /proc/PID to its own user after a change. Nothing here is secret to the person.
    _check(_LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")
    is_it = os.getresuid() == (account.uid,) * 3 and os.getresgid() == (account.gid,) * 3
    if not is_it or set(os.getgroups()) != set(account.groups):
        raise PermissionError(f"this process did not become {account.name}")


def drop_capabilities() -> None:
    """Give up every capability: the kernel keeps them when one user becomes another that is not root."""
    _check(_LIBC.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0), "prctl(PR_CAP_AMBIENT)")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _check(_LIBC.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def hide_from_users() -> None:
    """Close the memory and descriptors of this process to all but root."""
    _check(_LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def _set_uid(uid: int) -> None:
    _call(0, _UNCHANGED, uid, _UNCHANGED)


def _set_gid(gid: int) -> None:
    _call(1, _UNCHANGED, gid, _UNCHANGED)


def _set_groups(groups: Sequence[int]) -> None:
    _call(2, len(groups), (ctypes.c_uint32 * len(groups))(*groups))


def _restore(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Take the own rights back. A process that cannot do so must not go on with those of another user."""
    try:
        _set_uid(uid)
        if os.getegid() != gid:
            _set_gid(gid)
        if os.getgroups() != groups:
            _set_groups(groups)
    except OSError:
        os.abort()


def _call(which: int, *args: object) -> None:
    number = _CALLS[_MACHINE][which]
    _check(_LIBC.syscall(ctypes.c_long(number), *args), ("setresuid", "setresgid", "setgroups")[which])


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
