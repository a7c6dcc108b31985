"""Proofs that a node sees the same files as the driver: the same machine, or a nonce in a folder.

A driver writes a file with a random name and content into folders that nodes may share. A worker that reads
it there sees the same folder. Whether a path exists proves nothing: a file of an earlier time may be there.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PREFIX = ".quakegrid-session-"
_NAME = re.compile(rf"{re.escape(_PREFIX)}[0-9a-f]{{32}}")
_NONCE_BYTES = 64
# What a driver that was killed has left is removed by a later one of the same user.
_LEFT_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Nonce:
    """A file in a folder of the driver."""

    folder: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Proofs:
    """What a driver tells its workers, for them to find out which files they see.

    Args:
        machine: the driver's, as `machine_id` gives it.
        host: its name, for people.
        nonces: in folders that may be shared.
    """

    machine: str
    host: str
    nonces: tuple[Nonce, ...] = ()

    def shared_folders(self) -> tuple[str, ...]:
        """The real paths of folders that this process sees as the driver does; `/` on the same machine."""
        if self.machine == machine_id():
            return ("/",)
        return tuple(os.path.realpath(nonce.folder) for nonce in self.nonces if _is_there(nonce))


def machine_id() -> str:
    """The same for processes that see the same files: of one boot, one mount namespace, one root."""
    root = Path("/").stat()
    namespace = Path("/proc/self/ns/mnt").readlink()
    return f"{_BOOT_ID.read_text().strip()}:{namespace}:{root.st_dev}:{root.st_ino}"


class NonceFiles:
    """The nonces of one session; `close` removes them."""

    def __init__(self) -> None:
        self._paths: list[Path] = []

    def write(self, folders: Iterable[str]) -> Proofs:
        """Write one into each folder where that is possible.

        Args:
            folders: absolute; the same folder may come twice.
        """
        nonces: list[Nonce] = []
        for folder in dict.fromkeys(map(os.path.realpath, filter(None, folders))):
            nonce = Nonce(folder, f"{_PREFIX}{secrets.token_hex(16)}", secrets.token_hex(_NONCE_BYTES // 2))
            with contextlib.suppress(OSError):
                self._write(nonce)
                nonces.append(nonce)
        return Proofs(machine_id(), socket.gethostname(), tuple(nonces))

    def close(self) -> None:
        """Remove them."""
        paths, self._paths = self._paths, []
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()

    def _write(self, nonce: Nonce) -> None:
        path = Path(nonce.folder, nonce.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o644)  # a worker may run as another user
        self._paths.append(path)
        try:
            os.write(fd, nonce.text.encode())
        finally:
            os.close(fd)
        _sweep(path.parent)


def _sweep(folder: Path) -> None:
    """Remove nonces of drivers that were killed long ago."""
    with os.scandir(folder) as entries:
        old = [entry for entry in entries if _NAME.fullmatch(entry.name)]
    for entry in old:
        with contextlib.suppress(OSError):
            found = entry.stat(follow_symlinks=False)
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > _LEFT_S:
                Path(entry.path).unlink()


def _is_there(nonce: Nonce) -> bool:
    """Whether this node has the nonce."""
    if not _NAME.fullmatch(nonce.name):
        return False
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(Path(nonce.folder, nonce.name), flags)
    except OSError:
        return False
    try:
        return os.read(fd, _NONCE_BYTES) == nonce.text.encode()
    except OSError:
        return False
    finally:
        os.close(fd)
