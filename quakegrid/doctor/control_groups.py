"""Limits that the kernel's control groups set to this process: memory, cores' time, processes.

Reads the unified hierarchy (v2) and the older ones (v1); each group above us may limit us, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quakegrid.doctor.facts import NO_LIMIT

# What v1 shows where there is no limit is the largest number of pages.
_MAX_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Limits:
    """The narrowest of each kind."""

    memory_bytes: int = NO_LIMIT
    cpu: float = NO_LIMIT
    tasks: int = NO_LIMIT


def read_limits(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Limits:
    """Limits of this process; none where there are no control groups.

    Args:
        membership: lines of "number:controllers:group", as the kernel writes them.
        root: where the hierarchies are mounted.
    """
    memory, cpu, tasks = [], [], []
    for controllers, folder in _folders(membership, root):
        if controllers == "":
            memory += _numbers(folder / "memory.max")
            cpu += _share(_numbers(folder / "cpu.max"))
            tasks += _numbers(folder / "pids.max")
        if "memory" in controllers.split(","):
            memory += _numbers(folder / "memory.limit_in_bytes")
        if "cpu" in controllers.split(","):
            period = _numbers(folder / "cpu.cfs_period_us")
            cpu += _share(_numbers(folder / "cpu.cfs_quota_us") + period)
        if "pids" in controllers.split(","):
            tasks += _numbers(folder / "pids.max")
    return Limits(
        min((number for number in memory if number < _MAX_BYTES), default=NO_LIMIT),
        min(cpu, default=NO_LIMIT),
        min(tasks, default=NO_LIMIT),
    )


def _folders(membership: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """Each group that we are in and those above it, with the controllers of its hierarchy ("" for v2)."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        mount = root / controllers if controllers else root
        folder = mount / group.lstrip("/")
        while folder != mount:
            yield controllers, folder
            folder = folder.parent
        yield controllers, mount


def _numbers(path: Path) -> list[int]:
    """The non-negative numbers in a file; "max" and -1 are none."""
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError:
        return []
    if not words or words[0] in ("max", "-1"):
        return []
    return [int(word) for word in words]


def _share(quota_and_period: list[int]) -> list[float]:
    return [quota_and_period[0] / quota_and_period[1]] if len(quota_and_period) == 2 else []
