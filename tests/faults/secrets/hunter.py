"""Code in a job that takes all that its process can read: environment, memory, descriptors.

It writes it to a file, where a test looks for secrets: who looked for a secret here would have it in memory.
Imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

CHUNK_BYTES = 1 << 20
_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)\s*(.*)")


def hunt(path: str) -> int:
    """Write all that this process can read to a file; returns how many bytes of memory that is."""
    with open(path, "wb", buffering=0) as found:  # noqa: PTH123 - nothing that need not be here
        found.writelines(Path(f"/proc/self/{name}").read_bytes() + b"\0" for name in ("environ", "cmdline"))
        found.write(repr(dict(os.environ)).encode(errors="replace"))
        for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - numbers
            if number != found.fileno():
                with contextlib.suppress(OSError):
                    found.write(_content(number))
        return sum(_copy(start, end, found.fileno()) for start, end in _maps())


def _content(number: int) -> bytes:
    """What an open file has, from its beginning; nothing of pipes and sockets."""
    look = os.fstat(number)
    if not stat.S_ISREG(look.st_mode):
        return b""
    with open(f"/proc/self/fd/{number}", "rb") as file:  # noqa: PTH123 - a position of its own
        return file.read()


def _maps() -> list[tuple[int, int]]:
    """The readable parts of the memory, but for those that are files and cannot be written."""
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        match = _MAP.fullmatch(line)
        assert match is not None, line
        start, end, rights, inode, name = match.groups()
        is_code = int(inode) and "w" not in rights and Path(name).is_file()
        if "r" in rights and not is_code and name not in ("[vvar]", "[vsyscall]"):
            found.append((int(start, 16), int(end, 16)))
    return found


def _copy(start: int, end: int, target: int) -> int:
    """Copy a part of the memory into a file; returns how many bytes could be read."""
    copied = 0
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        while start < end:
            try:
                chunk = os.pread(memory, min(CHUNK_BYTES, end - start), start)
            except OSError:  # pages beyond the end of a file
                break
            if not chunk:
                break
            os.write(target, chunk)
            copied, start = copied + len(chunk), start + len(chunk)
    finally:
        os.close(memory)
    return copied
