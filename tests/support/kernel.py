"""What the kernel tells of a process: whether it is the same one, its memory and its descriptors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from quakegrid.machine import process_stats

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has at one moment."""

    resident_bytes: int
    file_count: int


def start_time(pid: int) -> int:
    """When a process was started, in ticks since the boot; 0 if it has ended.

    Two processes with one number differ in it.
    """
    return max(0, process_stats.start_ticks(pid))


def usage(pid: int) -> Usage | None:
    """Memory and descriptors; None if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return Usage(pages * PAGE_BYTES, len(list(Path(f"/proc/{pid}/fd").iterdir())))
    except OSError:
        return None
