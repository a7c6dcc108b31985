"""Which cores an agent uses when several agents, for example in containers, share one machine.

Agents that see the same folder claim cores by locks on files there; the kernel frees the locks of an agent
that ends, however it ends. If there are more claims than cores, each core gets about as many claims.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from quakegrid.errors import SettingsError, UsageError


class CoreClaims:
    """The cores that this object claims, for as long as it lives.

    Args:
        folder: the same for all agents of the machine. If it does not exist, it is made, for this user alone.
            This user or root must own it: another user could put links there.
    Raises:
        SettingsError: the folder cannot be made, or another user owns it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            raise SettingsError(f"cannot claim cores in {folder}: {exc.strerror}") from None
        if os.fstat(self._folder_fd).st_uid not in (os.getuid(), 0):
            os.close(self._folder_fd)
            raise SettingsError(
                f"cannot claim cores in {folder}: another user made it; give another --claims"
            )
        self._folder = folder
        self._descriptors: list[int] = []

    def take(self, cores: Sequence[int], count: int) -> set[int]:
        """Claim `count` of the cores, those with the fewest claims.

        Raises:
            SettingsError: the folder does not exist, or cannot be written.
        """
        taken: set[int] = set()
        for layer in itertools.count():
            for core in cores:
                if core not in taken and self._lock(f"{core}.{layer}"):
                    taken.add(core)
                if len(taken) == count:
                    return taken
        raise AssertionError  # not reached: above the claims of all other agents there is always a free layer

    def release(self) -> None:
        """Give all claims back; nothing can be claimed any more."""
        for descriptor in (*self._descriptors, self._folder_fd):
            os.close(descriptor)
        self._descriptors.clear()

    def _lock(self, name: str) -> bool:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=self._folder_fd)
        except OSError as exc:
            raise SettingsError(f"cannot claim cores in {self._folder}: {name}: {exc.strerror}") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SettingsError(f"cannot claim cores in {self._folder}: {name} is no file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptors.append(descriptor)
        return True


def limit_cores(count: int, folder: Path | None) -> CoreClaims | None:
    """Let this process and its children use `count` of the cores that it may use.

    Args:
        count: 0 for all.
        folder: where the agents of this machine claim cores. With None the first cores are used, without
            claims.
    Returns:
        The claims, which the caller keeps while it uses the cores.
    Raises:
        UsageError: the machine has fewer cores.
        SettingsError: the folder cannot be used.
    """
    cores = sorted(os.sched_getaffinity(0))
    if count > len(cores):
        raise UsageError(f"this machine has {len(cores)} cores for the agent, not {count}")
    claims = CoreClaims(folder) if folder else None
    count = count or len(cores)
    os.sched_setaffinity(0, claims.take(cores, count) if claims else cores[:count])
    return claims
